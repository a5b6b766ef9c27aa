//! What is said to the provider, and what it answers.

use super::{Done, Task};
use crate::negotiate::{NoPromise, rental_request};
use api::types::{ApiError, ErrorKind};
use market::{
    mandate::Mandate,
    money::Amount,
    refusal::RefusalCode,
    rental::renter::{Input, Phase},
    signed::SignedVoucher,
};
use network::Handle;
use settlement::SettlementError;
use std::time::Duration;
use wire::{CarryAsk, proto};

/// How long a voucher may stay unanswered: an increment, but not less than a message may take around the world twice.
const SHORTEST_ANSWER: Duration = Duration::from_secs(2);
/// Pause before a voucher that could not be delivered is sent again: a few times within the shortest answer.
const VOUCHER_PAUSE: Duration = Duration::from_millis(250);
/// Pause before the provider is asked again whether the sandbox is up: a person notices half a second, and sandboxes take as long.
pub(super) const STATUS_PAUSE: Duration = Duration::from_millis(200);
/// Pause before the order to open is sent again to a provider that did not answer: several times within the shortest hold.
const MANDATE_PAUSE: Duration = Duration::from_secs(2);
/// How many peers are asked to carry a Stop: as many as a node is connected to at rest, and some.
const MAX_CARRIERS_ASKED: usize = 32;
/// Pause before the end is told again to a provider that did not answer.
const FINISH_PAUSE: Duration = Duration::from_secs(2);

impl Task {
    /// Has the provider open the rental. Whether it does is what the chain shows; it may still do so after a refusal, until the quote expires.
    pub(super) fn send_mandate(&mut self, mandate: Mandate, pause: Duration) {
        let (network, provider) = (self.tools.network.clone(), self.rental().provider);
        let message = wire::mandate_to_proto(self.rental().id, &mandate);
        self.start(async move {
            tokio::time::sleep(pause).await;
            let request = proto::rental_request::Request::Mandate(message);
            Done::Mandate(match rental_request(&network, provider, request).await {
                Ok(proto::rental_response::Response::Mandated(_)) => Ok(()),
                Ok(_) => Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
                Err(error) => Err(error),
            })
        });
    }

    pub(super) fn mandated(&mut self, answer: Result<(), NoPromise>) {
        let rental = self.rental();
        match answer {
            Ok(()) => tracing::info!(rental = %rental.id.short(), "the provider opens the rental"),
            Err(error @ NoPromise::Refused(_)) => {
                tracing::info!(rental = %rental.id.short(), %error, "the provider does not open the rental");
                self.error = Some(error.into_api(&self.rental().provider));
            }
            Err(error) => {
                tracing::warn!(rental = %rental.id.short(), %error, "the order to open was not answered");
                if rental.phase == Phase::Opening {
                    self.send_open(MANDATE_PAUSE);
                }
            }
        }
    }

    /// Asks whether the sandbox is up, while it is waited for.
    pub(super) fn ask_whether_ready(&mut self, pause: Duration) {
        if self.rental().phase != Phase::Waiting || std::mem::replace(&mut self.asking, true) {
            return;
        }
        let (network, provider, id) = (self.tools.network.clone(), self.rental().provider, self.rental().id);
        self.start(async move {
            tokio::time::sleep(pause).await;
            let request = proto::rental_request::Request::Status(proto::StatusRequest { id: id.0.to_vec() });
            Done::Status(match rental_request(&network, provider, request).await {
                Ok(proto::rental_response::Response::Status(status)) => Ok(status),
                Ok(_) => Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
                Err(error) => Err(error),
            })
        });
    }

    pub(super) async fn status(&mut self, status: proto::Status) {
        if let Some(fault) = status.fault {
            let fault = wire::refusal_from_proto(fault);
            self.error = Some(ApiError::new(
                ErrorKind::Refused,
                format!("the provider failed: {fault}"),
                "nothing was billed; try another offer",
            ));
            return self.input(Input::Finish).await;
        }
        self.note(status.notice).await;
        let rental = self.rental();
        let Some(ready) = status.ready else { return };
        match wire::ready_from_proto(&ready, rental.id, rental.quote.quote.provider_key, &rental.quote.escrow) {
            Ok((at, signature)) => self.input(Input::Ready(at, signature)).await,
            Err(error) => tracing::warn!(rental = %rental.id.short(), %error, "the provider's Ready is not good"),
        }
    }

    /// Takes notice of the provider's word that the rental gives way.
    async fn note(&mut self, notice: Option<proto::PreemptNotice>) {
        let rental = self.rental();
        let Some(notice) = notice.filter(|_| rental.notice.is_none()) else { return };
        match wire::notice_from_proto(&notice, rental.quote.quote.provider_key, &rental.quote.escrow) {
            Ok(notice) => self.input(Input::Noticed(notice)).await,
            Err(error) => tracing::warn!(rental = %rental.id.short(), %error, "the provider's notice is not good"),
        }
    }

    /// Makes a voucher: signed, written, then sent. One is under way at a time; the next carries the higher total.
    pub(super) async fn sign(&mut self, total: Amount) {
        let serving = self.rental().phase == Phase::Serving;
        if serving && self.asking {
            return;
        }
        let voucher = match self.voucher_for(total) {
            Ok(voucher) => voucher,
            Err(error) => {
                tracing::error!(rental = %self.rental().id.short(), %error, "the session key cannot sign");
                return;
            }
        };
        self.input(Input::Signed(voucher)).await;
        // the last one travels with the end of the rental; and what could not be written is not sent
        if serving && self.rental().voucher == Some(voucher) {
            self.send_voucher(voucher);
        }
    }

    /// A voucher for this total, signed and nothing else.
    pub(super) fn voucher_for(&self, cumulative: Amount) -> Result<SignedVoucher, SettlementError> {
        let id = self.rental().id;
        let digest = self.rental().quote.escrow.digest(&SignedVoucher::statement(id, cumulative));
        Ok(SignedVoucher { id, cumulative, signature: self.session.sign_digest(&digest)? })
    }

    fn send_voucher(&mut self, voucher: SignedVoucher) {
        self.asking = true;
        let (network, provider) = (self.tools.network.clone(), self.rental().provider);
        let limit = Duration::from_millis(u64::from(self.rental().terms.increment_millis)).max(SHORTEST_ANSWER);
        self.start(async move {
            let answer = tokio::time::timeout(limit, acknowledgement(&network, provider, &voucher)).await;
            Done::Voucher(answer.map_err(|_| None).and_then(|answer| answer.map_err(Some)))
        });
    }

    pub(super) async fn answered(&mut self, answer: Result<proto::Ack, Option<NoPromise>>) {
        let rental = self.rental();
        match answer {
            Ok(ack) => match wire::ack_from_proto(&ack, rental.quote.quote.provider_key, &rental.quote.escrow) {
                Ok(read) if read.statement.id == rental.id => {
                    self.note(ack.notice).await;
                    let ack = read;
                    let total = ack.statement.cumulative;
                    self.record.frozen_millis = self.record.frozen_millis.max(ack.statement.frozen_millis);
                    self.record.remember_ack(ack);
                    self.input(Input::Acked(total)).await;
                }
                _ => self.input(Input::AckMissed).await,
            },
            Err(Some(error)) if ends_the_rental(&error) => {
                tracing::info!(rental = %rental.id.short(), %error, "the provider has ended the rental");
                self.error.get_or_insert_with(|| {
                    ApiError::new(ErrorKind::Refused, "the provider ended the rental", "only what was served is billed")
                });
                self.input(Input::Finish).await;
            }
            Err(error) => {
                let error = error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string());
                tracing::warn!(rental = %rental.id.short(), error, "a voucher was not acknowledged");
                self.input(Input::AckMissed).await;
            }
        }
    }

    pub(super) fn tell_finish(&mut self) {
        if std::mem::replace(&mut self.finishing, true) {
            return;
        }
        let (network, provider) = (self.tools.network.clone(), self.rental().provider);
        let finish = proto::FinishRequest {
            id: self.rental().id.0.to_vec(),
            voucher: self.rental().voucher.as_ref().map(wire::voucher_to_proto),
        };
        let pause = if self.rental().missed_finishes == 0 { Duration::ZERO } else { FINISH_PAUSE };
        self.start(async move {
            tokio::time::sleep(pause).await;
            Done::Finish(
                match rental_request(&network, provider, proto::rental_request::Request::Finish(finish)).await {
                    Ok(proto::rental_response::Response::Final(message)) => Ok(message),
                    Ok(_) => Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
                    Err(error) => Err(error),
                },
            )
        });
    }

    pub(super) async fn finished(&mut self, answer: Result<proto::Final, NoPromise>) {
        if let Ok(message) = &answer {
            self.note(message.notice.clone()).await;
        }
        let rental = self.rental();
        let read = match answer {
            Ok(message) => wire::final_from_proto(&message, rental.quote.quote.provider_key, &rental.quote.escrow)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(release) if release.id == rental.id => self.input(Input::Released(release)).await,
            Ok(_) => self.input(Input::FinishMissed).await,
            Err(error) => {
                tracing::warn!(rental = %rental.id.short(), error, "the end was not acknowledged");
                self.input(Input::FinishMissed).await;
            }
        }
    }
}

/// The provider's answer to a voucher. A provider that cannot be reached, or that has just started and does not serve yet, is asked
/// again: only one that stays away for the whole time that an answer may take has missed it.
async fn acknowledgement(
    network: &Handle,
    provider: network::PeerId,
    voucher: &SignedVoucher,
) -> Result<proto::Ack, NoPromise> {
    loop {
        let request = proto::rental_request::Request::Voucher(wire::voucher_to_proto(voucher));
        match rental_request(network, provider, request).await {
            Ok(proto::rental_response::Response::Ack(ack)) => return Ok(ack),
            Ok(_) => return Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
            Err(error @ NoPromise::Refused(_)) if ends_the_rental(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "a voucher is sent again"),
        }
        tokio::time::sleep(VOUCHER_PAUSE).await;
    }
}

/// Whether a refusal means that the provider has ended the rental.
fn ends_the_rental(error: &NoPromise) -> bool {
    matches!(error, NoPromise::Refused(refusal) if matches!(refusal.code, RefusalCode::WrongState | RefusalCode::NoSuchRental))
}

/// Has somebody carry a Stop to the chain: the peers that are connected are asked one after the other, indexers among them.
pub(super) async fn have_carried(network: &Handle, ask: &CarryAsk) -> bool {
    for peer in network.connected_peers().into_iter().take(MAX_CARRIERS_ASKED) {
        let request = proto::rental_request::Request::Carry(wire::carry_to_proto(ask));
        match rental_request(network, peer, request).await {
            Ok(proto::rental_response::Response::Carried(_)) => {
                tracing::info!(rental = %ask.id.short(), %peer, "carries the Stop to the chain");
                return true;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(rental = %ask.id.short(), %peer, %error, "does not carry the Stop"),
        }
    }
    false
}
