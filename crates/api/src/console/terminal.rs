//! Shells of the console. They belong to the daemon, not to a page: a page that is loaded anew, or whose connection broke, finds its own again.

mod ring;
pub(crate) mod shell;
pub(crate) mod stream;

use super::{
    Shared,
    rentals::{self, Rental},
};
use crate::{
    server::{Answer, Failure, unreadable},
    types::{ApiError, ErrorKind, Visitor},
};
use access::guest::{Guest, Program};
use axum::{
    Json,
    extract::{
        FromRequestParts, Query, State, WebSocketUpgrade,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use market::id::RentalId;
use rand::Rng;
use sandbox::TerminalSize;
use serde::{Deserialize, Serialize};
use shell::Shell;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

/// Shells at once, of all rentals together: tabs of one person. Each may hold a ring of 2 MiB.
pub(crate) const MAX_TERMINALS: usize = 32;

/// A shell, as its tab shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TerminalRow {
    /// Names it.
    id: String,
    /// How it ended, once it did.
    ended: Option<String>,
}

/// The size of the page that a shell is opened on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct OpenTerminal {
    /// Characters in a line.
    columns: u16,
    /// Lines.
    rows: u16,
}

/// All shells, in the order in which they were opened.
#[derive(Debug)]
pub(super) struct Terminals {
    open: Mutex<Vec<Terminal>>,
    cancel: CancellationToken,
}

#[derive(Clone, Debug)]
struct Terminal {
    rental: RentalId,
    id: String,
    shell: Arc<Shell>,
}

impl Terminals {
    pub(super) fn new(cancel: CancellationToken) -> Self {
        Self { open: Mutex::default(), cancel }
    }

    /// Ends shells that nobody has looked at for too long, and forgets those that have ended unseen.
    pub(super) fn sweep(&self, now: Instant) {
        self.open().retain(|terminal| {
            let forgotten = terminal.shell.is_forgotten(now);
            if forgotten {
                terminal.shell.close();
            }
            !forgotten
        });
    }

    fn list(&self, rental: RentalId) -> Vec<TerminalRow> {
        self.open().iter().filter(|terminal| terminal.rental == rental).map(Terminal::row).collect()
    }

    fn find(&self, rental: RentalId, id: &str) -> Option<Terminal> {
        self.open().iter().find(|terminal| terminal.rental == rental && terminal.id == id).cloned()
    }

    fn is_full(&self) -> bool {
        self.open().len() >= MAX_TERMINALS
    }

    fn add(&self, terminal: Terminal) -> Result<(), ApiError> {
        let mut open = self.open();
        if open.len() >= MAX_TERMINALS {
            terminal.shell.close();
            return Err(too_many());
        }
        open.push(terminal);
        Ok(())
    }

    fn remove(&self, rental: RentalId, id: &str) {
        self.open().retain(|terminal| {
            let this = terminal.rental == rental && terminal.id == id;
            if this {
                terminal.shell.close();
            }
            !this
        });
    }

    fn open(&self) -> MutexGuard<'_, Vec<Terminal>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terminal {
    fn row(&self) -> TerminalRow {
        TerminalRow { id: self.id.clone(), ended: self.shell.ended() }
    }
}

fn too_many() -> ApiError {
    let message = format!("{MAX_TERMINALS} shells are open already");
    ApiError::new(ErrorKind::Refused, message, "close one of them")
}

fn gone() -> Failure {
    let message = "this shell is not there any more";
    Failure::from(ApiError::new(ErrorKind::NoMatch, message, "open a new one"))
}

/// The shells of a rental.
#[utoipa::path(get, path = "/rentals/{rental}/terminals", params(("rental" = String, Path, description = "Its id.")),
    responses((status = 200, body = [TerminalRow]), (status = "default", body = ApiError)
))]
pub(super) async fn list(State(shared): State<Shared>, Rental(rental): Rental) -> Json<Vec<TerminalRow>> {
    Json(shared.terminals.list(rental))
}

/// Opens a shell.
#[utoipa::path(post, path = "/rentals/{rental}/terminals", params(("rental" = String, Path, description = "Its id.")),
    request_body = OpenTerminal, responses((status = 200, body = TerminalRow), (status = "default", body = ApiError)
))]
pub(super) async fn open(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    size: Result<Json<OpenTerminal>, JsonRejection>,
) -> Answer<TerminalRow> {
    let Json(OpenTerminal { columns, rows }) = size.map_err(|error| unreadable(&error))?;
    if shared.terminals.is_full() {
        return Err(too_many().into());
    }
    let guest = Guest::new(shared.control.door(rental.to_string(), Visitor::Console).await?);
    let program = Program {
        argv: Vec::new(),
        env: BTreeMap::from([
            ("TERM".to_owned(), "xterm-256color".to_owned()),
            ("COLORTERM".to_owned(), "truecolor".to_owned()),
        ]),
        cwd: None,
        terminal: Some(TerminalSize { columns, rows }),
    };
    let process = guest.exec(program).await.map_err(super::files::failure)?;
    let shell = Shell::start(process, shared.terminals.cancel.child_token());
    let terminal = Terminal { rental, id: format!("{:016x}", rand::rng().random::<u64>()), shell };
    let row = terminal.row();
    shared.terminals.add(terminal)?;
    Ok(Json(row))
}

/// A shell that a request's path names.
pub(super) struct Named(RentalId, String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        #[derive(Deserialize)]
        struct OfRental {
            terminal: String,
        }
        let Rental(rental) = Rental::from_request_parts(parts, state).await?;
        let OfRental { terminal } = rentals::path(parts, state).await?;
        Ok(Self(rental, terminal))
    }
}

/// Ends a shell and everything in it.
#[utoipa::path(delete, path = "/rentals/{rental}/terminals/{terminal}", params(
    ("rental" = String, Path, description = "The rental's id."), ("terminal" = String, Path, description = "The shell's id.")
), responses((status = 204), (status = "default", body = ApiError)))]
pub(super) async fn close(State(shared): State<Shared>, Named(rental, terminal): Named) -> StatusCode {
    shared.terminals.remove(rental, &terminal);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Seen {
    /// Output before this number was shown already.
    #[serde(default)]
    seen: u64,
}

/// Connects a page with a shell, by a websocket.
pub(super) async fn stream(
    State(shared): State<Shared>,
    Named(rental, terminal): Named,
    seen: Result<Query<Seen>, QueryRejection>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let Query(Seen { seen }) = seen.map_err(|error| unreadable(&error))?;
    let Terminal { shell, .. } = shared.terminals.find(rental, &terminal).ok_or_else(gone)?;
    let upgrade = upgrade.max_message_size(stream::MAX_FRAME_BYTES).max_frame_size(stream::MAX_FRAME_BYTES);
    let cancel = shared.cancel.clone();
    Ok(upgrade.on_upgrade(move |socket| stream::show(socket, shell, seen, cancel)).into_response())
}
