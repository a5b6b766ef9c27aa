//! What endpoints say when they do not take a transaction.

use crate::error::SettlementError;

/// What a refusal means; the more it tells, the earlier it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// The endpoint has it already.
    Known,
    /// The fee does not beat that of an earlier form, or is below what blocks ask.
    Underpriced,
    /// The nonce is used. That is decided by what the chain says at the confirmation depth, never by this.
    NonceUsed,
    /// Anything else: to be tried again.
    Other,
}

impl Refusal {
    /// What all endpoints together say; `None` when one has it.
    pub(super) fn of_all(said: &[Result<(), SettlementError>]) -> Option<Self> {
        if said.iter().any(Result::is_ok) {
            return None;
        }
        let refusals = said.iter().filter_map(|said| said.as_ref().err()).map(Self::of);
        refusals.min().filter(|refusal| *refusal != Self::Known)
    }

    fn of(error: &SettlementError) -> Self {
        match error {
            SettlementError::Rpc { source, .. } => {
                source.as_error_resp().map_or(Self::Other, |response| Self::of_message(&response.message))
            }
            _ => Self::Other,
        }
    }

    /// Nodes differ in words and codes; these words are common to geth, reth, Nethermind, Erigon and anvil.
    fn of_message(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&["already known", "already imported", "alreadyknown", "known transaction"]) {
            Self::Known
        } else if says(&["nonce too low", "old nonce", "nonce is too low"]) {
            Self::NonceUsed
        } else if says(&["underpriced", "replacement", "less than block base fee", "feetoolow", "fee too low"]) {
            Self::Underpriced
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_words_of_common_nodes_are_understood() {
        for (message, refusal) in [
            ("already known", Refusal::Known),
            ("transaction already imported", Refusal::Known),
            ("nonce too low: next nonce 5, tx nonce 4", Refusal::NonceUsed),
            ("replacement transaction underpriced", Refusal::Underpriced),
            ("max fee per gas less than block base fee", Refusal::Underpriced),
            ("insufficient funds for gas * price + value", Refusal::Other),
        ] {
            assert_eq!(Refusal::of_message(message), refusal, "{message}");
        }
    }

    #[test]
    fn one_endpoint_that_has_it_outweighs_all_that_refuse() {
        let refused = |message: &'static str| {
            let response = serde_json::from_value(json!({ "code": -32_000, "message": message })).unwrap();
            let source = alloy::transports::TransportError::err_resp(response);
            Err(SettlementError::Rpc { what: "", endpoint: String::new(), source: Box::new(source) })
        };
        assert_eq!(Refusal::of_all(&[refused("nonce too low"), Ok(())]), None);
        assert_eq!(Refusal::of_all(&[refused("nonce too low"), refused("already known")]), None);
        assert_eq!(Refusal::of_all(&[refused("nonce too low"), refused("underpriced")]), Some(Refusal::Underpriced));
        assert_eq!(Refusal::of_all(&[refused("nonce too low"), refused("odd")]), Some(Refusal::NonceUsed));
        assert_eq!(Refusal::of_all(&[]), None);
    }
}
