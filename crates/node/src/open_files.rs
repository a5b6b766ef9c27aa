//! How many files a daemon may have open. Each connection is one, and the usual limit of 1,024 is less than the connections that the
//! network layer allows; so a daemon raises its own limit as far as it is let.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What all bounds together may need: 2,000 connections, 1,024 session streams with a socket to their sandbox each, 256 files of the
/// database, and what each sandbox needs.
pub(crate) const NEEDED: u64 = 4_096;
/// What is asked for: room to spare.
pub(crate) const WANTED: u64 = 16_384;

/// Raises the limit of this process. Fewer than needed is told, and not fatal: connections are then refused by the kernel.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |most| most.min(WANTED));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }) {
        Ok(()) if wanted >= NEEDED => tracing::debug!(limit = wanted, "the limit of open files was raised"),
        Ok(()) => tracing::warn!(limit = wanted, needed = NEEDED, "few files may be open: see node doctor"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// The most that this process could have open; `None` when nothing limits it.
pub(crate) fn most() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        raise();
        let after = getrlimit(Resource::Nofile).current;
        assert!(after.is_none() || after >= before, "{before:?} became {after:?}");
        assert!(after.is_none() || after >= most().map(|most| most.min(WANTED)), "{after:?}");
    }
}
