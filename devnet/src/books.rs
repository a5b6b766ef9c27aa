//! The books of a devnet: what every wallet and the escrow hold, before and after, and whether the difference is exactly what the
//! receipts say. Fees are paid in coin, so the test dollars must add up to the unit.

use crate::{Devnet, Node, chain::Chain};
use alloy::primitives::{Address, B256, keccak256};
use anyhow::{Context, Result, ensure};
use api::types::{Receipt, Role};
use market::money::Amount;
use std::collections::BTreeMap;

/// The name under which the escrow's own balance is kept.
pub const ESCROW: &str = "escrow";

/// The name under which a node's payout address is kept.
pub fn payout_of(node: &Node) -> String {
    format!("{}'s payout address", node.name)
}

/// Under which name an account is kept.
fn holder(devnet: &Devnet, account: Address) -> Option<String> {
    let own = |node: &Node| match account {
        _ if node.wallet == account => Some(node.name.clone()),
        _ if node.payout == Some(account) => Some(payout_of(node)),
        _ => None,
    };
    devnet.nodes.iter().find_map(own)
}

/// Test dollars by holder: every node's wallet by its name, payout addresses by [`payout_of`], and the [`ESCROW`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books(BTreeMap<String, Amount>);

impl Books {
    /// Reads all balances from the chain.
    pub async fn read(devnet: &Devnet) -> Result<Self> {
        let mut balances = BTreeMap::from([(ESCROW.to_owned(), devnet.chain.dollars(devnet.chain.escrow).await?)]);
        for node in &devnet.nodes {
            balances.insert(node.name.clone(), devnet.chain.dollars(node.wallet).await?);
            if let Some(payout) = node.payout {
                balances.insert(payout_of(node), devnet.chain.dollars(payout).await?);
            }
        }
        Ok(Self(balances))
    }

    /// What one holder has.
    pub fn of(&self, holder: &str) -> Amount {
        self.0.get(holder).copied().unwrap_or_default()
    }

    /// Everything there is.
    pub fn total(&self) -> u128 {
        self.0.values().map(|amount| amount.get()).sum()
    }

    /// Who holds something.
    pub fn holders(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// How much more one holder has in `later` than here.
    pub fn change(&self, later: &Self, holder: &str) -> i128 {
        // both fit 96 bits
        later.of(holder).get() as i128 - self.of(holder).get() as i128
    }

    /// Holds the change until `later` against the renters' receipts of all rentals in between: each provider has exactly what it was
    /// paid, each renter has paid exactly that, the escrow holds what it held, and nobody else's balance moved.
    pub fn check(&self, later: &Self, devnet: &Devnet, receipts: &[Receipt]) -> Result<()> {
        let mut expected: BTreeMap<String, i128> = self.holders().map(|holder| (holder.to_owned(), 0)).collect();
        for receipt in receipts {
            let quote = &receipt.quote.quote;
            for (account, sign) in [(quote.provider, 1), (quote.renter, -1)] {
                let holder = holder(devnet, account).with_context(|| format!("{account} is nobody's"))?;
                *expected.entry(holder).or_default() += sign * receipt.paid.get() as i128;
            }
        }
        for (holder, expected) in expected {
            let change = self.change(later, &holder);
            ensure!(change == expected, "{holder} changed by {change} base units, its receipts say {expected}");
        }
        ensure!(
            self.total() == later.total(),
            "there were {} base units, now there are {}",
            self.total(),
            later.total()
        );
        Ok(())
    }
}

/// Holds a receipt against itself and the chain: signatures, hashes, both transactions and their events, times and amounts.
pub async fn check_receipt(chain: &Chain, receipt: &Receipt) -> Result<()> {
    let id = receipt.id.0;
    let quote = &receipt.quote.quote;
    ensure!(receipt.quote.id() == receipt.id, "the id is not the digest of the quote");
    ensure!(receipt.quote.is_authentic(), "the quote is not signed by the provider's key");
    ensure!(keccak256(&receipt.terms_bytes) == quote.spec, "the terms are not those of the quote");
    ensure!(receipt.quote.escrow.address == chain.escrow, "the quote is for another escrow");

    let opened = chain.opened(receipt.opened.tx, id).await?;
    ensure!(
        opened.block == receipt.opened.block,
        "opened in block {}, the receipt says {}",
        opened.block,
        receipt.opened.block
    );
    ensure!(
        (opened.provider, opened.renter) == (quote.provider, quote.renter),
        "opened between others than the quote says"
    );
    let closed = chain.closed(receipt.closed.tx, id).await?;
    ensure!(
        closed.block == receipt.closed.block,
        "closed in block {}, the receipt says {}",
        closed.block,
        receipt.closed.block
    );
    for moment in [&receipt.opened, &receipt.closed] {
        let time = chain.block_time(moment.block).await?;
        ensure!(time == moment.time, "block {} is of {time}, the receipt says {}", moment.block, moment.time);
    }
    ensure!(
        (closed.paid, closed.refunded, closed.kind) == (receipt.paid, receipt.refunded, receipt.kind),
        "the chain paid {} and refunded {} (kind {}), the receipt says {} and {} (kind {})",
        closed.paid,
        closed.refunded,
        closed.kind,
        receipt.paid,
        receipt.refunded,
        receipt.kind
    );
    ensure!(
        closed.paid.checked_add(closed.refunded) == Some(receipt.deposit) && opened.deposit <= receipt.deposit,
        "{} paid and {} refunded are not the deposit of {}",
        closed.paid,
        closed.refunded,
        receipt.deposit
    );
    ensure!(!chain.is_open(id).await?, "the rental is still open on chain");

    if let Some(voucher) = &receipt.voucher {
        ensure!(
            voucher.is_signed_by(quote.renter_key, &receipt.quote.escrow),
            "the voucher is not signed by the session key"
        );
        ensure!(voucher.cumulative >= receipt.paid, "more was paid than the voucher says");
    } else {
        ensure!(receipt.paid == Amount::ZERO || receipt.release.is_some(), "something was paid without a voucher");
    }
    if let Some(release) = &receipt.release {
        ensure!(
            release.is_signed_by(quote.provider_key, &receipt.quote.escrow),
            "the release is not signed by the provider"
        );
    }
    ensure!(
        receipt.paid <= quote.rate.for_seconds(receipt.seconds),
        "{} s cannot cost {}",
        receipt.seconds,
        receipt.paid
    );
    Ok(())
}

/// The receipts of a node for one rental must tell the same story as `mine` where both know it.
pub async fn check_other_side(node: &Node, mine: &Receipt) -> Result<()> {
    let all: Vec<Receipt> = node.json(&["receipts", &mine.id.to_string()]).await?;
    let theirs = all.first().with_context(|| format!("{} has no receipt of rental {}", node.name, mine.id))?;
    ensure!(theirs.role == other(mine.role), "{} is not the other side", node.name);
    let facts = |receipt: &Receipt| {
        let Receipt { quote, terms_bytes, opened, closed, ready_at, seconds, deposit, paid, refunded, kind, .. } =
            receipt;
        let (opened, closed) = (opened.clone(), closed.clone());
        (quote.clone(), terms_bytes.clone(), opened, closed, *ready_at, *seconds, (*deposit, *paid, *refunded, *kind))
    };
    ensure!(
        facts(theirs) == facts(mine),
        "the two sides' receipts of rental {} differ:\n{theirs:#?}\n{mine:#?}",
        mine.id
    );
    // The renter may have signed more than ever arrived, never less than was cashed.
    let signed = |receipt: &Receipt| receipt.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative);
    let (renter, provider) = if mine.role == Role::Renter { (mine, theirs) } else { (theirs, mine) };
    ensure!(signed(renter) >= signed(provider), "the provider has a voucher that the renter does not know of");
    Ok(())
}

fn other(role: Role) -> Role {
    if role == Role::Provider { Role::Renter } else { Role::Provider }
}

/// The hash of a transaction in short, as people compare it.
pub fn short(hash: B256) -> String {
    hash.to_string().chars().take(10).collect()
}
