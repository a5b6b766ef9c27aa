//! One devnet on which rental follows rental, each with a death in it, and the books that are held after each.

use super::points::{At, Outcome};
use alloy_primitives::Address;
use anyhow::{Context, Result, ensure};
use api::types::{Receipt, RentalRow, Role};
use devnet::{
    Devnet, ENDPOINT, Node, NodeSpec, Signal, SlotSpec,
    books::{self, Books},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};
use tempfile::TempDir;
use tests::{
    client::Client,
    eventually, eventually_within,
    machine::{self, Held},
    offers_arrive,
};

/// What the rented program does: reads its input, talks for two seconds, and makes a file.
const PROGRAM: &str = "cat word; for n in 1 2 3 4; do echo line $n; sleep 0.5; done; echo made > made";
/// What it says.
const OUTPUT: &str = "given\nline 1\nline 2\nline 3\nline 4\n";
/// A rental with a death in it takes ten to twenty seconds, and half a minute more when a promise has to lapse.
const RENTAL: Duration = Duration::from_secs(150);
/// What a renter may have signed for beyond what was served, and the other way round, beside the increment: seconds are whole.
const ROUNDING: u64 = 2;
/// Words of the quote that every call about a rental begins with, after its selector.
const QUOTE_BYTES: usize = 4 + 13 * 32;

/// See the module.
pub(crate) struct Ground {
    pub(crate) devnet: Devnet,
    files: TempDir,
    before: Books,
    clean: Held,
    known: BTreeSet<String>,
    receipts: Vec<Receipt>,
}

impl Ground {
    /// A provider with an increment of ten seconds, as outside devnets, a renter, an indexer, and an endpoint that can die.
    pub(crate) async fn start() -> Result<Self> {
        let slots = [SlotSpec { count: 2, ..SlotSpec::default() }];
        let provider = NodeSpec::provider("provider-1").increment_millis(10_000).slots(slots);
        // with approvals, which are one more thing to die at
        let devnet =
            Devnet::builder().plain_token().mortal_endpoint().indexers(1).node(provider).renters(2).start().await?;
        offers_arrive(&devnet, devnet.node("renter-1")?).await?;
        let files = tempfile::tempdir()?;
        fs::create_dir(files.path().join("in"))?;
        fs::write(files.path().join("in/word"), "given\n")?;
        let (before, clean) = (Books::read(&devnet).await?, machine::held(&devnet)?);
        Ok(Self { devnet, files, before, clean, known: BTreeSet::new(), receipts: Vec::new() })
    }

    fn renter(&self) -> Result<&Node> {
        self.devnet.node("renter-1")
    }

    /// Has one rental go through the death of `who`, and holds the books. Returns what became of it, in a few words.
    pub(crate) async fn survive(&mut self, who: &str, at: At, outcome: Outcome) -> Result<String> {
        let since = self.devnet.chain.height().await? + 1;
        let out = self.files.path().join(format!("out-{since}"));
        let client = self.rent_and_kill(who, at, &out).await?;
        let died = self.devnet.chain.height().await?;
        eventually("a block without it", async || Ok((self.devnet.chain.height().await? > died).then_some(()))).await?;
        self.devnet.restart(who).await?;
        if who.starts_with("indexer") {
            self.indexer_is_of_use().await?;
        }
        let done = client.ended(RENTAL).await?;
        self.rentals_end().await?;

        let fresh = self.fresh_receipts().await?;
        let rented = fresh.len() == 1;
        match outcome {
            Outcome::Done => {
                ensure!(done.code == 0 && rented, "exit {}, {} receipts:\n{}", done.code, fresh.len(), done.stderr)
            }
            Outcome::NothingRented => {
                ensure!(done.code != 0 && fresh.is_empty(), "exit {}:\n{}", done.code, done.stderr)
            }
            Outcome::Either => {
                ensure!((done.code == 0) == rented && fresh.len() <= 1, "exit {}:\n{}", done.code, done.stderr)
            }
        }
        if rented {
            ensure!(done.stdout == OUTPUT, "the output has a hole or a repeat:\n{}", done.stdout);
            ensure!(fs::read_to_string(out.join("made"))? == "made\n", "the file that was made is not here");
        }
        let mut told =
            if rented { "the run ended well".to_owned() } else { format!("nothing was rented (exit {})", done.code) };
        for receipt in fresh {
            told = format!("{told}; {}", self.check(&receipt, since).await?);
            self.receipts.push(receipt);
        }
        self.before.check(&Books::read(&self.devnet).await?, &self.devnet, &self.receipts)?;
        machine::is_as_before(&self.devnet, &self.clean).await?;
        Ok(told)
    }

    /// Starts a run and sees `who` die in it.
    async fn rent_and_kill(&self, who: &str, at: At, out: &std::path::Path) -> Result<Client> {
        if let At::Line(point) = at {
            self.devnet.signal(who, Signal::KILL)?;
            self.devnet.restart_to_die_at(who, point).await?;
        }
        if let At::Before = at {
            self.devnet.signal(who, Signal::KILL)?;
        }
        let renter = self.renter()?;
        if self.devnet.exit_code(&renter.name)?.is_none() && who != ENDPOINT {
            offers_arrive(&self.devnet, renter).await?;
        }
        let input = self.files.path().join("in");
        let (input, out) = (input.to_str().context("a path")?, out.to_str().context("a path")?);
        let args = ["run", "--for", "5m", "--input", input, "--out", out, "--", "sh", "-c", PROGRAM];
        let mut client = Client::start(renter, args)?;
        let code = eventually_within(RENTAL, &format!("the death of {who} at {at:?}"), async || {
            if let At::Said(words) = at
                && (client.said().contains(words) || client.printed().contains(words))
                && self.devnet.exit_code(who)?.is_none()
            {
                self.devnet.signal(who, Signal::KILL)?;
            }
            let code = self.devnet.exit_code(who)?;
            // a connection to the provider of before its start may be noticed to be dead only now: a person tries again
            if code.is_none() && !client.said().contains("opening") && client.has_ended()? {
                client = Client::start(renter, args)?;
            }
            Ok(code)
        })
        .await
        .with_context(|| format!("{}{}", client.said(), client.printed()))?;
        ensure!(code == 137, "{who} ended with {code} instead of being killed");
        Ok(client)
    }

    /// A renter that starts now learns of the offers, which it can only do through the indexer.
    async fn indexer_is_of_use(&self) -> Result<()> {
        self.devnet.signal("renter-2", Signal::KILL)?;
        self.devnet.restart("renter-2").await?;
        offers_arrive(&self.devnet, self.devnet.node("renter-2")?).await
    }

    /// Waits until neither side has a rental or a promise.
    async fn rentals_end(&self) -> Result<()> {
        for name in ["renter-1", "provider-1"] {
            let node = self.devnet.node(name)?;
            eventually_within(RENTAL, &format!("the end of the rentals of {name}"), async || {
                Ok(node.json::<Vec<RentalRow>>(&["ps"]).await?.is_empty().then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The renter's receipts that were not seen before.
    async fn fresh_receipts(&mut self) -> Result<Vec<Receipt>> {
        let receipts: Vec<Receipt> = self.renter()?.json(&["receipts"]).await?;
        Ok(receipts.into_iter().filter(|receipt| self.known.insert(receipt.id.to_string())).collect())
    }

    /// Holds one rental's books: receipt, chain, the other side, what each could lose, and what was sent.
    async fn check(&self, receipt: &Receipt, since: u64) -> Result<String> {
        let (chain, provider) = (&self.devnet.chain, self.devnet.node("provider-1")?);
        books::check_receipt(chain, receipt).await?;
        let prefix = receipt.id.to_string();
        let theirs = eventually("the provider's receipt", async || {
            Ok(provider.json::<Vec<Receipt>>(&["receipts", &prefix]).await.ok().and_then(|mut found| found.pop()))
        })
        .await?;
        ensure!(theirs.role == Role::Provider, "not the provider's receipt");
        books::check_other_side(provider, receipt).await?;
        ensure!(
            chain.life_of(receipt.id.0).await? == (1, 1),
            "opened and closed {:?} times",
            chain.life_of(receipt.id.0).await?
        );
        let served = served_seconds(&theirs);
        let paid = u64::from(theirs.quote.quote.rate.seconds_for(theirs.paid));
        let increment = u64::from(theirs.terms.increment_millis) / 1_000;
        ensure!(served <= paid + increment + ROUNDING, "{served} s were served and {paid} s paid");
        let sent = self.nothing_is_sent_twice(since).await?;
        Ok(format!("served {served} s, paid {paid} s, {sent} transactions"))
    }

    /// Every transaction of the nodes since a block has a purpose of its own. An approval is used up by its opening.
    async fn nothing_is_sent_twice(&self, since: u64) -> Result<usize> {
        let nodes: BTreeSet<Address> =
            self.devnet.nodes.iter().flat_map(|node| [node.sender, node.provider_key]).collect();
        let calls = self.devnet.chain.calls_since(since).await?;
        let mut purposes: BTreeMap<_, usize> = BTreeMap::new();
        for (from, input) in calls.into_iter().filter(|(from, _)| nodes.contains(from)) {
            let about = input.get(..QUOTE_BYTES).unwrap_or(&input).to_vec();
            *purposes.entry((from, about)).or_default() += 1;
        }
        ensure!(purposes.values().all(|times| *times == 1), "something was sent twice: {purposes:?}");
        Ok(purposes.len())
    }

    /// Proves every receipt of both sides once more with the nodes' own means, and takes everything down.
    pub(crate) async fn stop(self) -> Result<()> {
        for name in ["renter-1", "provider-1"] {
            let proved = self.devnet.node(name)?.call(["receipts", "--verify"]).await?;
            ensure!(proved.code == 0, "{name}: {}{}", proved.stdout, proved.stderr);
        }
        self.devnet.stop()
    }
}

/// Seconds in which the program could run.
fn served_seconds(receipt: &Receipt) -> u64 {
    let (Some(ready), Some(stopped)) = (receipt.ready_at, receipt.stopped_at) else { return 0 };
    (stopped.since(ready) / 1_000).saturating_sub(u64::from(receipt.frozen_seconds))
}
