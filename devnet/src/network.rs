//! Starting and stopping a devnet: directories, keys, configuration, money, processes, in that order, and `devnet.json` at the end.

use crate::{
    chain::{CHAIN_ID, Chain, TOKEN_SYMBOL},
    config,
    endpoint::{ENDPOINT, Endpoint},
    node::{Node, shell_code},
    port::Port,
    show::Steps,
    spec::{DOLLAR_DECIMALS, NodeSpec},
    warden::Warden,
};
use alloy::primitives::Address;
use anyhow::{Context, Result, bail, ensure};
use api::types::Role;
use market::money::Amount;
use rand::Rng;
pub use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a node may take from its start to its line `ready`: key stretching, a database, a first look at the chain.
const NODE_STARTS: Duration = Duration::from_secs(60);
/// How long a node may take to make its keys.
const NODE_INIT: Duration = Duration::from_secs(60);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// What a devnet is to consist of.
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<NodeSpec>,
    directory: Option<PathBuf>,
    keep: bool,
    endpoint: bool,
    plain_token: bool,
    steps: Steps,
}

impl Builder {
    /// So many more providers, named `provider-1` and so on.
    pub fn providers(self, count: usize) -> Self {
        self.several(count, NodeSpec::provider)
    }

    /// So many more indexers, named `indexer-1` and so on.
    pub fn indexers(self, count: usize) -> Self {
        self.several(count, NodeSpec::indexer)
    }

    /// So many more renters, named `renter-1` and so on.
    pub fn renters(self, count: usize) -> Self {
        self.several(count, NodeSpec::renter)
    }

    fn several(mut self, count: usize, make: impl Fn(String) -> NodeSpec) -> Self {
        for _ in 0..count {
            let role = make(String::new()).roles;
            let number = 1 + self.nodes.iter().filter(|node| node.roles == role).count();
            let name = format!("{}-{number}", role.first().map_or("node", |role| crate::node::role_name(*role)));
            self.nodes.push(make(name));
        }
        self
    }

    /// One more node.
    pub fn node(mut self, spec: NodeSpec) -> Self {
        self.nodes.push(spec);
        self
    }

    /// Puts a process in front of the chain, by the name [`ENDPOINT`]: nodes reach the chain through it, and it can be killed.
    pub fn mortal_endpoint(mut self) -> Self {
        self.endpoint = true;
        self
    }

    /// Where the devnet lives; a new folder for temporary files if not said. Keep it short: it holds Unix sockets.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Leaves the directory, with the logs, even when all went well.
    pub fn keep(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Has everybody pay in a dollar that takes no signatures: each opening needs an approval before it, and coin for the gas.
    pub fn plain_token(mut self) -> Self {
        self.plain_token = true;
        self
    }

    /// Says each step on the terminal.
    pub fn say_steps(mut self) -> Self {
        self.steps = Steps::spoken();
        self
    }

    /// Starts it all and waits until every node is ready. When something fails, what was started is stopped.
    pub async fn start(self) -> Result<Devnet> {
        let Self { nodes: specs, directory, keep, endpoint, plain_token, steps } = self;
        let id = format!("{:08x}", rand::rng().random::<u32>());
        let dir = directory.unwrap_or_else(|| std::env::temp_dir().join(format!("gpulease-{id}")));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("making {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        ensure!(!dir.join("logs").exists(), "{} holds a devnet already", dir.display());
        std::fs::create_dir(dir.join("logs"))?;
        let programs = Programs::find()?;
        // From here on whatever ends this function drops the warden, and that stops everything that was started.
        let mut warden = Warden::start(&programs.devnet, &dir.join("logs/warden.log"))?;
        let step = steps.begin("starting a chain");
        let mut chain = Chain::start(&mut warden, &programs.root, &dir.join("logs"), Port::claim()?)
            .await
            .with_context(|| format!("no chain (logs are in {})", dir.join("logs").display()))?;
        if plain_token {
            chain.use_plain_token().await?;
        }
        step.done(format!("chain {CHAIN_ID} at {}, a block every second", chain.rpc));
        steps.note(format!("escrow {}, code hash {}", chain.escrow, chain.escrow_code_hash));
        steps.note(format!("test dollar {TOKEN_SYMBOL} {}", chain.token));

        let port = if endpoint { Some(Port::claim()?) } else { None };
        if let Some(port) = &port {
            chain.nodes_rpc = format!("http://127.0.0.1:{}", port.number());
        }
        let mut devnet = Devnet {
            name: format!("devnet-{id}"),
            dir,
            keep,
            done: false,
            chain,
            nodes: Vec::new(),
            endpoint: port.map(|port| Endpoint { program: programs.devnet.clone(), port }),
            pids: Mutex::default(),
            warden: Mutex::new(warden),
        };
        if devnet.endpoint.is_some() {
            devnet.begin(ENDPOINT, None)?;
            devnet.up(ENDPOINT).await?;
        }
        devnet.start_nodes(specs, &programs, &steps).await?;
        devnet.write_summary()?;
        Ok(devnet)
    }
}

/// A running devnet. Dropping it stops everything, and leaves the directory for those who want to know what went wrong; [`Devnet::stop`]
/// tells how the stopping went and leaves nothing.
#[derive(Debug)]
pub struct Devnet {
    /// The network's name, `devnet-` and eight hex digits.
    pub name: String,
    /// Its chain.
    pub chain: Chain,
    /// Its nodes, in the order they were asked for.
    pub nodes: Vec<Node>,
    endpoint: Option<Endpoint>,
    dir: PathBuf,
    keep: bool,
    /// Nothing in the directory is of interest any more.
    done: bool,
    pids: Mutex<BTreeMap<String, i32>>,
    warden: Mutex<Warden>,
}

impl Devnet {
    /// An empty one, to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name} in this devnet"))
    }

    /// The nodes that play a role.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.roles.contains(&role))
    }

    /// Sends a signal to a node's daemon.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let pid = self.pid(name)?;
        lock(&self.warden).signal(pid, signal)
    }

    /// The exit code of a node's daemon; `None` while it runs.
    pub fn exit_code(&self, name: &str) -> Result<Option<i32>> {
        let pid = self.pid(name)?;
        lock(&self.warden).exit_code(pid)
    }

    /// Waits until a node's daemon has ended and returns its exit code.
    pub async fn ended(&self, name: &str) -> Result<i32> {
        let until = Instant::now() + NODE_STARTS;
        loop {
            if let Some(code) = self.exit_code(name)? {
                return Ok(code);
            }
            ensure!(Instant::now() < until, "{name} still runs after {NODE_STARTS:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts the daemon of a node that has ended, on the same data, and waits until it is ready. Works for the [`ENDPOINT`] too.
    pub async fn restart(&self, name: &str) -> Result<()> {
        self.ended(name).await?;
        self.begin(name, None)?;
        self.up(name).await
    }

    /// As [`Self::restart`], but it will die at a line of its own (see `store::crash_point`). Whether it came to be ready before is not told.
    pub async fn restart_to_die_at(&self, name: &str, point: &str) -> Result<()> {
        self.ended(name).await?;
        self.begin(name, Some(point))?;
        match self.up(name).await {
            Err(_) if self.exit_code(name)?.is_some() => Ok(()),
            other => other,
        }
    }

    /// The running processes of daemons that died, which belong to nobody: sandboxes that run on, and what should not be there.
    pub fn orphans(&self) -> Vec<i32> {
        let own: Vec<i32> = lock(&self.pids).values().copied().chain([self.chain.pid]).collect();
        let children = lock(&self.warden).children().into_iter();
        // one that has ended has no program any more; the warden buries it
        let runs = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        children.filter(|pid| !own.contains(pid)).filter(runs).collect()
    }

    /// Stops everything, waits until it is gone, and removes the directory unless it is to be kept.
    pub fn stop(mut self) -> Result<()> {
        lock(&self.warden).stop()?;
        self.done = true;
        Ok(())
    }

    /// The process id of a node's daemon.
    pub fn pid(&self, name: &str) -> Result<i32> {
        lock(&self.pids).get(name).copied().with_context(|| format!("{name} was not started"))
    }

    async fn start_nodes(&mut self, specs: Vec<NodeSpec>, programs: &Programs, steps: &Steps) -> Result<()> {
        let passphrase = self.dir.join("passphrase");
        write_secret(&passphrase, &format!("{:032x}\n", rand::rng().random::<u128>()))?;

        let step = steps.begin("making keys");
        for spec in &specs {
            let node = self.init(spec, programs, &passphrase).await.with_context(|| format!("making {}", spec.name))?;
            self.nodes.push(node);
        }
        step.done(format!("{} nodes with keys of their own", self.nodes.len()));

        // Everyone knows the indexers, or where there is none the first node.
        let mut known: Vec<&Node> = self.with_role(Role::Indexer).collect();
        if known.is_empty() {
            known.extend(self.nodes.first());
        }
        let bootstrap: Vec<String> = known.into_iter().map(Node::address).collect();
        for (spec, node) in specs.iter().zip(&self.nodes) {
            let others: Vec<String> = bootstrap.iter().filter(|address| **address != node.address()).cloned().collect();
            let config = config::render(spec, node, &self.name, &others, &self.chain, &passphrase);
            std::fs::write(node.data_dir.join("config.toml"), toml::to_string(&config)?)?;
        }

        let step = steps.begin("funding wallets");
        let funded = specs.iter().zip(&self.nodes).map(async |(spec, node)| {
            for account in [node.sender, node.provider_key] {
                self.chain.set_coin(account, spec.coin_units()?.get()).await?;
            }
            match spec.dollar_units()? {
                Amount::ZERO => Ok(()),
                dollars => self.chain.mint(node.wallet, dollars).await,
            }
        });
        futures::future::try_join_all(funded).await?;
        step.done("wallets have coin for gas, and renters test dollars");

        for (spec, node) in specs.iter().zip(&self.nodes) {
            let step = steps.begin(format!("starting {}", node.name));
            let begun = Instant::now();
            self.begin(&node.name, None)?;
            match self.ready(node).await {
                Ok(()) => step.done(format!(
                    "{:<11} {}  wallet {}  ({:.1} s)",
                    node.name,
                    node.peer,
                    node.wallet,
                    begun.elapsed().as_secs_f32()
                )),
                Err(_) if spec.may_fail => step.done(format!("{} did not start", node.name)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Devnet {
    async fn init(&self, spec: &NodeSpec, programs: &Programs, passphrase: &Path) -> Result<Node> {
        let mut node = Node {
            name: spec.name.clone(),
            roles: spec.roles.clone(),
            peer: String::new(),
            wallet: Address::ZERO,
            sender: Address::ZERO,
            payout: spec.payout,
            provider_key: Address::ZERO,
            data_dir: self.dir.join(&spec.name),
            program: programs.node.clone(),
            port: Port::claim()?,
            out: self.dir.join("logs").join(format!("{}.out", spec.name)),
            log: self.dir.join("logs").join(format!("{}.log", spec.name)),
        };
        let roles = node.role_list();
        let mut command =
            node.command(["--json", "--role", &roles, "init", "--network", &self.name, "--passphrase-file"]);
        let work = command.arg(passphrase).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
        let done = tokio::time::timeout(NODE_INIT, work)
            .await
            .with_context(|| format!("`node init` took longer than {NODE_INIT:?}"))??;
        if !done.status.success() {
            bail!(
                "`node init` ended with {}: {}",
                shell_code(done.status),
                String::from_utf8_lossy(&done.stderr).trim()
            );
        }
        let made: Made = serde_json::from_slice(&done.stdout).context("reading what `node --json init` printed")?;
        node.peer = made.peer;
        node.sender = made.wallet;
        node.wallet = match spec.smart_account {
            true => self.chain.smart_account(made.wallet).await?,
            false => made.wallet,
        };
        node.provider_key = made.provider_key;
        Ok(node)
    }

    /// Starts a node's daemon, or the endpoint, perhaps to die at a line.
    fn begin(&self, name: &str, point: Option<&str>) -> Result<()> {
        let mut start = match &self.endpoint {
            Some(endpoint) if name == ENDPOINT => endpoint.start(&self.chain, &self.dir.join("logs"))?,
            _ => self.node(name)?.start(),
        };
        start.env.extend(point.map(|point| (store::CRASH_AT.to_owned(), point.to_owned())));
        let pid = lock(&self.warden).spawn(start)?;
        lock(&self.pids).insert(name.to_owned(), pid);
        Ok(())
    }

    /// Waits until a node's daemon is ready, or the endpoint answers.
    async fn up(&self, name: &str) -> Result<()> {
        match &self.endpoint {
            Some(endpoint) if name == ENDPOINT => endpoint.answers().await,
            _ => self.ready(self.node(name)?).await,
        }
    }

    async fn ready(&self, node: &Node) -> Result<()> {
        let until = Instant::now() + NODE_STARTS;
        while !node.is_ready() {
            if let Some(code) = self.exit_code(&node.name)? {
                bail!("{} ended with {code} before it was ready; its log says:\n{}", node.name, tail(&node.log()));
            }
            if Instant::now() > until {
                bail!("{} is not ready after {NODE_STARTS:?}; its log says:\n{}", node.name, tail(&node.log()));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn write_summary(&self) -> Result<()> {
        let nodes: Vec<Value> = self.nodes.iter().map(|node| self.summary_of(node)).collect();
        let summary = json!({
            "network": self.name,
            "rpc": self.chain.rpc,
            "chain_id": CHAIN_ID,
            "escrow": self.chain.escrow,
            "token": { "address": self.chain.token, "symbol": TOKEN_SYMBOL, "decimals": DOLLAR_DECIMALS },
            "pid": std::process::id(),
            "nodes": nodes,
        });
        let path = self.dir.join("devnet.json");
        std::fs::write(&path, format!("{summary:#}\n")).with_context(|| format!("writing {}", path.display()))
    }

    fn summary_of(&self, node: &Node) -> Value {
        json!({
            "name": node.name,
            "roles": node.roles,
            "data_dir": node.data_dir,
            "peer": node.peer,
            "address": node.address(),
            "wallet": node.wallet,
            "pid": self.pid(&node.name).ok(),
            "metrics": node.metrics(),
        })
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if let Err(error) = lock(&self.warden).stop() {
            eprintln!("devnet: {error:#}");
        }
        if self.keep || !(self.done || crate::told_to_end()) {
            eprintln!("devnet: logs and data are left in {}", self.dir.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("devnet: removing {}: {error}", self.dir.display());
        }
    }
}

/// What `node --json init` prints, as far as it matters here.
#[derive(serde::Deserialize)]
struct Made {
    peer: String,
    wallet: Address,
    provider_key: Address,
}

/// The programs of this build and the clone they come from.
struct Programs {
    node: PathBuf,
    devnet: PathBuf,
    root: PathBuf,
}

impl Programs {
    fn find() -> Result<Self> {
        let here = std::env::current_exe()?;
        // Tests run from `deps/`, the devnet itself from beside the others.
        let folder = here
            .ancestors()
            .skip(1)
            .take(2)
            .find(|folder| folder.join("node").is_file() && folder.join("devnet").is_file());
        let folder =
            folder.with_context(|| format!("no `node` and `devnet` beside {}: run devnet/build", here.display()))?;
        // The scripts name the clone; when run by cargo it is the folder above this crate.
        let root = std::env::var_os("GPULEASE_ROOT")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from);
        Ok(Self { node: folder.join("node"), devnet: folder.join("devnet"), root })
    }
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(std::io::Write::write_all(&mut file, text.as_bytes())?)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// A holder that panicked left nothing half done that matters for stopping.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
