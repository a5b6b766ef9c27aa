//! How a deposit gets into the escrow: the ways that a token and an account allow, what each takes, and what the renter signs for each.
//!
//! A token says by itself what it can do; what it says is believed only if the domain of its signatures is made of its own name, version,
//! chain and address, so that no token can have something signed for another contract. In the end the escrow decides: every opening is
//! simulated before it is sent, and a way that a token does not take after all is passed over for the next.

use crate::{
    bindings::{Erc20, FundedToken, typed},
    chain::Chain,
    error::SettlementError,
    payer::Payer,
};
use alloy::{
    primitives::{Address, B256, Bytes, U256, address, b256, keccak256},
    sol_types::{Eip712Domain, SolStruct},
};
use market::{mandate::Funding, money::Amount, quote::SignedQuote};
use std::borrow::Cow;

/// Permit2, at the same address on every chain that has it.
pub const PERMIT2: Address = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
/// `Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)`: a token that names another type (an early DAI's
/// permit is for everything or nothing) has no permit for us.
const PERMIT_TYPEHASH: B256 = b256!("6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9");
/// Versions that tokens without `version()` have in their domains.
const VERSIONS: [&str; 2] = ["1", "2"];

/// A way to pay a deposit in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The chain's own coin, along with the call.
    Coin,
    /// The escrow may take it already.
    Allowance,
    /// A permit (ERC-2612) in the same transaction.
    Permit,
    /// Permit2, to which the renter has given an allowance before.
    Permit2,
    /// An authorisation (ERC-3009) of the token itself.
    Authorization,
    /// An approval of exactly the deposit, in a transaction of its own, and then the opening.
    Approval,
}

impl Way {
    /// All of them, the cheapest first.
    const ALL: [Self; 6] =
        [Self::Coin, Self::Allowance, Self::Permit, Self::Permit2, Self::Authorization, Self::Approval];

    /// About what it takes, for showing costs ahead: measured with plain tokens (docs/settlement.md), and the words of storage that are
    /// written for the first time, rounded up.
    pub const fn gas(self) -> u64 {
        match self {
            Self::Coin => 65_000,
            Self::Allowance => 105_000,
            Self::Permit => 130_000,
            Self::Permit2 => 135_000,
            Self::Authorization => 140_000,
            Self::Approval => 155_000,
        }
    }

    /// What an account must be able to pay for: a transaction asks for a quarter more than it is likely to use.
    pub(crate) const fn gas_limit(self) -> u64 {
        self.gas() + self.gas() / 4
    }

    /// Whether a signature of the renter is all that it needs of it, so that anybody can send it.
    pub const fn can_be_mandated(self) -> bool {
        matches!(self, Self::Permit2 | Self::Authorization)
    }

    /// What it is, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coin => "the chain's coin",
            Self::Allowance => "the escrow's allowance",
            Self::Permit => "a permit (ERC-2612)",
            Self::Permit2 => "a Permit2 signature",
            Self::Authorization => "an authorisation (ERC-3009)",
            Self::Approval => "an approval of exactly the deposit",
        }
    }
}

/// What a token's contract and its ledger say about one account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Means {
    allowance: U256,
    permit2: U256,
    /// The account's next permit, if the token has permits.
    permit_nonce: Option<U256>,
    authorizations: bool,
    domain: Option<B256>,
}

impl Means {
    /// Asks the token. The chain's own coin has no contract that could be asked: it is sent along, and nothing else will do.
    pub(crate) async fn of(chain: &Chain, token: Address, owner: Address) -> Result<Self, SettlementError> {
        if token.is_zero() {
            return Ok(Self::default());
        }
        let (allowance, given, domain) = tokio::try_join!(
            chain.allowance(token, owner),
            chain.view(token, Erc20::allowanceCall { owner, spender: PERMIT2 }),
            token_domain(chain, token),
        )?;
        let permit2 = match given {
            Some(given) if !given.is_zero() && !chain.code(PERMIT2).await?.is_empty() => given,
            _ => U256::ZERO,
        };
        let (mut permit_nonce, mut authorizations) = (None, false);
        if domain.is_some() {
            let (named, nonce, unused) = tokio::try_join!(
                chain.view(token, FundedToken::PERMIT_TYPEHASHCall {}),
                chain.view(token, FundedToken::noncesCall { owner }),
                chain.view(token, FundedToken::authorizationStateCall { authorizer: owner, nonce: B256::ZERO }),
            )?;
            permit_nonce = nonce.filter(|_| named.is_none_or(|named| named == PERMIT_TYPEHASH));
            authorizations = unused.is_some();
        }
        Ok(Self { allowance, permit2, permit_nonce, authorizations, domain })
    }

    /// The ways open to the account, the cheapest first.
    pub(crate) fn ways(&self, payer: &Payer, deposit: Amount) -> Vec<Way> {
        let need = U256::from(deposit.get());
        let open = |way: &Way| match way {
            Way::Coin => false,
            Way::Allowance => payer.is_own() && self.allowance >= need,
            Way::Permit => payer.is_own() && self.permit_nonce.is_some(),
            Way::Permit2 => self.permit2 >= need,
            Way::Authorization => self.authorizations,
            Way::Approval => payer.is_own(),
        };
        Way::ALL.into_iter().filter(open).collect()
    }
}

/// The domain in which a token's signatures count, if it is one of its own.
async fn token_domain(chain: &Chain, token: Address) -> Result<Option<B256>, SettlementError> {
    let (claimed, name, version) = tokio::try_join!(
        chain.view(token, FundedToken::DOMAIN_SEPARATORCall {}),
        chain.view(token, FundedToken::nameCall {}),
        chain.view(token, FundedToken::versionCall {}),
    )?;
    let Some((claimed, name)) = claimed.zip(name) else { return Ok(None) };
    let versions = version.map_or_else(|| VERSIONS.map(str::to_owned).to_vec(), |version| vec![version]);
    let chain_id = U256::from(chain.config().chain_id);
    let text = |text: &str| Some(Cow::Owned(text.to_owned()));
    let own = versions.iter().flat_map(|version| {
        let usual = Eip712Domain::new(text(&name), text(version), Some(chain_id), Some(token), None);
        // bridged dollars of Polygon carry the chain in the salt
        let salted = Eip712Domain::new(text(&name), text(version), None, Some(token), Some(chain_id.into()));
        [usual.separator(), salted.separator()]
    });
    Ok(own.into_iter().find(|own| *own == claimed))
}

/// What is signed over in a domain: EIP-712.
fn signing_hash(domain: B256, statement: &impl SolStruct) -> B256 {
    keccak256([&[0x19, 0x01], domain.as_slice(), statement.eip712_hash_struct().as_slice()].concat())
}

/// Something to be signed, as a person reads it before it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What kind of thing it is.
    pub what: String,
    /// Its fields, in the order in which they are signed.
    pub fields: Vec<(&'static str, String)>,
}

/// A signature towards a token or Permit2, not made yet.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    digest: B256,
    decoded: Decoded,
}

impl Draft {
    /// Signs it.
    pub(crate) fn sign(&self, chain: &Chain, payer: &Payer) -> Result<Bytes, SettlementError> {
        payer.sign(chain, &self.digest)
    }
}

/// The ERC-2612 permit for one deposit: the escrow may take that, until the quote expires.
pub(crate) fn permit(
    chain: &Chain,
    means: &Means,
    payer: &Payer,
    quote: &SignedQuote,
    deposit: Amount,
) -> Option<Draft> {
    let (domain, nonce) = means.domain.zip(means.permit_nonce)?;
    let (owner, spender, value) = (payer.address(), chain.config().escrow, U256::from(deposit.get()));
    let statement = typed::Permit { owner, spender, value, nonce, deadline: U256::from(quote.quote.expiry) };
    let what = format!("Permit (ERC-2612) of {}", chain.token(quote.quote.token).symbol);
    let fields = vec![
        ("owner", owner.to_string()),
        ("spender", format!("{spender} (the escrow)")),
        ("value", chain.token(quote.quote.token).show(deposit)),
        ("nonce", nonce.to_string()),
        ("deadline", format!("{} (the quote's expiry)", quote.quote.expiry)),
    ];
    Some(Draft { digest: signing_hash(domain, &statement), decoded: Decoded { what, fields } })
}

/// The ERC-3009 authorisation for one rental: its nonce is the rental's id, so that it opens that rental or nothing.
pub(crate) fn authorization(
    chain: &Chain,
    means: &Means,
    payer: &Payer,
    quote: &SignedQuote,
    deposit: Amount,
) -> Option<Draft> {
    let domain = means.domain.filter(|_| means.authorizations)?;
    let (from, to, nonce) = (payer.address(), chain.config().escrow, quote.id().0);
    let valid_before = u64::from(quote.quote.expiry) + 1;
    let statement = typed::ReceiveWithAuthorization {
        from,
        to,
        value: U256::from(deposit.get()),
        validAfter: U256::ZERO,
        validBefore: U256::from(valid_before),
        nonce,
    };
    let what = format!("ReceiveWithAuthorization (ERC-3009) of {}", chain.token(quote.quote.token).symbol);
    let fields = vec![
        ("from", from.to_string()),
        ("to", format!("{to} (the escrow)")),
        ("value", chain.token(quote.quote.token).show(deposit)),
        ("validAfter", "0".to_owned()),
        ("validBefore", format!("{valid_before} (the quote's expiry)")),
        ("nonce", format!("{nonce} (the rental's id)")),
    ];
    Some(Draft { digest: signing_hash(domain, &statement), decoded: Decoded { what, fields } })
}

/// The Permit2 transfer for one rental, with the quote itself as witness. Its nonce is taken from the rental's id, which is as good as
/// drawn by lot.
pub(crate) fn permit2(chain: &Chain, quote: &SignedQuote, deposit: Amount) -> (U256, u64, Draft) {
    let (nonce, deadline) = (U256::from_be_bytes(quote.id().0.0), u64::from(quote.quote.expiry));
    let spender = chain.config().escrow;
    let statement = typed::PermitWitnessTransferFrom {
        permitted: typed::TokenPermissions { token: quote.quote.token, amount: U256::from(deposit.get()) },
        spender,
        nonce,
        deadline: U256::from(deadline),
        witness: typed::quote(&quote.quote),
    };
    let chain_id = Some(U256::from(chain.config().chain_id));
    let domain = Eip712Domain::new(Some("Permit2".into()), None, chain_id, Some(PERMIT2), None);
    let token = chain.token(quote.quote.token);
    let fields = vec![
        ("token", format!("{} ({})", token.symbol, token.address)),
        ("amount", token.show(deposit)),
        ("spender", format!("{spender} (the escrow)")),
        ("nonce", nonce.to_string()),
        ("deadline", format!("{deadline} (the quote's expiry)")),
        ("witness", format!("the quote of rental {}", quote.id())),
    ];
    let what = "PermitWitnessTransferFrom (Permit2)".to_owned();
    (nonce, deadline, Draft { digest: signing_hash(domain.separator(), &statement), decoded: Decoded { what, fields } })
}

/// Signs what a mandate needs.
pub(crate) fn sign(
    chain: &Chain,
    means: &Means,
    payer: &Payer,
    quote: &SignedQuote,
    deposit: Amount,
    way: Way,
) -> Result<Option<Funding>, SettlementError> {
    Ok(match way {
        Way::Authorization => match authorization(chain, means, payer, quote, deposit) {
            Some(draft) => Some(Funding::Authorization { signature: draft.sign(chain, payer)? }),
            None => None,
        },
        Way::Permit2 => {
            let (nonce, deadline, draft) = permit2(chain, quote, deposit);
            Some(Funding::Permit2 { nonce, deadline, signature: draft.sign(chain, payer)? })
        }
        _ => None,
    })
}

/// What a person reads before a deposit is paid in that way.
pub(crate) fn decoded(
    chain: &Chain,
    means: &Means,
    payer: &Payer,
    quote: &SignedQuote,
    deposit: Amount,
    way: Way,
) -> Vec<Decoded> {
    let shown = chain.token(quote.quote.token).show(deposit);
    let escrow = chain.config().escrow;
    let approval = Decoded {
        what: format!("transaction approve to {}", quote.quote.token),
        fields: vec![("spender", format!("{escrow} (the escrow)")), ("value", format!("{shown}, and no more"))],
    };
    let open =
        Decoded { what: format!("transaction open to {escrow} (the escrow)"), fields: terms_of(chain, quote, &shown) };
    let drafted = |draft: Option<Draft>| draft.map(|draft| draft.decoded);
    match way {
        Way::Coin | Way::Allowance => vec![open],
        Way::Approval => vec![approval, open],
        Way::Permit => drafted(permit(chain, means, payer, quote, deposit)).into_iter().chain([open]).collect(),
        Way::Permit2 => vec![permit2(chain, quote, deposit).2.decoded, open],
        Way::Authorization => {
            drafted(authorization(chain, means, payer, quote, deposit)).into_iter().chain([open]).collect()
        }
    }
}

/// The terms that the escrow holds both sides to.
fn terms_of(chain: &Chain, quote: &SignedQuote, deposit: &str) -> Vec<(&'static str, String)> {
    let (q, token) = (&quote.quote, chain.token(quote.quote.token));
    vec![
        ("deposit", deposit.to_owned()),
        ("provider", q.provider.to_string()),
        ("renter", format!("{} (refunded to it)", q.renter)),
        ("rate", format!("{} an hour", token.show(q.rate.hourly()))),
        ("most", format!("{} s, {}", q.max_seconds, token.show(q.full_price()))),
        ("window", format!("{} s", q.window)),
        ("expiry", q.expiry.to_string()),
        ("arbiter", if q.arbiter.is_zero() { "none".to_owned() } else { q.arbiter.to_string() }),
        ("rental", quote.id().to_string()),
    ]
}
