//! A dispute: the renter stops on chain, signs and agrees to nothing more, and leaves the end to the arbiter.

use super::{Driver, Order, Task};
use market::{
    dispute::StopReason,
    rental::{StepError, renter::Input},
    time::UnixMillis,
};
use tokio::sync::oneshot;

/// Why a rental was not disputed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotDisputed {
    /// It is not in a state that allows it.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The order could not be written, so it was not followed.
    #[error("the order cannot be written to disk, so nothing was done")]
    Unwritten,
    /// Nobody looks after the rental any more.
    #[error("the rental has ended")]
    Ended,
}

impl Driver {
    /// Stops the rental on chain for its arbiter to rule on. The order is on disk when this returns.
    pub(crate) async fn dispute(&self, reason: StopReason) -> Result<(), NotDisputed> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Dispute(reason, reply)).await.map_err(|_| NotDisputed::Ended)?;
        answer.await.map_err(|_| NotDisputed::Ended)?
    }
}

impl Task {
    pub(super) async fn dispute(&mut self, reason: StopReason) -> Result<(), NotDisputed> {
        // tried on a copy first, since whoever ordered it wants to know why not
        self.rental().clone().step(Input::Dispute(reason), UnixMillis::now())?;
        self.input(Input::Dispute(reason)).await;
        if self.rental().disputed_at.is_some() { Ok(()) } else { Err(NotDisputed::Unwritten) }
    }
}
