//! What can be seen of a running network: its metrics, on every node, and its offers, from every node.

use anyhow::{Context, Result, ensure};
use devnet::{Devnet, Node, books::Books};
use std::collections::{BTreeMap, BTreeSet};
use tests::{books_balance, eventually, offers_arrive, story};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The page that says what each metric means.
const REFERENCE: &str = include_str!("../../../docs/metrics.md");

/// A metric as the reference describes it: its kind and its labels.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

fn described() -> Described {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { return None };
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        let labels = labels.split(',').map(|label| label.trim().trim_matches('`')).filter(|label| !label.is_empty());
        Some((name.to_owned(), (kind.to_owned(), labels.map(str::to_owned).collect())))
    };
    REFERENCE.lines().filter_map(row).collect()
}

/// One line of a page: a metric, its labels and its value.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

struct Page {
    kinds: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Page {
    /// Asks a node as Prometheus would.
    async fn of(node: &Node) -> Result<Self> {
        let address = node.metrics().with_context(|| format!("{} serves no metrics", node.name))?;
        let mut stream = TcpStream::connect(&address).await?;
        stream
            .write_all(format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, page) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        ensure!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"), "{head}");
        Self::read(page)
    }

    fn read(page: &str) -> Result<Self> {
        let (mut kinds, mut samples) = (BTreeMap::new(), Vec::new());
        ensure!(page.ends_with("# EOF\n"), "the page is cut off");
        for line in page.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').context("a kind")?;
                kinds
                    .insert(if kind == "counter" { format!("{name}_total") } else { name.to_owned() }, kind.to_owned());
            } else if !line.starts_with('#') {
                let (named, value) = line.rsplit_once(' ').context("a value")?;
                let (name, labels) = named.split_once('{').unwrap_or((named, "}"));
                let labels = labels.trim_end_matches('}').split("\",").filter_map(|pair| {
                    let (label, value) = pair.split_once("=\"")?;
                    Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
                });
                samples.push(Sample { name: name.to_owned(), labels: labels.collect(), value: value.parse()? });
            }
        }
        Ok(Self { kinds, samples })
    }

    /// The sum of a metric over all labels but these.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| labels.iter().all(|(label, value)| sample.labels[*label] == *value);
        self.samples.iter().filter(|sample| sample.name == name).filter(has).map(|sample| sample.value).sum()
    }
}

#[tokio::test]
async fn every_metric_that_is_documented_is_served_and_none_else() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let done = renter.call(["run", "--for", "1m", "--", "sh", "-c", "sleep 2; echo done"]).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        let receipts = books_balance(&devnet, &before).await?;
        let receipt = receipts.first().context("a receipt")?;
        let (paid, about) = (receipt.paid.get() as f64, format!("rental{{id={}}}", receipt.id.short()));
        for (node, steps) in [(renter, ["to=\"serving\"", "open 0x"]), (provider, ["to=\"serving\"", "close 0x"])] {
            let log = node.log();
            let told: Vec<&str> = log.lines().filter(|line| line.contains(&about)).collect();
            for step in steps {
                ensure!(told.iter().any(|line| line.contains(step)), "{step} is not among {}'s: {told:#?}", node.name);
            }
        }

        let described = described();
        let mut served = BTreeSet::new();
        for node in &devnet.nodes {
            let page = Page::of(node).await?;
            for sample in &page.samples {
                let name = &sample.name;
                let (kind, labels) =
                    described.get(name).with_context(|| format!("{}: {name} is not documented", node.name))?;
                ensure!(page.kinds.get(name) == Some(kind), "{name} is {:?}, not {kind}", page.kinds.get(name));
                ensure!(sample.labels.keys().eq(labels), "{name} has {:?}, not {labels:?}", sample.labels);
                for value in sample.labels.values() {
                    ensure!(!value.contains("0x") && !value.contains("12D3"), "{name} names somebody: {value}");
                }
                served.insert(name.clone());
            }
        }
        let missing: Vec<_> = described.keys().filter(|name| !served.contains(*name)).collect();
        ensure!(missing.is_empty(), "documented, and served by no node: {missing:?}");

        let (sold, bought) = (Page::of(provider).await?, Page::of(renter).await?);
        let at_least = |page: &Page, name: &str, labels: &[(&str, &str)], least: f64| {
            ensure!(page.sum(name, labels) >= least, "{name} {labels:?} is {}", page.sum(name, labels));
            Ok(())
        };
        for (name, least) in [
            ("gpulease_provider_quotes_total", 1.0),
            ("gpulease_provider_vouchers_total", 1.0),
            ("gpulease_provider_served_seconds_total", 2.0),
            ("process_resident_memory_bytes", 1e6),
            ("process_open_fds", 8.0),
        ] {
            at_least(&sold, name, &[], least)?;
        }
        at_least(&sold, "gpulease_network_messages_total", &[("protocol", "session"), ("direction", "received")], 1.0)?;
        at_least(&sold, "gpulease_provider_slots", &[("state", "free")], 1.0)?;
        at_least(&bought, "gpulease_renter_vouchers_total", &[], 1.0)?;
        at_least(&bought, "gpulease_book_offers", &[], 1.0)?;
        let opened = [("purpose", "open"), ("outcome", "confirmed")];
        assert_eq!(bought.sum("gpulease_settlement_transactions_total", &opened), 1.0);
        assert_eq!(bought.sum("gpulease_renter_closed_rentals_total", &[]), 1.0);
        assert_eq!(bought.sum("gpulease_renter_spent_base_units_total", &[]), paid);
        assert_eq!(sold.sum("gpulease_provider_closed_rentals_total", &[]), 1.0);
        assert_eq!(sold.sum("gpulease_provider_earned_base_units_total", &[]), paid);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn every_daemon_can_be_asked_for_offers_whatever_its_role() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(2).renters(1).start().await?;
        for node in &devnet.nodes {
            offers_arrive(&devnet, node).await?;
            let misspelt = node.call(["offers", "prise<1"]).await?;
            ensure!(misspelt.code == 2 && misspelt.stderr.contains("price"), "{}: {}", node.name, misspelt.stderr);
        }
        // what one provider withdraws, the other sees go
        devnet.signal("provider-1", devnet::Signal::TERM)?;
        let gone = &devnet.node("provider-1")?.peer;
        for node in devnet.nodes.iter().filter(|node| node.peer != *gone) {
            eventually(&format!("the withdrawal at {}", node.name), async || {
                Ok((!node.call(["--json", "offers"]).await?.stdout.contains(gone)).then_some(()))
            })
            .await?;
        }
        devnet.stop()
    })
    .await
}
