//! Shells whose program is the test itself, at the other end of two pipes.

use super::*;
use std::time::Duration;
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);
/// What a pipe holds: less than any bound that is tested.
const PIPE: usize = 4 << 10;

/// A shell, and the program's ends of its output and input.
struct Running {
    shell: Arc<Shell>,
    says: DuplexStream,
    hears: DuplexStream,
    _relay: JoinHandle<()>,
}

fn running() -> Running {
    let (shell, typed) = Shell::new(None, CancellationToken::new());
    let (says, mut stdout) = duplex(PIPE);
    let (mut stdin, hears) = duplex(PIPE);
    let kept = Arc::clone(&shell);
    let relay = tokio::spawn(async move {
        kept.relay(&mut stdout, &mut stdin, typed).await;
        kept.end("exited with 0".to_owned());
    });
    Running { shell, says, hears, _relay: relay }
}

async fn until(shell: &Shell, reached: impl FnMut(&Progress) -> bool) -> Progress {
    let mut progress = shell.progress();
    timeout(SOON, progress.wait_for(reached)).await.expect("in time").unwrap().clone()
}

/// Writes until the shell takes no more, and says how much it took beyond what it was given before.
async fn flood(says: &mut DuplexStream) -> u64 {
    let (line, mut taken) = ([b'y'; 1 << 10], 0);
    while timeout(Duration::from_millis(300), says.write_all(&line)).await.is_ok() {
        taken += line.len() as u64;
    }
    taken
}

#[tokio::test]
async fn a_page_that_comes_again_is_given_what_it_missed() {
    let mut running = running();
    let first = running.shell.attach(0);
    running.says.write_all(b"one two").await.unwrap();
    until(&running.shell, |progress| progress.end == 7).await;
    running.shell.acknowledge(first.viewer, 3);
    running.shell.detach(first.viewer);
    running.says.write_all(b" three").await.unwrap();
    until(&running.shell, |progress| progress.end == 13).await;
    let again = running.shell.attach(3);
    assert_eq!((again.from, again.end), (3, 13));
    assert_eq!(running.shell.read(again.from, 100), (3, b" two three".to_vec()));
}

#[tokio::test]
async fn a_page_that_is_behind_stops_the_program_and_catching_up_lets_it_go_on() {
    let mut running = running();
    let page = running.shell.attach(0);
    let taken = flood(&mut running.says).await;
    let most = MAX_UNACKNOWLEDGED_BYTES + (PIECE + PIPE + (1 << 10)) as u64;
    assert!((MAX_UNACKNOWLEDGED_BYTES..=most).contains(&taken), "{taken} bytes were taken");
    let before = running.shell.progress().borrow().end;
    running.shell.acknowledge(page.viewer, before);
    until(&running.shell, |progress| progress.end > before).await;
}

#[tokio::test]
async fn a_program_that_no_page_shows_goes_on_and_its_newest_output_is_kept() {
    let mut running = running();
    let page = running.shell.attach(0);
    running.shell.detach(page.viewer);
    let all = 2 * MAX_UNACKNOWLEDGED_BYTES as usize + super::super::ring::MAX_RING_BYTES;
    timeout(SOON, running.says.write_all(&vec![b'y'; all])).await.expect("the program waits for nobody").unwrap();
    until(&running.shell, |progress| progress.end == all as u64).await;
    let (from, output) = running.shell.read(0, usize::MAX);
    assert_eq!(from as usize + output.len(), all);
    assert_eq!(output.len(), super::super::ring::MAX_RING_BYTES);
}

#[tokio::test]
async fn the_page_that_comes_last_counts() {
    let mut running = running();
    let (first, second) = (running.shell.attach(0), running.shell.attach(0));
    assert_ne!(first.viewer, second.viewer);
    flood(&mut running.says).await;
    let before = running.shell.progress().borrow().end;
    running.shell.acknowledge(first.viewer, before);
    running.shell.detach(first.viewer);
    assert!(running.shell.output().is_behind(), "the first page has no say any more");
}

#[tokio::test]
async fn what_is_typed_arrives_and_is_counted_once_the_program_has_it() {
    let mut running = running();
    running.shell.write(b"ls\r".to_vec()).unwrap();
    let mut heard = [0; 3];
    timeout(SOON, running.hears.read_exact(&mut heard)).await.expect("in time").unwrap();
    assert_eq!(&heard, b"ls\r");
    until(&running.shell, |progress| progress.taken == 3).await;
}

#[tokio::test]
async fn input_that_the_program_does_not_read_is_bounded() {
    let running = running();
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    let refused = loop {
        match running.shell.write(piece.clone()) {
            Ok(()) => sent += piece.len() as u64,
            Err(refused) => break refused,
        }
        assert!(sent <= MAX_INPUT_BYTES, "{sent} bytes wait");
    };
    assert_eq!(refused, TooMuchInput);
}

#[tokio::test]
async fn acknowledging_more_than_there_is_changes_nothing() {
    let mut running = running();
    let page = running.shell.attach(0);
    running.shell.acknowledge(page.viewer, u64::MAX);
    let taken = flood(&mut running.says).await;
    assert!(taken >= MAX_UNACKNOWLEDGED_BYTES);
    assert!(running.shell.output().is_behind());
}

#[tokio::test]
async fn the_end_is_told_after_the_output() {
    let mut running = running();
    running.says.write_all(b"bye").await.unwrap();
    drop(running.says);
    let progress = until(&running.shell, |progress| progress.ended.is_some()).await;
    assert_eq!(progress.end, 3);
    assert_eq!(progress.ended.as_deref(), Some("exited with 0"));
}

#[tokio::test]
async fn a_shell_is_forgotten_when_nobody_sees_it_and_it_says_nothing() {
    let running = running();
    let later = Instant::now() + DETACHED_LIFE + SOON;
    let page = running.shell.attach(0);
    assert!(!running.shell.is_forgotten(later), "a page shows it");
    running.shell.detach(page.viewer);
    assert!(!running.shell.is_forgotten(Instant::now()));
    assert!(running.shell.is_forgotten(later));
}
