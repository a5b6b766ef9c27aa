//! `node rate` and `node reputation`.

use super::parse_rental;
use clap::Args;

/// `node rate`
#[derive(Debug, Args)]
#[command(after_help = "\
Says what you think of a rental that is over and for which something was paid. The rating is signed
by the rental's own key, so that anybody can check it against the chain; it is told to indexers until
one keeps it. Rated again, the latest counts.

Examples:
  node rate 0xabcd --stars 5
  node rate 0xabcd --stars 2 --comment 'half the bandwidth that was offered'")]
pub(crate) struct Rate {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// How good it was, one to five
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    pub(crate) stars: u8,
    /// In words that everybody will read, at most 256 bytes
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) comment: String,
}

/// `node reputation`
#[derive(Debug, Args)]
#[command(after_help = "\
Asks an indexer, or this node itself if it is one, what follows from the provider's past on chain and
from ratings. All numbers are unverified volume: renting from oneself costs only gas. What a ring of
such cannot make up is how much of your own past leads to the provider: --mine asks for that too, and
tells the indexer which wallet is yours. With --verify the latest rentals and their ratings are looked
up on the chain; the exit code is 1 if one does not hold.

Examples:
  node reputation 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
  node reputation 12D3KooWJcZ8yVQH3kZ --mine
  node reputation 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --verify --json | jq .standing")]
pub(crate) struct Reputation {
    /// The provider: its wallet, its peer id, or the end of that as `node offers` shows it
    pub(crate) provider: String,
    /// Also ask how much of your own past leads there
    #[arg(long)]
    pub(crate) mine: bool,
    /// Also look the latest rentals and ratings up on the chain
    #[arg(long)]
    pub(crate) verify: bool,
}
