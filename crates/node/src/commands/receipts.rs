//! `node receipts`: what is left of closed rentals, as a list or one in full; with `--verify` each is proved, by itself and against the
//! chain, which is asked directly: neither the daemon's books nor the daemon are believed.

use super::{Context, chain_error};
use crate::{
    cli,
    output::{Output, Style, Waiting, role_name},
    receipt::{receipt_text, receipts_table},
    verify::{self, Check, OnChain},
};
use api::types::{ApiError, ErrorKind, Receipt, Role};
use market::{id::RentalId, signed::Escrow};
use serde::Serialize;
use settlement::{Chain, SettlementError};
use std::{
    fs::File,
    io::{self, IsTerminal, Read, stdout},
    path::Path,
};

/// The largest file of receipts that is read: as much as the daemon itself would answer with.
const MAX_FILE_BYTES: u64 = api::client::MAX_ANSWER_BYTES as u64;

pub(super) async fn receipts(context: &Context, args: cli::Receipts) -> Result<u8, ApiError> {
    let prefix = args.id.unwrap_or_default();
    let receipts = match &args.file {
        Some(file) => {
            let mut receipts = from_file(file)?;
            receipts.retain(|receipt| prefix.is_empty() || receipt.id.matches_prefix(&prefix));
            receipts
        }
        None => context.daemon().await?.receipts(&prefix).await?,
    };
    if receipts.is_empty() && !prefix.is_empty() {
        let next = "receipts come when a rental is closed; those that go on: node ps";
        return Err(ApiError::new(ErrorKind::NoMatch, format!("there is no receipt of a rental named {prefix}"), next));
    }
    if args.verify {
        return prove(context, &receipts).await;
    }
    context.output.result(&receipts, |output| match &receipts[..] {
        [] => "no receipts yet: they come when a rental is closed".to_owned(),
        [one] if !prefix.is_empty() => receipt_text(one, Style::on(stdout().is_terminal())),
        all => receipts_table(output, all),
    })?;
    Ok(0)
}

fn from_file(path: &Path) -> Result<Vec<Receipt>, ApiError> {
    let shown = path.display();
    let cannot = |error: io::Error| {
        ApiError::new(ErrorKind::Usage, format!("cannot read {shown}: {error}"), "check the path and its permissions")
    };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text)).map_err(cannot)?;
    read(&text).map_err(|error| {
        let message = format!("{shown} holds no receipt: {error}");
        ApiError::new(ErrorKind::Usage, message, "save one with `node receipts ID --json > receipt.json`")
    })
}

/// Receipts as `--json` prints them: a list, or one alone.
fn read(text: &str) -> Result<Vec<Receipt>, serde_json::Error> {
    match serde_json::from_str(text)? {
        list @ serde_json::Value::Array(_) => serde_json::from_value(list),
        one => Ok(vec![serde_json::from_value(one)?]),
    }
}

/// A receipt and everything that was looked at.
#[derive(Serialize)]
struct Proof {
    id: RentalId,
    role: Role,
    /// All of the checks hold.
    holds: bool,
    checks: Vec<Check>,
}

/// Proves each receipt. The exit code is 0 when everything holds.
async fn prove(context: &Context, receipts: &[Receipt]) -> Result<u8, ApiError> {
    let waiting = Waiting::begin("asking the chain");
    let mut chains: Vec<Chain> = Vec::new();
    let mut proofs = Vec::with_capacity(receipts.len());
    for (at, receipt) in receipts.iter().enumerate() {
        waiting.now(&format!("receipt {} of {}: {}", at + 1, receipts.len(), receipt.id.short()));
        let chain = chain_of(context, &mut chains, receipt.quote.escrow).await?;
        let evidence = gather(&chain, receipt).await.map_err(chain_error)?;
        let mut checks = verify::own(receipt);
        checks.extend(verify::against(receipt, &evidence));
        let holds = checks.iter().all(|check| check.holds);
        proofs.push(Proof { id: receipt.id, role: receipt.role, holds, checks });
    }
    drop(waiting);
    context.output.result(&proofs, |output| text(output, &proofs))?;
    Ok(u8::from(!proofs.iter().all(|proof| proof.holds)))
}

/// The configured chain that an escrow is on, checked and connected once.
async fn chain_of(context: &Context, chains: &mut Vec<Chain>, escrow: Escrow) -> Result<Chain, ApiError> {
    if let Some(chain) = chains.iter().find(|chain| chain.escrow() == escrow) {
        return Ok(chain.clone());
    }
    let configured = context.config()?.chains()?;
    let config = configured.into_iter().find(|config| config.escrow_id() == escrow).ok_or_else(|| {
        let message = format!("no configured chain has the escrow {} on chain {}", escrow.address, escrow.chain);
        let next = format!("add that chain to {} in a [[chain]] section", context.dir.config().display());
        ApiError::new(ErrorKind::Chain, message, next)
    })?;
    let chain = Chain::connect(config).await.map_err(chain_error)?;
    chains.push(chain.clone());
    Ok(chain)
}

/// What the chain says of a receipt's rental, in the blocks that the receipt names.
async fn gather(chain: &Chain, receipt: &Receipt) -> Result<OnChain, SettlementError> {
    let (id, opened, closed) = (receipt.id, receipt.opened.block, receipt.closed.block);
    let opened = match chain.opening_in(id, opened).await? {
        Some(opening) => chain.block_at(opened).await?.map(|head| (opening, head)),
        None => None,
    };
    let closed = match chain.closing_in(id, closed).await? {
        Some(closing) => chain.block_at(closed).await?.map(|head| (closing, head)),
        None => None,
    };
    Ok(OnChain { id: chain.id_of(&receipt.quote.quote).await?, opened, closed })
}

fn text(output: &Output, proofs: &[Proof]) -> String {
    if proofs.is_empty() {
        return "no receipts yet: they come when a rental is closed".to_owned();
    }
    let section = |proof: &Proof| {
        format!("receipt {} ({})\n{}", proof.id, role_name(proof.role), checks_text(output, &proof.checks))
    };
    proofs.iter().map(section).collect::<Vec<_>>().join("\n\n")
}

/// Everything that was looked at, a row each, and the verdict.
pub(super) fn checks_text(output: &Output, checks: &[Check]) -> String {
    let columns = [("CHECK", false), ("", false), ("FOUND", false), ("EXPECTED", false)];
    let row = |check: &Check| {
        let mark = if check.holds { "✓" } else { "✗" };
        vec![check.check.to_owned(), mark.to_owned(), check.found.clone(), check.expected.clone()]
    };
    let failed = checks.iter().filter(|check| !check.holds).count();
    let verdict = match failed {
        0 => format!("✓ all {} checks hold", checks.len()),
        _ => format!("✗ {failed} of {} checks do not hold", checks.len()),
    };
    format!("{}\n{verdict}", output.table(&columns, checks.iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::plain;

    #[test]
    fn a_saved_receipt_is_read_back_alone_or_in_a_list() {
        let receipt = crate::receipt::tests::receipt();
        let one = serde_json::to_string(&receipt).unwrap();
        assert_eq!(read(&one).unwrap(), std::slice::from_ref(&receipt));
        assert_eq!(read(&format!("[{one},{one}]")).unwrap(), [receipt.clone(), receipt]);
        assert!(read("[]").unwrap().is_empty());
        let error = read(&one.replace("\"paid\"", "\"pd\"")).unwrap_err();
        assert!(error.to_string().contains("paid"), "{error}");
    }

    #[test]
    fn a_proof_shows_each_check_and_its_verdict() {
        let receipt = crate::receipt::tests::receipt();
        let checks = verify::own(&receipt);
        let proof = Proof { id: receipt.id, role: receipt.role, holds: false, checks };
        let text = text(&plain(), &[proof]);
        assert!(text.starts_with(&format!("receipt {} (renter)\nCHECK", receipt.id)), "{text}");
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("paid+refunded").contains('✓') && line("paid+refunded").contains("0.09 tUSD"));
        assert!(line("quote.signature").contains('✗'));
        assert!(text.lines().last().unwrap().starts_with('✗'), "{text}");
    }
}
