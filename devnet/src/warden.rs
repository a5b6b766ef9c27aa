//! The warden: one small process that is the parent of every program of a devnet and outlives whoever started the devnet, for as long
//! as cleaning up takes.
//!
//! It reads orders on its standard input, one JSON object a line, and answers each with one. When its input ends, because it was told
//! so or because the devnet's process died in whatever way, it stops everything: rentals first, then the programs in their order,
//! then whatever they left behind, which it inherits as their subreaper. It runs one thread, so that "signal me when my parent dies"
//! (which Linux ties to threads) covers the one case left: the warden itself being killed.

use crate::node::own_variables;
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// How long the rentals of one provider may take to end and to be settled before it is stopped all the same: several blocks.
const RENTALS_END: Duration = Duration::from_secs(15);
/// How long one program may take to leave after SIGTERM before it is killed: longer than a node gives itself.
const PROGRAM_ENDS: Duration = Duration::from_secs(25);
/// How long killed processes may take to vanish.
const REMAINS_END: Duration = Duration::from_secs(5);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);
/// How long the whole clean-up may take as seen by the one who waits for it: the sum of the above for a large devnet.
const CLEAN_UP: Duration = Duration::from_secs(120);

/// When a program is stopped, relative to others: renters settle while their providers and the chain still run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Order {
    /// Stopped first, after its rentals were ended.
    Provider,
    /// Stopped second.
    Renter,
    /// Stopped third.
    Indexer,
    /// Stopped last.
    Chain,
}

/// A program to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// What it is called in messages.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment variables besides the inherited ones.
    pub env: BTreeMap<String, String>,
    /// Where standard output goes; emptied first.
    pub out: PathBuf,
    /// Where standard error goes; appended to, so that a restart keeps the story.
    pub log: PathBuf,
    /// When it is stopped.
    pub order: Order,
    /// For a node: the start of a command line that speaks to it (`node --data-dir …`), by which its rentals are ended.
    pub control: Vec<String>,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Start(Box<Start>),
    Signal { pid: i32, signal: i32 },
    Status { pid: i32 },
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Started {
        pid: i32,
    },
    Running,
    /// The exit code as a shell would report it.
    Ended {
        code: i32,
    },
    Failed {
        why: String,
    },
}

/// The devnet's end of the pipe to its warden.
#[derive(Debug)]
pub struct Warden {
    child: Child,
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Warden {
    /// Starts a warden from `program`, which must be the `devnet` executable. What it has to say goes to `log`.
    pub fn start(program: &std::path::Path, log: &std::path::Path) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {}", log.display()))?;
        let mut child = Command::new(program)
            .arg("warden")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0) // a Ctrl-C in the terminal is for the devnet, which then stops things in order
            .spawn()
            .with_context(|| format!("starting {} warden", program.display()))?;
        let orders = child.stdin.take();
        let replies = BufReader::new(child.stdout.take().context("the warden has no output")?);
        Ok(Self { child, orders, replies })
    }

    /// Starts a program and returns its process id.
    pub fn spawn(&mut self, start: Start) -> Result<i32> {
        let name = start.name.clone();
        match self.ask(&Request::Start(Box::new(start)))? {
            Reply::Started { pid } => Ok(pid),
            Reply::Failed { why } => bail!("{name} cannot be started: {why}"),
            _ => bail!("the warden answered something else than was asked"),
        }
    }

    /// Sends a signal to a program that was started here.
    pub fn signal(&mut self, pid: i32, signal: Signal) -> Result<()> {
        match self.ask(&Request::Signal { pid, signal: signal.as_raw() })? {
            Reply::Running => Ok(()),
            Reply::Failed { why } => bail!("signalling {pid}: {why}"),
            _ => bail!("process {pid} has ended"),
        }
    }

    /// The exit code of a program that was started here, as a shell would report it; `None` while it runs.
    pub fn exit_code(&mut self, pid: i32) -> Result<Option<i32>> {
        match self.ask(&Request::Status { pid })? {
            Reply::Running => Ok(None),
            Reply::Ended { code } => Ok(Some(code)),
            Reply::Failed { why } => bail!("asking for {pid}: {why}"),
            Reply::Started { .. } => bail!("the warden answered something else than was asked"),
        }
    }

    /// The processes that are its children: the programs it started, and what they left behind when they died.
    pub fn children(&self) -> Vec<i32> {
        children_of(self.child.id()).collect()
    }

    /// Has everything stopped and waits until it is. Called by `drop` too; twice does no harm.
    pub fn stop(&mut self) -> Result<()> {
        drop(self.orders.take());
        let until = Instant::now() + CLEAN_UP;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the warden ended with {status}"),
                None if Instant::now() > until => bail!("the clean-up takes longer than {CLEAN_UP:?}"),
                None => std::thread::sleep(POLL),
            }
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply> {
        let orders = self.orders.as_mut().context("the devnet was stopped")?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        orders.write_all(line.as_bytes()).context("the warden is gone")?;
        let mut answer = String::new();
        if self.replies.read_line(&mut answer)? == 0 {
            bail!("the warden is gone");
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Warden {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("devnet: {error:#}");
        }
    }
}

/// The warden's own life: orders from standard input until it ends, then the clean-up. Never call it in a process with threads.
pub fn run() -> Result<()> {
    // Whatever the nodes leave behind becomes our child, and the last sweep finds it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("becoming the subreaper")?;
    let mut wards = Wards::default();
    let mut answers = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        // A read error is the end of the input as much as its end is.
        let Ok(line) = line else { break };
        let reply = match serde_json::from_str(&line) {
            Ok(Request::Start(start)) => wards.start(*start),
            Ok(Request::Signal { pid, signal }) => wards.signal(pid, signal),
            Ok(Request::Status { pid }) => Ok(wards.status(pid)),
            Err(error) => Err(anyhow!("an order that cannot be read: {error}")),
        };
        let reply = reply.unwrap_or_else(|error| Reply::Failed { why: format!("{error:#}") });
        if writeln!(answers, "{}", serde_json::to_string(&reply)?).is_err() {
            break;
        }
    }
    wards.stop_all();
    Ok(())
}

#[derive(Default)]
struct Wards {
    running: BTreeMap<i32, Start>,
    /// Exit codes. One small entry for each program ever started here.
    ended: BTreeMap<i32, i32>,
}

impl Wards {
    fn start(&mut self, start: Start) -> Result<Reply> {
        let out = OpenOptions::new().create(true).write(true).truncate(true).open(&start.out)?;
        let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
        let mut command = Command::new(&start.program);
        command.args(&start.args).envs(&start.env).stdin(Stdio::null()).stdout(out).stderr(log).process_group(0);
        for name in own_variables() {
            command.env_remove(name);
        }
        // SAFETY: the closure makes one system call and allocates nothing, as is required between fork and exec.
        unsafe { command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?)) };
        let child = command.spawn().with_context(|| format!("{}", start.program.display()))?;
        let pid = i32::try_from(child.id())?;
        self.running.insert(pid, start);
        Ok(Reply::Started { pid })
    }

    fn signal(&mut self, pid: i32, signal: i32) -> Result<Reply> {
        let status = self.status(pid);
        if let (Reply::Running, Some(process)) = (&status, Pid::from_raw(pid)) {
            let signal = Signal::from_named_raw(signal).context("no such signal")?;
            // The program alone: what it runs for others has to survive it, which is what a test with SIGKILL wants to see.
            kill_process(process, signal)?;
        }
        Ok(status)
    }

    fn status(&mut self, pid: i32) -> Reply {
        self.reap();
        match self.ended.get(&pid) {
            Some(&code) => Reply::Ended { code },
            None if self.running.contains_key(&pid) => Reply::Running,
            None => Reply::Failed { why: format!("process {pid} is not mine") },
        }
    }

    /// Takes note of every child that has ended; inherited ones are only laid to rest.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if self.running.remove(&pid).is_some() {
                let code =
                    status.exit_status().or_else(|| Some(128 + status.terminating_signal()?)).unwrap_or_default();
                self.ended.insert(pid, code);
            }
        }
    }

    fn stop_all(&mut self) {
        for order in [Order::Provider, Order::Renter, Order::Indexer, Order::Chain] {
            self.reap();
            let pids: Vec<i32> =
                self.running.iter().filter(|(_, start)| start.order == order).map(|(pid, _)| *pid).collect();
            if order == Order::Provider {
                end_rentals(&pids.iter().filter_map(|pid| self.running.get(pid)).collect::<Vec<_>>());
            }
            for pid in &pids {
                let _ = self.signal(*pid, Signal::TERM.as_raw());
                // A test may have stopped it.
                let _ = self.signal(*pid, Signal::CONT.as_raw());
            }
            let until = Instant::now() + PROGRAM_ENDS;
            while Instant::now() < until && pids.iter().any(|pid| matches!(self.status(*pid), Reply::Running)) {
                std::thread::sleep(POLL);
            }
            for (pid, start) in self.running.iter().filter(|(pid, _)| pids.contains(pid)) {
                eprintln!("warden: {} did not leave within {PROGRAM_ENDS:?} and is killed", start.name);
                if let Some(pid) = Pid::from_raw(*pid) {
                    let _ = kill_process_group(pid, Signal::KILL);
                }
            }
        }
        kill_remains();
    }
}

/// Ends the rentals of all `providers` and waits until they are settled, within a bound.
fn end_rentals(providers: &[&Start]) {
    let until = Instant::now() + RENTALS_END;
    let mut asked = std::collections::BTreeSet::new();
    loop {
        let mut left = 0;
        for provider in providers {
            let ids = open_rentals(provider);
            left += ids.len();
            for id in ids {
                if asked.insert((provider.name.clone(), id.clone())) {
                    let _ = control(provider, &["stop", &id]);
                }
            }
        }
        if left == 0 || Instant::now() > until {
            return;
        }
        std::thread::sleep(POLL * 10);
    }
}

fn open_rentals(provider: &Start) -> Vec<String> {
    let rows = control(provider, &["--json", "ps"])
        .and_then(|out| Ok(serde_json::from_slice::<Vec<serde_json::Value>>(&out)?));
    let ids = |rows: Vec<serde_json::Value>| {
        rows.iter().filter_map(|row| Some(row.get("id")?.as_str()?.to_owned())).collect()
    };
    rows.map(ids).unwrap_or_default()
}

fn control(node: &Start, args: &[&str]) -> Result<Vec<u8>> {
    let (program, first) = node.control.split_first().context("not a node")?;
    let args = first.iter().map(OsString::from).chain(args.iter().map(OsString::from));
    let mut child =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let until = Instant::now() + RENTALS_END;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
        }
        std::thread::sleep(POLL);
    }
    // The answer to `ps` is far below the 64 KiB a pipe holds, so that waiting first cannot block the command.
    let output = child.wait_with_output()?;
    if output.status.success() { Ok(output.stdout) } else { bail!("{}", output.status) }
}

/// Kills and reaps every child that is left: helpers and sandboxes whose parents are gone. Ends when there is none.
fn kill_remains() {
    let until = Instant::now() + REMAINS_END;
    loop {
        for child in children() {
            let _ = kill_process(child, Signal::KILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return, // no child is left
            }
        }
        if Instant::now() > until {
            eprintln!("warden: processes are left: {:?}", children());
            return;
        }
        std::thread::sleep(POLL);
    }
}

fn children() -> Vec<Pid> {
    children_of(std::process::id()).filter_map(Pid::from_raw).collect()
}

/// The children of a process with one thread.
fn children_of(pid: u32) -> impl Iterator<Item = i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>().into_iter()
}
