//! Who may come in: tokens that stand in links and work once, and the sessions that browsers get for them.
//!
//! A session has two halves. Its cookie is sent to one path only, and that path is the other half, which the page keeps in its own origin's
//! storage. Cookies do not tell ports apart, so a notebook forwarded to another port of the same address would be sent a cookie for `/` with
//! every request, and it is somebody else's machine that answers there; this one it never gets, nor could use without the path.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::RngCore;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// The cookie's name.
pub(super) const COOKIE: &str = "gpulease-console";
/// Links that were handed out and not used yet: a person asks for one at a time. The oldest gives way.
pub(super) const MAX_TOKENS: usize = 32;
/// Browsers that are in at once: a person has a few. The oldest gives way.
pub(super) const MAX_SESSIONS: usize = 16;
/// A link is opened right after it was printed, or not at all.
pub(super) const TOKEN_LIFE: Duration = Duration::from_secs(300);
/// A day's work; then `node console` prints a new link.
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// More than can be guessed.
const SECRET_BYTES: usize = 32;

/// What a browser is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) path: String,
    pub(super) cookie: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Issued>);

#[derive(Debug, Default)]
struct Issued {
    tokens: VecDeque<(String, Instant)>,
    sessions: VecDeque<(Session, Instant)>,
}

impl Keys {
    /// A new token.
    pub(super) fn issue(&self, now: Instant) -> String {
        let mut issued = self.issued();
        issued.sweep(now);
        if issued.tokens.len() == MAX_TOKENS {
            issued.tokens.pop_front();
        }
        let token = secret();
        issued.tokens.push_back((token.clone(), now + TOKEN_LIFE));
        token
    }

    /// A session for a token that was not used yet, nor is too old.
    pub(super) fn redeem(&self, token: &str, now: Instant) -> Option<Session> {
        let mut issued = self.issued();
        issued.sweep(now);
        let found = find(issued.tokens.iter().map(|(known, _)| known.as_str()), token)?;
        issued.tokens.remove(found);
        if issued.sessions.len() == MAX_SESSIONS {
            issued.sessions.pop_front();
        }
        let session = Session { path: secret(), cookie: secret() };
        issued.sessions.push_back((session.clone(), now + SESSION_LIFE));
        Some(session)
    }

    /// Whether a browser with this cookie may ask for what lies under this path.
    pub(super) fn admit(&self, path: &str, cookie: &str, now: Instant) -> bool {
        let issued = self.issued();
        let living = issued.sessions.iter().filter(|(_, until)| now < *until);
        let both = living.map(|(session, _)| equal(&session.path, path) & equal(&session.cookie, cookie));
        both.fold(false, |found, is| found | is)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&self, now: Instant) {
        self.issued().sweep(now);
    }

    fn issued(&self) -> MutexGuard<'_, Issued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issued {
    fn sweep(&mut self, now: Instant) {
        self.tokens.retain(|(_, until)| now < *until);
        self.sessions.retain(|(_, until)| now < *until);
    }
}

/// Which of `known` is `given`, in a time that does not depend on how much of one was right.
fn find<'a>(known: impl Iterator<Item = &'a str>, given: &str) -> Option<usize> {
    known.enumerate().fold(None, |found, (index, known)| if equal(known, given) { Some(index) } else { found })
}

fn equal(known: &str, given: &str) -> bool {
    known.as_bytes().ct_eq(given.as_bytes()).into()
}

fn secret() -> String {
    let mut bytes = [0; SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_token_lets_one_browser_in() {
        let (keys, now) = (Keys::default(), Instant::now());
        let token = keys.issue(now);
        let session = keys.redeem(&token, now).unwrap();
        assert!(keys.admit(&session.path, &session.cookie, now));
        assert_eq!(keys.redeem(&token, now), None);
    }

    #[test]
    fn a_token_is_good_until_its_time_is_up() {
        let (keys, now) = (Keys::default(), Instant::now());
        let (early, late) = (keys.issue(now), keys.issue(now));
        assert!(keys.redeem(&early, now + TOKEN_LIFE - MOMENT).is_some());
        assert_eq!(keys.redeem(&late, now + TOKEN_LIFE), None);
    }

    #[test]
    fn a_session_is_good_until_its_time_is_up() {
        let (keys, now) = (Keys::default(), Instant::now());
        let session = keys.redeem(&keys.issue(now), now).unwrap();
        assert!(keys.admit(&session.path, &session.cookie, now + SESSION_LIFE - MOMENT));
        assert!(!keys.admit(&session.path, &session.cookie, now + SESSION_LIFE));
    }

    #[test]
    fn neither_half_of_a_session_is_enough_nor_are_halves_of_two() {
        let (keys, now) = (Keys::default(), Instant::now());
        let [a, b] = [(); 2].map(|()| keys.redeem(&keys.issue(now), now).unwrap());
        assert!(!keys.admit(&a.path, "", now));
        assert!(!keys.admit("", &a.cookie, now));
        assert!(!keys.admit(&a.path, &b.cookie, now));
    }

    #[test]
    fn the_oldest_give_way_when_there_are_too_many() {
        let (keys, now) = (Keys::default(), Instant::now());
        let first = keys.issue(now);
        for _ in 0..MAX_TOKENS {
            keys.issue(now);
        }
        assert_eq!(keys.redeem(&first, now), None);
        let first = keys.redeem(&keys.issue(now), now).unwrap();
        for _ in 0..MAX_SESSIONS {
            keys.redeem(&keys.issue(now), now).unwrap();
        }
        assert!(!keys.admit(&first.path, &first.cookie, now));
    }
}
