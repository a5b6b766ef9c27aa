//! Who has been in a rental, as its renter's node has seen it.

use market::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// By what a renter comes into a rental.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Visitor {
    /// `node ssh`.
    Shell,
    /// `node exec`.
    Exec,
    /// An SSH client.
    Ssh,
    /// `node cp`.
    Copy,
    /// `node jupyter`.
    Jupyter,
    /// The web console.
    Console,
    /// Something else that speaks to the daemon.
    #[default]
    Other,
}

impl Visitor {
    /// Its name, as JSON has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Exec => "exec",
            Self::Ssh => "ssh",
            Self::Copy => "copy",
            Self::Jupyter => "jupyter",
            Self::Console => "console",
            Self::Other => "other",
        }
    }
}

/// What was done there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VisitKind {
    /// A login shell.
    Shell,
    /// Another program.
    Program,
    /// Files were looked at, read or written.
    Files,
}

impl VisitKind {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Program => "program",
            Self::Files => "files",
        }
    }
}

/// One time that somebody came into a rental.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Visit {
    /// When.
    #[schema(value_type = u64)]
    pub at: UnixMillis,
    /// By what.
    pub visitor: Visitor,
    /// For what.
    pub kind: VisitKind,
    /// Until when; absent while it goes on.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<UnixMillis>,
    /// How it ended, in words; empty while it goes on.
    pub how: String,
}
