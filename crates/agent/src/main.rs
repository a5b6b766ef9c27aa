//! The first process of every sandbox: it starts the renter's job, keeps its output, reaps what is left over and answers the node over
//! a Unix socket whose listening end it inherits. It is static, has no runtime, and lives on when the node is restarted. Started beside the
//! job as `agent listen ADDRESS`, it is a program of the renter's: see [`listen`].

mod children;
mod connection;
mod desk;
mod dial;
mod file_server;
mod files;
mod handover;
mod hang_up;
mod input;
mod job;
mod link;
mod listen;
mod log;
mod memory;
mod pack;
mod places;
mod pool;
mod relay;
mod ring;
mod session;
mod sessions;
mod setup;
mod terminal;
mod user;

use std::io::ErrorKind;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::descriptors::Descriptors;
use agent::manifest::Manifest;
use agent::protocol::{Failure, FailureKind, Frame};
use rustix::net::sockopt::set_socket_send_buffer_size;

/// Connections served at once, each by one thread unless it is attached to a session: a web page that opens two hundred through a forwarded
/// port, and some besides. Fewer where the sandbox is allowed few open files, since the agent lives under the same limit.
const MAX_CONNECTIONS: usize = 240;

/// Bytes on their way to the node on one connection, of which the kernel allows twice as many. They count as the agent's memory: one frame
/// is enough.
const SEND_BUFFER: usize = 64 * 1024;

/// Stack of one thread: frames live on the heap, so little is needed, and the agent's memory is bounded.
const STACK: usize = 256 * 1024;

/// Pause after a failed `accept`, so that running out of descriptors is no busy loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What the connections share.
struct Agent {
    children: Arc<children::Children>,
    job: Arc<job::Job>,
    sessions: sessions::Sessions,
    file_servers: file_server::FileServers,
    manifest: Manifest,
    descriptors: Arc<Descriptors>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let served = match words[..] {
        [file_server::ARGUMENT] => return file_server::run(),
        ["listen", address] => return listen::serve(address),
        _ => serve(arguments),
    };
    match served {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: Vec<String>) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let options = setup::Options::parse(arguments.into_iter())?;
    setup::protect()?;
    let inherited = options.take()?;
    let children = Arc::new(children::Children::new(inherited.job_groups, inherited.oom_counter));
    let job = Arc::new(job::Job::new(children.clone(), options.log_ring));
    let hang_ups = Arc::new(hang_up::HangUps::default());
    let descriptors = Arc::new(Descriptors::of_this_process());
    let sessions = sessions::Sessions::new(children.clone(), hang_ups.clone(), &descriptors)?;
    let (file_servers, manifest) = (file_server::FileServers::default(), Manifest::default());
    let agent = Arc::new(Agent { children: children.clone(), job, sessions, file_servers, manifest, descriptors });
    let serving = agent.clone();
    let memory = inherited.memory;
    memory.refresh();
    thread("memory", move || memory.keep_current())?;
    thread("reaper", move || children.reap())?;
    thread("hang-up", move || hang_ups.serve())?;
    thread("sessions", move || serving.sessions.serve())?;
    accept(&inherited.listener, &agent)
}

fn accept(listener: &UnixListener, agent: &Arc<Agent>) -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let places = places::Places::new(MAX_CONNECTIONS, 1, 0, &agent.descriptors);
    loop {
        let mut socket = match listener.accept() {
            Ok((socket, _)) => socket,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                eprintln!("agent: accept: {error}");
                std::thread::sleep(ACCEPT_RETRY);
                continue;
            }
        };
        let Some(place) = places.take() else {
            let message = format!("the agent serves {} connections; close one and try again", places.taken());
            let _ = Frame::Failure(Failure { kind: FailureKind::Busy, message }).write(&mut socket);
            continue;
        };
        if let Err(error) = set_socket_send_buffer_size(&socket, SEND_BUFFER) {
            eprintln!("agent: the buffer of a connection: {error}");
        }
        let agent = agent.clone();
        if let Err(error) = thread("connection", move || connection::serve(&agent, socket, place)) {
            eprintln!("agent: no thread for a connection: {error}");
        }
    }
}

/// Starts a thread with a small stack.
fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(body)
}

/// Takes a lock. A thread that panics ends the program (`panic = "abort"`), so a poisoned lock is never seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
