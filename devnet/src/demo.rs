//! The demonstration: one whole rental, each step said as it happens, and then every number of it checked: the books against the
//! receipts, the receipts against the chain and each other, the outputs against the same program run without any rental.

use crate::{
    Devnet, Node,
    books::{self, Books},
    node::shell_code,
    show::{Steps, style},
    until_told,
};
use anyhow::{Context, Result, bail, ensure};
use api::types::{ErrorKind, OfferRow, Receipt, Role};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use market::{money::Amount, money::Token};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};
use tokio::process::Command;

/// How long gossip may take to bring every offer to the renter: several rounds of announcing.
const OFFERS_ARRIVE: Duration = Duration::from_secs(60);
/// How long the provider may need to write its receipt after the renter has its own: some blocks.
const OTHER_SIDE: Duration = Duration::from_secs(20);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(200);

/// The exit code of `node offers` when there are none.
const NO_MATCH: i32 = ErrorKind::NoMatch.exit_code() as i32;

/// The matrices of the demonstration's job: small enough for any machine, so that its length lies in the number of rounds.
const MATRIX_SIZE: u64 = 96;
/// Rounds of the short run that tells how fast this machine is.
const TRIAL_ROUNDS: u64 = 25;
/// How often it is tried: the fastest counts, since whatever else runs can only slow it down.
const TRIALS: usize = 3;
/// How long the job shall last: ten increments of a second.
const JOB_LASTS: Duration = Duration::from_secs(10);

/// What the demonstration can be told.
#[derive(Args, Debug)]
pub struct Options {
    /// A folder that becomes /job for your own program.
    #[arg(long, value_name = "DIR", requires = "command", value_parser = a_folder)]
    input: Option<PathBuf>,
    /// How many providers there are.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=8))]
    providers: u64,
    /// Leave the network's directory with all logs and data, and print where it is.
    #[arg(long)]
    keep: bool,
    /// Your own program and its arguments, after `--`.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// The exit code of a demonstration that did not hold: as `node run` has it for a failure of ours.
pub const DID_NOT_HOLD: u8 = 125;

/// Runs the demonstration. The exit code is that of the job; an error means that the line did not hold.
pub async fn run(options: Options) -> Result<ExitCode> {
    until_told(demonstrate(options)).await
}

fn a_folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("not a folder".to_owned()) }
}

async fn demonstrate(options: Options) -> Result<ExitCode> {
    let steps = Steps::spoken();
    let begun = Instant::now();
    steps.heading("A network of this machine's own");
    let mut builder = Devnet::builder().indexers(1).say_steps();
    for number in 1..=options.providers {
        // Each a little dearer than the last, so that there is something to choose.
        let price = format!("{}.{:02}", 3 + (60 + 36 * (number - 1)) / 100, (60 + 36 * (number - 1)) % 100);
        builder = builder.node(crate::NodeSpec::provider(format!("provider-{number}")).hourly(price));
    }
    builder = builder.renters(1);
    if options.keep {
        builder = builder.keep();
    }
    let devnet = builder.start().await?;
    let renter = devnet.with_role(Role::Renter).next().context("no renter")?;

    steps.heading("Offers, as the renter hears them");
    let offers = offers_of_all(&devnet, renter, &steps).await?;
    offers.iter().for_each(|offer| steps.note(describe(&devnet, offer)));
    let before = Books::read(&devnet).await?;

    let own = options.command.is_empty();
    let job = if own { Job::matrices(&devnet, &steps).await? } else { Job::given(&options) };
    steps.heading(format!("Rent, run, pay, settle: {}", job.argv.join(" ")));
    let code = job.rent(renter).await?;

    steps.heading("Checks");
    let receipts: Vec<Receipt> = renter.json(&["receipts"]).await?;
    let [receipt] = receipts.as_slice() else {
        bail!("`node run` ended with {code} and left {} receipts where one was due", receipts.len());
    };
    let after = Books::read(&devnet).await?;
    check(&devnet, &before, &after, receipt, code, &steps).await?;
    if own {
        ensure!(code == 0, "the job ended with {code}");
        job.compare(&steps).await?;
    }

    conclude(&devnet, &before, &after, receipt, code);
    if let Some(given) = receipt.job.as_ref().filter(|_| !own) {
        eprintln!("  outputs  {}", given.output_directory);
    }
    let step = steps.begin("stopping everything");
    devnet.stop()?;
    step.done(format!("everything is stopped; {:.0} s in all", begun.elapsed().as_secs_f32()));
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Waits until the renter knows an offer of every provider.
async fn offers_of_all(devnet: &Devnet, renter: &Node, steps: &Steps) -> Result<Vec<OfferRow>> {
    let step = steps.begin("waiting for gossip");
    let begun = Instant::now();
    loop {
        // No offers at all is a failure of the command with a code of its own.
        let done = renter.call(["--json", "offers"]).await?;
        let offers: Vec<OfferRow> = if done.code == NO_MATCH { Vec::new() } else { done.json()? };
        let heard = |provider: &Node| offers.iter().any(|offer| offer.provider == provider.peer);
        if devnet.with_role(Role::Provider).all(heard) {
            step.done(format!(
                "{} signed offers arrived by gossip within {:.1} s",
                offers.len(),
                begun.elapsed().as_secs_f32()
            ));
            return Ok(offers);
        }
        ensure!(begun.elapsed() < OFFERS_ARRIVE, "after {OFFERS_ARRIVE:?} only these offers have arrived: {offers:#?}");
        tokio::time::sleep(POLL).await;
    }
}

fn describe(devnet: &Devnet, offer: &OfferRow) -> String {
    let owner =
        devnet.nodes.iter().find(|node| node.peer == offer.provider).map_or(offer.provider.as_str(), |node| &node.name);
    format!(
        "{owner:<11} offer {}: {}, {} an hour, {} of {} free",
        offer.offer, offer.hardware, offer.price, offer.free, offer.slots
    )
}

/// What is run, and where its outputs go.
struct Job {
    argv: Vec<String>,
    input: Option<PathBuf>,
    out: Option<PathBuf>,
    scratch: PathBuf,
}

impl Job {
    fn given(options: &Options) -> Self {
        Self { argv: options.command.clone(), input: options.input.clone(), out: None, scratch: PathBuf::new() }
    }

    /// The demonstration's own: as many matrix products as this machine does in ten increments.
    async fn matrices(devnet: &Devnet, steps: &Steps) -> Result<Self> {
        steps.heading("A job of ten increments");
        let scratch = devnet.dir().join("job");
        let input = scratch.join("input");
        fs::create_dir_all(&input)?;
        let program = std::env::current_exe()?.with_file_name("matmul");
        fs::copy(&program, input.join("matmul"))
            .with_context(|| format!("copying {}: run devnet/build", program.display()))?;
        let step = steps.begin("measuring this machine");
        let trial = Self { argv: matrices(TRIAL_ROUNDS), input: Some(input), out: Some(scratch.join("out")), scratch };
        let mut fastest = Duration::MAX;
        for _ in 0..TRIALS {
            fastest = fastest.min(trial.locally("trial").await?.1);
        }
        let round = fastest / u32::try_from(TRIAL_ROUNDS)?;
        let rounds = u64::try_from(JOB_LASTS.as_micros() / round.as_micros().max(1))?.max(1);
        step.done(format!("{rounds} products of {MATRIX_SIZE} x {MATRIX_SIZE} matrices take about {JOB_LASTS:?} here"));
        Ok(Self { argv: matrices(rounds), ..trial })
    }

    /// As a person would: with `node run`, its streams on this terminal. Returns its exit code.
    async fn rent(&self, renter: &Node) -> Result<i32> {
        let mut command = renter.command(["run", "--for", "15m"]);
        command.current_dir(std::env::current_dir()?); // outputs of a person's own job go where the person is
        for (option, folder) in [("--input", &self.input), ("--out", &self.out)] {
            if let Some(folder) = folder {
                command.arg(option).arg(folder);
            }
        }
        let status = command.arg("--").args(&self.argv).status().await?;
        Ok(shell_code(status))
    }

    /// Runs the same program with the same arguments in a copy of the input, here and now. Returns where, and how long it took.
    async fn locally(&self, name: &str) -> Result<(PathBuf, Duration)> {
        let folder = self.scratch.join(name);
        fs::create_dir_all(&folder)?;
        let input = self.input.as_ref().context("no input")?;
        for entry in fs::read_dir(input)?.flatten() {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
        let (program, args) = self.argv.split_first().context("no command")?;
        let mut command = Command::new(folder.join(program));
        command
            .args(args)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let begun = Instant::now();
        let status = command.status().await?;
        ensure!(status.success(), "the job ended with {status} when run without a rental");
        Ok((folder, begun.elapsed()))
    }

    /// Compares the outputs of the rental with those of a run without one, byte for byte.
    async fn compare(&self, steps: &Steps) -> Result<()> {
        let step = steps.begin("running the same job here, without a rental");
        let (folder, took) = self.locally("local").await?;
        let out = self.out.as_ref().context("no folder for outputs")?;
        let fetched = files(out)?;
        let expected = ["result.bin", "result.sha256"];
        ensure!(fetched == expected, "the outputs should be {expected:?} and are {fetched:?}");
        let mut bytes = 0;
        for name in expected {
            let (remote, local) = (fs::read(out.join(name))?, fs::read(folder.join(name))?);
            ensure!(remote == local, "{name} differs from that of the same job run here");
            bytes += remote.len();
        }
        let digest = fs::read_to_string(out.join("result.sha256"))?;
        step.done(format!(
            "outputs are byte-identical to those of the same job run here in {:.1} s ({bytes} bytes)",
            took.as_secs_f32()
        ));
        steps.plain(digest.trim());
        Ok(())
    }
}

fn matrices(rounds: u64) -> Vec<String> {
    format!("./matmul --seed 31337 --size {MATRIX_SIZE} --rounds {rounds}").split(' ').map(str::to_owned).collect()
}

fn files(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

async fn check(
    devnet: &Devnet,
    before: &Books,
    after: &Books,
    receipt: &Receipt,
    code: i32,
    steps: &Steps,
) -> Result<()> {
    let dollar = devnet.chain.dollar();
    before.check(after, devnet, std::slice::from_ref(receipt))?;
    steps.note("every balance adds up to the unit: provider, renter, escrow, and the sum of all");
    books::check_receipt(&devnet.chain, receipt).await?;
    let (opened, closed) = (&receipt.opened, &receipt.closed);
    steps.note(format!(
        "opened in {} (block {}), closed in {} (block {}): both are on chain",
        books::short(opened.tx),
        opened.block,
        books::short(closed.tx),
        closed.block
    ));
    steps.note(format!(
        "the receipt's {} paid and {} refunded are what the escrow's Closed event says",
        dollar.show(receipt.paid),
        dollar.show(receipt.refunded)
    ));
    let provider =
        devnet.nodes.iter().find(|node| node.payee() == receipt.quote.quote.provider).context("an unknown provider")?;
    let begun = Instant::now();
    while let Err(error) = books::check_other_side(provider, receipt).await {
        ensure!(begun.elapsed() < OTHER_SIDE, error);
        tokio::time::sleep(POLL).await;
    }
    steps.note(format!("{}'s own receipt says the same", provider.name));
    let job = receipt.job.as_ref().context("the renter's receipt does not say what was run")?;
    ensure!(
        job.exit_code == Some(code),
        "`node run` ended with {code}, the receipt says {:?} ({})",
        job.exit_code,
        job.how
    );
    steps.note(format!("the job {}, and the receipt says so", job.how));
    Ok(())
}

fn conclude(devnet: &Devnet, before: &Books, after: &Books, receipt: &Receipt, code: i32) {
    let dollar = devnet.chain.dollar();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(["", "before", "after", "change"]);
    for holder in before.holders() {
        let change = signed(&dollar, before.change(after, holder));
        table.add_row([holder.to_owned(), dollar.show(before.of(holder)), dollar.show(after.of(holder)), change]);
    }
    let sum = |books: &Books| Amount::new(books.total()).map(|total| dollar.show(total)).unwrap_or_default();
    table.add_row([
        "sum".into(),
        sum(before),
        sum(after),
        signed(&dollar, after.total() as i128 - before.total() as i128),
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    eprintln!("\n{table}");
    let rate = dollar.show(receipt.quote.quote.rate.hourly());
    eprintln!("  rental   {}", receipt.id);
    eprintln!("  time     {} s at {rate} an hour", receipt.seconds);
    eprintln!("  job      ended with exit code {}", style("1", code));
}

fn signed(token: &Token, units: i128) -> String {
    let shown = Amount::new(units.unsigned_abs()).map(|amount| token.show(amount)).unwrap_or_default();
    match units {
        0 => shown,
        1.. => format!("+{shown}"),
        _ => format!("-{shown}"),
    }
}
