//! `node wallet`: keys and what they hold. Making and listing keys needs no daemon; balances come from the daemon or, without one,
//! from the chains directly.

mod approvals;

use super::Context;
use crate::{
    cli,
    config::Config,
    failure::Failure,
    output::{Output, Waiting},
    secrets::{self, key_error, open_key},
};
use api::types::{ApiError, Balance, ErrorKind, WalletView};
use market::money::{Amount, Token};
use settlement::{Chain, ChainConfig, Keystore, SettlementError};

pub(super) async fn wallet(context: &Context, args: cli::Wallet) -> Result<(), ApiError> {
    match args {
        cli::Wallet::New { name } => new(context, &name).await,
        cli::Wallet::Show => {
            let wallets = keys(context, &context.config()?).await?;
            context.output.result(&wallets, |output| show(output, &wallets))
        }
        cli::Wallet::Balance => {
            let waiting = Waiting::begin("asking the chains");
            let wallets = match context.daemon().await {
                Ok(daemon) => daemon.wallets().await?,
                Err(error) if error.kind == ErrorKind::NoDaemon => Vec::new(),
                Err(error) => return Err(error),
            };
            // no daemon, or one without roles that pay
            drop(waiting);
            let wallets = if wallets.is_empty() { from_chains(context).await? } else { wallets };
            context.output.result(&wallets, |output| balances(output, &wallets))
        }
        cli::Wallet::Approvals(args) => approvals::approvals(context, args).await,
    }
}

async fn new(context: &Context, name: &str) -> Result<(), ApiError> {
    let config = context.config()?;
    context.dir.create()?;
    let store = context.dir.keystore();
    let first = Keystore::list(&store).map_err(key_error)?.is_empty();
    let passphrase = secrets::passphrase(&config.keystore, first)?;
    let waiting = Waiting::begin("making the key");
    let wallet = Keystore::create(&store, name, &passphrase).await.map_err(key_error)?;
    drop(waiting);
    let view = WalletView { name: name.to_owned(), address: wallet.address(), balances: Vec::new() };
    context.output.result(&view, |_| format!("{name}  {}", view.address))
}

/// Every key in the keystore.
async fn keys(context: &Context, config: &Config) -> Result<Vec<WalletView>, ApiError> {
    let names = Keystore::list(&context.dir.keystore()).map_err(key_error)?;
    if names.is_empty() {
        let message = format!("there are no keys in {}", context.dir.keystore().display());
        return Err(ApiError::new(ErrorKind::Failed, message, "set the node up: node init"));
    }
    let passphrase = secrets::passphrase(&config.keystore, false)?;
    let _waiting = Waiting::begin("opening the keys");
    let mut wallets = Vec::new();
    for name in names {
        let address = open_key(&context.dir, &name, &passphrase).await?.address();
        wallets.push(WalletView { name, address, balances: Vec::new() });
    }
    Ok(wallets)
}

fn configured_chains(context: &Context, config: &Config) -> Result<Vec<ChainConfig>, ApiError> {
    let chains = config.chains()?;
    if chains.is_empty() {
        let next = format!("add a [[chain]] section to {}", context.dir.config().display());
        return Err(ApiError::new(ErrorKind::Chain, "no chain is configured", next));
    }
    Ok(chains)
}

async fn from_chains(context: &Context) -> Result<Vec<WalletView>, ApiError> {
    let config = context.config()?;
    let chains = configured_chains(context, &config)?;
    let mut wallets = keys(context, &config).await?;
    let _waiting = Waiting::begin("asking the chains");
    for chain in chains {
        let chain = Chain::connect(chain).await.map_err(chain_error)?;
        weigh(&chain, &mut wallets).await.map_err(chain_error)?;
    }
    Ok(wallets)
}

/// A fault of a chain, with advice.
pub(crate) fn chain_error(error: SettlementError) -> ApiError {
    let next = match &error {
        SettlementError::WrongChain { .. } | SettlementError::WrongCode { .. } | SettlementError::NoEndpoint { .. } => {
            "nothing was sent; correct the [[chain]] section of the configuration"
        }
        SettlementError::Disagreement { .. } | SettlementError::OneEndpoint { .. } => {
            "`node doctor` shows each endpoint; name three of different operators in `rpc`"
        }
        SettlementError::AccountInUse { .. } => "end the other program, or give this node a wallet of its own",
        SettlementError::AccountLock { .. } => "set XDG_RUNTIME_DIR to a folder that is yours alone",
        _ => "check the [[chain]] sections of the configuration, and that the endpoint is up",
    };
    ErrorKind::Chain.because(&error, next)
}

/// Adds what the wallets hold on one chain: its coin and the configured tokens.
pub(crate) async fn weigh(chain: &Chain, wallets: &mut [WalletView]) -> Result<(), SettlementError> {
    let coin = chain.token(alloy_primitives::Address::ZERO);
    let tokens = chain.config().tokens.iter().filter(|token| !token.address.is_zero()).cloned();
    let tokens: Vec<Token> = std::iter::once(coin).chain(tokens).collect();
    for wallet in wallets {
        for token in &tokens {
            let held = chain.balance(token.address, wallet.address).await?;
            // more than an escrow can hold is shown as the most it can
            let amount = u128::try_from(held).ok().and_then(Amount::new).unwrap_or(Amount::MAX);
            let (chain, shown) = (chain.config().name.clone(), token.show(amount));
            wallet.balances.push(Balance { chain, token: token.clone(), amount, shown });
        }
    }
    Ok(())
}

fn show(output: &Output, wallets: &[WalletView]) -> String {
    let rows = wallets.iter().map(|wallet| vec![wallet.name.clone(), wallet.address.to_string()]).collect();
    output.table(&[("NAME", false), ("ADDRESS", false)], rows)
}

fn balances(output: &Output, wallets: &[WalletView]) -> String {
    let rows = wallets.iter().flat_map(|wallet| {
        wallet.balances.iter().map(|balance| {
            vec![wallet.name.clone(), wallet.address.to_string(), balance.chain.clone(), balance.shown.clone()]
        })
    });
    output.table(&[("NAME", false), ("ADDRESS", false), ("CHAIN", false), ("BALANCE", true)], rows.collect())
}
