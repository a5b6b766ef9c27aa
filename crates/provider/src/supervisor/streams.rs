//! Streams into sandboxes: admitted by the rental's session key, served while the rental is and as long as what admitted them holds.

use super::{Done, MAX_SESSIONS, Supervisor, span};
use access::host::{self, Place};
use market::{
    refusal::{Refusal, RefusalCode},
    rental::provider::Phase,
    time::UnixMillis,
};
use network::IncomingSession;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// After what pause a stream is worth another try whose sandbox is being taken up again, in milliseconds.
const ASK_AGAIN: u32 = 500;
/// The longest a stream is served without being asked again whether it may: timers are not made for the centuries that a grant may name.
const LONGEST_STREAM: Duration = Duration::from_secs(365 * 24 * 3_600);

/// A stream that is let in.
struct Admitted {
    place: Place,
    /// The rental has ended.
    ended: CancellationToken,
    /// What it was let in by does not hold any more.
    leave: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Supervisor {
    pub(super) fn stream(&mut self, stream: IncomingSession) {
        let admitted = self.admit(&stream);
        let about = host::claimed_rental(&stream.header).map_or_else(|_| Span::none(), |id| span(&id));
        let session = tracing::info_span!(parent: &about, "session", peer = %stream.peer);
        let full = self.sessions >= MAX_SESSIONS;
        self.sessions += 1;
        match admitted {
            Ok(Admitted { place, ended, leave }) if !full => {
                let serving = async move {
                    tokio::select! {
                        () = ended.cancelled() => {}
                        served = host::serve(stream, place, leave) => if let Err(error) = served {
                            tracing::debug!(%error, "a session ended badly");
                        }
                    }
                    Done::Over
                };
                self.work.spawn(serving.instrument(session));
            }
            refused => {
                let refusal = refused
                    .err()
                    .unwrap_or_else(|| Refusal::new(RefusalCode::RateLimited, "too many sessions are open"));
                self.work.spawn(async move {
                    if let Err(error) = stream.refuse(refusal).await {
                        tracing::debug!(%error, "a refusal was not heard");
                    }
                    Done::Over
                });
            }
        }
    }

    fn admit(&self, stream: &IncomingSession) -> Result<Admitted, Refusal> {
        let id = host::claimed_rental(&stream.header)?;
        let unknown = || Refusal::new(RefusalCode::NoSuchRental, id.short());
        let live = self.live.get(&id).ok_or_else(unknown)?;
        let (guest, now) = (stream.peer, UnixMillis::now());
        let grant = host::admit(&stream.header, &guest, &self.network.local_peer_id(), &live.rental.quote, now)?;
        let mut unshared = live.unshared.subscribe();
        if unshared.borrow().covers(&guest, grant.serial) {
            return Err(Refusal::new(RefusalCode::Unshared, "the renter has taken back what let this node in"));
        }
        let serving = matches!(live.rental.phase, Phase::Serving | Phase::Frozen);
        let keeper = live.keeper.as_ref().filter(|_| serving);
        let keeper = keeper.ok_or_else(|| {
            let refusal = |code| Refusal::new(code, format!("the rental is {}", live.rental.phase.name()));
            match live.rental.phase {
                Phase::Held => refusal(RefusalCode::NotOpen),
                // its sandbox is being taken up again after a restart
                _ if serving => refusal(RefusalCode::WrongState).retry_after(ASK_AGAIN),
                _ => refusal(RefusalCode::WrongState),
            }
        })?;
        let place = Place { sandbox: Arc::clone(&keeper.sandbox), usage: keeper.usage() };
        let left = Duration::from_millis(grant.end().since(now)).min(LONGEST_STREAM);
        let leave = async move {
            tokio::select! {
                _ = unshared.wait_for(|unshared| unshared.covers(&guest, grant.serial)) => {}
                () = tokio::time::sleep(left) => {}
            }
        };
        Ok(Admitted { place, ended: live.sessions.clone(), leave: Box::pin(leave) })
    }
}
