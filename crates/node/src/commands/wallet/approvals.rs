//! `node wallet approvals`: who may take tokens from this node's wallets. Listing asks the daemon or, without one, the chains; taking back
//! needs the daemon, which owns the account's nonces.

use super::{Context, chain_error, keys};
use crate::{
    approvals::given,
    cli,
    daemon::open_store,
    failure::Failure,
    output::{Output, Waiting},
};
use api::{
    client::Client,
    types::{ApiError, Approval, ErrorKind, Revoked, Role},
};
use serde::Serialize;
use settlement::Chain;
use std::io::Write;

pub(super) async fn approvals(context: &Context, args: cli::Approvals) -> Result<(), ApiError> {
    match args.revoke {
        None => {
            let found = find(context).await?;
            context.output.result(&found, |output| listed(output, &found))
        }
        Some(which) => revoke(context, &which).await,
    }
}

async fn find(context: &Context) -> Result<Vec<Approval>, ApiError> {
    let _waiting = Waiting::begin("asking the chains");
    match context.daemon().await {
        Ok(daemon) if pays(&daemon).await? => daemon.approvals().await,
        Ok(_) => from_chains(context, None).await,
        Err(error) if error.kind == ErrorKind::NoDaemon => {
            // while this is held, no daemon starts that would want the database
            let lock = context.dir.lock()?;
            from_chains(context, Some(lock)).await
        }
        Err(error) => Err(error),
    }
}

/// Whether a daemon has wallets at all.
async fn pays(daemon: &Client) -> Result<bool, ApiError> {
    let roles = daemon.node().await?.roles;
    Ok(roles.iter().any(|role| matches!(role, Role::Provider | Role::Renter)))
}

/// Asks the chains about every key, and about the spenders that this node's record of approvals names, if nobody else has it open.
async fn from_chains(context: &Context, lock: Option<crate::datadir::Lock>) -> Result<Vec<Approval>, ApiError> {
    let config = context.config()?;
    let chains = super::configured_chains(context, &config)?;
    let store = match lock {
        Some(_) if context.dir.database().is_dir() => Some(open_store(&context.dir).await?),
        _ => None,
    };
    let mut found = Vec::new();
    let wallets = keys(context, &config).await?;
    for chain in chains {
        let chain = Chain::connect(chain).await.map_err(chain_error)?;
        for wallet in &wallets {
            let recorded = match &store {
                Some(store) => settlement::recorded_spenders(store, chain.config().chain_id, wallet.address).await,
                None => Ok(Default::default()),
            };
            let recorded = recorded.map_err(|error| ErrorKind::Failed.because(&error, ""))?;
            found.extend(given(&chain, (&wallet.name, wallet.address), &recorded).await.map_err(chain_error)?);
        }
    }
    Ok(found)
}

/// One that was taken back, as `--json` prints it.
#[derive(Serialize)]
struct Done {
    approval: Approval,
    call: String,
    revoked: Revoked,
}

async fn revoke(context: &Context, which: &str) -> Result<(), ApiError> {
    let daemon = context.daemon().await?;
    let mut approvals = daemon.approvals().await?;
    if which != "all" {
        must_be_configured(context, which)?;
        approvals.retain(|approval| is_meant(&approval.token, which));
    }
    let mut done = Vec::new();
    for (number, approval) in approvals.iter().enumerate() {
        let call = approval.revoking_call();
        if !context.output.json {
            announce(&format!("{} of {}: {}", number + 1, approvals.len(), about(approval, &call)));
        }
        let waiting = Waiting::begin("waiting for its confirmation");
        let revoked = daemon.revoke(&approval.revocation()).await?;
        drop(waiting);
        done.push(Done { approval: approval.clone(), call, revoked });
    }
    context.output.result(&done, |_| told(&done))
}

fn is_meant(token: &market::money::Token, which: &str) -> bool {
    token.symbol == which || token.address.to_string().eq_ignore_ascii_case(which)
}

/// A name that no configured token has is a slip, and not a token of which nothing is allowed.
fn must_be_configured(context: &Context, which: &str) -> Result<(), ApiError> {
    let chains = context.config()?.chains()?;
    let mut tokens = chains.iter().flat_map(|chain| &chain.tokens).filter(|token| !token.address.is_zero());
    if tokens.clone().any(|token| is_meant(token, which)) {
        return Ok(());
    }
    let known: Vec<_> = tokens.by_ref().map(|token| token.symbol.as_str()).collect();
    let next = format!("give one of: all {}", known.join(" "));
    Err(ApiError::new(ErrorKind::Usage, format!("no configured token is called {which}"), next))
}

fn about(approval: &Approval, call: &str) -> String {
    let Approval { wallet, account, chain, spender_name, shown, .. } = approval;
    format!("{call}\n  sent by {wallet} {account} on {chain}: {spender_name} may take {shown} now, and nothing then")
}

/// Says before it happens, on standard error, what is sent.
fn announce(text: &str) {
    // there may be no one to be told
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn told(done: &[Done]) -> String {
    if done.is_empty() {
        return "nothing is allowed to anybody: nothing was sent".to_owned();
    }
    let line = |done: &Done| {
        let Revoked { tx, block, cost, .. } = &done.revoked;
        let Approval { token, spender_name, .. } = &done.approval;
        format!("{spender_name} may take no {} any more: tx {tx} in block {block}, for {cost}", token.symbol)
    };
    done.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn listed(output: &Output, found: &[Approval]) -> String {
    if found.is_empty() {
        return "nothing is allowed to anybody".to_owned();
    }
    let columns = [("NAME", false), ("CHAIN", false), ("TOKEN", false), ("SPENDER", false), ("MAY TAKE", true)];
    let row = |approval: &Approval| {
        let Approval { wallet, chain, token, spender, spender_name, shown, .. } = approval;
        let spender = match *spender_name == spender.to_string() {
            true => spender_name.clone(),
            false => format!("{spender_name} {spender}"),
        };
        vec![wallet.clone(), chain.clone(), token.symbol.clone(), spender, shown.clone()]
    };
    output.table(&columns, found.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::plain;
    use alloy_primitives::{Address, B256, U256};
    use market::money::Token;

    fn approval() -> Approval {
        Approval {
            wallet: "wallet".into(),
            account: Address::repeat_byte(1),
            chain: "devnet".into(),
            token: Token { chain: 31_337, address: Address::repeat_byte(3), symbol: "tUSD".into(), decimals: 6 },
            spender: settlement::PERMIT2,
            spender_name: "Permit2".into(),
            amount: U256::MAX,
            shown: "unlimited".into(),
        }
    }

    #[test]
    fn a_list_names_each_spender_once_and_an_empty_one_says_so() {
        let other = Address::repeat_byte(7);
        let unnamed = Approval { spender: other, spender_name: other.to_string(), ..approval() };
        let text = listed(&plain(), &[approval(), unnamed]);
        assert!(text.contains(&format!("Permit2 {}", settlement::PERMIT2)) && text.contains("unlimited"), "{text}");
        assert_eq!(text.matches(&other.to_string()).count(), 1, "{text}");
        assert_eq!(listed(&plain(), &[]), "nothing is allowed to anybody");
    }

    #[test]
    fn a_revocation_is_shown_decoded_before_and_with_its_cost_after() {
        let approval = approval();
        let call = approval.revoking_call();
        let token = approval.token.address;
        assert_eq!(call, format!("approve({}, 0) on tUSD {token}", settlement::PERMIT2));
        let before = about(&approval, &call);
        assert!(before.contains(&call) && before.contains("Permit2 may take unlimited now"), "{before}");
        let revoked = Revoked { tx: B256::repeat_byte(9), block: 12, gas_used: 26_000, cost: "0.0003 ETH".into() };
        let after = told(&[Done { approval, call, revoked }]);
        assert!(after.contains("in block 12, for 0.0003 ETH") && after.contains("no tUSD any more"), "{after}");
        assert!(told(&[]).contains("nothing was sent"));
    }

    #[test]
    fn a_token_is_meant_by_its_symbol_or_its_address() {
        let token = approval().token;
        assert!(is_meant(&token, "tUSD") && is_meant(&token, &token.address.to_string().to_lowercase()));
        assert!(!is_meant(&token, "USD"));
    }
}
