//! One node of a devnet, driven through its own command line as a person would.

use crate::{
    port::Port,
    warden::{Order, Start},
};
use alloy::primitives::Address;
use anyhow::{Context, Result, bail};
use api::types::Role;
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, ffi::OsStr, path::PathBuf, process::Stdio, time::Duration};
use tokio::process::Command;

/// How long a command may take: longer than the longest run that a test or the demonstration asks for.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);

/// A node of a running devnet.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is called in the devnet, such as `renter-1`.
    pub name: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// Its libp2p peer id.
    pub peer: String,
    /// The account that pays or is paid: its wallet's, or a smart account of that.
    pub wallet: Address,
    /// The account that sends transactions.
    pub sender: Address,
    /// Where a provider's earnings go instead of its wallet, if anywhere.
    pub payout: Option<Address>,
    /// The provider's hot key.
    pub provider_key: Address,
    /// Its data directory.
    pub data_dir: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) port: Port,
    pub(crate) out: PathBuf,
    pub(crate) log: PathBuf,
}

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code as a shell reports it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Reads what a command with `--json` printed; an error with its own words if it failed.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if self.code != 0 {
            bail!("ended with {}: {}", self.code, self.stderr.trim());
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("reading {}", self.stdout))
    }
}

impl Node {
    /// Where its earnings go.
    pub fn payee(&self) -> Address {
        self.payout.unwrap_or(self.wallet)
    }

    /// A command line that speaks to this node: `node --data-dir …` and `args`. It dies with the value, and what it writes to its working
    /// directory stays in the devnet's.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(&self.data_dir).args(args).stdin(Stdio::null()).kill_on_drop(true);
        for name in own_variables() {
            command.env_remove(name);
        }
        if self.data_dir.is_dir() {
            command.current_dir(&self.data_dir);
        }
        command
    }

    /// Runs a command of this node to its end, whatever that is.
    pub async fn call(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Finished> {
        let mut command = self.command(args);
        let output = tokio::time::timeout(COMMAND_LIMIT, command.output())
            .await
            .with_context(|| format!("{:?} took longer than {COMMAND_LIMIT:?}", command.as_std()))??;
        Ok(Finished {
            code: shell_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command with `--json` and reads what it prints. A command that fails is an error with its own words.
    pub async fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let done = self.call([&["--json"], args].concat()).await?;
        done.json().with_context(|| format!("{}: node --json {}", self.name, args.join(" ")))
    }

    /// Where it can be reached by other nodes.
    pub fn address(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", self.port.number(), self.peer)
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How its daemon is started.
    pub(crate) fn start(&self) -> Start {
        let data_dir = self.data_dir.to_string_lossy().into_owned();
        let program = self.program.to_string_lossy().into_owned();
        Start {
            name: self.name.clone(),
            program: self.program.clone(),
            args: vec!["--role".into(), self.role_list(), "--data-dir".into(), data_dir.clone()],
            env: BTreeMap::new(),
            out: self.out.clone(),
            log: self.log.clone(),
            order: self.order(),
            control: vec![program, "--data-dir".into(), data_dir],
        }
    }

    /// Where it serves its metrics, as it said when it was last ready.
    pub fn metrics(&self) -> Option<String> {
        self.serves("metrics=http://", "/metrics")
    }

    /// Where it answers searches over HTTP, as it said when it was last ready.
    pub fn searches(&self) -> Option<String> {
        self.serves("searches=http://", "/v1/search")
    }

    fn serves(&self, word: &str, path: &str) -> Option<String> {
        let said = std::fs::read_to_string(&self.out).ok()?;
        let ready = said.lines().rfind(|line| line.starts_with("ready"))?;
        let page = ready.split(' ').find_map(|found| found.strip_prefix(word))?;
        page.strip_suffix(path).map(str::to_owned)
    }

    pub(crate) fn is_ready(&self) -> bool {
        std::fs::read_to_string(&self.out).is_ok_and(|text| text.lines().any(|line| line.starts_with("ready")))
    }

    pub(crate) fn order(&self) -> Order {
        match &self.roles {
            roles if roles.contains(&Role::Provider) => Order::Provider,
            roles if roles.contains(&Role::Renter) => Order::Renter,
            _ => Order::Indexer,
        }
    }

    pub(crate) fn role_list(&self) -> String {
        self.roles.iter().map(|role| role_name(*role)).collect::<Vec<_>>().join(",")
    }
}

/// A role as the command line names it.
pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Provider => "provider",
        Role::Renter => "renter",
        Role::Indexer => "indexer",
    }
}

/// The exit code of a process as a shell reports it: 128 and the signal's number when one killed it.
pub(crate) fn shell_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Variables that would override the configuration of every node; the caller's are meant for the caller's own node.
pub(crate) fn own_variables() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("GPULEASE_"))
}
