//! The command line as data: every command, option and default, with the words of `--help`. Nothing is done here; `commands` and
//! `daemon` do it.

mod check;
mod inside;
mod jupyter;
mod ratings;
mod renting;
mod shares;

pub(crate) use check::Check;
pub(crate) use inside::{Cp, Exec, Forward, Logs, Ssh, SshConfig, SshProxy, Top};
pub(crate) use jupyter::Jupyter;
pub(crate) use ratings::{Rate, Reputation};
pub(crate) use renting::{Rent, Wanted};
pub(crate) use shares::{Accept, Share, Shares, Unshare};

use api::types::{Label, Role, is_id_prefix};
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use market::{dispute::StopReason, time::UnixMillis};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  node init --role renter                       make a wallet and a configuration
  node doctor                                   what is wrong, and what to do about it
  node --role renter                            the daemon, in the foreground
  node offers 'cpus>=4 price<=0.50'             what can be rented, cheapest first
  node run --for 10m -- ./train.sh --epochs 3   rent, run, fetch the outputs, settle
  node rent 'gpu=H100' --for 2h --label train   rent a machine to work on
  node ps                                       rentals that go on
  node ssh train                                a shell in one
  node show 0xabcd                              the whole story of one
  node dispute 0xabcd                           stop one on chain and leave it to its arbiter
  node rate 0xabcd --stars 5                    say what you think of one that is over
  node reputation 0x7099…                       what others thought of a provider
  node receipts                                 rentals that are over
  node receipts --verify                        prove what each of them cost, against the chain

The daemon's log goes to standard error. RUST_LOG says how much of it: `warn`, `debug`, or more of
one part, such as `info,network=debug`. With --log-format json each line is an object, and the id
in its `spans` names the rental it is about.

Exit codes:
  0 done, 1 failed, 2 usage, 3 no daemon, 4 no such offer or rental, 5 funds or gas, 6 refused, 7 chain, 8 timeout;
  `run` exits as the program did (128+n after signal n), or with 125 when gpulease itself failed
  after the rental began.";

const DOCTOR_HELP: &str = "\
Works with and without a running daemon, and changes nothing: a provider's sandbox is tried once in
a folder that is removed again, and ports are bound for a moment only. Each row says what was found,
what is needed and how to mend it. The exit code is 0 when nothing is wrong (! is a warning only),
else 1.

Examples:
  node doctor
  node doctor --json | jq '.checks[] | select(.state != \"ok\")'";

const WALLET_HELP: &str = "\
Examples:
  node wallet balance
  node wallet show
  node wallet new spare
  node wallet approvals --revoke all";

const RELOAD_HELP: &str = "\
What a provider reads again: pricing, hours, discount, renters, maintenance, min_seconds,
max_seconds, hold_seconds and mandates_per_hour. New quotes follow it; quotes already given and
rentals that go on keep what was agreed. A file with a mistake changes nothing. The signal SIGHUP
does the same, and tells the log.

Examples:
  node reload
  node reload --json | jq .at_restart";

/// Rent compute by the second, peer to peer.
#[derive(Debug, Parser)]
#[command(name = "node", version, after_help = EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    /// Roles to play, of provider, renter and indexer: without a command, the daemon runs in the foreground
    #[arg(long, global = true, value_name = "ROLE[,ROLE]", value_delimiter = ',', value_parser = parse_role)]
    pub(crate) role: Vec<Role>,
    /// Where keys, configuration and state live
    #[arg(long, global = true, value_name = "DIR", env = "GPULEASE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How log lines are written, to standard error; RUST_LOG says which
    #[arg(long, global = true, value_name = "FORMAT", env = "GPULEASE_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the data directory: keys, wallet and a documented configuration
    Init(Init),
    /// Look whether everything is as it must be, and say what to do where it is not
    #[command(after_help = DOCTOR_HELP)]
    Doctor,
    /// Make, show or weigh the wallets of this node, and see who may take from them
    #[command(subcommand, after_help = WALLET_HELP)]
    Wallet(Wallet),
    /// List what can be rented
    Offers(Offers),
    /// Rent a machine, run a program there, bring its outputs back, settle
    Run(Run),
    /// Rent a machine and hold it, to be used from here
    Rent(Rent),
    /// List rentals
    Ps(Ps),
    /// Open a shell in a rental
    Ssh(Ssh),
    /// Run one more program in a rental
    Exec(Exec),
    /// Copy files into a rental or out of it
    Cp(Cp),
    /// Print what ssh, scp, sftp and rsync need to reach a rental
    SshConfig(SshConfig),
    /// Speak SSH to a client, for a rental
    #[command(hide = true)]
    SshProxy(SshProxy),
    /// Show the output of a rental's job
    Logs(Logs),
    /// Reach what listens in a rental at a port of this machine
    Forward(Forward),
    /// Work in Jupyter in a rental, from the browser of this machine
    Jupyter(Jupyter),
    /// Watch what a rental uses
    Top(Top),
    /// Show rentals in a browser: terminals, files, what they cost and use
    Console(Console),
    /// Let another node into a rental
    Share(Share),
    /// List whom a rental is shared with, or what others share with this node
    Shares(Shares),
    /// Let a node into a rental no more
    Unshare(Unshare),
    /// Take up a rental that another node shares with this one
    Accept(Accept),
    /// Tell the whole story of a rental, in order
    Show(Show),
    /// Check whether a rental's machine computes as it was offered to
    Check(Check),
    /// End a rental and settle it
    Stop(Stop),
    /// Have a rental go on for longer
    Extend(Extend),
    /// Take no new rentals, and let those that go on finish
    Drain(Drain),
    /// Take new rentals again
    #[command(after_help = "\
Ends `node drain`. A maintenance window of the configuration stays.

Examples:
  node undrain")]
    Undrain,
    /// Have the daemon read the prices and rules of its configuration again
    #[command(after_help = RELOAD_HELP)]
    Reload,
    /// Stop a rental on chain and leave the rest to the arbiter that its quote names
    Dispute(Dispute),
    /// Say what you think of a rental that is over
    Rate(Rate),
    /// Show what is known of a provider
    Reputation(Reputation),
    /// Show receipts of closed rentals, or prove them
    Receipts(Receipts),
    /// Show the GPUs of this machine, and whether what they say of themselves can be true
    #[command(after_help = "\
Asks NVIDIA's and AMD's drivers, holds what they say against the kernel and against a table of the common
models, and names what slows a card down. A machine without GPUs is told why it shows none. The exit code
is 1 when a card does not answer or something cannot be true.

Examples:
  node devices
  node devices --json | jq '.inventory.gpus[].model'")]
    Devices(Devices),
    /// Show the GPU code inside programs and libraries, and which cards run it
    Inspect(Inspect),
    /// Print a script that lets a shell complete these commands
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

/// `node init`
#[derive(Debug, Args)]
#[command(after_help = "\
What exists is kept: keys are never overwritten. The passphrase that locks the keys comes from
--passphrase-file or a prompt.

Examples:
  node init --role renter
  node init --role provider,indexer --network main --passphrase-file /etc/gpulease/passphrase")]
pub(crate) struct Init {
    /// The network to join: `main`, or a devnet's name
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) network: String,
    /// A file whose first line is the passphrase of the keystore; its path goes into the configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Replace an existing configuration (never a key)
    #[arg(long)]
    pub(crate) force: bool,
}

/// `node wallet …`
#[derive(Debug, Subcommand)]
pub(crate) enum Wallet {
    /// Make a new key in the keystore
    #[command(after_help = "\
The key is locked with the keystore's passphrase, and never leaves the data directory. Which key
pays and is paid stands in [keystore] of the configuration.

Examples:
  node wallet new spare")]
    New {
        /// What to call it
        name: String,
    },
    /// List the keys and their addresses
    #[command(after_help = "\
Needs the keystore's passphrase, and no daemon.

Examples:
  node wallet show
  node wallet show --json | jq -r '.[].address'")]
    Show,
    /// Show what the wallets hold
    #[command(after_help = "\
Each wallet's coin, for gas, and its tokens, on every configured chain. Without a daemon the chains
are asked directly.

Examples:
  node wallet balance
  node wallet balance --json")]
    Balance,
    /// List who may take tokens from the wallets, or take that back
    #[command(after_help = "\
Allowances of the configured tokens: those of the escrow and of Permit2, and those of any spender
that this node has approved before. Without a daemon the chains are asked directly. To take one back
the daemon sends approve(spender, 0), which is shown before it is sent; it costs gas.

Examples:
  node wallet approvals
  node wallet approvals --revoke USDC
  node wallet approvals --revoke all --json")]
    Approvals(Approvals),
}

/// `node wallet approvals`
#[derive(Debug, Args)]
pub(crate) struct Approvals {
    /// Set the allowances of this token to zero, by symbol or address; of every token: all
    #[arg(long, value_name = "TOKEN|all")]
    pub(crate) revoke: Option<String>,
}

/// `node offers`
#[derive(Debug, Args)]
#[command(after_help = "\
What this node has heard, whatever roles it plays; a renter sees what it can pay. Conditions compare
a field with a value, and all must hold; an unknown field is answered with the nearest.

Examples:
  node offers
  node offers 'gpu=H100 num_gpus>=4 price<=2.50' --order price,-vram
  node offers 'region in [KR,JP] cpus>=4' --json
  node offers 'vram>=80GB (sm=90a or sm=100f) not verified<2' --explain
  node offers 'num_gpus>=8' --job 'tflop=1e9 gb=5e6' --rates ~/rates

Every field, unit and operator: docs/query.md.")]
pub(crate) struct Offers {
    /// Conditions that offers must meet, such as 'cpus>=4 price<=0.50'
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) query: String,
    /// Sort keys; a minus sorts downwards. Without any by price, or by the cost of --job
    #[arg(long, value_name = "KEYS", default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    pub(crate) order: String,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(crate) limit: u16,
    /// Say how many offers each condition removes, and which offers fail at one only
    #[arg(long)]
    pub(crate) explain: bool,
    /// Estimate the cost of a job from what it needs: tflop=… (arithmetic), gb=… (memory traffic), seconds=… (the rest)
    #[arg(long, value_name = "NEEDS", default_value = "", hide_default_value = true)]
    pub(crate) job: String,
    /// What tokens are worth, one a line such as `USDC@8453 1`: prices in different tokens are compared by it
    #[arg(long, value_name = "FILE", env = "GPULEASE_RATES")]
    pub(crate) rates: Option<PathBuf>,
}

/// `node run`
#[derive(Debug, Args)]
#[command(after_help = "\
The folder of --input becomes /job in the sandbox, where the program starts; files that are new or
changed there in the end come back. Ctrl-C stops the rental and waits until it is settled; a second
one leaves at once, while the daemon goes on settling.

An interruptible rental gives way to a higher bid, a tenth above its own at least, and to rentals on
demand. The program then gets SIGTERM and the file .gpulease-notice.json in its folder; what it
writes in the first half of the notice is brought back. The exit code is its own if it ends by then
(143 if SIGTERM ended it), else 125.

Examples:
  node run -- /bin/sh -c 'echo hello'
  node run --for 30m --max-spend 0.50 --where 'memory>=8' --input ./data --out ./out -- ./job -v
  node run --env SEED=7 --json -- ./job
  node run --label train --for 8h -- ./train.sh
  node run --interruptible --bid 0.20 -- ./resumable.sh")]
pub(crate) struct Run {
    /// Conditions that offers must meet, as for `offers`
    #[arg(long = "where", value_name = "QUERY", default_value = "", hide_default_value = true)]
    pub(crate) query: String,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// A folder to send along
    #[arg(long, value_name = "DIR")]
    pub(crate) input: Option<PathBuf>,
    /// Where outputs go [default: ./gpulease-out/<id>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// An environment variable for the program; a name alone passes yours on. May be repeated
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) argv: Vec<String>,
}

/// `node ps`
#[derive(Debug, Args)]
#[command(after_help = "\
Rentals of every role of this node: those it pays for and those it is paid for.

Examples:
  node ps
  node ps train
  node ps --all --json | jq '.[] | select(.phase == \"closed\") | .id'")]
pub(crate) struct Ps {
    /// Only this rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: Option<String>,
    /// Ended rentals too
    #[arg(long)]
    pub(crate) all: bool,
}

/// `node show`
#[derive(Debug, Args)]
#[command(after_help = "\
What this node has written down: the quote, the opening, the start of the meter, vouchers, freezes,
the end and the receipt. A time is that of the block for what the chain did, and this machine's
for the rest; `-` where none was written.

Examples:
  node show 0xabcd
  node show 0xabcd --json")]
pub(crate) struct Show {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
}

/// `node stop`
#[derive(Debug, Args)]
#[command(after_help = "\
Orders the end and returns; the daemon then settles, which takes a transaction: see `node show`. A
renter pays what was served. A provider that ends a rental is paid what it has a voucher for.

Files in /job that are new or changed and that nobody has fetched go with the rental. They are listed
first; at a terminal you are asked whether to stop all the same, elsewhere the rental is stopped.

Examples:
  node stop 0xabcd
  node stop train --yes
  node stop 0xabcd --json")]
pub(crate) struct Stop {
    /// Do not look whether outputs were fetched, and do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
}

/// `node extend`
#[derive(Debug, Args)]
#[command(after_help = "\
Rents on in the same sandbox: a new rental continues the old one and takes over at once what is left
of its time, at the price offered now. The old one is settled for what was served, and the program
runs on. The command ends when the new rental is open on chain.

Examples:
  node extend 0xabcd --for 1h
  node extend 0xabcd --for 30m --json | jq .ends_at")]
pub(crate) struct Extend {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// For how long beyond its end, such as 15m or 1h30m
    #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) seconds: u32,
}

/// `node console`
#[derive(Debug, Args)]
#[command(after_help = "\
The daemon serves the page to this machine only. The link works once, for five minutes; the browser
that opened it stays in for twelve hours.

Examples:
  node console
  node console 0xabcd")]
pub(crate) struct Console {
    /// The rental: the first digits of its id, four at least, or its label; left out, the list of all
    #[arg(value_parser = parse_rental)]
    pub(crate) id: Option<String>,
}

/// `node drain`
#[derive(Debug, Args)]
#[command(after_help = "\
No new quotes are given, and the offers are withdrawn; with --until they stay, as busy until then.
Rentals that go on finish. A restart keeps to it; `node undrain` ends it.

Examples:
  node drain
  node drain --until 2h
  node drain --until 2026-12-24T18:00Z")]
pub(crate) struct Drain {
    /// When it ends by itself: a time from now, or a moment in UTC
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) until: Option<UnixMillis>,
}

/// `node dispute`
#[derive(Debug, Args)]
#[command(after_help = "\
Writes everything that both sides signed to a file, stops the meter on chain, and follows the rental
until the arbiter rules, the provider closes, or the window is over and the daemon finalizes. Ctrl-C
leaves it to the daemon; the same command again goes on following.

The reasons, which the chain records and an arbiter reads:
  unanswered   the provider does not answer
  not-served   time was billed in which the machine could not be used
  hardware     the machine is not what was offered
  ended        the provider ended the rental before its time
  data         what was sent, kept or brought back was lost or changed
  other        something else, which the evidence tells

With --export nothing is stopped: either side writes down what it has, of any rental. With --check a
file is proved without a daemon: every hash, every signature, and who had to make it. The exit code
is then 0 if all hold and 1 if one does not.

Examples:
  node dispute 0xabcd --reason hardware
  node dispute 0xabcd --reason not-served --out ./evidence.json --no-wait
  node dispute 0xabcd --export
  node dispute --check ./evidence.json")]
pub(crate) struct Dispute {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental, required_unless_present = "check")]
    pub(crate) id: Option<String>,
    /// Why it is stopped
    #[arg(long, value_name = "REASON", default_value = "other", value_parser = reasons())]
    pub(crate) reason: StopReason,
    /// Where the evidence goes [default: ./gpulease-dispute/<id>.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Return as soon as the chain shows the stop
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Only write the evidence: nothing is stopped
    #[arg(long, conflicts_with_all = ["reason", "no_wait"])]
    pub(crate) export: bool,
    /// Prove a file of evidence, and do nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "reason", "out", "no_wait", "export"])]
    pub(crate) check: Option<PathBuf>,
}

/// `node receipts`
#[derive(Debug, Args)]
#[command(after_help = "\
With --verify every receipt is proved: its hashes, signatures and sums, and then against the chain
itself, which is asked directly and not through the daemon. Each check is a row of what was found
and what was expected; the exit code is 0 if all hold, 1 if one does not, 7 if the chain cannot be
asked.

Examples:
  node receipts
  node receipts 0xabcd
  node receipts --verify
  node receipts 0xabcd --json > receipt.json && node receipts --verify --file receipt.json")]
pub(crate) struct Receipts {
    /// Only this rental, in full: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: Option<String>,
    /// Prove each receipt by itself and against the chain
    #[arg(long)]
    pub(crate) verify: bool,
    /// Receipts that were saved with --json, instead of the daemon's
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) file: Option<PathBuf>,
}

/// `node inspect`
#[derive(Debug, Args)]
#[command(after_help = "\
Reads programs, shared and static libraries, object files, cubins and PTX, and lists for which cards their
GPU code was compiled. With --on it says whether it runs on cards of these compute capabilities: natively,
compiled by the driver at the first start, in part, or not at all. `node run` looks at the program and the
libraries of its input folder by itself, and leaves out offers whose cards cannot run them.

The exit code is 1 when the files do not run on a card that was asked about.

Examples:
  node inspect ./train libkernels.so
  node inspect ./train --on 90,120
  node inspect ./train --json | jq .files[0]")]
pub(crate) struct Inspect {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Compute capabilities times ten, such as 90 for an H100 and 120 for an RTX 5090
    #[arg(long, value_name = "SM[,SM]", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(10..1_000))]
    pub(crate) on: Vec<u32>,
}

/// `node devices`
#[derive(Debug, Args)]
pub(crate) struct Devices {
    #[command(subcommand)]
    pub(crate) command: Option<DevicesCommand>,
}

/// `node devices …`
#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    /// Measure processor, memory, disk and GPUs, for a provider's offers
    #[command(after_help = "\
Each figure takes up to two seconds. They are kept, with their date, in the data directory: a provider puts
them into its signed offers from its next start on, and renters rank by them. Nothing else should run
meanwhile; rentals that go on would be slowed down, and would slow the figures down.

Examples:
  node devices bench
  node devices bench --json | jq .cpu")]
    Bench,
}

/// `node completions`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  node completions bash > ~/.local/share/bash-completion/completions/node
  node completions zsh --name gpulease > ~/.zfunc/_gpulease
  node completions fish > ~/.config/fish/completions/node.fish")]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
    /// What the program is called in that shell, since `node` may be another program there
    #[arg(long, default_value = "node", value_parser = parse_program)]
    pub(crate) name: String,
}

/// `node man`
#[derive(Debug, Args)]
#[command(after_help = "\
One page for the program and one for each command, in roff, as `man` reads it.

Examples:
  node man /usr/local/share/man/man1
  node man ./man --name gpulease")]
pub(crate) struct Man {
    /// The folder; made if it does not exist
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
    /// What the program is called there, since `node` may be another program
    #[arg(long, default_value = "node", value_parser = parse_program)]
    pub(crate) name: String,
}

/// Shells that can complete commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// GNU Bash, with its completion package
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// A name that a shell needs no quotes for, since it goes into a script as it is.
fn parse_program(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("a program's name has letters, digits, `-`, `_` and `.` only".to_owned())
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "provider" => Ok(Role::Provider),
        "renter" => Ok(Role::Renter),
        "indexer" => Ok(Role::Indexer),
        _ => {
            let meant = nearest(text, ["provider", "renter", "indexer"]);
            Err(meant.map_or_else(String::new, |role| format!("did you mean `{role}`? "))
                + "the roles are provider, renter and indexer")
        }
    }
}

/// The known word most like `text`, unless none is like it.
pub(crate) fn nearest<T: AsRef<str>>(text: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    // below this a likeness is chance
    const ALIKE: f64 = 0.8;
    let scored = known.into_iter().map(|word| (strsim::jaro_winkler(word.as_ref(), text), word));
    scored.filter(|(likeness, _)| *likeness >= ALIKE).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, word)| word)
}

/// A time from now, or a moment.
fn parse_moment(text: &str) -> Result<UnixMillis, String> {
    let from_now = market::time::parse_duration(text).map(|seconds| UnixMillis::now().plus(u64::from(seconds) * 1_000));
    from_now.or_else(|_| text.parse()).map_err(|error: market::time::MomentError| format!("{error}, or like 2h"))
}

fn parse_seconds(text: &str) -> Result<u32, String> {
    market::time::parse_duration(text).map_err(|error| error.to_string())
}

/// The token, and so its precision, is only known with the offer: here the text must be a number at all.
fn parse_amount(text: &str) -> Result<String, String> {
    market::money::parse_units(text, market::money::MAX_DECIMALS)
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).map_err(|_| format!("`{text}` is not set here; write {text}=VALUE"))?),
    };
    if name.is_empty() || name.contains('\0') || value.contains('\0') {
        return Err("expected NAME=VALUE".to_owned());
    }
    Ok((name.to_owned(), value))
}

fn reasons() -> impl TypedValueParser<Value = StopReason> {
    PossibleValuesParser::new(StopReason::ALL.map(StopReason::name)).try_map(|name| name.parse::<StopReason>())
}

/// A rental as a person names it: the beginning of its id, or its label.
fn parse_rental(text: &str) -> Result<String, String> {
    if is_id_prefix(text) || text.parse::<Label>().is_ok() {
        return Ok(text.to_owned());
    }
    Err("expected a rental: its id, 0x and at least four of its hex digits, or its label".to_owned())
}

#[cfg(test)]
mod tests;
