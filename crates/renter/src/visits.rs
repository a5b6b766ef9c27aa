//! The history of logins: who has been in a rental of this node, by what, and how that ended. Doors tell of what is opened through them; one
//! task writes it down, so that nobody waits for the disk before a shell comes up.

use access::{archive::hex, watched::Watcher};
use api::types::{Visit, VisitKind, Visitor};
use market::{id::RentalId, time::UnixMillis};
use serde::{Deserialize, Serialize};
use store::{Json, Store, StoreError, Table};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wire::proto::session_header::Kind;

/// Visits kept of one rental: months of work by hand. Of more the oldest are forgotten.
const MAX_VISITS: usize = 200;
/// Files looked at so soon after others, in milliseconds, are the same visit: a page or an editor opens many streams.
const TOGETHER: u64 = 300_000;
/// Notes that wait to be written. A burst beyond is not written down, which holds up no shell.
const QUEUE: usize = 1_024;

/// A visit, and the name of what was opened, by which it is taken up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    key: String,
    visit: Visit,
}

/// The visits of each rental, the oldest first.
pub(crate) struct Visits;
impl Table for Visits {
    const NAME: &'static str = "renter_visits";
    type Key = RentalId;
    type Value = Json<Vec<Kept>>;
}

/// When the last of these began.
pub(crate) fn newest(visits: &[Kept]) -> Option<u64> {
    visits.last().map(|kept| kept.visit.at.0)
}

/// What there is to be written down of a visit.
#[derive(Clone, Debug)]
enum News {
    Began(Visit),
    /// A connection that broke was taken up again.
    WentOn,
    Ended(UnixMillis, String),
}

#[derive(Debug)]
struct Note {
    rental: RentalId,
    key: String,
    news: News,
}

/// Takes notes. Clones write into the same book.
#[derive(Clone, Debug)]
pub(crate) struct Book(mpsc::Sender<Note>);

impl Book {
    /// A book, and the work of writing it, which ends when that is cancelled and all that was noted is written.
    pub(crate) fn open(store: Store, cancel: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (notes, mut waiting) = mpsc::channel::<Note>(QUEUE);
        let writing = async move {
            loop {
                let note = tokio::select! {
                    biased;
                    note = waiting.recv() => note,
                    () = cancel.cancelled() => None,
                };
                let Some(note) = note else { return };
                if let Err(error) = store.run(move |store| write(store, note)).await {
                    tracing::warn!(%error, "a visit could not be written down");
                }
            }
        };
        (Self(notes), writing)
    }

    fn note(&self, rental: RentalId, key: &str, news: News) {
        if self.0.try_send(Note { rental, key: key.to_owned(), news }).is_err() {
            tracing::debug!(rental = %rental.short(), "a visit is not written down: too many at once");
        }
    }
}

/// Notes who comes into one rental, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Porter {
    rental: RentalId,
    visitor: Visitor,
    book: Book,
}

impl Porter {
    pub(crate) fn new(rental: RentalId, visitor: Visitor, book: Book) -> Self {
        Self { rental, visitor, book }
    }
}

/// The name of what was opened, and the news of it.
pub(crate) struct Seen {
    key: String,
    news: News,
    /// How it ended, where nothing else is known.
    end: &'static str,
}

impl Watcher for Porter {
    type Visit = Seen;

    fn sees(&self, kind: &Kind) -> Option<Seen> {
        let began = |kind| {
            let at = UnixMillis::now();
            News::Began(Visit { at, visitor: self.visitor, kind, ended: None, how: String::new() })
        };
        let process = |key: &[u8], news| Seen { key: hex(key), news, end: "left" };
        Some(match kind {
            Kind::Exec(exec) if exec.argv.is_empty() => process(&exec.key, began(VisitKind::Shell)),
            Kind::Exec(exec) => process(&exec.key, began(VisitKind::Program)),
            Kind::Attach(attach) => process(&attach.key, News::WentOn),
            Kind::Files(_) => {
                Seen { key: hex(&rand::random::<[u8; 16]>()), news: began(VisitKind::Files), end: "done" }
            }
            _ => return None,
        })
    }

    fn began(&self, seen: &Seen) {
        self.book.note(self.rental, &seen.key, seen.news.clone());
    }

    fn ended(&self, seen: &Seen, how: Option<String>) {
        let how = how.unwrap_or_else(|| seen.end.to_owned());
        self.book.note(self.rental, &seen.key, News::Ended(UnixMillis::now(), how));
    }
}

fn write(store: &Store, Note { rental, key, news }: Note) -> Result<(), StoreError> {
    let mut visits = store.get::<Visits>(&rental)?.map_or_else(Vec::new, |kept| kept.0);
    take(&mut visits, key, news);
    store.put::<Visits>(&rental, &Json(visits))
}

/// Takes news into the list of a rental.
fn take(visits: &mut Vec<Kept>, key: String, news: News) {
    let known = visits.iter().rposition(|kept| kept.key == key);
    match (news, known.and_then(|at| visits.get_mut(at))) {
        // the same program again, whose first answer was lost
        (News::Began(_) | News::WentOn, Some(kept)) => (kept.visit.ended, kept.visit.how) = (None, String::new()),
        (News::Began(visit), None) => add(visits, key, visit),
        (News::Ended(at, how), Some(kept)) => (kept.visit.ended, kept.visit.how) = (Some(at), how),
        // forgotten meanwhile
        (News::WentOn | News::Ended(..), None) => {}
    }
}

fn add(visits: &mut Vec<Kept>, key: String, visit: Visit) {
    if let Some(last) = visits.last_mut().filter(|last| goes_on(&last.visit, &visit)) {
        (last.key, last.visit.ended, last.visit.how) = (key, None, String::new());
        return;
    }
    visits.push(Kept { key, visit });
    let over = visits.len().saturating_sub(MAX_VISITS);
    visits.drain(..over);
}

/// Whether a visit goes on with another.
fn goes_on(last: &Visit, next: &Visit) -> bool {
    let soon = last.ended.is_none_or(|ended| next.at.since(ended) <= TOGETHER);
    (last.visitor, last.kind) == (next.visitor, next.kind) && next.kind == VisitKind::Files && soon
}

/// Ends what an earlier start of this node left open: whoever was there is gone, or comes again and says so.
pub(crate) fn close_left_open(store: &Store, now: UnixMillis) -> Result<(), StoreError> {
    let rows = store.scan::<Visits>(..)?.collect::<Result<Vec<_>, _>>()?;
    for (rental, Json(mut visits)) in rows {
        if visits.iter().all(|kept| kept.visit.ended.is_some()) {
            continue;
        }
        for Kept { visit, .. } in visits.iter_mut().filter(|kept| kept.visit.ended.is_none()) {
            (visit.ended, visit.how) = (Some(now), "the daemon was started again".to_owned());
        }
        store.put::<Visits>(&rental, &Json(visits))?;
    }
    Ok(())
}

/// The visits to a rental, the oldest first.
pub(crate) fn of(store: &Store, rental: &RentalId) -> Result<Vec<Visit>, StoreError> {
    let kept = store.get::<Visits>(rental)?.map_or_else(Vec::new, |kept| kept.0);
    Ok(kept.into_iter().map(|kept| kept.visit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::types::{VisitKind, Visitor};

    fn began(at: u64) -> News {
        let (visitor, kind) = (Visitor::Ssh, VisitKind::Shell);
        News::Began(Visit { at: UnixMillis(at), visitor, kind, ended: None, how: String::new() })
    }

    #[test]
    fn a_visit_is_over_when_it_ended_and_goes_on_when_it_is_taken_up_again() {
        let mut visits = Vec::new();
        take(&mut visits, "a".into(), began(1));
        take(&mut visits, "a".into(), News::Ended(UnixMillis(5), "left".into()));
        assert_eq!((visits[0].visit.ended, visits[0].visit.how.as_str()), (Some(UnixMillis(5)), "left"));
        take(&mut visits, "a".into(), News::WentOn);
        assert_eq!((visits.len(), visits[0].visit.ended), (1, None));
        take(&mut visits, "a".into(), News::Ended(UnixMillis(9), "exited with 0".into()));
        assert_eq!(visits[0].visit.how, "exited with 0");
        take(&mut visits, "unknown".into(), News::Ended(UnixMillis(9), String::new()));
        assert_eq!(visits.len(), 1);
    }

    #[test]
    fn files_that_are_looked_at_one_after_the_other_are_one_visit() {
        let files = |at, visitor| {
            let kind = VisitKind::Files;
            News::Began(Visit { at: UnixMillis(at), visitor, kind, ended: None, how: String::new() })
        };
        let mut visits = Vec::new();
        for at in 0..9 {
            take(&mut visits, at.to_string(), files(at, Visitor::Console));
            take(&mut visits, at.to_string(), News::Ended(UnixMillis(at), "done".into()));
        }
        assert_eq!((visits.len(), visits[0].visit.ended), (1, Some(UnixMillis(8))));
        take(&mut visits, "by another".into(), files(9, Visitor::Copy));
        take(&mut visits, "later".into(), files(10 + TOGETHER, Visitor::Copy));
        assert_eq!(visits.len(), 2, "one that has not ended goes on");
        take(&mut visits, "later".into(), News::Ended(UnixMillis(11 + TOGETHER), "done".into()));
        take(&mut visits, "much later".into(), files(12 + 2 * TOGETHER, Visitor::Copy));
        assert_eq!(visits.len(), 3);
    }

    #[test]
    fn of_many_visits_the_oldest_are_forgotten() {
        let mut visits = Vec::new();
        for number in 0..=MAX_VISITS as u64 {
            take(&mut visits, number.to_string(), began(number));
        }
        assert_eq!((visits.len(), visits[0].visit.at.0), (MAX_VISITS, 1));
        assert_eq!(newest(&visits), Some(MAX_VISITS as u64));
    }
}
