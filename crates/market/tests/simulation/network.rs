//! What the two say to each other, and how it gets lost, late, doubled and out of order on the way.

use crate::world::{Event, Shared};
use alloy_primitives::Signature;
use market::{
    id::RentalId,
    mandate::Mandate,
    money::Amount,
    signed::{SignedRelease, SignedVoucher},
    time::UnixMillis,
};

/// How much later than any message a second copy of one may come.
const LATE_COPY: u64 = 15_000;

/// From renter to provider.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Open(Box<Mandate>),
    Status,
    Voucher(SignedVoucher),
    Finish(Option<SignedVoucher>),
}

/// Which question an answer belongs to: a process of the renter, a rental, and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) epoch: u32,
    pub(crate) id: RentalId,
    pub(crate) number: u64,
}

/// From provider to renter.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    Status {
        ready: Option<(UnixMillis, Signature)>,
        fault: bool,
    },
    /// The total acknowledged, and whether the provider's key signed it: that is checked before the machine hears of it, in `wire`.
    Ack(Amount, bool),
    Final(SignedRelease),
    /// The rental is over there, or was never known.
    Gone,
    /// Anything else that is no promise.
    Refused,
}

/// Sends a question.
pub(crate) fn ask(s: &mut Shared, ticket: Ticket, request: Request) {
    travel(s, || Event::Asked(ticket, request.clone()));
}

/// Sends an answer.
pub(crate) fn answer(s: &mut Shared, ticket: Ticket, response: Response) {
    travel(s, || Event::Answered(ticket, response.clone()));
}

fn travel(s: &mut Shared, event: impl Fn() -> Event) {
    if s.calm() {
        return s.later(20, event());
    }
    if s.random.percent(s.plan.loss_percent) {
        return;
    }
    let delay = s.random.range(5, s.plan.delay);
    s.later(delay, event());
    if s.random.percent(s.plan.duplicate_percent) {
        // late enough to come after what was sent later
        let delay = s.random.range(5, s.plan.delay + LATE_COPY);
        s.later(delay, event());
    }
}
