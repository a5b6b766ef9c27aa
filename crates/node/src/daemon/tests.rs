//! A daemon whose parts die says so and ends.

use super::*;
use crate::output::tests::plain;
use api::client::Client;

/// How long something may take that takes a moment.
const SOON: Duration = Duration::from_secs(30);

/// An indexer that is set up and reaches nobody: it needs neither a chain nor root.
fn indexer() -> (tempfile::TempDir, Context) {
    let folder = tempfile::tempdir().unwrap();
    let dir = DataDir::find(Some(folder.path())).unwrap();
    dir.create().unwrap();
    dir.create_peer_key().unwrap();
    dir.write_config("[network]\nlisten = []\nmdns = false\n[indexer]\nhttp = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n").unwrap();
    (folder, Context { dir, output: plain() })
}

async fn answering(context: &Context) -> Client {
    loop {
        match Client::connect(&context.dir.socket()).await {
            Ok(client) if client.node().await.is_ok() => return client,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_panic_anywhere_ends_the_daemon_with_an_error() {
    let (_folder, context) = indexer();
    let misfortune = async {
        answering(&context).await;
        tokio::spawn(async { panic!("on purpose") }).await.unwrap_err()
    };
    let both = async { tokio::join!(serve(&context, &[Role::Indexer]), misfortune) };
    let (served, _) = tokio::time::timeout(SOON, both).await.unwrap();
    let error = served.unwrap_err();
    assert_eq!(error.kind.exit_code(), 1);
    assert!(error.message.contains("on purpose") && error.message.contains("tests.rs"), "{error:?}");
    assert!(error.next.contains("start it again"), "{error:?}");
    // nobody is told any more that all is well
    assert_eq!(Client::connect(&context.dir.socket()).await.unwrap_err().kind, ErrorKind::NoDaemon);
}

#[tokio::test]
async fn a_task_that_ends_by_itself_ends_the_daemon() {
    let (_folder, context) = indexer();
    let (dir, cancel) = (&context.dir, CancellationToken::new());
    let config = context.config().unwrap();
    let key = dir.peer_key().unwrap();
    let daemon = Daemon::start(dir, &config, &[Role::Indexer], key, &cancel).await.unwrap();
    let faults = Faults::default();
    assert!(futures::FutureExt::now_or_never(daemon.died(&faults)).is_none(), "it is well");
    cancel.cancel();
    let fault = tokio::time::timeout(SOON, daemon.died(&faults)).await.unwrap();
    // the order given to all of them reaches one first
    let parts = ["the network's task has ended by itself", "the indexer's task has ended by itself"];
    assert!(parts.contains(&fault.as_str()), "{fault}");
    assert_eq!(died(&fault).kind.exit_code(), 1);
}
