//! `agent listen ADDRESS`: what a renter runs beside the job so that connections made in the sandbox reach its own machine. It listens, says
//! on standard output where, and says each connection that comes with a word by which it can be had: whoever connects to the desk, a
//! port of loopback, and writes that word gets the connection's bytes. So they travel as those of any other connection into the sandbox do,
//! each at its own pace, and end with this process.
//!
//! ```text
//! listening 127.0.0.1:8080 127.0.0.1:40123      where it listens, and where the desk is
//! incoming 5c0f…e1 127.0.0.1:53122              a connection: its word, and where it comes from
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{ACCEPT_RETRY, lock, thread};

/// Connections that wait to be had; one more is closed at once.
const MAX_WAITING: usize = 64;

/// Connections carried at once, each by two threads of the job's; one more is closed at once.
const MAX_CARRIED: usize = 200;

/// How long a connection waits to be had: the renter may be on the other side of the world, and its own port slow to answer.
const TAKE_WAIT: Duration = Duration::from_secs(30);

/// How long whoever comes to the desk may take to say the word.
const WORD_WAIT: Duration = Duration::from_secs(10);

/// How often it is looked for connections that have waited too long.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Bytes of a word, before it is written in hexadecimal digits.
const WORD_BYTES: usize = 16;

/// The connections that wait, and how many are carried.
struct Desk {
    waiting: Mutex<HashMap<String, (TcpStream, Instant)>>,
    carried: AtomicUsize,
}

/// Listens until it is told to end, or says why it cannot.
pub(crate) fn serve(address: &str) -> ExitCode {
    let Ok(address) = address.parse::<SocketAddr>() else {
        eprintln!("`{address}` is no address to listen at");
        return ExitCode::FAILURE;
    };
    match listen(address) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("{address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::convert::Infallible> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let counter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    say(&format!("listening {} {}", listener.local_addr()?, counter.local_addr()?))?;
    let desk = Arc::new(Desk { waiting: Mutex::default(), carried: AtomicUsize::new(0) });
    let giving = desk.clone();
    thread("desk", move || giving.give(&counter))?;
    loop {
        if let Err(error) = poll(&mut [PollFd::new(&listener, PollFlags::IN)], Some(&LOOK))
            && error != rustix::io::Errno::INTR
        {
            return Err(error.into());
        }
        desk.forget_old(Instant::now());
        match listener.accept() {
            Ok((stream, from)) => desk.take_in(stream, from)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // a lack of open files passes
            Err(_) => std::thread::sleep(ACCEPT_RETRY),
        }
    }
}

/// Writes a line. When nobody reads it any more, nobody has a use for this.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn word() -> io::Result<String> {
    let mut bytes = [0; WORD_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Desk {
    /// Keeps a connection until somebody asks for it, and says that it is there.
    fn take_in(&self, stream: TcpStream, from: SocketAddr) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let word = word()?;
        {
            let mut waiting = lock(&self.waiting);
            if waiting.len() >= MAX_WAITING {
                return Ok(());
            }
            waiting.insert(word.clone(), (stream, Instant::now()));
        }
        say(&format!("incoming {word} {from}"))
    }

    fn forget_old(&self, now: Instant) {
        lock(&self.waiting).retain(|_, (_, since)| now.saturating_duration_since(*since) < TAKE_WAIT);
    }

    /// Hands connections over to those who know their words.
    fn give(self: Arc<Desk>, counter: &TcpListener) {
        loop {
            let Ok((asker, _)) = counter.accept() else {
                std::thread::sleep(ACCEPT_RETRY);
                continue;
            };
            if self.carried.fetch_add(1, Ordering::SeqCst) >= MAX_CARRIED {
                self.carried.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let desk = self.clone();
            let carrying = move || {
                // whoever does not know a word, or is gone before the end, has ended it
                let _ = desk.hand_over(asker);
                desk.carried.fetch_sub(1, Ordering::SeqCst);
            };
            if let Err(error) = thread("connection", carrying) {
                eprintln!("no thread for a connection: {error}");
                self.carried.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn hand_over(&self, mut asker: TcpStream) -> io::Result<()> {
        asker.set_read_timeout(Some(WORD_WAIT))?;
        let mut word = [0; 2 * WORD_BYTES];
        asker.read_exact(&mut word)?;
        asker.set_read_timeout(None)?;
        let word = String::from_utf8_lossy(&word);
        let Some((stream, _)) = lock(&self.waiting).remove(word.as_ref()) else { return Ok(()) };
        carry(asker, stream)
    }
}

/// Carries bytes both ways until both have ended. The end of one way is passed on and leaves the other open.
fn carry(asker: TcpStream, stream: TcpStream) -> io::Result<()> {
    for socket in [&asker, &stream] {
        // small answers do not wait for more
        socket.set_nodelay(true)?;
    }
    let (mut from, mut to) = (asker.try_clone()?, stream.try_clone()?);
    let inwards = thread("connection", move || one_way(&mut from, &mut to))?;
    one_way(&mut &stream, &mut &asker);
    let _ = inwards.join();
    Ok(())
}

/// Carries what one end sends to its end; an end that takes no more is not read from either.
fn one_way(from: &mut (impl Read + Socket), to: &mut (impl Write + Socket)) {
    if io::copy(from, to).is_err() {
        from.close(Shutdown::Read);
    }
    to.close(Shutdown::Write);
}

/// Something of which one way can be closed; it may be closed already.
trait Socket {
    fn close(&self, way: Shutdown);
}

impl Socket for TcpStream {
    fn close(&self, way: Shutdown) {
        let _ = self.shutdown(way);
    }
}

impl Socket for &TcpStream {
    fn close(&self, way: Shutdown) {
        let _ = self.shutdown(way);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two ends of a connection on this machine.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn desk() -> Arc<Desk> {
        Arc::new(Desk { waiting: Mutex::default(), carried: AtomicUsize::new(0) })
    }

    #[test]
    fn who_says_the_word_gets_the_connection_and_its_half_closed_ways() {
        let (mut program, inside) = pair();
        let (mut renter, asker) = pair();
        let desk = desk();
        desk.take_in(inside, program.local_addr().unwrap()).unwrap();
        let word = lock(&desk.waiting).keys().next().unwrap().clone();
        let giving = desk.clone();
        let handing = std::thread::spawn(move || giving.hand_over(asker).unwrap());
        program.write_all(b"a question").unwrap();
        program.shutdown(Shutdown::Write).unwrap();
        renter.write_all(word.as_bytes()).unwrap();
        let mut asked = String::new();
        renter.read_to_string(&mut asked).unwrap();
        assert_eq!(asked, "a question");
        renter.write_all(b"the answer").unwrap();
        drop(renter);
        let mut answer = String::new();
        program.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "the answer");
        handing.join().unwrap();
    }

    #[test]
    fn another_word_gets_nothing_and_the_connection_waits_on() {
        let (program, inside) = pair();
        let (mut stranger, asker) = pair();
        let desk = desk();
        desk.take_in(inside, program.local_addr().unwrap()).unwrap();
        stranger.write_all(&[b'0'; 2 * WORD_BYTES]).unwrap();
        desk.hand_over(asker).unwrap();
        assert_eq!(stranger.read(&mut [0]).unwrap(), 0);
        assert_eq!(lock(&desk.waiting).len(), 1);
    }

    #[test]
    fn no_more_wait_than_may_and_none_for_ever() {
        let desk = desk();
        let pairs: Vec<_> = (0..=MAX_WAITING).map(|_| pair()).collect();
        let mut programs = Vec::new();
        for (program, inside) in pairs {
            desk.take_in(inside, program.local_addr().unwrap()).unwrap();
            programs.push(program);
        }
        assert_eq!(lock(&desk.waiting).len(), MAX_WAITING);
        assert_eq!(programs.last_mut().unwrap().read(&mut [0]).unwrap(), 0, "one too many is closed");
        desk.forget_old(Instant::now() + TAKE_WAIT);
        assert_eq!(programs.first_mut().unwrap().read(&mut [0]).unwrap(), 0, "one that nobody took is closed");
    }
}
