//! A development chain with the escrow, a dollar, and a provider and a renter who own some of it.

use crate::{Chain, ChainConfig, EscrowAccount, TABLES, TransactionSender, Wallet, deploy, escrow_code_hash};
use alloy::{
    primitives::{Address, B256, U256, b256},
    providers::Provider,
    transports::http::reqwest::Url,
};
use market::{
    id::DeviceId,
    money::{Amount, Rate, Token},
    quote::{Quote, SignedQuote},
    signed::{SignedRelease, SignedVoucher},
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
use tokio_util::sync::CancellationToken;

/// The first key of every development chain: public, and rich there alone.
const RICH: B256 = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
const CHAIN: u64 = 31_337;
/// One dollar in its base units.
pub(super) const DOLLAR: u128 = 1_000_000;
/// What everyone owns of the coin at first: enough for the gas of a test.
const SOME_COIN: u128 = 1_000_000_000_000_000_000;

/// A running anvil; dropped, it ends.
struct Anvil {
    process: Child,
    url: Url,
}

fn anvil_program() -> PathBuf {
    if let Some(path) = env::var_os("GPULEASE_ANVIL") {
        return path.into();
    }
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/node_modules");
    // the program itself rather than its wrapper, when npm brought one for this machine
    let platforms = fs::read_dir(modules.join("@foundry-rs")).into_iter().flatten().flatten();
    let real = platforms.map(|entry| entry.path().join("bin/anvil")).find(|path| path.is_file());
    real.or_else(|| Some(modules.join(".bin/anvil")).filter(|path| path.exists())).unwrap_or_else(|| "anvil".into())
}

impl Anvil {
    fn start() -> Self {
        let mut process = Command::new(anvil_program())
            .args(["--port", "0", "--chain-id", &CHAIN.to_string()])
            .stdout(Stdio::piped())
            // a group of its own, so that a wrapper and what it started end together
            .process_group(0)
            .spawn()
            .expect("anvil: run `npm ci` in contracts/, or name the program in GPULEASE_ANVIL");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| line.unwrap().strip_prefix("Listening on ").map(str::to_owned));
        let url = format!("http://{}", address.expect("anvil ended at once")).parse().unwrap();
        // its pipe must not fill up
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, url }
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.process.wait();
    }
}

pub(super) struct World {
    anvil: Anvil,
    dir: TempDir,
    pub(super) rich: Wallet,
    pub(super) dollar: Address,
    /// The provider's payout account, which here also sends.
    pub(super) provider: Wallet,
    /// The provider's signing key.
    pub(super) provider_key: Wallet,
    pub(super) renter: Wallet,
    /// The renter's session key.
    pub(super) renter_key: Wallet,
    pub(super) config: ChainConfig,
    pub(super) chain: Chain,
    pub(super) cancel: CancellationToken,
}

impl World {
    pub(super) async fn new() -> Self {
        let anvil = Anvil::start();
        let rich = Wallet::from_key(&RICH).unwrap();
        let escrow = deploy::deploy_escrow(&anvil.url, &rich).await.unwrap();
        let dollar = deploy::deploy_test_dollar(&anvil.url, &rich).await.unwrap();
        let (provider, renter) = (Wallet::random(), Wallet::random());
        for account in [&provider, &renter] {
            deploy::send_coin(&anvil.url, &rich, account.address(), U256::from(SOME_COIN)).await.unwrap();
        }
        deploy::mint(&anvil.url, &rich, dollar, renter.address(), U256::from(100 * DOLLAR)).await.unwrap();
        let config = ChainConfig {
            name: "devnet".into(),
            chain_id: CHAIN,
            rpc: vec![anvil.url.clone()],
            escrow,
            escrow_code_hash: escrow_code_hash(),
            tokens: vec![Token { chain: CHAIN, address: dollar, symbol: "tUSD".into(), decimals: 6 }],
            confirmations: 1,
            block_time_ms: 200,
            max_fee_gwei: 1_000,
            devnet: true,
        };
        let chain = Chain::connect(config.clone()).await.unwrap();
        let (provider_key, renter_key) = (Wallet::random(), Wallet::random());
        let (dir, cancel) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        Self { anvil, dir, rich, dollar, provider, provider_key, renter, renter_key, config, chain, cancel }
    }

    pub(super) fn url(&self) -> &Url {
        &self.anvil.url
    }

    /// The database of that name, opened anew.
    pub(super) async fn store(&self, name: &str) -> Store {
        // the one before is closed by tasks that end in their own time
        let path = self.dir.path().join(name);
        eventually("the database is free", async || Store::open(&path, &TABLES).ok()).await
    }

    /// A sender with a database of its own, named after the account.
    pub(super) async fn sender(&self, wallet: &Wallet) -> TransactionSender {
        let store = self.store(&wallet.address().to_string()).await;
        TransactionSender::start(self.chain.clone(), wallet.clone(), store, &self.cancel).await.unwrap()
    }

    pub(super) async fn account(&self, wallet: &Wallet) -> EscrowAccount {
        EscrowAccount::new(self.sender(wallet).await)
    }

    /// A quote at a cent a second for ten minutes, valid for two.
    pub(super) async fn quote(&self, token: Address) -> SignedQuote {
        let now = u32::try_from(self.chain.head().await.unwrap().timestamp).unwrap();
        self.sign(Quote {
            provider: self.provider.address(),
            provider_key: self.provider_key.address(),
            renter: self.renter.address(),
            renter_key: self.renter_key.address(),
            token,
            rate: Rate::new(amount(10_000 * 1_000_000)),
            min_deposit: amount(DOLLAR),
            max_seconds: 600,
            window: 900,
            expiry: now + 120,
            arbiter: Address::ZERO,
            device: DeviceId(B256::repeat_byte(7)),
            // two quotes of a second must differ
            spec: B256::from(rand::random::<[u8; 32]>()),
        })
    }

    pub(super) fn sign(&self, quote: Quote) -> SignedQuote {
        let escrow = self.chain.escrow();
        let signature = self.provider_key.sign_digest(&quote.id(&escrow).0).unwrap();
        SignedQuote { escrow, quote, signature }
    }

    pub(super) fn voucher(&self, quote: &SignedQuote, cumulative: u128) -> SignedVoucher {
        let (id, cumulative) = (quote.id(), amount(cumulative));
        let digest = quote.escrow.digest(&SignedVoucher::statement(id, cumulative));
        SignedVoucher { id, cumulative, signature: self.renter_key.sign_digest(&digest).unwrap() }
    }

    pub(super) fn release(&self, quote: &SignedQuote, cumulative: u128) -> SignedRelease {
        let (id, cumulative) = (quote.id(), amount(cumulative));
        let digest = quote.escrow.digest(&SignedRelease::statement(id, cumulative));
        SignedRelease { id, cumulative, signature: self.provider_key.sign_digest(&digest).unwrap() }
    }

    /// What an account has of a token.
    pub(super) async fn balance(&self, token: Address, account: Address) -> u128 {
        self.chain.balance(token, account).await.unwrap().to()
    }

    /// How many transactions an account has had mined.
    pub(super) async fn mined(&self, account: Address) -> u64 {
        self.chain.nonce(account, alloy::eips::BlockId::latest()).await.unwrap()
    }

    /// A call of the development chain's own interface.
    pub(super) async fn control(&self, method: &'static str, parameters: serde_json::Value) -> serde_json::Value {
        let ask = async |p: alloy::providers::RootProvider| p.raw_request(method.into(), parameters.clone()).await;
        self.chain.endpoints().read("the development chain's consent", ask).await.unwrap()
    }

    /// Makes a block.
    pub(super) async fn mine(&self) {
        self.control("evm_mine", serde_json::json!([])).await;
    }

    /// From now on blocks are made by [`Self::mine`] only, or by each transaction again.
    pub(super) async fn automine(&self, on: bool) {
        self.control("evm_setAutomine", serde_json::json!([on])).await;
    }

    /// Lets the chain's clock advance.
    pub(super) async fn pass(&self, seconds: u64) {
        self.control("evm_increaseTime", serde_json::json!([seconds])).await;
        self.mine().await;
    }
}

pub(super) fn amount(units: u128) -> Amount {
    Amount::new(units).unwrap()
}

/// Waits until `condition` gives something.
pub(super) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let limit = Duration::from_secs(30);
    let waiting = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("waited {limit:?} in vain until {what}"))
}
