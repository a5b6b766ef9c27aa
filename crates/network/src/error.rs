//! What can go wrong, one type for each thing that can be asked of the network.

use crate::{ad::AdFault, frame::FrameError};
use libp2p::{Multiaddr, PeerId};
use market::refusal::Refusal;
use std::io;

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The identity is not an ed25519 key.
    #[error("the peer key must be an ed25519 key")]
    NotEd25519,
    /// The network's name is neither `main` nor `devnet-` and eight hex digits.
    #[error("`{0}` is no network: expected `main` or `devnet-` and 8 hex digits")]
    Network(String),
    /// A protocol could not be configured.
    #[error("cannot configure {protocol}: {reason}")]
    Configuration {
        /// Which protocol.
        protocol: &'static str,
        /// What it said.
        reason: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the transport said.
        reason: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The network task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network is shut down")]
pub struct Stopped;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The other side did not answer, or is not who the address says.
    #[error("cannot connect to {address}: {reason}")]
    Failed {
        /// Where it was tried.
        address: Multiaddr,
        /// What the transport said.
        reason: String,
    },
    /// The network task has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why an advertisement was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It would be refused by everyone.
    #[error("the advertisement is not valid: {0}")]
    Invalid(#[from] AdFault),
    /// The key could not sign.
    #[error("cannot sign the advertisement: {0}")]
    Signing(String),
    /// The clock stands further behind an advertisement of our own than others tolerate.
    #[error("an advertisement of this peer from the future is in the market: is the clock right?")]
    Clock,
    /// The network task has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection to the peer, and none could be made.
    #[error("{0} cannot be reached")]
    Unreachable(PeerId),
    /// Connected, but no answer in time. Whether the question arrived is not known.
    #[error("no answer in time")]
    Timeout,
    /// The connection or stream ended before the answer. Whether the question arrived is not known.
    #[error("the connection was lost before the answer came")]
    Lost,
    /// The question is longer than the protocol allows; it was not sent.
    #[error("the request of {got} bytes is longer than the {limit} allowed")]
    RequestTooLong {
        /// Its length.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// The answer is longer than the protocol allows.
    #[error("the answer is longer than allowed")]
    Oversize,
    /// The answer cannot be read.
    #[error("the answer cannot be read")]
    Malformed,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak {0}")]
    Unsupported(String),
    /// Too many questions are waiting already, for a connection or for the peer's answer.
    #[error("too many requests are waiting already")]
    Busy,
    /// The network task has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a session stream was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The other side said no, and why.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// No connection to the peer, and none could be made.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The stream ended without an answer.
    #[error("the stream ended without an answer")]
    NoAnswer,
    /// The peer does not speak the protocol.
    #[error("the peer does not speak the session protocol")]
    Unsupported,
    /// The header or the answer could not be written or read.
    #[error(transparent)]
    Stream(#[from] FrameError),
    /// Too many streams are waiting for connections.
    #[error("too many requests are waiting for a connection")]
    Busy,
    /// The network task has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
