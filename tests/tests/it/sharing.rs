//! A rental shared with a colleague, whose own node works in it: what that node may do, what it may not, and how it ends.

use anyhow::{Context, Result, ensure};
use api::types::{RentalRow, Share, SharedRental};
use devnet::{Devnet, Node, NodeSpec, Signal};
use std::{
    fs,
    time::{Duration, Instant},
};
use tests::{client::Client, eventually, eventually_within, failed_with, offers_arrive, phase, story};

/// How soon it must be felt that a rental is not shared any more.
const SOON: Duration = Duration::from_secs(2);
/// How long a command may take to end once it can.
const END: Duration = Duration::from_secs(60);
/// How long the shortest share lasts: time enough to take it up on a busy machine.
const SHORT: Duration = Duration::from_secs(15);

/// A rental of the node, whose job sleeps.
async fn rent(renter: &Node) -> Result<(Client, String)> {
    let job = Client::start(renter, ["run", "--for", "1h", "--", "sh", "-c", "echo from the job; sleep 3000"])?;
    eventually("the job's start", async || Ok(job.said().contains("started").then_some(()))).await?;
    let rental: RentalRow = phase(renter, "serving").await?;
    Ok((job, rental.id.to_string()))
}

/// Shares a rental and gives the words to be carried.
async fn share(renter: &Node, id: &str, with: &Node, more: &[&str]) -> Result<String> {
    let words: Vec<&str> = [&["--json", "share", id, "--to", &with.peer], more].concat();
    let share: Share = serde_json::from_str(&done(renter, &words).await?)?;
    ensure!(share.peer == with.peer && !share.taken_back, "{share:?}");
    share.token.context("no token")
}

/// What a command that succeeds prints.
async fn done(node: &Node, words: &[&str]) -> Result<String> {
    let done = node.call(words).await?;
    ensure!(done.code == 0, "{words:?} at {}: {} {}", node.name, done.code, done.stderr);
    Ok(done.stdout)
}

/// Runs a program that says when it runs and then sleeps for a number of seconds that no other process of this machine sleeps for.
async fn sleeper(node: &Node, id: &str, marker: &str) -> Result<Client> {
    let script = format!("echo open; sleep {marker}; true");
    let shell = Client::start(node, ["exec", id, "--", "sh", "-c", &script])?;
    let open = eventually("the shell", async || Ok(shell.printed().contains("open").then_some(()))).await;
    open.with_context(|| shell.said())?;
    Ok(shell)
}

fn sleeping(marker: &str) -> bool {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let wanted = format!("sleep\0{marker}\0").into_bytes();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).any(|line| line == wanted)
}

#[tokio::test]
async fn a_colleague_works_in_a_shared_rental_until_it_is_taken_back_and_no_restart_lets_them_in_again() -> Result<()> {
    story(async {
        let provider = NodeSpec::provider("provider-1").increment_millis(10_000);
        let devnet = Devnet::builder().indexers(1).node(provider).renters(3).start().await?;
        let [renter, colleague, other] = [devnet.node("renter-1")?, devnet.node("renter-2")?, devnet.node("renter-3")?];
        offers_arrive(&devnet, renter).await?;
        let (job, id) = rent(renter).await?;
        failed_with(&colleague.call(["exec", &id, "--", "true"]).await?, 4, &["no running rental"])?;
        let named = done(colleague, &["shares"]).await?;
        ensure!(named.contains(&colleague.peer), "the colleague is not told what to be named by: {named}");

        // carried to the wrong node, or spoiled on the way, it is good for nothing
        let token = share(renter, &id, colleague, &[]).await?;
        failed_with(&other.call(["accept", &token]).await?, 6, &["lets in the node", &colleague.peer])?;
        let cut = token.get(..token.len() - 8).context("too short")?;
        failed_with(&colleague.call(["accept", cut]).await?, 2, &["does not let anybody into a rental"])?;
        let spoiled = spoil(&token)?;
        failed_with(&colleague.call(["accept", &spoiled]).await?, 6, &["not what the rental's renter has signed"])?;
        failed_with(&renter.call(["share", &id, "--to", &renter.peer]).await?, 2, &["let in anyway"])?;
        failed_with(&renter.call(["share", &id, "--to", "nobody"]).await?, 2, &["no peer id"])?;

        // everything that is done inside works there, found by the beginning of the id
        let short = id.get(..10).context("an id")?;
        let accepted: SharedRental = serde_json::from_str(&done(colleague, &["--json", "accept", &token]).await?)?;
        ensure!(accepted.id.to_string() == id, "{accepted:?}");
        assert_eq!(done(colleague, &["exec", short, "--", "sh", "-c", "echo hello > shared; pwd"]).await?, "/job\n");
        assert_eq!(done(renter, &["exec", short, "--", "cat", "shared"]).await?, "hello\n");
        assert_eq!(done(colleague, &["logs", short]).await?, "from the job\n");
        let copy = devnet.dir().join("copy");
        done(colleague, &["cp", &format!("{short}:shared"), &copy.display().to_string()]).await?;
        assert_eq!(fs::read_to_string(&copy)?, "hello\n");
        let forward = Client::start(colleague, ["--json", "forward", short, "0:8888"])?;
        let led = eventually("the port", async || Ok(forward.printed().contains("127.0.0.1:").then_some(()))).await;
        led.with_context(|| forward.said())?;
        drop(forward);
        let config = done(colleague, &["ssh-config", short]).await?;
        ensure!(config.contains("ssh-proxy"), "{config}");
        ensure!(done(colleague, &["shares"]).await?.contains(&accepted.id.short()));

        // but it is the renter's still
        for command in [
            vec!["stop", &id],
            vec!["extend", &id, "--for", "1h"],
            vec!["share", &id, "--to", &other.peer],
            vec!["unshare", &id, "--with", &colleague.peer],
            vec!["shares", &id],
        ] {
            let refused = colleague.call(&command).await?;
            ensure!(refused.code != 0 && refused.stderr.contains("rental"), "{command:?}: {}", refused.stderr);
        }
        ensure!(done(renter, &["shares", &id]).await?.contains(&colleague.peer));
        failed_with(&renter.call(["unshare", &id, "--with", &other.peer]).await?, 4, &["never shared"])?;

        // taken back while a shell is open
        let (theirs, own) = (format!("4{:07}", std::process::id()), format!("5{:07}", std::process::id()));
        let (shell, mine) = (sleeper(colleague, &id, &theirs).await?, sleeper(renter, &id, &own).await?);
        ensure!(sleeping(&theirs) && sleeping(&own));
        let list = done(renter, &["unshare", &id, "--with", &colleague.peer]).await?;
        let taken_back = Instant::now();
        ensure!(list.contains("taken back"), "{list}");
        let ended = shell.ended(SOON).await?;
        failed_with(&ended, 125, &["not shared any more"])?;
        eventually_within(SOON.saturating_sub(taken_back.elapsed()), "the end of what it ran", async || {
            Ok((!sleeping(&theirs)).then_some(()))
        })
        .await?;
        ensure!(sleeping(&own), "the renter's own shell went with it");
        let gone = ["not shared any more"];
        failed_with(&colleague.call(["exec", &id, "--", "true"]).await?, 1, &gone)?;
        failed_with(&colleague.call(["accept", &token]).await?, 6, &gone)?;

        // on disk
        devnet.signal("provider-1", Signal::KILL)?;
        devnet.restart("provider-1").await?;
        done(renter, &["exec", &id, "--", "true"]).await?;
        failed_with(&colleague.call(["exec", &id, "--", "true"]).await?, 1, &gone)?;
        failed_with(&colleague.call(["accept", &token]).await?, 6, &gone)?;

        // given again, for a while: over with it, and after that refused by that name
        let token = share(renter, &id, colleague, &["--for", &format!("{}s", SHORT.as_secs())]).await?;
        done(colleague, &["accept", &token]).await?;
        let shell = sleeper(colleague, &id, &theirs).await?;
        failed_with(&shell.ended(SHORT + SOON).await?, 125, &["expired"])?;
        failed_with(&colleague.call(["exec", &id, "--", "true"]).await?, 1, &["expired"])?;
        failed_with(&colleague.call(["accept", &token]).await?, 6, &["over at"])?;

        // and the rental's end is the end of it for everybody
        let token = share(renter, &id, colleague, &[]).await?;
        done(colleague, &["accept", &token]).await?;
        let shell = sleeper(colleague, &id, &theirs).await?;
        done(renter, &["stop", &id]).await?;
        ensure!(shell.ended(END).await?.code == 125, "a shell outlived its rental");
        ensure!(mine.ended(END).await?.code == 125, "a shell outlived its rental");
        job.ended(END).await?;
        let late = colleague.call(["exec", &id, "--", "true"]).await?;
        ensure!(late.code == 1, "{}", late.stderr);
        devnet.stop()
    })
    .await
}

/// The token with one bit of the signature changed.
fn spoil(token: &str) -> Result<String> {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    const BEGINNING: &str = "gpulease-share-";
    let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(token.strip_prefix(BEGINNING).context("another beginning")?)?;
    // the signature is followed by the serial, two bytes
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    Ok(format!("{BEGINNING}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes)))
}
