//! How errors become what the user reads. Every command fails with an [`ApiError`]: what happened, what to do next, and the class
//! that decides the exit code. Here the typed errors of the crates are given a class and advice.

use api::types::{ApiError, ErrorKind};
use std::error::Error;

/// Turns an error into the one kind that reaches the user.
pub(crate) trait Failure {
    /// An error of this class: `error` with all its causes, and what to do `next`.
    fn because(self, error: &(dyn Error + 'static), next: &str) -> ApiError;
}

impl Failure for ErrorKind {
    fn because(self, error: &(dyn Error + 'static), next: &str) -> ApiError {
        ApiError::new(self, with_causes(error), next)
    }
}

/// An error and its causes in one line; a cause already said by the error itself is not repeated.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read x")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_told_once() {
        let outer = Outer(std::io::Error::other("disk on fire"));
        assert_eq!(with_causes(&outer), "cannot read x: disk on fire");
        let error = ErrorKind::Chain.because(&outer, "buy water");
        assert_eq!((error.kind.exit_code(), error.next.as_str()), (7, "buy water"));
    }

    #[test]
    fn each_class_has_the_exit_code_that_is_documented() {
        use ErrorKind::*;
        let codes = [Failed, Usage, NoDaemon, NoMatch, Funds, Refused, Chain, Timeout].map(ErrorKind::exit_code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
