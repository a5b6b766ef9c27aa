//! Whom disputes may go to. A quote may name an arbiter, who can then split what the rental locks: the owner of this node says whom that
//! may be, and an offer that asks for anybody else is told so before its provider is made to hold anything.

use alloy_primitives::Address;
use api::types::{ApiError, ErrorKind};

/// An offer's quotes name an arbiter whom the owner of this node has not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its quotes name the arbiter {}, whom this renter does not accept", list(.named))]
pub(crate) struct NotAccepted {
    /// Whom the provider advertises.
    named: Vec<Address>,
}

impl NotAccepted {
    /// The error for whoever asked; `provider` as people read it.
    pub(crate) fn into_api(self, provider: &str) -> ApiError {
        let next = format!(
            "choose another offer; or, if you trust {} with what a rental locks, name it in `arbiters` of [renter.limits]",
            list(&self.named)
        );
        ApiError::new(ErrorKind::Refused, format!("provider {provider}: {self}"), next)
    }
}

fn list(arbiters: &[Address]) -> String {
    arbiters.iter().map(Address::to_string).collect::<Vec<_>>().join(" or ")
}

/// Whom the quote of an offer may name, zero standing for nobody. An offer that advertises arbiters must name one of them: who rents for
/// the sake of one does not get a quote without.
pub(crate) fn allowed(advertised: &[Address], accepted: &[Address]) -> Result<Vec<Address>, NotAccepted> {
    if advertised.is_empty() {
        return Ok([&[Address::ZERO], accepted].concat());
    }
    let both: Vec<_> = advertised.iter().filter(|arbiter| accepted.contains(arbiter)).copied().collect();
    if both.is_empty() { Err(NotAccepted { named: advertised.to_vec() }) } else { Ok(both) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Address = Address::repeat_byte(1);
    const TWO: Address = Address::repeat_byte(2);

    #[test]
    fn only_whom_both_sides_name_may_rule() {
        assert_eq!(allowed(&[], &[]), Ok(vec![Address::ZERO]));
        assert_eq!(allowed(&[], &[ONE]), Ok(vec![Address::ZERO, ONE]));
        assert_eq!(allowed(&[ONE, TWO], &[TWO]), Ok(vec![TWO]));
        assert_eq!(allowed(&[ONE], &[]), Err(NotAccepted { named: vec![ONE] }));
        assert_eq!(allowed(&[ONE], &[TWO]), Err(NotAccepted { named: vec![ONE] }));
    }

    #[test]
    fn the_refusal_says_whom_and_what_to_do() {
        let error = allowed(&[ONE], &[]).unwrap_err().into_api("abc");
        assert_eq!(error.kind.exit_code(), 6);
        assert!(error.message.contains(&ONE.to_string()) && error.message.contains("abc"), "{}", error.message);
        assert!(error.next.contains("[renter.limits]") && error.next.contains(&ONE.to_string()), "{}", error.next);
    }
}
