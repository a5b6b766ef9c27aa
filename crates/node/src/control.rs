//! What the control API asks of the daemon, handed to the role that knows. A call for a role that this daemon does not play is an error
//! that says how to start it.

mod dispute;
mod reputation;

use crate::{
    approvals,
    cli::nearest,
    commands::{chain_error, weigh},
    config::Config,
    datadir::DataDir,
};
use access::door::Door;
use api::{
    control::Control,
    evidence::Evidence,
    search::Search,
    types::{
        AcceptRequest, ApiError, Approval, ConsoleLink, ConsoleRequest, Dispute, DisputeRequest, DrainRequest,
        ErrorKind, ExtendRequest, HardwareCheck, IndexerRow, NodeInfo, OfferExplanation, OfferQuery, OfferRow,
        RatingRequest, RatingView, Receipt, Reloaded, RentalRow, RentalStory, Reputation, ReputationQuery, Revocation,
        Revoked, Role, RunEvent, RunRequest, RunStarted, ServiceState, Share, ShareRequest, SharedRental,
        UnshareRequest, Visitor, WalletView, is_id_prefix,
    },
};
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use market::{id::RentalId, money::Token, signed::Escrow};
use settlement::{Chain, EscrowAccount};
use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

/// The roles of this daemon, as the API sees them.
#[derive(Clone)]
pub(crate) struct NodeControl {
    network: network::Handle,
    network_name: String,
    roles: Vec<Role>,
    chains: Vec<Chain>,
    dir: DataDir,
    /// Names in the keystore, and addresses.
    pub(crate) wallets: Vec<(String, alloy_primitives::Address)>,
    /// The wallet's account on each chain.
    pub(crate) accounts: Vec<EscrowAccount>,
    /// Where metrics are served.
    pub(crate) metrics: Option<SocketAddr>,
    /// Hands out links into the web console, where it is served.
    pub(crate) console: Option<api::console::Links>,
    pub(crate) provider: Option<provider::Provider>,
    pub(crate) renter: Option<renter::Renter>,
    pub(crate) indexer: Option<indexer::Indexer>,
    /// An indexer's record of providers.
    pub(crate) standings: Option<indexer::Standings>,
}

impl NodeControl {
    /// A daemon without roles yet.
    pub(crate) fn new(
        dir: DataDir,
        network: network::Handle,
        network_name: String,
        roles: Vec<Role>,
        chains: Vec<Chain>,
    ) -> Self {
        Self {
            dir,
            network,
            network_name,
            roles,
            chains,
            wallets: Vec::new(),
            accounts: Vec::new(),
            metrics: None,
            console: None,
            provider: None,
            renter: None,
            indexer: None,
            standings: None,
        }
    }

    /// The daemon, described.
    pub(crate) fn info(&self) -> NodeInfo {
        let peer = self.network.local_peer_id();
        NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer: peer.to_string(),
            roles: self.roles.clone(),
            network: self.network_name.clone(),
            addresses: self.network.listen_addrs().iter().map(|address| format!("{address}/p2p/{peer}")).collect(),
            peers: self.network.connected_peers().len(),
            offers: self.network.held().offers,
            metrics: self.metrics.map(|address| format!("http://{address}/metrics")),
            searches: self
                .indexer
                .as_ref()
                .and_then(indexer::Indexer::http)
                .map(|address| format!("http://{address}/v1/search")),
        }
    }

    fn renter(&self) -> Result<&renter::Renter, ApiError> {
        self.renter.as_ref().ok_or_else(|| {
            let next = "start it with that role too: node --role renter,…";
            ApiError::new(ErrorKind::NoDaemon, "this daemon is no renter", next)
        })
    }

    fn provider(&self) -> Result<&provider::Provider, ApiError> {
        self.provider.as_ref().ok_or_else(|| {
            let next = "start it with that role too: node --role provider,…";
            ApiError::new(ErrorKind::NoDaemon, "this daemon is no provider", next)
        })
    }

    /// Reads the configuration again, for what a provider takes up while it runs.
    pub(crate) async fn read_again(&self) -> Result<Reloaded, ApiError> {
        let provider = self.provider()?;
        provider.reload(Config::load(&self.dir)?.provider).await
    }

    /// A renter is shown what it can pay; anybody else all there is.
    fn wanted(&self, escrow: &Escrow, token: &Token) -> bool {
        self.renter.as_ref().is_none_or(|renter| renter.pays(escrow, token))
    }

    fn search(&self, query: &OfferQuery) -> Result<Vec<OfferRow>, ApiError> {
        let search = Search::parse(query)?;
        let wanted = |escrow: &Escrow, token: &Token| self.wanted(escrow, token);
        Ok(search.rows(&self.network.search(&search.of(&wanted), None, search.limit()).matches))
    }

    fn explain_search(&self, query: &OfferQuery) -> Result<OfferExplanation, ApiError> {
        let search = Search::parse(query)?;
        let wanted = |escrow: &Escrow, token: &Token| self.wanted(escrow, token);
        let (told, near) = self.network.explain(&search.of(&wanted), search.limit());
        Ok(search.explanation(&told, &near))
    }

    async fn all_rentals(&self, all: bool) -> Result<Vec<RentalRow>, ApiError> {
        let mut rows = match &self.renter {
            Some(renter) => renter.rentals(all).await?,
            None => Vec::new(),
        };
        if let Some(provider) = &self.provider {
            rows.extend(provider.rentals(all).await?);
        }
        // those that have not begun to serve are the newest
        rows.sort_by_key(|row| std::cmp::Reverse(row.ready_at.map_or(u64::MAX, |at| at.0)));
        Ok(rows)
    }

    async fn tell(&self, prefix: String) -> Result<Vec<RentalStory>, ApiError> {
        let mut stories = match &self.renter {
            Some(renter) => renter.stories(prefix.clone()).await?,
            None => Vec::new(),
        };
        if let Some(provider) = &self.provider {
            stories.extend(provider.stories(prefix.clone()).await?);
        }
        if stories.is_empty() {
            let rows = self.all_rentals(true).await?;
            let message = match is_id_prefix(&prefix) {
                true => format!("there is no rental whose id begins with {prefix}"),
                false => format!("there is no rental called {prefix}"),
            };
            let meant = meant(&prefix, rows.iter().map(|row| row.id));
            return Err(ApiError::new(ErrorKind::NoMatch, message, format!("{meant}see them: node ps --all")));
        }
        of_one_rental(stories, &prefix)
    }

    async fn stop_rental(&self, prefix: String) -> Result<RentalRow, ApiError> {
        // a label is its renter's
        if !is_id_prefix(&prefix) {
            return self.renter()?.stop(prefix).await;
        }
        let rows = self.all_rentals(false).await?;
        let row = the_one(&rows, &prefix)?;
        let id = row.id.to_string();
        match (row.role, &self.provider) {
            (Role::Provider, Some(provider)) => provider.stop(id).await,
            _ => self.renter()?.stop(id).await,
        }
    }

    async fn all_receipts(&self, prefix: String) -> Result<Vec<Receipt>, ApiError> {
        let mut receipts = match &self.renter {
            Some(renter) => renter.receipts(prefix.clone()).await?,
            None => Vec::new(),
        };
        if let Some(provider) = &self.provider {
            receipts.extend(provider.receipts(prefix).await?);
        }
        receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.closed.time));
        Ok(receipts)
    }

    async fn all_approvals(&self) -> Result<Vec<Approval>, ApiError> {
        let mut found = Vec::new();
        for sender in self.accounts.iter().map(EscrowAccount::sender) {
            let recorded = sender.recorded_spenders().await.map_err(chain_error)?;
            for (name, address) in &self.wallets {
                let recorded = if *address == sender.address() { &recorded } else { &BTreeSet::new() };
                found.extend(approvals::given(sender.chain(), (name, *address), recorded).await.map_err(chain_error)?);
            }
        }
        Ok(found)
    }

    async fn weigh_wallets(&self) -> Result<Vec<WalletView>, ApiError> {
        let view =
            |(name, address): &(String, _)| WalletView { name: name.clone(), address: *address, balances: Vec::new() };
        let mut wallets: Vec<_> = self.wallets.iter().map(view).collect();
        for chain in &self.chains {
            weigh(chain, &mut wallets).await.map_err(chain_error)?;
        }
        Ok(wallets)
    }
}

/// The id whose beginning is most like a prefix that none begins with, as advice.
fn meant(prefix: &str, ids: impl Iterator<Item = RentalId>) -> String {
    let digits = prefix.strip_prefix("0x").unwrap_or(prefix).len();
    let beginnings = ids.map(|id| id.to_string().chars().take(2 + digits).collect::<String>());
    let prefix = if prefix.starts_with("0x") { prefix.to_owned() } else { format!("0x{prefix}") };
    nearest(&prefix, beginnings).map_or_else(String::new, |id| format!("did you mean {id}? "))
}

/// The one rental that `prefix` names. A rental with oneself is listed once for each side; the renter's comes first.
fn the_one<'a>(rows: &'a [RentalRow], prefix: &str) -> Result<&'a RentalRow, ApiError> {
    let mut found: Vec<&RentalRow> = rows.iter().filter(|row| row.id.matches_prefix(prefix)).collect();
    found.sort_by_key(|row| row.role != Role::Renter);
    match found[..] {
        [] => {
            let message = format!("no rental that goes on has an id beginning with {prefix}");
            let meant = meant(prefix, rows.iter().map(|row| row.id));
            Err(ApiError::new(ErrorKind::NoMatch, message, format!("{meant}see them: node ps")))
        }
        [first, ..] if found.iter().all(|row| row.id == first.id) => Ok(first),
        _ => Err(several(prefix, found.iter().map(|row| row.id))),
    }
}

/// The stories if they are of one rental, told by one side or by both.
fn of_one_rental(stories: Vec<RentalStory>, prefix: &str) -> Result<Vec<RentalStory>, ApiError> {
    let first = stories.first().map(|story| story.rental.id);
    if stories.iter().any(|story| Some(story.rental.id) != first) {
        return Err(several(prefix, stories.iter().map(|story| story.rental.id)));
    }
    Ok(stories)
}

fn several(prefix: &str, ids: impl Iterator<Item = RentalId>) -> ApiError {
    let ids: Vec<String> = ids.map(|id| id.to_string()).collect();
    let message = format!("{prefix} is the beginning of several ids");
    ApiError::new(ErrorKind::Usage, message, format!("give more digits of one of {}", ids.join(", ")))
}

impl Control for NodeControl {
    fn node(&self) -> BoxFuture<'_, Result<NodeInfo, ApiError>> {
        async { Ok(self.info()) }.boxed()
    }

    fn offers(&self, query: OfferQuery) -> BoxFuture<'_, Result<Vec<OfferRow>, ApiError>> {
        async move {
            if let Some(renter) = &self.renter {
                renter.ask_indexers(&query).await;
            }
            self.search(&query)
        }
        .boxed()
    }

    fn explain(&self, query: OfferQuery) -> BoxFuture<'_, Result<OfferExplanation, ApiError>> {
        async move { self.explain_search(&query) }.boxed()
    }

    fn run(&self, request: RunRequest) -> BoxFuture<'_, Result<RunStarted, ApiError>> {
        async { self.renter()?.run(request).await }.boxed()
    }

    fn run_events(&self, run: u64, from: u64) -> BoxFuture<'_, Result<BoxStream<'static, RunEvent>, ApiError>> {
        async move { self.renter()?.run_events(run, from).await }.boxed()
    }

    fn rentals(&self, all: bool) -> BoxFuture<'_, Result<Vec<RentalRow>, ApiError>> {
        self.all_rentals(all).boxed()
    }

    fn story(&self, id: String) -> BoxFuture<'_, Result<Vec<RentalStory>, ApiError>> {
        self.tell(id).boxed()
    }

    fn stop(&self, id: String) -> BoxFuture<'_, Result<RentalRow, ApiError>> {
        self.stop_rental(id).boxed()
    }

    fn door(&self, id: String, visitor: Visitor) -> BoxFuture<'_, Result<Arc<dyn Door>, ApiError>> {
        async move { self.renter()?.door(&id, visitor) }.boxed()
    }

    fn evidence(&self, id: String) -> BoxFuture<'_, Result<Vec<Evidence>, ApiError>> {
        self.evidence_of(id).boxed()
    }

    fn dispute(&self, id: String) -> BoxFuture<'_, Result<Dispute, ApiError>> {
        self.dispute_of(id).boxed()
    }

    fn order_dispute(&self, id: String, request: DisputeRequest) -> BoxFuture<'_, Result<Dispute, ApiError>> {
        self.dispute_for(id, request).boxed()
    }

    fn rate(&self, id: String, request: RatingRequest) -> BoxFuture<'_, Result<RatingView, ApiError>> {
        self.rate_rental(id, request).boxed()
    }

    fn reputation(&self, provider: String, query: ReputationQuery) -> BoxFuture<'_, Result<Reputation, ApiError>> {
        self.reputation_of(provider, query).boxed()
    }

    fn receipts(&self, prefix: String) -> BoxFuture<'_, Result<Vec<Receipt>, ApiError>> {
        self.all_receipts(prefix).boxed()
    }

    fn wallets(&self) -> BoxFuture<'_, Result<Vec<WalletView>, ApiError>> {
        self.weigh_wallets().boxed()
    }

    fn indexers(&self) -> BoxFuture<'_, Result<Vec<IndexerRow>, ApiError>> {
        async { Ok(self.renter.as_ref().map(renter::Renter::indexers).unwrap_or_default()) }.boxed()
    }

    fn approvals(&self) -> BoxFuture<'_, Result<Vec<Approval>, ApiError>> {
        self.all_approvals().boxed()
    }

    fn revoke(&self, wanted: Revocation) -> BoxFuture<'_, Result<Revoked, ApiError>> {
        async move { approvals::revoke(&self.accounts, &wanted).await }.boxed()
    }

    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<ServiceState, ApiError>> {
        async move { self.provider()?.drain(request.until).await }.boxed()
    }

    fn extend(&self, id: String, request: ExtendRequest) -> BoxFuture<'_, Result<RentalRow, ApiError>> {
        async move { self.renter()?.extend(id, request.seconds).await }.boxed()
    }

    fn share(&self, id: String, request: ShareRequest) -> BoxFuture<'_, Result<Share, ApiError>> {
        async move { self.renter()?.share(id, request).await }.boxed()
    }

    fn shares(&self, id: String) -> BoxFuture<'_, Result<Vec<Share>, ApiError>> {
        async move { self.renter()?.shares(id).await }.boxed()
    }

    fn unshare(&self, id: String, request: UnshareRequest) -> BoxFuture<'_, Result<Share, ApiError>> {
        async move { self.renter()?.unshare(id, request.peer).await }.boxed()
    }

    fn accept(&self, request: AcceptRequest) -> BoxFuture<'_, Result<SharedRental, ApiError>> {
        async move { self.renter()?.accept(request.token).await }.boxed()
    }

    fn shared(&self) -> BoxFuture<'_, Result<Vec<SharedRental>, ApiError>> {
        async { Ok(self.renter()?.shared()) }.boxed()
    }

    fn check(&self, id: String) -> BoxFuture<'_, Result<HardwareCheck, ApiError>> {
        async move { self.renter()?.check(id).await }.boxed()
    }

    fn console(&self, request: ConsoleRequest) -> BoxFuture<'_, Result<ConsoleLink, ApiError>> {
        async move {
            self.renter()?;
            let off = || {
                let next = "set `listen` in [console] of the configuration, and start the daemon again";
                ApiError::new(ErrorKind::NoDaemon, "this daemon serves no web console", next)
            };
            let links = self.console.as_ref().ok_or_else(off)?;
            let rental = match &*request.rental {
                "" => String::new(),
                prefix => {
                    let stories = self.story(prefix.to_owned()).await?;
                    stories.first().map_or_else(String::new, |story| story.rental.id.to_string())
                }
            };
            Ok(ConsoleLink { url: links.link(&rental) })
        }
        .boxed()
    }

    fn undrain(&self) -> BoxFuture<'_, Result<ServiceState, ApiError>> {
        async { self.provider()?.undrain().await }.boxed()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
        self.read_again().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    fn row(role: Role, byte: u8, last: u8) -> RentalRow {
        let mut id = B256::repeat_byte(byte);
        id[31] = last;
        RentalRow {
            id: RentalId(id),
            label: None,
            role,
            phase: "serving".into(),
            peer: String::new(),
            offer: String::new(),
            ready_at: None,
            seconds: 0,
            cost: String::new(),
            deposit: String::new(),
            ends_at: None,
            warning: None,
        }
    }

    #[test]
    fn a_prefix_names_one_rental_or_is_refused() {
        let rows = [row(Role::Renter, 0xab, 1), row(Role::Renter, 0xcd, 1), row(Role::Provider, 0xcd, 2)];
        assert_eq!(the_one(&rows, "0xabab").unwrap().id, rows[0].id);
        assert_eq!(the_one(&rows, "ffff").unwrap_err().kind, ErrorKind::NoMatch);
        let error = the_one(&rows, "cdcd").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.next.contains(&rows[1].id.to_string()) && error.next.contains(&rows[2].id.to_string()));
    }

    #[test]
    fn a_story_is_of_one_rental_from_either_side_or_both() {
        let story = |row| RentalStory { rental: row, steps: Vec::new(), receipt: None, visits: Vec::new() };
        let own = || story(row(Role::Renter, 0xab, 1));
        assert_eq!(of_one_rental(vec![own(), story(row(Role::Provider, 0xab, 1))], "abab").unwrap().len(), 2);
        let error = of_one_rental(vec![own(), story(row(Role::Renter, 0xab, 2))], "abab").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        assert!(error.next.contains(&row(Role::Renter, 0xab, 2).id.to_string()), "{error:?}");
    }

    #[test]
    fn an_id_that_nothing_has_is_answered_with_the_nearest() {
        let rows = [row(Role::Renter, 0xab, 1), row(Role::Renter, 0x12, 1)];
        let error = the_one(&rows, "0xabaab").unwrap_err();
        assert!(error.next.starts_with("did you mean 0xababa? "), "{}", error.next);
        assert_eq!(the_one(&rows, "ffff").unwrap_err().next, "see them: node ps");
    }

    #[test]
    fn a_rental_with_oneself_is_stopped_as_its_renter() {
        let rows = [row(Role::Provider, 0xab, 1), row(Role::Renter, 0xab, 1)];
        assert_eq!(the_one(&rows, "abab").unwrap().role, Role::Renter);
    }
}
