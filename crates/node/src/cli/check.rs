//! `node check` as data.

use super::parse_rental;
use clap::Args;

/// `node check`
#[derive(Debug, Args)]
#[command(after_help = "\
Has the processors, or the cards, compute in the sandbox what cannot be known beforehand, and checks it here, by
this machine's clock. The daemon does so by itself at the beginning of a rental of a minute or more, and
again at random times. It takes about a second of the machine's time. A machine that is not as it was offered
is left: the rental is stopped on chain, and costs what was signed for until then. The exit code is 0 unless
something is wrong; that nothing was shown, or that nobody has measured such a machine, is nobody's fault.

Examples:
  node check 0xabcd
  node check 0xabcd --json | jq .outcome")]
pub(crate) struct Check {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
}
