//! What the end-to-end tests share: waiting for conditions with a limit, and the checks that hold after every rental whatever its story.
//! The tests themselves are in `tests/it`, one file for each kind of story; those of a chain whose endpoints fail and lie are in
//! `tests/chain`.

pub mod rpc_proxy;

pub mod client;
pub mod machine;

use anyhow::{Context, Result, ensure};
use api::types::{Receipt, RentalRow, Role};
use devnet::{
    Devnet, Finished, Node,
    books::{self, Books},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(100);
/// How long things that take some blocks or some gossip may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);
/// No story is longer than this; what hangs fails.
const STORY: Duration = Duration::from_secs(240);

/// Runs a whole test under its time limit. What it owns, the devnet above all, is dropped when the limit strikes.
pub async fn story(work: impl Future<Output = Result<()>>) -> Result<()> {
    story_within(STORY, work).await
}

/// As [`story`], for one that may take longer or shorter.
pub async fn story_within(limit: Duration, work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::time::timeout(limit, work).await.with_context(|| format!("the test takes longer than {limit:?}"))?
}

/// Looks again and again until `look` finds something. `what` says what was waited for.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    eventually_within(SOON, what, look).await
}

/// As [`eventually`], for what may take longer.
pub async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look().await.with_context(|| format!("waiting for {what}"))? {
            return Ok(found);
        }
        ensure!(Instant::now() < until, "{what} did not happen within {limit:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until `node` knows an offer of every provider.
pub async fn offers_arrive(devnet: &Devnet, node: &Node) -> Result<()> {
    eventually(&format!("offers of all providers at {}", node.name), async || {
        let text = node.call(["--json", "offers"]).await?.stdout;
        Ok(devnet.with_role(Role::Provider).all(|provider| text.contains(&provider.peer)).then_some(()))
    })
    .await
}

/// Waits until a rental of `node` is in `phase`.
pub async fn phase(node: &Node, phase: &str) -> Result<RentalRow> {
    eventually(&format!("a rental of {} that is {phase}", node.name), async || {
        let rows: Vec<RentalRow> = node.json(&["ps"]).await?;
        Ok(rows.into_iter().find(|row| row.phase == phase))
    })
    .await
}

/// Waits until `node` has a receipt, and returns it.
pub async fn receipt(node: &Node) -> Result<Receipt> {
    eventually(&format!("a receipt at {}", node.name), async || {
        Ok(node.json::<Vec<Receipt>>(&["receipts"]).await?.pop())
    })
    .await
}

/// What must be true after any number of rentals, all of them over: every receipt of every renter agrees with the chain, with itself
/// and with the provider's, and every balance is what the receipts say. Returns the receipts.
pub async fn books_balance(devnet: &Devnet, before: &Books) -> Result<Vec<Receipt>> {
    let mut receipts = Vec::new();
    for renter in devnet.with_role(Role::Renter) {
        if devnet.exit_code(&renter.name)?.is_none() {
            receipts.extend(renter.json::<Vec<Receipt>>(&["receipts"]).await?);
        }
    }
    for receipt in &receipts {
        books::check_receipt(&devnet.chain, receipt).await.with_context(|| format!("the receipt of {}", receipt.id))?;
        let payee = receipt.quote.quote.provider;
        let provider =
            devnet.nodes.iter().find(|node| node.payee() == payee).context("an unknown provider was paid")?;
        eventually(&format!("{}'s receipt", provider.name), async || {
            let has = provider.call(["--json", "receipts", &receipt.id.to_string()]).await?.code == 0;
            Ok(has.then_some(()))
        })
        .await?;
        books::check_other_side(provider, receipt).await?;
    }
    before.check(&Books::read(devnet).await?, devnet, &receipts)?;
    Ok(receipts)
}

/// Nothing was lost: nobody's balance moved and nobody has a rental, going on or over.
pub async fn nothing_happened(devnet: &Devnet, before: &Books) -> Result<()> {
    ensure!(books_balance(devnet, before).await?.is_empty(), "there are receipts");
    for node in devnet.with_role(Role::Provider) {
        let rows: Vec<RentalRow> = node.json(&["ps"]).await?;
        ensure!(rows.is_empty(), "{} has rentals: {rows:#?}", node.name);
    }
    Ok(())
}

/// The command ended with `code` and said all of `words` on standard error.
pub fn failed_with(done: &Finished, code: i32, words: &[&str]) -> Result<()> {
    ensure!(done.code == code, "ended with {} instead of {code}:\n{}", done.code, done.stderr);
    for word in words {
        ensure!(done.stderr.contains(word), "`{word}` is not in what was said:\n{}", done.stderr);
    }
    Ok(())
}

/// The names of all files under a folder, relative and sorted.
pub fn files_under(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                names.push(path.strip_prefix(folder)?.display().to_string());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Keeps what a long test tells, for `tests/kills` to show and `docs/survival.md` to record: rows of a table.
pub fn record(name: &str, rows: &str) -> Result<()> {
    let here = std::env::current_exe()?;
    let folder = here.ancestors().nth(3).context("a test runs below the target folder")?.join("survival");
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join(name), rows)?)
}
