//! Sharing a rental with other nodes: `node share`, `shares`, `unshare`, `accept`.

use super::{parse_rental, parse_seconds};
use clap::Args;

/// `node share`
#[derive(Debug, Args)]
#[command(after_help = "\
Lets another node into the rental: your own on a laptop, or a colleague's. Prints what that node then
gives to `node accept`; nobody else can use it. There ssh, exec, cp, forward, logs, top and ssh-config
work on the rental as they do here. It can neither pay, extend nor stop it, nor share it further.
It is over with the rental, after --for, or when you take it back: node unshare.

Examples:
  node share 0xabcd --to 12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust
  node share 0xabcd --to 12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust --for 8h")]
pub(crate) struct Share {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// The other node's peer id: `node shares` says it there
    #[arg(long = "to", value_name = "PEER")]
    pub(crate) peer: String,
    /// For how long, such as 8h [default: until the rental ends]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
    pub(crate) seconds: Option<u32>,
}

/// `node shares`
#[derive(Debug, Args)]
#[command(after_help = "\
With a rental: the nodes that it is or was shared with. Without: the rentals that others share with
this node, and this node's peer id, which they name to do so.

Examples:
  node shares
  node shares 0xabcd
  node shares 0xabcd --json | jq -r '.[].peer'")]
pub(crate) struct Shares {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: Option<String>,
}

/// `node unshare`
#[derive(Debug, Args)]
#[command(after_help = "\
When this command ends, the provider has it on disk: the node's shells and transfers have ended, and it
is not let in again unless you share the rental with it anew.

Examples:
  node unshare 0xabcd --with 12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust")]
pub(crate) struct Unshare {
    /// The rental: the first digits of its id, four at least, or its label
    #[arg(value_parser = parse_rental)]
    pub(crate) id: String,
    /// The other node's peer id
    #[arg(long = "with", value_name = "PEER")]
    pub(crate) peer: String,
}

/// `node accept`
#[derive(Debug, Args)]
#[command(after_help = "\
Takes up a rental that somebody shares with this node, by what `node share` printed there. The provider
is asked at once whether it lets this node in.

Examples:
  node accept gpulease-share-CgRtYWlu
  node accept gpulease-share-CgRtYWlu --json | jq -r .id")]
pub(crate) struct Accept {
    /// What `node share` printed
    #[arg(value_name = "TOKEN")]
    pub(crate) token: String,
}
