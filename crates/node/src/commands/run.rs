//! `node run`: hands the run to the daemon and shows what happens until it is settled. The run belongs to the daemon: when this command
//! goes away, it goes on.

use super::{Context, Failed};
use crate::{
    cli,
    output::print,
    run_view::{INTERRUPTED, Progress, RunView},
};
use api::{
    client::Client,
    types::{ApiError, ErrorKind, RunEvent, RunRequest, RunStep},
};
use futures::StreamExt;
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Stderr, Stdout},
    path::{Path, PathBuf},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) async fn run(context: &Context, args: cli::Run) -> Result<u8, Failed> {
    let image = resolve(args.wanted.image.as_deref()).await?;
    let request = request(args, image)?;
    let daemon = context.daemon().await?;
    let mut interrupts = Interrupts::listen()?;
    let started = daemon.run(&request).await?;
    let mut shown = Shown::new(context.output.json);
    let mut events = daemon.run_events(started.run, 0);
    let mut stopping = Stopping::default();
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => break,
                Some(Ok(event)) => {
                    shown.event(&event);
                    stopping.retry_after(&event, &daemon, &mut shown).await;
                }
                Some(Err(error)) => {
                    shown.view.clear();
                    let code = if shown.progress.opened { 125 } else { error.kind.exit_code() };
                    return Err(Failed { error, code });
                }
            },
            () = interrupts.next() => {
                if stopping.ordered {
                    shown.notice("leaving; the daemon goes on settling (see `node ps`)");
                    return Ok(INTERRUPTED);
                }
                shown.notice("stopping the rental and waiting until it is settled; press Ctrl-C again to leave at once");
                stopping.order(&daemon, &mut shown).await;
            }
        }
    }
    shown.view.clear();
    let code = shown.progress.outcome(stopping.ordered).map_err(|(error, code)| Failed { error, code })?;
    match shown.fault {
        Some(fault) => {
            let message = format!("the program's output could not be written: {fault}");
            let error = ApiError::new(ErrorKind::Failed, message, "the rental is settled; its outputs were fetched");
            Err(Failed { error, code: if code == 0 { 125 } else { code } })
        }
        None => Ok(code),
    }
}

/// An image's name with its digest, if one is named, looked up in its registry unless it is there already: what is agreed on is one image for good.
pub(super) async fn resolve(name: Option<&str>) -> Result<String, ApiError> {
    let Some(name) = name else { return Ok(String::new()) };
    let failed = |error: sandbox::ImageError| {
        ApiError::new(
            ErrorKind::Failed,
            format!("--image {name}: {error}"),
            "name an image of a registry that everybody may read",
        )
    };
    if name.contains('@') {
        return Ok(name.parse::<sandbox::ImageReference>().map_err(failed)?.to_string());
    }
    Ok(sandbox::ImageReference::resolve(name).await.map_err(failed)?.to_string())
}

fn usage(message: String) -> ApiError {
    ApiError::new(ErrorKind::Usage, message, "")
}

fn text(path: PathBuf) -> Result<String, ApiError> {
    let text = path.into_os_string().into_string();
    text.map_err(|path| usage(format!("{} is not valid UTF-8", Path::new(&path).display())))
}

/// The folder that this command was given in.
pub(super) fn here() -> Result<String, ApiError> {
    text(std::env::current_dir().map_err(|error| usage(format!("the working directory is gone: {error}")))?)
}

/// A rental as it was asked for, and nothing to do in it yet.
pub(super) fn wanted(wanted: cli::Wanted, query: String, image: String) -> RunRequest {
    RunRequest {
        query,
        order: wanted.order,
        seconds: wanted.seconds,
        label: wanted.label,
        max_spend: wanted.max_spend.unwrap_or_default(),
        slots: wanted.slots,
        interruptible: wanted.interruptible,
        bid: wanted.bid.unwrap_or_default(),
        image,
        egress: wanted.egress,
        no_check: wanted.no_check,
        ..RunRequest::default()
    }
}

fn request(args: cli::Run, image: String) -> Result<RunRequest, ApiError> {
    let here = here()?;
    let input = match args.input {
        None => None,
        Some(folder) => {
            let absolute =
                folder.canonicalize().map_err(|error| usage(format!("--input {}: {error}", folder.display())))?;
            if !absolute.is_dir() {
                return Err(usage(format!("--input {} is not a folder", folder.display())));
            }
            Some(text(absolute)?)
        }
    };
    Ok(RunRequest {
        input,
        out: args.out.map(|folder| text(Path::new(&here).join(folder))).transpose()?,
        working_directory: here,
        argv: args.argv,
        env: args.env.into_iter().collect::<BTreeMap<_, _>>(),
        ..wanted(args.wanted, args.query, image)
    })
}

/// What has been seen of the run, and where it is shown.
pub(super) struct Shown {
    json: bool,
    pub(super) view: RunView<Stdout, Stderr>,
    pub(super) progress: Progress,
    /// Whether anybody still reads.
    read: bool,
    /// Why the output could not be written, other than by a reader that went away.
    fault: Option<io::Error>,
}

impl Shown {
    pub(super) fn new(json: bool) -> Self {
        let view = RunView::new(io::stdout(), io::stdout().is_terminal(), io::stderr(), io::stderr().is_terminal());
        Self { json, view, progress: Progress::default(), read: true, fault: None }
    }

    pub(super) fn event(&mut self, event: &RunEvent) {
        self.progress.note(event);
        if self.json {
            match serde_json::to_string(event) {
                Ok(line) => print(&line),
                Err(error) => self.fault = self.fault.take().or(Some(error.into())),
            }
        } else if self.read
            && let Err(error) = self.view.show(event)
        {
            self.read = false;
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.fault = Some(error);
            }
        }
    }

    pub(super) fn notice(&mut self, text: &str) {
        // standard error is gone: nobody to tell
        let _ = self.view.notice(text);
    }
}

/// The user's wish to end the run early.
#[derive(Default)]
pub(super) struct Stopping {
    pub(super) ordered: bool,
    /// Ordered, but there was no rental yet that could be stopped.
    pending: bool,
}

impl Stopping {
    pub(super) async fn order(&mut self, daemon: &Client, shown: &mut Shown) {
        self.ordered = true;
        self.pending = match shown.progress.rental {
            None => true,
            Some(id) => match daemon.stop(&id.to_string()).await {
                Ok(_) => false,
                // it may not be open yet; when it never is, the run ends by itself
                Err(error) if shown.progress.opened => {
                    shown.notice(&format!("the rental could not be stopped: {error}"));
                    false
                }
                Err(_) => true,
            },
        };
    }

    /// Stops the rental as soon as there is one.
    pub(super) async fn retry_after(&mut self, event: &RunEvent, daemon: &Client, shown: &mut Shown) {
        if self.pending
            && matches!(event.step, RunStep::Quoted { .. } | RunStep::Opening { .. } | RunStep::Opened { .. })
        {
            self.order(daemon, shown).await;
        }
    }
}

/// Ctrl-C, or being told to end.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self, ApiError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| ApiError::new(ErrorKind::Failed, format!("cannot listen for signals: {error}"), ""))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::{Cli, Command},
        datadir::DataDir,
        output::Output,
    };
    use alloy_primitives::B256;
    use api::{
        control::Control,
        evidence::Evidence,
        server::Server,
        types::{
            AcceptRequest, Approval, Dispute, DisputeRequest, DrainRequest, ExtendRequest, NodeInfo, OfferExplanation,
            OfferQuery, OfferRow, RatingRequest, RatingView, Receipt, Reloaded, RentalRow, RentalStory, Reputation,
            ReputationQuery, Revocation, Revoked, Role, RunStarted, ServiceState, Share, ShareRequest, SharedRental,
            UnshareRequest, WalletView,
        },
    };
    use clap::Parser;
    use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
    use market::{id::RentalId, time::UnixMillis};
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    };
    use tokio_util::sync::CancellationToken;

    fn args(line: &[&str]) -> cli::Run {
        match Cli::try_parse_from(["node", "run"].iter().chain(line)).unwrap().command {
            Some(Command::Run(args)) => args,
            other => panic!("{other:?}"),
        }
    }

    /// A daemon in which one run goes on; a rental can be stopped once it is open.
    #[derive(Default)]
    struct Daemon {
        open: AtomicBool,
        stops: AtomicUsize,
        events: Vec<RunEvent>,
    }

    fn unasked<T: Send + 'static>() -> BoxFuture<'static, Result<T, ApiError>> {
        std::future::ready(Err(ApiError::new(ErrorKind::Failed, "not asked for here", ""))).boxed()
    }

    impl Control for Daemon {
        fn node(&self) -> BoxFuture<'_, Result<NodeInfo, ApiError>> {
            unasked()
        }
        fn offers(&self, _: OfferQuery) -> BoxFuture<'_, Result<Vec<OfferRow>, ApiError>> {
            unasked()
        }
        fn explain(&self, _: OfferQuery) -> BoxFuture<'_, Result<OfferExplanation, ApiError>> {
            unasked()
        }
        fn indexers(&self) -> BoxFuture<'_, Result<Vec<api::types::IndexerRow>, ApiError>> {
            unasked()
        }
        fn run(&self, _: RunRequest) -> BoxFuture<'_, Result<RunStarted, ApiError>> {
            std::future::ready(Ok(RunStarted { run: 3 })).boxed()
        }
        fn run_events(&self, _: u64, _: u64) -> BoxFuture<'_, Result<BoxStream<'static, RunEvent>, ApiError>> {
            let events = futures::stream::iter(self.events.clone()).boxed();
            std::future::ready(Ok(events)).boxed()
        }
        fn share(&self, _: String, _: ShareRequest) -> BoxFuture<'_, Result<Share, ApiError>> {
            unasked()
        }
        fn shares(&self, _: String) -> BoxFuture<'_, Result<Vec<Share>, ApiError>> {
            unasked()
        }
        fn unshare(&self, _: String, _: UnshareRequest) -> BoxFuture<'_, Result<Share, ApiError>> {
            unasked()
        }
        fn accept(&self, _: AcceptRequest) -> BoxFuture<'_, Result<SharedRental, ApiError>> {
            unasked()
        }
        fn shared(&self) -> BoxFuture<'_, Result<Vec<SharedRental>, ApiError>> {
            unasked()
        }
        fn rentals(&self, _: bool) -> BoxFuture<'_, Result<Vec<RentalRow>, ApiError>> {
            unasked()
        }
        fn story(&self, _: String) -> BoxFuture<'_, Result<Vec<RentalStory>, ApiError>> {
            unasked()
        }
        fn stop(&self, id: String) -> BoxFuture<'_, Result<RentalRow, ApiError>> {
            if !self.open.load(SeqCst) {
                return unasked();
            }
            self.stops.fetch_add(1, SeqCst);
            let row = RentalRow {
                id: id.parse().unwrap(),
                label: None,
                role: Role::Renter,
                phase: "closing".into(),
                peer: String::new(),
                offer: String::new(),
                ready_at: None,
                seconds: 0,
                cost: String::new(),
                deposit: String::new(),
                ends_at: None,
                warning: None,
            };
            std::future::ready(Ok(row)).boxed()
        }
        fn door(
            &self,
            _: String,
            _: api::types::Visitor,
        ) -> BoxFuture<'_, Result<Arc<dyn access::door::Door>, ApiError>> {
            unasked()
        }
        fn console(&self, _: api::types::ConsoleRequest) -> BoxFuture<'_, Result<api::types::ConsoleLink, ApiError>> {
            unasked()
        }
        fn evidence(&self, _: String) -> BoxFuture<'_, Result<Vec<Evidence>, ApiError>> {
            unasked()
        }
        fn dispute(&self, _: String) -> BoxFuture<'_, Result<Dispute, ApiError>> {
            unasked()
        }
        fn order_dispute(&self, _: String, _: DisputeRequest) -> BoxFuture<'_, Result<Dispute, ApiError>> {
            unasked()
        }
        fn rate(&self, _: String, _: RatingRequest) -> BoxFuture<'_, Result<RatingView, ApiError>> {
            unasked()
        }
        fn reputation(&self, _: String, _: ReputationQuery) -> BoxFuture<'_, Result<Reputation, ApiError>> {
            unasked()
        }
        fn receipts(&self, _: String) -> BoxFuture<'_, Result<Vec<Receipt>, ApiError>> {
            unasked()
        }
        fn wallets(&self) -> BoxFuture<'_, Result<Vec<WalletView>, ApiError>> {
            unasked()
        }
        fn approvals(&self) -> BoxFuture<'_, Result<Vec<Approval>, ApiError>> {
            unasked()
        }
        fn revoke(&self, _: Revocation) -> BoxFuture<'_, Result<Revoked, ApiError>> {
            unasked()
        }
        fn drain(&self, _: DrainRequest) -> BoxFuture<'_, Result<ServiceState, ApiError>> {
            unasked()
        }
        fn extend(&self, _: String, _: ExtendRequest) -> BoxFuture<'_, Result<RentalRow, ApiError>> {
            unasked()
        }
        fn check(&self, _: String) -> BoxFuture<'_, Result<api::types::HardwareCheck, ApiError>> {
            unasked()
        }
        fn undrain(&self) -> BoxFuture<'_, Result<ServiceState, ApiError>> {
            unasked()
        }
        fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
            unasked()
        }
    }

    struct Served {
        folder: tempfile::TempDir,
        daemon: Arc<Daemon>,
        _cancel: tokio_util::sync::DropGuard,
    }

    impl Served {
        async fn start(daemon: Daemon) -> Self {
            let (folder, daemon, cancel) = (tempfile::tempdir().unwrap(), Arc::new(daemon), CancellationToken::new());
            let server = Server::bind(&folder.path().join("api.sock")).await.unwrap();
            tokio::spawn(server.serve(daemon.clone(), cancel.clone()));
            Self { folder, daemon, _cancel: cancel.drop_guard() }
        }

        async fn run(&self, line: &[&str]) -> Result<u8, (u8, ApiError)> {
            let dir = DataDir::find(Some(self.folder.path())).unwrap();
            let context = Context { dir, output: Output::new(true) };
            run(&context, args(line)).await.map_err(|Failed { error, code }| (code, error))
        }
    }

    fn event(number: u64, step: RunStep) -> RunEvent {
        RunEvent { number, at: UnixMillis(0), step }
    }

    fn quoted() -> RunStep {
        let (deposit, price_hour, gas, arbiter) = Default::default();
        RunStep::Quoted { id: RentalId(B256::repeat_byte(0xab)), deposit, price_hour, gas, arbiter }
    }

    #[tokio::test]
    async fn a_run_exits_as_its_program_did_or_as_its_failure_says() {
        let opened = || RunStep::Opened { tx: B256::ZERO, block: 1 };
        let settled = || RunStep::Settled { receipt: Box::new(crate::receipt::tests::receipt()), error: None };
        let failed = |kind| RunStep::Failed { error: ApiError::new(kind, "no", "do") };
        for (steps, expected) in [
            (vec![quoted(), opened(), RunStep::Exited { code: 3, how: String::new() }, settled()], Ok(3)),
            (vec![failed(ErrorKind::NoMatch)], Err(4)),
            (vec![quoted(), opened(), failed(ErrorKind::Chain)], Err(125)),
        ] {
            let events = steps.into_iter().zip(0..).map(|(step, number)| event(number, step)).collect();
            let served = Served::start(Daemon { events, ..Daemon::default() }).await;
            assert_eq!(served.run(&["--", "x"]).await.map_err(|(code, _)| code), expected);
        }
    }

    #[tokio::test]
    async fn a_run_stopped_before_its_rental_is_open_is_stopped_as_soon_as_it_is() {
        let served = Served::start(Daemon::default()).await;
        let client = Client::connect(&served.folder.path().join("api.sock")).await.unwrap();
        let (mut shown, mut stopping) = (Shown::new(true), Stopping::default());
        let stops = || served.daemon.stops.load(SeqCst);

        stopping.order(&client, &mut shown).await;
        assert_eq!(stops(), 0);
        for (number, step) in
            [quoted(), RunStep::Opened { tx: B256::ZERO, block: 1 }, RunStep::Started].into_iter().enumerate()
        {
            let event = event(number as u64, step);
            served.daemon.open.store(matches!(event.step, RunStep::Opened { .. }), SeqCst);
            shown.progress.note(&event);
            stopping.retry_after(&event, &client, &mut shown).await;
            assert_eq!(stops(), number.min(1), "after {event:?}");
        }
    }

    #[test]
    fn paths_are_made_absolute_for_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().to_str().unwrap();
        let asked =
            request(args(&["--input", input, "--out", "results", "--for", "90s", "--", "x"]), String::new()).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(asked.input.as_deref(), Some(folder.path().canonicalize().unwrap().to_str().unwrap()));
        assert_eq!(asked.out.as_deref(), here.join("results").to_str());
        assert_eq!((asked.working_directory.as_str(), asked.seconds), (here.to_str().unwrap(), 90));
    }

    #[test]
    fn an_input_that_is_no_folder_is_refused_before_anything_is_rented() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for input in ["/surely/not/there", file.path().to_str().unwrap()] {
            let error = request(args(&["--input", input, "--", "x"]), String::new()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Usage);
            assert!(error.message.contains(input), "{error}");
        }
    }
}
