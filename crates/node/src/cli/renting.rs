//! What `node run` and `node rent` ask of a rental: for how long, for how much, on what, and under which name. And `node rent` itself.

use super::{parse_amount, parse_seconds};
use api::types::Label;
use clap::Args;
use market::offer::MAX_SLOTS_TOGETHER;

/// A rental as it is wanted.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The longest the rental may last, such as 90s, 15m or 1h30m
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = parse_seconds)]
    pub(crate) seconds: u32,
    /// What to call it: the other commands take this name instead of an id
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
    pub(crate) label: Option<Label>,
    /// The most that may be spent, in the token paid with, such as 1.50
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount)]
    pub(crate) max_spend: Option<String>,
    /// How to choose among the offers that fit; the first is taken
    #[arg(long, value_name = "KEYS", default_value = "price", allow_hyphen_values = true)]
    pub(crate) order: String,
    /// Rent for less, and give way to whoever pays more: the program gets SIGTERM and a notice
    #[arg(long)]
    pub(crate) interruptible: bool,
    /// What to bid for a slot-hour of an interruptible rental [default: the least that is taken]
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount, requires = "interruptible")]
    pub(crate) bid: Option<String>,
    /// How many slots of one offer to rent together, where it lets them be
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SLOTS_TOGETHER)))]
    pub(crate) slots: u32,
    /// A container image to run in, such as python:3.13; its digest is looked up first [default: the machine's own programs]
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// Let programs reach public addresses; without this they reach only themselves
    #[arg(long)]
    pub(crate) egress: bool,
    /// Do not check by itself whether the machine is as fast as offered
    #[arg(long)]
    pub(crate) no_check: bool,
}

/// `node rent`
#[derive(Debug, Args)]
#[command(after_help = "\
Rents a machine and leaves it to you: no program is started, and nothing is fetched in the end. The
command ends when the machine runs; the daemon then pays for it, also over its own restarts, until
`node stop` or the end of the time. Ctrl-C before that gives it up.

Examples:
  node rent 'cpus>=4 memory>=16' --for 2h
  node rent 'gpu=H100' --for 2h --label train && node ssh train
  node rent --image jupyter/scipy-notebook --label notes --max-spend 5
  node rent 'vram>=24' --for 30m --json | jq -r .id")]
pub(crate) struct Rent {
    /// Conditions that offers must meet, as for `offers`
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) query: String,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
}

/// What a rental is to be called.
fn parse_label(text: &str) -> Result<Label, String> {
    text.parse().map_err(|error: api::types::LabelError| error.to_string())
}
