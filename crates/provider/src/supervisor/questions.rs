//! What renters ask: a quote, how it stands, a voucher taken, the end. Each answer that promises something is on disk before it leaves.

use super::{
    ASK_AGAIN, Asking, Done, Live, MAX_ASKING, StepFailure, Supervisor, Weighed, offers::CLOSING_TAKES, service,
};
use crate::{
    closing,
    inventory::{Occupant, Taken},
    keeper::Keeper,
};
use alloy_primitives::{Bytes, keccak256};
use market::{
    id::{PeerId, RentalId},
    quote::{Quote, SignedQuote},
    refusal::{Refusal, RefusalCode},
    rental::{
        StepError,
        provider::{Input, Phase, Rental},
    },
    signed::{AckStatement, SignedAck, SignedRelease, SignedVoucher},
    terms::Terms,
    time::UnixMillis,
};
use network::{IncomingRental, Reply};
use prost::Message;
use settlement::{Known, SettlementError};
use store::crash_point;
use wire::{AskedBy, QuoteAsk, proto};

impl Supervisor {
    #[tracing::instrument(name = "request", skip_all, fields(peer = %question.peer))]
    pub(super) async fn question(&mut self, question: IncomingRental) {
        use proto::rental_request::Request;
        if let (Some(Request::Carry(_)), Some(carrier)) = (&question.request.request, &self.carrier) {
            // one that is busy lets the asker go elsewhere
            return drop(carrier.try_send(question));
        }
        let IncomingRental { peer, request, reply } = question;
        let answer = match request.request {
            Some(Request::Quote(quote)) => match self.quote(peer, &quote, reply) {
                None => return,
                Some((refusal, reply)) => {
                    self.figures.refused(&refusal);
                    tracing::debug!(%peer, %refusal, "a quote was refused");
                    refuse(reply, &refusal);
                    return;
                }
            },
            Some(Request::Mandate(mandate)) => match self.mandate(peer, &mandate, reply) {
                None => return,
                Some((refusal, reply)) => {
                    self.figures.refused(&refusal);
                    tracing::debug!(%peer, %refusal, "a mandate was refused");
                    refuse(reply, &refusal);
                    return;
                }
            },
            Some(Request::Status(status)) => self.status(peer, &status.id),
            Some(Request::Voucher(voucher)) => self.voucher(peer, &voucher).await,
            Some(Request::Finish(finish)) => self.finish(peer, &finish).await,
            Some(Request::Unshare(unshare)) => self.unshare(peer, &unshare).await,
            Some(Request::Carry(_)) => Err(Refusal::new(RefusalCode::Settlement, "nothing is carried here")),
            None => Err(Refusal::new(RefusalCode::BadRequest, "this kind of request is not known here")),
        };
        match answer {
            Ok(response) => {
                reply.send(proto::RentalResponse { response: Some(response) });
            }
            Err(refusal) => {
                self.figures.refused(&refusal);
                refuse(reply, &refusal);
            }
        }
    }

    /// Holds a slot and looks at the renter's funds; or says at once why not.
    fn quote(&mut self, peer: PeerId, request: &proto::QuoteRequest, reply: Reply) -> Option<(Refusal, Reply)> {
        let now = UnixMillis::now();
        let (ask, by) = match QuoteAsk::from_proto(request, &peer, &self.network.local_peer_id()) {
            Ok(read) => read,
            Err(error) => return Some((Refusal::new(RefusalCode::BadRequest, error.to_string()), reply)),
        };
        // what the wallet holds is not known yet: it may be all that earns a discount
        if let Err(refusal) = self.desk(&self.service(now)).weigh(&ask, now, |_| true) {
            return Some((refusal, reply));
        }
        if self.asking.len() >= MAX_ASKING {
            return Some((Refusal::new(RefusalCode::RateLimited, "too many are asking, try again in a second"), reply));
        }
        if self.holds_for(&ask, &peer) {
            let refusal = Refusal::new(
                RefusalCode::HoldInUse,
                format!("open or let lapse the quote you have; it ends within {} s", self.config.hold_seconds),
            );
            return Some((refusal, reply));
        }
        self.asked += 1;
        let number = self.asked;
        let (taken, displaces) = match self.take(&ask, peer, number) {
            Ok(taken) => taken,
            Err(refusal) => return Some((refusal, reply)),
        };
        let Some(settling) = self.chains.iter().find(|s| s.account.sender().chain().escrow() == ask.escrow) else {
            self.inventory.free(Occupant::Asking(number));
            return Some((Refusal::new(RefusalCode::Settlement, "that escrow is not served here"), reply));
        };
        let (chain, token, wallet) = (settling.account.sender().chain().clone(), ask.token, ask.wallet);
        let wanted = self.wanted_holdings(&ask.offer);
        self.work.spawn(async move {
            let result = async {
                let head = chain.head().await?;
                let balance = chain.balance(token, wallet).await?;
                let signed = match by {
                    AskedBy::Key => true,
                    AskedBy::Account { digest, signature } => {
                        chain.accepts_signature(wallet, digest, signature).await?
                    }
                };
                let holdings = service::held_by(wallet, wanted).await;
                Ok(Weighed { signed, balance, block: head.number, block_time: head.timestamp, holdings })
            };
            Done::Weighed { number, result: result.await }
        });
        self.asking.insert(number, Asking { ask, peer, taken, displaces, reply });
        None
    }

    /// Reserves the slots of a question; one that continues a rental has them already, and one that sends another away will.
    fn take(&mut self, ask: &QuoteAsk, peer: PeerId, number: u64) -> Result<(Taken, Option<RentalId>), Refusal> {
        if let Some(before) = ask.continues {
            return self.continued(ask, peer, before).map(|taken| (taken, None));
        }
        if let Some(taken) = self.inventory.take(&ask.offer, ask.slots, Occupant::Asking(number)) {
            return Ok((taken, None));
        }
        let promised = |id: RentalId| self.asking.values().any(|asking| asking.displaces == Some(id));
        if let Some((victim, taken)) = self.victim(ask).filter(|(victim, _)| !promised(*victim)) {
            return Ok((taken, Some(victim)));
        }
        let until = self.inventory.busy_until(&ask.offer, ask.slots, &self.ends());
        let detail = until.map_or_else(|| "a renter who is about to open".to_owned(), |at| at.to_string());
        let refusal = Refusal::new(RefusalCode::BusyUntil, detail);
        let soon = UnixMillis(UnixMillis::now().0 + CLOSING_TAKES);
        Err(if until.is_some_and(|at| at <= soon) { refusal.retry_after(ASK_AGAIN) } else { refusal })
    }

    /// Whether this wallet or peer already holds a quote that is not opened.
    fn holds_for(&self, ask: &QuoteAsk, peer: &PeerId) -> bool {
        let asking = self.asking.values().any(|other| other.ask.wallet == ask.wallet || other.peer == *peer);
        let held = self.live.values().any(|live| {
            live.rental.phase == Phase::Held
                && (live.rental.quote.quote.renter == ask.wallet || live.rental.terms.renter_peer == *peer)
        });
        asking || held
    }

    /// Makes the promise, once the funds are seen: on disk first, then to the renter.
    pub(super) async fn weighed(&mut self, number: u64, result: Result<Weighed, SettlementError>) {
        let Some(asking) = self.asking.remove(&number) else { return };
        let promised = match result {
            Err(error) => Err(Refusal::new(RefusalCode::Internal, format!("the chain cannot be asked: {error}"))),
            Ok(weighed) if !weighed.signed => {
                Err(Refusal::new(RefusalCode::BadRequest, "the request is not signed by the wallet that it names"))
            }
            Ok(weighed) if weighed.balance < alloy_primitives::U256::from(asking.ask.deposit.get()) => Err(
                Refusal::new(RefusalCode::Funds, format!("the wallet {} does not hold the deposit", asking.ask.wallet)),
            ),
            Ok(weighed) => self.promise(&asking, &weighed).await,
        };
        match promised {
            Ok((quote, terms)) => {
                let reply = wire::quote_to_proto(&quote, terms);
                asking
                    .reply
                    .send(proto::RentalResponse { response: Some(proto::rental_response::Response::Quote(reply)) });
                crash_point("provider", "quote", "sent");
                self.advertise().await;
            }
            Err(refusal) => {
                self.inventory.free(Occupant::Asking(number));
                self.figures.refused(&refusal);
                tracing::debug!(peer = %asking.peer, %refusal, "a quote was refused");
                refuse(asking.reply, &refusal);
            }
        }
    }

    async fn promise(&mut self, asking: &Asking, weighed: &Weighed) -> Result<(SignedQuote, Vec<u8>), Refusal> {
        let internal = |error: &dyn std::fmt::Display| Refusal::new(RefusalCode::Internal, error.to_string());
        let ask = &asking.ask;
        let (now, holdings) = (UnixMillis::now(), &weighed.holdings);
        let service = self.service(now);
        let agreed = self.desk(&service).weigh(ask, now, |holding| holdings.contains(holding))?;
        let price = agreed.price.clone();
        if let Some(before) = ask.continues {
            self.continued(ask, asking.peer, before)?;
        }
        if asking.displaces.is_some_and(|victim| !self.still_gives_way(victim)) {
            return Err(Refusal::new(RefusalCode::BusyUntil, "the slot that was to become free, ask again"));
        }
        let terms = Terms {
            network: self.network_name.clone(),
            provider_peer: self.network.local_peer_id(),
            renter_peer: asking.peer,
            escrow: ask.escrow,
            token: price.token.clone(),
            offer: agreed.offer.name.clone(),
            slot: asking.taken.name.clone(),
            hardware: agreed.hardware,
            increment_millis: self.config.increment_millis,
            ready_seconds: self.config.ready_seconds(),
            frozen_seconds: self.config.frozen_seconds,
            notice_seconds: if ask.interruptible { self.config.notice_seconds } else { 0 },
            workload: ask.workload.clone(),
            continues: ask.continues,
            salt: rand::random(),
        };
        let bytes = wire::terms_to_bytes(&terms);
        let expiry = weighed.block_time + u64::from(self.config.hold_seconds);
        let quote = Quote {
            provider: self.keys.payee(),
            provider_key: self.keys.signer().address(),
            renter: ask.wallet,
            renter_key: ask.renter_key,
            token: ask.token,
            rate: agreed.rate,
            min_deposit: price.min_deposit,
            max_seconds: ask.max_seconds,
            window: self.config.window_seconds,
            expiry: u32::try_from(expiry).map_err(|error| internal(&error))?,
            arbiter: self.config.arbiter.unwrap_or_default(),
            device: asking.taken.device,
            spec: keccak256(&bytes),
        };
        let signature = self.keys.sign(&quote, &quote.id(&ask.escrow).0).map_err(|error| internal(&error))?;
        let signed = SignedQuote { escrow: ask.escrow, quote, signature };
        let mut rental = Rental::new(signed.clone(), terms, Bytes::from(bytes.clone()), weighed.block);
        rental.worth_claiming = closing::worth_claiming(price.min_deposit);
        let before = ask.continues.and_then(|before| self.live.get(&before));
        rental.displaces = asking.displaces;
        rental.sandbox_of = before.map(|live| live.rental.sandbox_owner());
        let id = rental.id;
        crash_point("provider", "quote", "signed");
        self.write(rental.clone()).await.map_err(|error| internal(&error))?;
        crash_point("provider", "quote", "written");
        let settling = self.chains.iter().find(|s| s.account.sender().chain().escrow() == ask.escrow);
        if let Some(settling) = settling {
            settling.follower.watch(id, weighed.block, Known::default()).await.map_err(|error| internal(&error))?;
        }
        self.figures.quoted();
        if ask.continues.is_none() && asking.displaces.is_none() {
            self.inventory.assign(&asking.taken.name, Occupant::Rental(id));
        }
        self.live.insert(id, Live::new(rental, None));
        tracing::info!(rental = %id.short(), peer = %asking.peer, slot = asking.taken.name, "quoted");
        Ok((signed, bytes))
    }

    /// The rental of an id, if it is this peer's.
    pub(super) fn rental_of(&self, peer: PeerId, id: &[u8]) -> Result<&Live, Refusal> {
        let id = wire::id_from_proto(id).map_err(|error| Refusal::new(RefusalCode::BadRequest, error.to_string()))?;
        let unknown = || Refusal::new(RefusalCode::NoSuchRental, id.short());
        self.live.get(&id).filter(|live| live.rental.terms.renter_peer == peer).ok_or_else(unknown)
    }

    fn status(&self, peer: PeerId, id: &[u8]) -> Result<proto::rental_response::Response, Refusal> {
        let live = self.rental_of(peer, id)?;
        let rental = &live.rental;
        let latest =
            if rental.acks > 0 { Some(wire::ack_to_proto(&self.ack(live)?, phase(rental.phase))) } else { None };
        Ok(proto::rental_response::Response::Status(proto::Status {
            phase: phase(rental.phase).into(),
            ready: rental.ready.as_ref().map(|(at, signature)| wire::ready_to_proto(rental.id, *at, signature)),
            latest,
            fault: rental.fault.as_ref().map(wire::refusal_to_proto),
            notice: rental.notice.as_ref().map(wire::notice_to_proto),
        }))
    }

    async fn voucher(
        &mut self,
        peer: PeerId,
        message: &proto::Voucher,
    ) -> Result<proto::rental_response::Response, Refusal> {
        let id = self.rental_of(peer, &message.id)?.rental.id;
        let voucher = read_voucher(message)?;
        // checked by the machine, stored by `input`, acknowledged only then
        self.input(id, Input::Voucher(voucher), UnixMillis::now()).await.map_err(step_refusal)?;
        let ack = self.ack(self.rental_of(peer, &message.id)?)?;
        let Some(live) = self.live.get_mut(&id) else {
            return Err(Refusal::new(RefusalCode::NoSuchRental, id.short()));
        };
        let notice = live.rental.notice.as_ref().map(wire::notice_to_proto);
        let answer = proto::Ack { notice, ..wire::ack_to_proto(&ack, phase(live.rental.phase)) };
        // what a dispute may need: on disk with the next step, which is a voucher away
        live.rental.last_ack = Some(ack);
        Ok(proto::rental_response::Response::Ack(answer))
    }

    async fn finish(
        &mut self,
        peer: PeerId,
        message: &proto::FinishRequest,
    ) -> Result<proto::rental_response::Response, Refusal> {
        let id = self.rental_of(peer, &message.id)?.rental.id;
        let voucher = message.voucher.as_ref().map(read_voucher).transpose()?;
        self.input(id, Input::Finish(voucher), UnixMillis::now()).await.map_err(step_refusal)?;
        let live = self.rental_of(peer, &message.id)?;
        let notice = live.rental.notice.as_ref().map(wire::notice_to_proto);
        let answer = proto::Final { notice, ..wire::final_to_proto(&self.release(&live.rental)?) };
        Ok(proto::rental_response::Response::Final(answer))
    }

    pub(super) fn release(&self, rental: &Rental) -> Result<SignedRelease, Refusal> {
        let (id, cumulative) = (rental.id, rental.covered());
        let digest = rental.quote.escrow.digest(&SignedRelease::statement(id, cumulative));
        let signature = self.sign(rental, &digest)?;
        Ok(SignedRelease { id, cumulative, signature })
    }

    fn ack(&self, live: &Live) -> Result<SignedAck, Refusal> {
        let (rental, now) = (&live.rental, UnixMillis::now());
        let read = live.keeper.as_ref().map(Keeper::usage);
        let usage = read.and_then(|usage| usage.borrow().as_ref().map(Message::encode_to_vec)).unwrap_or_default();
        let statement = AckStatement {
            id: rental.id,
            seq: rental.acks,
            cumulative: rental.covered(),
            served_millis: rental.served_millis(now),
            frozen_millis: rental.frozen_total(now),
            metrics: keccak256(&usage),
        };
        let signature = self.sign(rental, &rental.quote.escrow.digest(&statement.statement()))?;
        Ok(SignedAck { statement, usage: usage.into(), signature })
    }

    fn sign(&self, rental: &Rental, digest: &alloy_primitives::B256) -> Result<alloy_primitives::Signature, Refusal> {
        let signed = self.keys.sign(&rental.quote.quote, digest);
        signed.map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))
    }
}

pub(super) fn step_refusal(failure: StepFailure) -> Refusal {
    match failure {
        StepFailure::Step(error @ StepError::WrongPhase { .. }) => {
            Refusal::new(RefusalCode::WrongState, error.to_string())
        }
        StepFailure::Step(error @ StepError::NotOpen) => Refusal::new(RefusalCode::NotOpen, error.to_string()),
        StepFailure::Step(error) => Refusal::new(RefusalCode::BadRequest, error.to_string()),
        StepFailure::Store(error) => Refusal::new(RefusalCode::Internal, error.to_string()),
    }
}

fn read_voucher(message: &proto::Voucher) -> Result<SignedVoucher, Refusal> {
    wire::voucher_from_proto(message).map_err(|error| Refusal::new(RefusalCode::BadRequest, error.to_string()))
}

pub(super) fn refuse(reply: Reply, refusal: &Refusal) {
    let refusal = wire::refusal_to_proto(refusal);
    reply.send(proto::RentalResponse { response: Some(proto::rental_response::Response::Refusal(refusal)) });
}

const fn phase(phase: Phase) -> proto::Phase {
    match phase {
        Phase::Held => proto::Phase::Held,
        Phase::Preparing => proto::Phase::Preparing,
        Phase::Serving => proto::Phase::Serving,
        Phase::Frozen => proto::Phase::Frozen,
        Phase::Closing => proto::Phase::Closing,
        Phase::Closed | Phase::Lapsed => proto::Phase::Closed,
    }
}
