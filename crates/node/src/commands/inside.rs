//! Commands that reach into a rental. Each opens streams through the daemon, which holds the connection and the key.

mod attach;
mod back;
mod cp;
mod forward;
mod jupyter;
mod logs;
mod ssh;
mod terminal;
mod top;

pub(crate) use back::{Back, parse_back};
pub(crate) use forward::{Forwarding, parse_forwarding};
pub(super) use ssh::{config as ssh_config, proxy as ssh_proxy};
pub(super) use {cp::cp, forward::forward, jupyter::jupyter, logs::logs, top::top};

use super::{Context, Failed};
use crate::{
    cli,
    output::{note, printable},
};
use access::{
    AccessError,
    guest::{Guest, Program},
};
use api::types::{ApiError, ErrorKind, RentalStory, Role, VisitKind, Visitor};
use market::id::RentalId;
use std::io::{IsTerminal, stdin, stdout};

/// What a command exits with when gpulease, and not the program, failed.
const OURS: u8 = 125;

/// `node exec`
pub(super) async fn exec(context: &Context, args: cli::Exec) -> Result<u8, Failed> {
    let terminal = if args.tty { Some(terminal::size()) } else { None };
    let program = Program { argv: args.argv, env: args.env.into_iter().collect(), cwd: args.cwd, terminal };
    attach::attach(guest(context, &args.id, Visitor::Exec).await?, program).await
}

/// `node ssh`
pub(super) async fn ssh(context: &Context, args: cli::Ssh) -> Result<u8, Failed> {
    let at_terminal = stdin().is_terminal() && stdout().is_terminal();
    let terminal = at_terminal.then(terminal::size);
    let program = Program { argv: args.argv, env: terminal::environment(), cwd: None, terminal };
    if at_terminal && program.argv.is_empty() {
        let reached = reached(context, &args.id).await?;
        reached.last_login().iter().for_each(|line| note(line));
    }
    attach::attach(guest(context, &args.id, Visitor::Shell).await?, program).await
}

/// Whoever has the daemon's door into the rental.
async fn guest(context: &Context, id: &str, visitor: Visitor) -> Result<Guest, ApiError> {
    Ok(Guest::new(context.daemon().await?.door(id, visitor)))
}

/// A rental that this node rents or is let into.
struct Reached {
    id: RentalId,
    /// The provider's peer id.
    provider: String,
    /// What has happened to it; nothing is known of one that somebody else shares.
    story: Option<RentalStory>,
}

impl Reached {
    /// What a shell greets with: who had one before.
    fn last_login(&self) -> Option<String> {
        let last = self.story.as_ref()?.visits.iter().rfind(|visit| visit.kind == VisitKind::Shell)?;
        let how = if last.ended.is_some() { printable(&last.how) } else { "still there".to_owned() };
        Some(format!("Last login: {} by {} ({how})", last.at, last.visitor.name()))
    }
}

/// The rental of this name that goes on and that this node rents or is let into.
async fn reached(context: &Context, name: &str) -> Result<Reached, ApiError> {
    let own = story(context, name).await;
    let shared = context.daemon().await?.shared().await?.into_iter().find(|shared| shared.id.matches_prefix(name));
    match (own, shared) {
        (Ok(story), None) => {
            Ok(Reached { id: story.rental.id, provider: story.rental.peer.clone(), story: Some(story) })
        }
        (Err(error), Some(shared)) if error.kind == ErrorKind::NoMatch => {
            Ok(Reached { id: shared.id, provider: shared.provider, story: None })
        }
        (Err(error), _) => Err(error),
        (Ok(_), Some(_)) => {
            let message = format!("several rentals begin with `{name}`");
            Err(ApiError::new(ErrorKind::Usage, message, "give more digits"))
        }
    }
}

/// The rental of this name that goes on and that this node rents, with what has happened to it.
async fn story(context: &Context, name: &str) -> Result<RentalStory, ApiError> {
    let stories = context.daemon().await?.story(name).await?;
    let story = stories.into_iter().find(|story| story.rental.role == Role::Renter).ok_or_else(|| {
        ApiError::new(ErrorKind::NoMatch, format!("this node does not rent `{name}`"), "see its rentals: node ps")
    })?;
    let row = &story.rental;
    if row.is_over() {
        let next = format!("what became of it: node show {}", row.id.short());
        return Err(ApiError::new(ErrorKind::NoMatch, format!("no running rental is named `{name}`"), next));
    }
    Ok(story)
}

/// What the daemon says in words of its own stays as it is; the rest is a failure inside.
pub(super) fn failed(error: &AccessError) -> ApiError {
    if let AccessError::Refused(said) = error
        && let Some(said) = said.downcast_ref::<ApiError>()
    {
        return said.clone();
    }
    ApiError::new(ErrorKind::Failed, error.to_string(), "")
}
