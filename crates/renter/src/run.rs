//! A run: what a person wanted the rental for. It matches and negotiates, then follows its rental: upload, start, logs, exit, outputs,
//! finish. It can be taken up again at any point after the opening, since every step is either repeatable or remembered.

mod extending;
mod fitness;
mod job;
mod opening;

pub(crate) use extending::extend;

use crate::{
    Parts,
    driver::{self, Driver, Tools},
    figures::Figures,
    indexers::Indexers,
    journal::Journal,
    receipt,
    records::{Record, short_peer},
};
use api::{
    search::Search,
    types::{ApiError, ErrorKind, OfferQuery, RunRequest, RunStep},
};
use market::{
    id::RentalId,
    offer::MAX_SLOTS_TOGETHER,
    rental::renter::Rental,
    terms::{Image, NetworkAccess, Workload},
};
use settlement::{EscrowAccount, Follower};
use std::sync::Arc;
use tracing::Instrument;

/// What every run works with.
pub(crate) struct Context {
    pub(crate) parts: Parts,
    pub(crate) config: crate::Config,
    pub(crate) followers: Vec<Follower>,
    pub(crate) started: tokio::time::Instant,
    pub(crate) figures: Arc<Figures>,
    pub(crate) indexers: Indexers,
    pub(crate) untold: Arc<crate::ratings::Untold>,
    pub(crate) book: crate::visits::Book,
    pub(crate) checks: crate::checks::Checker,
    pub(crate) register: Box<dyn Fn(Driver) + Send + Sync>,
    pub(crate) find: Box<dyn Fn(RentalId) -> Option<Driver> + Send + Sync>,
}

impl Context {
    fn account(&self, rental_escrow: &market::signed::Escrow) -> Option<(&EscrowAccount, &Follower)> {
        self.parts
            .accounts
            .iter()
            .zip(&self.followers)
            .find(|(account, _)| account.sender().chain().escrow() == *rental_escrow)
    }

    /// Asks indexers what they know of these offers; what holds is in the node's own book afterwards.
    pub(crate) async fn ask_indexers(&self, query: &OfferQuery) {
        self.indexers.ask(&self.parts.network, query, usize::from(self.config.indexers)).await;
    }

    pub(crate) fn tools(&self, account: &EscrowAccount, follower: &Follower) -> Tools {
        Tools {
            network: self.parts.network.clone(),
            account: account.clone(),
            follower: follower.clone(),
            store: self.parts.store.clone(),
            figures: Arc::clone(&self.figures),
            untold: Arc::clone(&self.untold),
            cancel: self.parts.cancel.clone(),
        }
    }
}

/// A run that was understood and may begin.
pub(crate) struct Plan {
    pub(crate) run: u64,
    pub(crate) search: Search,
    pub(crate) request: RunRequest,
}

impl Plan {
    /// Checks everything that can be checked before anything happens.
    pub(crate) fn new(run: u64, request: RunRequest) -> Result<Self, ApiError> {
        let usage = |message: String, next: &str| ApiError::new(ErrorKind::Usage, message, next);
        match request.argv.first() {
            None if request.hold => {}
            Some(_) if request.hold => {
                return Err(usage(
                    "a rental that is held runs no program".to_owned(),
                    "leave it out, or use `node run`",
                ));
            }
            Some(program) if !program.is_empty() => {}
            _ => {
                let next = "put it after `--`, as in `node run -- ./train.sh`, or hold a rental: node rent";
                return Err(usage("no program to run".to_owned(), next));
            }
        }
        if request.seconds == 0 {
            return Err(usage("a rental lasts at least a second".to_owned(), "set --for"));
        }
        if let Some(input) = &request.input
            && !std::path::Path::new(input).is_dir()
        {
            return Err(usage(format!("{input} is not a folder"), "name a folder with --input"));
        }
        if !request.bid.is_empty() && !request.interruptible {
            return Err(usage("only interruptible rentals bid".to_owned(), "add --interruptible, or leave --bid out"));
        }
        if request.slots > MAX_SLOTS_TOGETHER {
            return Err(usage(
                format!("{} slots are never rented together", request.slots),
                "ask for fewer with --slots",
            ));
        }
        if !request.image.is_empty() && !request.image.contains('@') {
            return Err(usage(
                format!("the image {} has no digest, and its name may mean another one tomorrow", request.image),
                "name it as `name@sha256:…`; `node run --image` does that for you",
            ));
        }
        let asked = OfferQuery { query: request.query.clone(), order: request.order.clone(), ..OfferQuery::default() };
        // read as it was written, so that a mistake in it is pointed at; then with what else the rental needs
        Search::parse(&asked)?;
        let search = Search::parse(&OfferQuery { query: conditions(&request), ..asked })?;
        Ok(Self { run, search, request })
    }

    /// What the program runs in.
    pub(crate) fn workload(&self) -> Workload {
        workload(&self.request)
    }

    /// How many slots are rented together.
    pub(crate) fn slots(&self) -> u32 {
        self.request.slots.max(1)
    }
}

fn workload(request: &RunRequest) -> Workload {
    Workload {
        image: if request.image.is_empty() { Image::HostUsr } else { Image::Oci(request.image.clone()) },
        network: if request.egress { NetworkAccess::Egress } else { NetworkAccess::None },
    }
}

/// What offers must meet: what the caller says, and what its kind of rental needs.
fn conditions(request: &RunRequest) -> String {
    let mut all = format!("splits={}", request.slots.max(1));
    if request.interruptible {
        all.push_str(" interruptible=true");
    }
    for needed in workload(request).needs() {
        all.push_str(&format!(" software=\"{needed}\""));
    }
    if !request.query.trim().is_empty() {
        all = format!("({}) {all}", request.query);
    }
    all
}

/// Carries a run from its beginning to its end, and says how it went.
pub(crate) async fn begin(context: Arc<Context>, plan: Plan, journal: Journal) {
    let result = match opening::rent(&context, &plan, &journal).await {
        Ok(driver) => {
            let span = driver::span(&driver.id);
            job::serve(&context, driver, &journal).instrument(span).await
        }
        Err(error) => Err(error),
    };
    finish_journal(&journal, result).await;
}

/// Takes up a run whose rental is on disk since an earlier start of this node: tells what is known of it, and goes on.
pub(crate) async fn resume(context: Arc<Context>, driver: Driver, journal: Journal) {
    let record = Arc::clone(&driver.state.borrow().record);
    let span = driver::span(&driver.id);
    let told = async {
        retell(&context, &record, &driver, &journal).await?;
        job::serve(&context, driver, &journal).await
    };
    let result = told.instrument(span).await;
    finish_journal(&journal, result).await;
}

async fn retell(context: &Context, record: &Record, driver: &Driver, journal: &Journal) -> Result<(), ApiError> {
    let (rental, token) = (&record.rental, &record.rental.terms.token);
    let (deposit, price_hour) = (token.show(rental.deposit), token.show(rental.quote.quote.rate.hourly()));
    let arbiter = rental.quote.quote.named_arbiter();
    journal.push(RunStep::Quoted { id: rental.id, deposit, price_hour, gas: String::new(), arbiter }).await;
    let (account, _) = context
        .account(&rental.quote.escrow)
        .ok_or_else(|| ApiError::new(ErrorKind::Chain, "the rental's chain is not configured any more", ""))?;
    opening::see_opened(account, driver, journal).await?;
    if let Some(ended) = &record.job.ended {
        journal.push(RunStep::Exited { code: ended.code, how: ended.how.clone() }).await;
    }
    Ok(())
}

/// Tells how a run ended whose rental was over before this start of the node.
pub(crate) async fn tell_end(record: &Record, journal: &Journal) {
    let last = match receipt::of(record) {
        Some(receipt) => {
            RunStep::Settled { receipt: Box::new(receipt), error: job::outcome(&record.job).and_then(Result::err) }
        }
        None => RunStep::Failed { error: opening::not_opened() },
    };
    journal.push(last).await;
    journal.end();
}

async fn finish_journal(journal: &Journal, result: Result<(), ApiError>) {
    if let Err(error) = result {
        tracing::info!(error = error.message, "the run failed");
        journal.push(RunStep::Failed { error }).await;
    }
    journal.end();
}

/// How a rental is named in messages.
pub(crate) fn describe(rental: &Rental) -> String {
    format!("{} at {}", rental.id.short(), short_peer(&rental.provider))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::indexers::tests::{ad, offer};
    use market::{
        offer::{Hardware, Offer},
        query::{Candidate, Query, Verdict},
    };
    use network::identity::Keypair;

    const IMAGE: &str = "python@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn request(image: &str, egress: bool) -> RunRequest {
        let query = "cpus>=1".to_owned();
        RunRequest { argv: vec!["x".into()], seconds: 60, query, image: image.into(), egress, ..RunRequest::default() }
    }

    #[test]
    fn a_run_with_an_image_or_a_network_is_for_offers_that_have_them() {
        let with = |software: &[&str]| {
            let software = software.iter().map(|word| (*word).to_owned()).collect();
            Offer { hardware: Hardware { cpu_millis: 1_000, software, ..Hardware::default() }, ..offer("slot", 1) }
        };
        let fits = |request: &RunRequest, software: &[&str]| {
            let ad = ad(&Keypair::generate_ed25519(), vec![with(software)]);
            let query = Query::parse(&conditions(request)).unwrap();
            Candidate::all(&ad, None).all(|candidate| query.verdict(&candidate) == Verdict::Yes)
        };
        let both = request(IMAGE, true);
        assert!(fits(&both, &["cuda 13.1", "oci-images", "egress"]));
        assert!(!fits(&both, &["oci-images"]) && !fits(&both, &["egress"]) && !fits(&both, &[]));
        assert!(fits(&request("", true), &["egress"]) && !fits(&request("", true), &["oci-images"]));
        assert!(fits(&request("", false), &[]));
        assert_eq!(Plan::new(1, both).unwrap().workload().network, NetworkAccess::Egress);
    }

    #[test]
    fn a_rental_has_a_program_or_is_held_and_never_both_or_neither() {
        let plan = |program: bool, hold| {
            let request = request("", false);
            let argv = if program { request.argv.clone() } else { Vec::new() };
            Plan::new(1, RunRequest { argv, hold, ..request }).map(|_| ()).map_err(|error| error.kind)
        };
        assert_eq!([plan(true, false), plan(false, true)], [Ok(()), Ok(())]);
        assert_eq!([plan(true, true), plan(false, false)], [Err(ErrorKind::Usage), Err(ErrorKind::Usage)]);
    }

    #[test]
    fn an_image_without_a_digest_is_not_rented_for() {
        let error = Plan::new(1, request("python:3.13", false)).err().unwrap();
        assert!(error.message.contains("python:3.13 has no digest"), "{error:?}");
    }
}
