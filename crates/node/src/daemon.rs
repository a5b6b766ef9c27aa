//! The daemon: builds what the roles need, from the bottom up, starts them and the control API, says that it is ready, and takes
//! everything down again in the opposite order when told to end.

mod standings;

use crate::{
    commands::{Context, chain_error},
    config::Config,
    control::NodeControl,
    datadir::DataDir,
    failure::Failure,
    faults::Faults,
    housekeeping,
    metrics::{Page, Sources},
    open_files,
    output::{print, role_name},
    secrets,
};
use alloy_primitives::Address;
use api::{
    console::Console,
    control::Control,
    server::{Server, ServerError},
    types::{ApiError, ErrorKind, Role},
};
use futures::future::{OptionFuture, try_join_all};
use network::{Interest, Network, RatingDesk};
use sandbox::{NativeBackend, NativeConfig};
use settlement::{Chain, EscrowAccount, SettlementError, TransactionSender, Wallet};
use std::{fmt, sync::Arc, time::Duration};
use store::{Store, TableDef};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// How long roles, API and network may take to end. What they promised is on disk before they promise it, so that being cut off costs
/// nothing but politeness: offers that are not withdrawn expire.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Runs the daemon in the foreground until SIGINT or SIGTERM; or until a part of it dies, which is an error.
pub(crate) async fn serve(context: &Context, roles: &[Role]) -> Result<(), ApiError> {
    let faults = Faults::watch();
    let dir = &context.dir;
    let config = context.config()?;
    let peer_key = dir.peer_key()?;
    let _lock = dir.lock()?;
    let mut signals = Signals::listen()?;
    open_files::raise();
    // bound before anything is promised to anybody; whoever calls early waits until it is served
    let server = Server::bind(&config.socket(dir)).await.map_err(server_error)?;

    let cancel = CancellationToken::new();
    let page = metrics_page(&config).await?;
    let console = web_console(&config, roles).await?;
    let mut daemon = tokio::select! {
        daemon = Daemon::start(dir, &config, roles, peer_key, &cancel) => daemon?,
        () = signals.next() => return Ok(()),
    };
    daemon.control.metrics = page.as_ref().map(Page::address);
    daemon.control.console = console.as_ref().map(Console::links);
    daemon.report(context, &server);
    let housekeeping =
        housekeeping::run(daemon.sources.network.clone(), daemon.sources.store.clone(), cancel.child_token());
    let housekeeping = tokio::spawn(housekeeping);
    let rereading = tokio::spawn(reload_when_told(Signals::hangup()?, daemon.control.clone()));
    let metrics = page.map(|page| tokio::spawn(page.serve(daemon.sources.clone(), cancel.child_token())));
    let control: Arc<dyn Control> = Arc::new(daemon.control.clone());
    let console = console.map(|console| tokio::spawn(console.serve(Arc::clone(&control), cancel.child_token())));
    let api_cancel = cancel.child_token();
    let mut api = tokio::spawn(server.serve(control, api_cancel.clone()));

    let result = tokio::select! {
        () = signals.next() => Ok(()),
        ended = &mut api => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(server_error(error)),
            Err(panic) => Err(ErrorKind::Failed.because(&panic, "see the log above")),
        },
        fault = daemon.died(&faults) => Err(died(&fault)),
        fault = ended("metrics are", metrics) => Err(died(&fault)),
        fault = ended("the web console is", console) => Err(died(&fault)),
    };
    housekeeping.abort();
    rereading.abort();
    tracing::info!("ending; send the signal again to end at once");
    let ending = async {
        api_cancel.cancel();
        daemon.shutdown(&cancel).await;
        if !api.is_finished() {
            // its failure would have been reported above
            let _ = (&mut api).await;
        }
    };
    tokio::select! {
        () = ending => tracing::info!("ended"),
        () = signals.next() => tracing::warn!("ended at once"),
        () = tokio::time::sleep(SHUTDOWN_LIMIT) => tracing::warn!("not everything ended within {} s", SHUTDOWN_LIMIT.as_secs()),
    }
    result
}

/// Everything that runs.
struct Daemon {
    control: NodeControl,
    sources: Sources,
    network: Network,
}

impl Daemon {
    async fn start(
        dir: &DataDir,
        config: &Config,
        roles: &[Role],
        peer_key: libp2p_identity::Keypair,
        cancel: &CancellationToken,
    ) -> Result<Self, ApiError> {
        let has = |role| roles.contains(&role);
        let carries = has(Role::Indexer) && config.indexer.carries_per_day > 0;
        let paid = has(Role::Provider) || has(Role::Renter) || carries;
        let keys = if paid { Some(Keys::open(dir, config, has(Role::Provider)).await?) } else { None };
        let chains = if paid { connect(config).await? } else { Vec::new() };
        let store = open_store(dir).await?;

        let failed = |error: indexer::Error| ErrorKind::Failed.because(&error, "see the log above");
        let kept = if has(Role::Indexer) { Some(indexer::open(&store).await.map_err(failed)?) } else { None };
        let mut joining = network_config(config, roles, peer_key)?;
        let ledger = Arc::new(indexer::sync::Ledger::new());
        let indexes = kept.map(|indexer::Opened { disk, book, loaded, figures }| {
            tracing::info!(kept = loaded.ads, over = loaded.over, "the book of an earlier run was read again");
            joining.indexes = true;
            joining.book = book;
            joining.store = Some(disk.clone());
            joining.observer = Some(Arc::clone(&ledger) as _);
            (disk, figures)
        });
        let standings = has(Role::Indexer).then(|| indexer::Standings::open(store.clone()));
        joining.ratings = standings.clone().map(|standings| Arc::new(standings) as Arc<dyn RatingDesk>);
        let joined = Network::start(joining, cancel.child_token()).await;
        let joined =
            joined.map_err(|error| ErrorKind::Failed.because(&error, "check [network] in the configuration"))?;
        let network = joined.handle();
        let name = config.network.name.clone();

        let mut control = NodeControl::new(dir.clone(), network.clone(), name.clone(), roles.to_vec(), chains.clone());
        if let Some((disk, figures)) = indexes {
            let service = indexer::Service {
                network: network.clone(),
                network_name: name.clone(),
                disk,
                figures,
                http: config.indexer.address()?,
                cancel: cancel.child_token(),
            };
            control.indexer = Some(indexer::Indexer::start(service).await.map_err(failed)?);
            indexer::sync::start(indexer::sync::Parts {
                network: network.clone(),
                ledger,
                cancel: cancel.child_token(),
            });
        }
        if let Some(standings) = &standings {
            let (standings, chains, network) = (standings.clone(), chains.clone(), network.clone());
            tokio::spawn(standings::follow(standings, chains, config.chains()?, network, cancel.child_token()));
        }
        control.standings = standings;
        let mut sources = Sources {
            network: network.clone(),
            network_name: name.clone(),
            roles: roles.to_vec(),
            store: store.clone(),
            data_directory: dir.path().to_owned(),
            senders: Vec::new(),
            provider: None,
            renter: None,
            indexer: control.indexer.clone(),
        };
        if let Some(Keys { wallet, provider_key }) = keys {
            control.wallets.push((config.keystore.wallet.clone(), wallet.address()));
            // one sender for the account, whichever roles use it, since it owns the account's nonces
            let accounts = accounts(&chains, &wallet, &store, cancel).await?;
            control.accounts = accounts.clone();
            sources.senders = accounts.iter().map(|account| account.sender().clone()).collect();
            // a provider hears renters' requests, and passes on what is to be carried
            let (pass_on, passed_on) = mpsc::channel(PASSED_ON);
            if carries {
                let requests = if has(Role::Provider) { Some(passed_on) } else { network.rental_requests() };
                let per_day = config.indexer.carries_per_day;
                let parts = indexer::Parts {
                    accounts: accounts.clone(),
                    store: store.clone(),
                    per_day,
                    cancel: cancel.child_token(),
                };
                if let Some(requests) = requests {
                    let started = indexer::start(parts, requests).await;
                    started.map_err(|error| ErrorKind::Failed.because(&error, "see the log above"))?;
                }
            }
            if let Some(provider_key) = provider_key {
                control.wallets.push((config.keystore.provider_key.clone(), provider_key.address()));
                let with_cards = config.provider.slot.iter().any(|slot| slot.gpus > 0);
                let parts = provider::Parts {
                    benchmark: crate::commands::kept(dir),
                    cards: if with_cards {
                        crate::commands::machines_cards().await?
                    } else {
                        provider::Cards::default()
                    },
                    network: network.clone(),
                    network_name: name.clone(),
                    accounts: accounts.clone(),
                    wallet: wallet.clone(),
                    provider_key,
                    store: store.clone(),
                    backend: Arc::new(backend(dir, config)?),
                    carrier: carries.then_some(pass_on),
                    cancel: cancel.child_token(),
                };
                let started = provider::Provider::start(config.provider.clone(), parts).await;
                control.provider = Some(started.map_err(provider_error)?);
            }
            if has(Role::Renter) {
                let cancel = cancel.child_token();
                let accounts = paying(accounts, config.renter.account).await?;
                let parts = renter::Parts { network, network_name: name, accounts, store, cancel };
                control.renter = Some(renter::Renter::start(config.renter.clone(), parts).await.map_err(renter_error)?);
            }
        }
        (sources.provider, sources.renter) = (control.provider.clone(), control.renter.clone());
        Ok(Self { control, sources, network: joined })
    }

    /// Says on standard output that the daemon is up, in one line that programs can read.
    fn report(&self, context: &Context, server: &Server) {
        let info = self.control.info();
        if context.output.json {
            print(&serde_json::json!({ "ready": info, "api": server.path() }).to_string());
            return;
        }
        let roles: Vec<_> = info.roles.iter().map(|role| role_name(*role)).collect();
        let (peer, roles, api) = (&info.peer, roles.join(","), server.path().display());
        let (metrics, searches) = (info.metrics.as_deref().unwrap_or("off"), info.searches.as_deref().unwrap_or("off"));
        print(&format!(
            "ready peer={peer} roles={roles} api={api} metrics={metrics} searches={searches} listen={}",
            info.addresses.join(",")
        ));
    }

    /// Waits until a part of the daemon dies that must not, and says which. Its work is nobody's from then on, so that the rest must not go
    /// on as if all were well.
    async fn died(&self, faults: &Faults) -> String {
        let NodeControl { provider, renter, indexer, .. } = &self.control;
        let ended = |role: &str| format!("the {role}'s task has ended by itself");
        tokio::select! {
            // a task that panics ends too: the panic says more
            biased;
            fault = faults.next() => fault,
            () = self.network.ended() => ended("network"),
            Some(()) = OptionFuture::from(provider.as_ref().map(provider::Provider::ended)) => ended("provider"),
            Some(()) = OptionFuture::from(renter.as_ref().map(renter::Renter::ended)) => ended("renter"),
            Some(()) = OptionFuture::from(indexer.as_ref().map(indexer::Indexer::ended)) => ended("indexer"),
        }
    }

    /// Ends the roles first, so that they can still say goodbye, then the network.
    async fn shutdown(self, cancel: &CancellationToken) {
        let Self { control, network, sources: _ } = self;
        if let Some(renter) = &control.renter {
            renter.shutdown().await;
        }
        if let Some(provider) = &control.provider {
            provider.shutdown().await;
        }
        network.shutdown().await;
        cancel.cancel();
    }
}

/// Requests to carry that a provider has passed on and that wait.
const PASSED_ON: usize = 16;

/// The keys that earn and pay.
struct Keys {
    wallet: Wallet,
    /// A provider's.
    provider_key: Option<Wallet>,
}

impl Keys {
    async fn open(dir: &DataDir, config: &Config, provides: bool) -> Result<Self, ApiError> {
        let passphrase = secrets::passphrase(&config.keystore, false)?;
        let wallet = secrets::open_key(dir, &config.keystore.wallet, &passphrase).await?;
        let provider_key = match provides {
            true => Some(secrets::open_key(dir, &config.keystore.provider_key, &passphrase).await?),
            false => None,
        };
        Ok(Self { wallet, provider_key })
    }
}

/// Connects to every configured chain, each checked: its id, and the escrow's code.
async fn connect(config: &Config) -> Result<Vec<Chain>, ApiError> {
    let chains = config.chains()?;
    if chains.is_empty() {
        let next = "providers and renters settle on a chain: add a [[chain]] section to config.toml";
        return Err(ApiError::new(ErrorKind::Chain, "no chain is configured", next));
    }
    try_join_all(chains.into_iter().map(Chain::connect)).await.map_err(chain_error)
}

/// The renter's accounts: of the wallet itself, or of the smart account that pays in its stead. A chain on which that is not the wallet's is
/// left out.
async fn paying(accounts: Vec<EscrowAccount>, payer: Option<Address>) -> Result<Vec<EscrowAccount>, ApiError> {
    let Some(payer) = payer else { return Ok(accounts) };
    let (mut paying, mut refused) = (Vec::new(), None);
    for account in accounts {
        let chain = account.sender().chain().config().name.clone();
        match account.paying_from(payer).await {
            Ok(account) => paying.push(account),
            Err(error @ SettlementError::NotOurAccount { .. }) => {
                tracing::warn!(chain, %error, "the renter does not pay on this chain");
                refused = Some(error);
            }
            Err(error) => return Err(chain_error(error)),
        }
    }
    match refused {
        Some(error) if paying.is_empty() => Err(ApiError::new(
            ErrorKind::Chain,
            error.to_string(),
            "correct `account` in the [renter] section, or leave it out to pay from the wallet",
        )),
        _ => Ok(paying),
    }
}

/// The wallet's account at each escrow.
async fn accounts(
    chains: &[Chain],
    wallet: &Wallet,
    store: &Store,
    cancel: &CancellationToken,
) -> Result<Vec<EscrowAccount>, ApiError> {
    let start = |chain: &Chain| TransactionSender::start(chain.clone(), wallet.clone(), store.clone(), cancel);
    let senders = try_join_all(chains.iter().map(start)).await.map_err(chain_error)?;
    Ok(senders.into_iter().map(EscrowAccount::new).collect())
}

pub(crate) async fn open_store(dir: &DataDir) -> Result<Store, ApiError> {
    let path = dir.database();
    let mut tables: Vec<TableDef> = Vec::new();
    tables.extend(settlement::TABLES);
    tables.extend(provider::tables());
    tables.extend(renter::tables());
    tables.extend(indexer::tables());
    let opened = tokio::task::spawn_blocking(move || Store::open(path, &tables)).await;
    opened.map_err(|error| ErrorKind::Failed.because(&error, ""))?.map_err(|error| {
        ErrorKind::Failed.because(&error, "restore db/ of the data directory from a backup, or move it away")
    })
}

fn backend(dir: &DataDir, config: &Config) -> Result<NativeBackend, ApiError> {
    let mut native = NativeConfig::new(dir.sandboxes());
    // a development network stays on this machine, and so may its images
    native.images.loopback_registries = config.network.name.starts_with("devnet-");
    let opened = NativeBackend::new(native);
    opened.map_err(|error| ErrorKind::Failed.because(&error, "a provider needs root on Linux; other roles do not"))
}

fn network_config(
    config: &Config,
    roles: &[Role],
    peer_key: libp2p_identity::Keypair,
) -> Result<network::Config, ApiError> {
    let section = &config.network;
    let mut network = network::Config::new(peer_key, section.name.clone());
    network.listen = addresses("listen", &section.listen)?;
    network.external = addresses("external", &section.external)?;
    network.bootstrap = addresses("bootstrap", &section.bootstrap)?;
    network.rendezvous = addresses("rendezvous", &section.rendezvous)?;
    network.serves_rendezvous = section.serve_rendezvous;
    network.mdns = section.mdns;
    network.classes = interest(config, roles);
    network.ad_lifetime = u64::from(config.provider.ad_lifetime_seconds) * 1_000;
    Ok(network)
}

fn addresses<T: std::str::FromStr<Err: std::fmt::Display>>(key: &str, texts: &[String]) -> Result<Vec<T>, ApiError> {
    let read = |text: &String| {
        text.parse().map_err(|error| {
            let message = format!("`{text}` in network.{key} is not a multiaddress: {error}");
            ApiError::new(ErrorKind::Usage, message, "write it like /ip4/203.0.113.7/tcp/4700")
        })
    };
    texts.iter().map(read).collect()
}

/// Which classes of machine the node follows: all for an indexer; those it looks for as a renter, all unless some are named; and those
/// it sells as a provider, so that its owner sees the market that it sells in.
fn interest(config: &Config, roles: &[Role]) -> Interest {
    let has = |role| roles.contains(&role);
    if has(Role::Indexer) || (has(Role::Renter) && config.renter.classes.is_empty()) {
        return Interest::All;
    }
    let looked_for = config.renter.classes.iter().copied().filter(|_| has(Role::Renter));
    let sold = config.provider.classes().into_iter().filter(|_| has(Role::Provider));
    Interest::Only(looked_for.chain(sold).collect())
}

fn provider_error(error: provider::Error) -> ApiError {
    use provider::Error;
    let (kind, next) = match &error {
        Error::Config(_) => (ErrorKind::Usage, "correct [provider] in the configuration"),
        Error::Sandboxes(_) => {
            (ErrorKind::Failed, "run as root on Linux with cgroups and mkfs.ext4, or without the provider role")
        }
        Error::Settlement(_) => {
            (ErrorKind::Chain, "check the [[chain]] sections of the configuration, and that the endpoint is up")
        }
        Error::Adoption(_) | Error::Store(_) | Error::Twice => (ErrorKind::Failed, ""),
    };
    kind.because(&error, next)
}

fn renter_error(error: renter::Error) -> ApiError {
    ErrorKind::Failed.because(&error, "check [renter] in the configuration")
}

/// Binds the address of the metrics, if they are wanted.
async fn metrics_page(config: &Config) -> Result<Option<Page>, ApiError> {
    let Some(address) = config.metrics.address()? else { return Ok(None) };
    match Page::bind(address).await {
        Ok(page) => Ok(Some(page)),
        Err(error) => {
            let message = format!("cannot serve metrics on {address}: {error}");
            Err(ApiError::new(
                ErrorKind::Failed,
                message,
                "set another `listen` in [metrics], or an empty one for none",
            ))
        }
    }
}

/// Binds the address of a renter's web console, if it is wanted.
async fn web_console(config: &Config, roles: &[Role]) -> Result<Option<Console>, ApiError> {
    let Some(address) = config.console.address()?.filter(|_| roles.contains(&Role::Renter)) else { return Ok(None) };
    let next = "set another `listen` in [console], or an empty one for none";
    Console::bind(address).await.map(Some).map_err(|error| ErrorKind::Failed.because(&error, next))
}

/// Waits until something is no longer served, and says why; forever where it never was.
async fn ended<E: fmt::Debug>(what: &str, serving: Option<JoinHandle<Result<(), E>>>) -> String {
    match serving {
        None => std::future::pending().await,
        Some(serving) => format!("{what} no longer served: {:?}", serving.await),
    }
}

fn died(fault: &str) -> ApiError {
    tracing::error!(fault, "a part of the daemon died, so that the whole of it ends");
    let next = "start it again: it takes up everything where it was; then report the fault with the log above";
    ApiError::new(ErrorKind::Failed, format!("the daemon cannot go on: {fault}"), next)
}

fn server_error(error: ServerError) -> ApiError {
    let next = match &error {
        ServerError::InUse(_) => "stop the other daemon, or give another --data-dir",
        ServerError::NotASocket(_) | ServerError::PathTooLong(_) => "set another socket in [api] of the configuration",
        ServerError::Io { .. } => "check that the folder exists and is yours",
    };
    ErrorKind::Failed.because(&error, next)
}

/// Reads the configuration again whenever the signal comes, as `node reload` does; what came of it stands in the log.
async fn reload_when_told(mut hangup: tokio::signal::unix::Signal, control: NodeControl) {
    while hangup.recv().await.is_some() {
        match control.read_again().await {
            Ok(reloaded) => tracing::info!(?reloaded, "the configuration was read again"),
            Err(error) => tracing::error!(%error, next = error.next, "the configuration was not taken up"),
        }
    }
}

/// The signals that end the daemon.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, ApiError> {
        let listen = |kind| signal(kind).map_err(|error| ErrorKind::Failed.because(&error, ""));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// The signal by which service managers have a daemon read its configuration again.
    fn hangup() -> Result<tokio::signal::unix::Signal, ApiError> {
        signal(SignalKind::hangup()).map_err(|error| ErrorKind::Failed.because(&error, ""))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
