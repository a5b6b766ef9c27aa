//! One development chain, and as many endpoints in front of it as a test wants to break.

use alloy::{
    primitives::{Address, B256, Bytes, U256, b256},
    providers::{Provider, RootProvider},
    transports::http::reqwest::Url,
};
use anyhow::{Context, Result};
use market::{
    id::DeviceId,
    money::{Amount, Rate},
    quote::{Quote, SignedQuote},
};
use serde_json::{Value, json};
use settlement::{
    Call, Chain, ChainConfig, EscrowAccount, Purpose, TABLES, TransactionRecord, TransactionSender, Wallet, deploy,
};
use std::{
    env, fs,
    future::Future,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use store::Store;
use tempfile::TempDir;
use tests::rpc_proxy::RpcProxy;
use tokio_util::sync::CancellationToken;

/// The first key of every development chain: public, and rich there alone.
const RICH: B256 = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
const CHAIN: u64 = 31_337;
/// What the sender owns at first.
const SOME_COIN: u128 = 1_000_000_000_000_000_000;
/// Where payments go.
pub(super) const PAYEE: Address = Address::repeat_byte(0xee);

/// A running anvil; dropped, it ends.
struct Anvil {
    process: Child,
    url: Url,
}

impl Anvil {
    fn start() -> Result<Self> {
        let mut process = Command::new(anvil_program())
            .args(["--port", "0", "--chain-id", &CHAIN.to_string()])
            .stdout(Stdio::piped())
            // a group of its own, so that a wrapper and what it started end together
            .process_group(0)
            .spawn()
            .context("anvil: run `npm ci` in contracts/, or name the program in GPULEASE_ANVIL")?;
        let mut lines = BufReader::new(process.stdout.take().context("anvil's output")?).lines();
        let listening = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with("Listening on "));
        let address = listening.context("anvil ended at once")?.replace("Listening on ", "http://");
        // its pipe must not fill up
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, url: address.parse()? })
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

fn anvil_program() -> PathBuf {
    if let Some(path) = env::var_os("GPULEASE_ANVIL") {
        return path.into();
    }
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/node_modules/@foundry-rs");
    let packages = fs::read_dir(packages).into_iter().flatten().flatten();
    packages.map(|entry| entry.path().join("bin/anvil")).find(|path| path.is_file()).unwrap_or_else(|| "anvil".into())
}

pub(super) struct World {
    anvil: Anvil,
    dir: TempDir,
    /// Each stands in front of the same chain.
    pub(super) proxies: Vec<RpcProxy>,
    pub(super) config: ChainConfig,
    pub(super) wallet: Wallet,
    provider_key: Wallet,
    /// The chain itself, past all proxies.
    pub(super) direct: RootProvider,
    pub(super) cancel: CancellationToken,
}

impl World {
    pub(super) async fn new(endpoints: usize) -> Result<Self> {
        let anvil = Anvil::start()?;
        let (rich, wallet) = (Wallet::from_key(&RICH)?, Wallet::random());
        let escrow = deploy::deploy_escrow(&anvil.url, &rich).await?;
        deploy::send_coin(&anvil.url, &rich, wallet.address(), U256::from(SOME_COIN)).await?;
        let mut proxies = Vec::new();
        for _ in 0..endpoints {
            proxies.push(RpcProxy::start(anvil.url.as_str()).await?);
        }
        let rpc: Vec<&str> = proxies.iter().map(RpcProxy::url).collect();
        let config = json!({
            "name": "devnet", "chain_id": CHAIN, "rpc": rpc, "escrow": escrow, "confirmations": 1, "block_time_ms": 200,
            "devnet": true,
        });
        Ok(Self {
            proxies,
            config: serde_json::from_value(config)?,
            wallet,
            provider_key: Wallet::random(),
            direct: direct(&anvil.url)?,
            dir: tempfile::tempdir()?,
            anvil,
            cancel: CancellationToken::new(),
        })
    }

    pub(super) async fn chain(&self) -> Result<Chain> {
        Ok(Chain::connect(self.config.clone()).await?)
    }

    /// A view of the chain past all proxies.
    pub(super) async fn honest_chain(&self) -> Result<Chain> {
        Ok(Chain::connect(ChainConfig { rpc: vec![self.anvil.url.clone()], ..self.config.clone() }).await?)
    }

    /// The sender of the wallet, with the database of that name.
    pub(super) async fn sender(&self, chain: &Chain, database: &str) -> Result<TransactionSender> {
        // the one before is closed, and gives the account up, in its tasks' own time
        eventually("the database and the account are free", async || {
            let store = Store::open(self.dir.path().join(database), &TABLES).ok()?;
            TransactionSender::start(chain.clone(), self.wallet.clone(), store, &self.cancel).await.ok()
        })
        .await
    }

    /// Waits until the sender of a database has ended.
    pub(super) async fn closed(&self, database: &str) -> Result<()> {
        let open = || Store::open(self.dir.path().join(database), &TABLES).ok();
        eventually("the database is free", async || open().map(drop)).await
    }

    /// The same, and its chain, through the proxies.
    pub(super) async fn connected(&self) -> Result<TransactionSender> {
        self.sender(&self.chain().await?, "sender").await
    }

    pub(super) async fn account(&self) -> Result<EscrowAccount> {
        Ok(EscrowAccount::new(self.connected().await?))
    }

    /// A quote in coin, from the wallet to nobody in particular.
    pub(super) async fn quote(&self, chain: &Chain) -> Result<SignedQuote> {
        let now = u32::try_from(chain.head().await?.timestamp)?;
        let quote = Quote {
            provider: PAYEE,
            provider_key: self.provider_key.address(),
            renter: self.wallet.address(),
            renter_key: Wallet::random().address(),
            token: Address::ZERO,
            rate: Rate::new(amount(1_000_000_000)),
            min_deposit: amount(1_000),
            max_seconds: 600,
            window: 900,
            expiry: now + 1_000,
            arbiter: Address::ZERO,
            device: DeviceId(B256::repeat_byte(7)),
            spec: B256::from(rand::random::<[u8; 32]>()),
        };
        let escrow = chain.escrow();
        let signature = self.provider_key.sign_digest(&quote.id(&escrow).0)?;
        Ok(SignedQuote { escrow, quote, signature })
    }

    /// A call of the development chain's own interface, past all proxies.
    pub(super) async fn control(&self, method: &'static str, parameters: Value) -> Result<Value> {
        self.direct.raw_request(method.into(), parameters).await.context(method)
    }

    pub(super) async fn mine(&self, blocks: u64) -> Result<()> {
        self.control("anvil_mine", json!([format!("{blocks:#x}")])).await.map(drop)
    }

    /// From now on blocks are made by [`Self::mine`] only, or by each transaction again.
    pub(super) async fn automine(&self, on: bool) -> Result<()> {
        self.control("evm_setAutomine", json!([on])).await.map(drop)
    }

    /// How many transactions of the wallet the chain has.
    pub(super) async fn mined(&self) -> Result<u64> {
        Ok(self.direct.get_transaction_count(self.wallet.address()).await?)
    }

    /// What was paid to [`PAYEE`] so far.
    pub(super) async fn paid(&self) -> Result<U256> {
        Ok(self.direct.get_balance(PAYEE).await?)
    }

    pub(super) async fn block_number(&self) -> Result<u64> {
        Ok(self.direct.get_block_number().await?)
    }
}

fn direct(url: &Url) -> Result<RootProvider> {
    let client = alloy::transports::http::reqwest::Client::builder().no_proxy().build()?;
    Ok(RootProvider::new(alloy::rpc::client::RpcClient::new_http_with_client(client, url.clone())))
}

pub(super) fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap_or(Amount::MAX)
}

/// A payment of one unit of coin.
pub(super) fn payment(label: &str) -> Call {
    Call { purpose: purpose(label), to: PAYEE, value: U256::from(1), data: Bytes::new() }
}

pub(super) fn purpose(label: &str) -> Purpose {
    Purpose::Other(label.to_owned())
}

pub(super) async fn record(sender: &TransactionSender, label: &str) -> Result<TransactionRecord> {
    sender.record(&purpose(label)).await?.with_context(|| format!("nothing was sent for {label}"))
}

/// Waits until `condition` gives something.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> Result<T> {
    let limit = Duration::from_secs(40);
    let waiting = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.with_context(|| format!("waited {limit:?} in vain until {what}"))
}
