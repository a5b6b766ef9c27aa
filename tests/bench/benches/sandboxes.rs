//! How quickly a sandbox is there, beside `runc run` and `podman run` of the same program with the same limits in the same run, how quickly
//! a program starts in one, and what an idle one costs. `apt install runc podman` brings the peers.
//!
//! All take turns, so that whatever else the machine does meets all alike. Ours has what the peers have not: a disk of its own size,
//! encrypted; its own processors and memory in `/proc`; an agent that answers.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sandbox::{Backend, NativeBackend, NativeConfig, ProcessSpec, SandboxId, SandboxSpec};

/// Rounds in which all take turns.
const ROUNDS: usize = 60;
/// Before anything counts: the template of the disk is made, caches are warm.
const WARM_UP: usize = 3;
/// Sandboxes that are idle together when their cost is looked at.
const IDLE: usize = 50;

const BARS: [(&str, f64); 4] =
    [("create, ms", 60.0), ("exec, ms", 5.0), ("create / runc run", 1.5), ("create / podman run", 0.25)];
const IDLE_BAR: f64 = 3.0;

fn main() -> ExitCode {
    // Sandboxes are built by this same program, started again.
    sandbox::helper_main_if_requested();
    let measured = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(measure()));
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sandboxes: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> Result<bool> {
    let directory = tempfile::tempdir()?;
    let bundle = directory.path().join("bundle");
    make_bundle(&bundle)?;
    let backend = NativeBackend::new(NativeConfig::new(directory.path().join("sandboxes")))?;
    let spec = SandboxSpec { memory_bytes: 256 << 20, ..SandboxSpec::default() };

    let (mut create, mut exec, mut destroy, mut runc, mut podman) = (vec![], vec![], vec![], vec![], vec![]);
    for round in 0..WARM_UP + ROUNDS {
        let id = SandboxId::new(format!("bench-{}-{round}", std::process::id()))?;
        let began = Instant::now();
        let sandbox = backend.create(&id, &spec).await?;
        let created = began.elapsed();
        let began = Instant::now();
        let mut process = sandbox.exec(ProcessSpec::new(["true"])).await?;
        ensure!(process.wait().await?.shell_code() == 0, "true failed");
        let executed = began.elapsed();
        let began = Instant::now();
        sandbox.destroy().await?;
        let destroyed = began.elapsed();
        let name = format!("gpulease-bench-{}-{round}", std::process::id());
        let by_runc = timed(Command::new("runc").args(["run", "-b"]).arg(&bundle).arg(name))?;
        let by_podman = timed(podman_run().arg("--rootfs").arg(bundle.join("rootfs")).arg("/bin/true"))?;
        if round >= WARM_UP {
            create.push(created);
            exec.push(executed);
            destroy.push(destroyed);
            runc.push(by_runc);
            podman.push(by_podman);
        }
    }
    println!("| | median | least | p95 |\n|---|---|---|---|");
    let rows =
        [("create", &create), ("exec", &exec), ("destroy", &destroy), ("runc run", &runc), ("podman run", &podman)];
    for (name, times) in rows {
        let at = |part: f64| millis(quantile(times, part));
        println!("| {name} | {:.1} ms | {:.1} ms | {:.1} ms |", at(0.5), at(0.0), at(0.95));
    }
    let median = |times: &[Duration]| millis(quantile(times, 0.5));
    let found = [median(&create), median(&exec), median(&create) / median(&runc), median(&create) / median(&podman)];
    let mut holds = true;
    println!("\n| | found | bar | holds |\n|---|---|---|---|");
    let idle = idle_megabytes(&backend, &spec).await?;
    let idle_row = ("idle, MB each", idle, IDLE_BAR);
    for (name, found, bar) in BARS.iter().zip(found).map(|((name, bar), found)| (*name, found, *bar)).chain([idle_row])
    {
        let good = found <= bar;
        holds &= good;
        println!("| {name} | {found:.2} | {bar} | {} |", if good { "yes" } else { "no" });
    }
    Ok(holds)
}

/// What the machine has less of while many idle sandboxes are there, each.
async fn idle_megabytes(backend: &NativeBackend, spec: &SandboxSpec) -> Result<f64> {
    let mut made = Vec::new();
    let before = available()?;
    for number in 0..IDLE {
        let id = SandboxId::new(format!("bench-idle-{}-{number}", std::process::id()))?;
        made.push(backend.create(&id, spec).await?);
    }
    let after = available()?;
    for sandbox in made {
        sandbox.destroy().await?;
    }
    Ok(before.saturating_sub(after) as f64 / IDLE as f64 / 1e6)
}

/// Bytes that the machine could give to programs.
fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// A root with one program, and the configuration with limits like ours.
fn make_bundle(bundle: &Path) -> Result<()> {
    let root = bundle.join("rootfs");
    for directory in ["proc", "dev", "sys"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let libraries = String::from_utf8(Command::new("ldd").arg("/bin/true").output()?.stdout)?;
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/'));
    for file in std::iter::once("/bin/true").chain(libraries) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().context("a file of a directory")?)?;
        fs::copy(file, target)?;
    }
    timed(Command::new("runc").arg("spec").current_dir(bundle)).context("`apt install runc` brings the peer")?;
    let path = bundle.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/bin/true"]);
    config["linux"]["resources"] = serde_json::json!({
        "memory": { "limit": 256 << 20 },
        "cpu": { "quota": 100_000, "period": 100_000 },
        "pids": { "limit": 512 },
    });
    fs::write(path, config.to_string())?;
    Ok(())
}

/// `podman run` with limits like ours; without its network, which would only slow it down.
fn podman_run() -> Command {
    let mut podman = Command::new("podman");
    podman.args(["--cgroup-manager=cgroupfs", "--runtime=runc", "run", "--rm", "--network=none", "--memory=256m"]);
    podman.args(["--cpus=1", "--pids-limit=512", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"]);
    podman
}

/// Runs a command to its end, which must be good.
fn timed(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{:?}", command.get_program()))?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{:?}: {}", command.get_program(), String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(((sorted.len() - 1) as f64 * part).round() as usize).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
