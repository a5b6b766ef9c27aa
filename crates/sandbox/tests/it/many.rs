//! Many sandboxes at once: each holds its own limits while the others press against theirs.

use std::time::{Duration, Instant};

use futures::future::join_all;
use sandbox::{Exit, ProcessSpec, SandboxSpec};

use crate::support::{Bench, exec, on_every_backend, within};

/// As many as one provider would fill a large machine with.
const SANDBOXES: usize = 50;

/// How long they press against their share of a processor: many periods of the kernel's counting.
const PRESSING: Duration = Duration::from_secs(4);

async fn fifty_sandboxes_at_once_hold_their_limits(bench: Bench) {
    let spec = SandboxSpec {
        cpu_millis: 20,
        memory_bytes: 24 << 20,
        disk_bytes: 32 << 20,
        max_processes: 12,
        ..SandboxSpec::default()
    };
    let made = join_all((0..SANDBOXES).map(|_| bench.sandbox(&spec))).await;
    for sandbox in &made {
        let limits = sandbox.limits().await.unwrap();
        let found = (limits.cpu_millis, limits.memory_bytes, limits.disk_bytes, limits.max_processes);
        assert_eq!(found, (20, 24 << 20, 32 << 20, 12));
    }

    // All spin at once: nobody gets more than was bought, whatever the machine has left.
    let began = Instant::now();
    let spun = join_all(made.iter().map(|sandbox| async {
        let before = sandbox.stats().await.unwrap().cpu_nanos;
        sandbox.start("spin", ProcessSpec::new(["sh", "-c", "while :; do :; done"])).await.unwrap();
        tokio::time::sleep_until((began + PRESSING).into()).await;
        let spent = sandbox.stats().await.unwrap().cpu_nanos - before;
        Duration::from_nanos(spent).as_secs_f64() / began.elapsed().as_secs_f64()
    }));
    let shares = within(spun).await;
    let most = shares.iter().copied().fold(0.0, f64::max);
    println!("{SANDBOXES} sandboxes of 0.020 processors: the busiest got {most:.4}");
    // One period more than its share may fall into the time that was watched.
    assert!(most < 0.026, "{shares:?}");
    within(join_all(made.iter().map(|sandbox| sandbox.stop(Duration::ZERO)))).await;

    // Every second one asks for more memory than it has, the others for more disk or processes; the neighbours do not notice.
    let pressed = join_all(made.iter().enumerate().map(|(number, sandbox)| async move {
        let script = match number % 3 {
            0 => "head -c 60000000 /dev/zero | tail -c 59000000 > /dev/null",
            1 => "head -c 60000000 /dev/zero > /job/large",
            _ => "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 5 & done; wait",
        };
        (number % 3, exec(sandbox, &["sh", "-c", script]).await)
    }));
    for (kind, outcome) in within(pressed).await {
        match kind {
            0 => assert_eq!(outcome.exit, Exit::OutOfMemory, "{outcome:?}"),
            1 => assert!(outcome.stderr.contains("No space left"), "{outcome:?}"),
            _ => assert!(outcome.stderr.contains("fork"), "{outcome:?}"),
        }
    }
    for sandbox in &made {
        assert_eq!(exec(sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    }
    within(join_all(made.iter().map(|sandbox| sandbox.destroy()))).await;
}

on_every_backend! {
    fifty_sandboxes_at_once_hold_their_limits,
}
