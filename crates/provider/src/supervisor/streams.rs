//! Streams into sandboxes: admitted by the rental's session key, served while the rental is.

use super::{Done, MAX_SESSIONS, Supervisor, span};
use access::host::{self, Place};
use market::{
    refusal::{Refusal, RefusalCode},
    rental::provider::Phase,
    time::UnixMillis,
};
use network::IncomingSession;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// After what pause a stream is worth another try whose sandbox is being taken up again, in milliseconds.
const ASK_AGAIN: u32 = 500;

impl Supervisor {
    pub(super) fn stream(&mut self, stream: IncomingSession) {
        let admitted = self.admit(&stream);
        let about = host::claimed_rental(&stream.header).map_or_else(|_| Span::none(), |id| span(&id));
        let session = tracing::info_span!(parent: &about, "session", peer = %stream.peer);
        let full = self.sessions >= MAX_SESSIONS;
        self.sessions += 1;
        match admitted {
            Ok((place, ended)) if !full => {
                let serving = async move {
                    tokio::select! {
                        () = ended.cancelled() => {}
                        served = host::serve(stream, place) => if let Err(error) = served {
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

    fn admit(&self, stream: &IncomingSession) -> Result<(Place, CancellationToken), Refusal> {
        let id = host::claimed_rental(&stream.header)?;
        let unknown = || Refusal::new(RefusalCode::NoSuchRental, id.short());
        let live = self.live.get(&id).ok_or_else(unknown)?;
        host::admit(stream, &self.network.local_peer_id(), &live.rental.quote, UnixMillis::now())?;
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
        Ok((place, live.sessions.clone()))
    }
}
