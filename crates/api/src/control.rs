//! What a daemon can be asked to do. The server translates HTTP into these calls; the program `node` implements them by handing each
//! to the role that knows.

use crate::{
    evidence::Evidence,
    types::{
        AcceptRequest, ApiError, Approval, ConsoleLink, ConsoleRequest, Dispute, DisputeRequest, DrainRequest,
        ExtendRequest, HardwareCheck, IndexerRow, NodeInfo, OfferExplanation, OfferQuery, OfferRow, RatingRequest,
        RatingView, Receipt, Reloaded, RentalRow, RentalStory, Reputation, ReputationQuery, Revocation, Revoked,
        RunEvent, RunRequest, RunStarted, ServiceState, Share, ShareRequest, SharedRental, UnshareRequest, Visitor,
        WalletView,
    },
};
use access::door::Door;
use futures::{future::BoxFuture, stream::BoxStream};
use std::sync::Arc;

/// The daemon, as its clients see it. Object-safe, so that the server needs no type parameter.
pub trait Control: Send + Sync + 'static {
    /// Describes the daemon.
    fn node(&self) -> BoxFuture<'_, Result<NodeInfo, ApiError>>;
    /// Searches the offers known here.
    fn offers(&self, query: OfferQuery) -> BoxFuture<'_, Result<Vec<OfferRow>, ApiError>>;
    /// Says why such a search finds so little.
    fn explain(&self, query: OfferQuery) -> BoxFuture<'_, Result<OfferExplanation, ApiError>>;
    /// The indexers that were asked for offers, and what came of it.
    fn indexers(&self) -> BoxFuture<'_, Result<Vec<IndexerRow>, ApiError>>;
    /// Begins a run; it goes on without the caller.
    fn run(&self, request: RunRequest) -> BoxFuture<'_, Result<RunStarted, ApiError>>;
    /// The events of a run from number `from` on, until its last.
    fn run_events(&self, run: u64, from: u64) -> BoxFuture<'_, Result<BoxStream<'static, RunEvent>, ApiError>>;
    /// Rentals of every role of this node, newest first; ended ones too when `all`.
    fn rentals(&self, all: bool) -> BoxFuture<'_, Result<Vec<RentalRow>, ApiError>>;
    /// The whole story of the rental named by its id or a prefix of it, as this node knows it: one for each side that it is on.
    fn story(&self, id: String) -> BoxFuture<'_, Result<Vec<RentalStory>, ApiError>>;
    /// Ends a rental, named by its id or a prefix of it, and settles it. Returns when the end is ordered, not when it is settled.
    fn stop(&self, id: String) -> BoxFuture<'_, Result<RentalRow, ApiError>>;
    /// Has a rental go on after its end, in one that continues it: that one, once it is open.
    fn extend(&self, id: String, request: ExtendRequest) -> BoxFuture<'_, Result<RentalRow, ApiError>>;
    /// Checks the hardware in a rental that this node rents; one that is not as promised is left.
    fn check(&self, id: String) -> BoxFuture<'_, Result<HardwareCheck, ApiError>>;
    /// The way into a rental that this node rents or that is shared with it, named by its id, a prefix of it or its label, for this kind of visitor.
    fn door(&self, id: String, visitor: Visitor) -> BoxFuture<'_, Result<Arc<dyn Door>, ApiError>>;
    /// Lets another node into a rental that this node rents, named by its id or a prefix of it.
    fn share(&self, id: String, request: ShareRequest) -> BoxFuture<'_, Result<Share, ApiError>>;
    /// Whom a rental that this node rents is or was shared with.
    fn shares(&self, id: String) -> BoxFuture<'_, Result<Vec<Share>, ApiError>>;
    /// Lets a node in no more. When it returns the provider has it on disk.
    fn unshare(&self, id: String, request: UnshareRequest) -> BoxFuture<'_, Result<Share, ApiError>>;
    /// Takes up what another node has shared with this one.
    fn accept(&self, request: AcceptRequest) -> BoxFuture<'_, Result<SharedRental, ApiError>>;
    /// The rentals that others share with this node.
    fn shared(&self) -> BoxFuture<'_, Result<Vec<SharedRental>, ApiError>>;
    /// A link into the web console.
    fn console(&self, request: ConsoleRequest) -> BoxFuture<'_, Result<ConsoleLink, ApiError>>;
    /// Everything signed of a rental that this node has: a file for each side that it is on, the renter's first.
    fn evidence(&self, id: String) -> BoxFuture<'_, Result<Vec<Evidence>, ApiError>>;
    /// How the dispute of a rental stands; an error for one that cannot be disputed, which says why.
    fn dispute(&self, id: String) -> BoxFuture<'_, Result<Dispute, ApiError>>;
    /// Stops a rental on chain for its arbiter to rule on. Returns when that is ordered, not when the chain shows it.
    fn order_dispute(&self, id: String, request: DisputeRequest) -> BoxFuture<'_, Result<Dispute, ApiError>>;
    /// Says what this node thinks of a closed rental that it rented, named by its id or a prefix of it.
    fn rate(&self, id: String, request: RatingRequest) -> BoxFuture<'_, Result<RatingView, ApiError>>;
    /// What is known of a provider, named by its wallet or its peer id.
    fn reputation(&self, provider: String, query: ReputationQuery) -> BoxFuture<'_, Result<Reputation, ApiError>>;
    /// Receipts, newest first; only those whose id begins with `prefix`, if it is not empty.
    fn receipts(&self, prefix: String) -> BoxFuture<'_, Result<Vec<Receipt>, ApiError>>;
    /// The wallets of this node and what they hold.
    fn wallets(&self) -> BoxFuture<'_, Result<Vec<WalletView>, ApiError>>;
    /// The allowances that the wallets of this node have given.
    fn approvals(&self) -> BoxFuture<'_, Result<Vec<Approval>, ApiError>>;
    /// Takes an allowance back. Returns when that is confirmed.
    fn revoke(&self, wanted: Revocation) -> BoxFuture<'_, Result<Revoked, ApiError>>;
    /// Has the provider take no new rentals. Those that go on finish.
    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<ServiceState, ApiError>>;
    /// Has the provider take new rentals again.
    fn undrain(&self) -> BoxFuture<'_, Result<ServiceState, ApiError>>;
    /// Reads the configuration again, and takes up what it says of prices and of whom and when to serve.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>>;
}
