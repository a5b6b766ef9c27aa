//! A registry on this machine that serves one OCI layout, and can be told to misbehave.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use sandbox::{ImageDigest, ImageReference};

/// What the registry does wrong.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Everybody is told to fetch a token, and none is given.
    NoToken,
    /// The token is to be fetched from this address.
    TokenAt(String),
    /// A layer ends early, the first so many times.
    Truncated(u32),
    /// A layer has other bytes than its digest says.
    Lying,
    /// Layers are said to be at this address.
    SentOn(String),
    /// Layers never end.
    Stalled,
    /// A document never ends.
    Endless,
}

pub(crate) struct Registry {
    address: String,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    layout: PathBuf,
    fault: Mutex<Fault>,
    requests: Mutex<Vec<String>>,
    tries: AtomicU32,
    closed: AtomicBool,
}

const TOKEN: &str = "a-token-for-everybody";

impl Registry {
    pub(crate) fn serve(layout: PathBuf) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State {
            layout,
            fault: Mutex::default(),
            requests: Mutex::default(),
            tries: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let (state, address) = (state.clone(), address.clone());
            move || {
                for stream in listener.incoming() {
                    if state.closed.load(Ordering::SeqCst) {
                        break;
                    }
                    let (state, address) = (state.clone(), address.clone());
                    std::thread::spawn(move || drop(state.answer(stream.unwrap(), &address)));
                }
            }
        });
        Registry { address, state, thread: Some(thread) }
    }

    pub(crate) fn misbehave(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    pub(crate) fn image(&self, digest: ImageDigest) -> ImageReference {
        format!("{}/test/shell@{digest}", self.address).parse().unwrap()
    }

    pub(crate) fn tag(&self) -> String {
        format!("{}/test/shell:latest", self.address)
    }

    /// The paths asked for since the last call, with ranges.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.requests.lock().unwrap())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes it.
        drop(TcpStream::connect(&self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

impl State {
    /// One request on one connection.
    fn answer(&self, mut stream: TcpStream, address: &str) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let path = lines.next().unwrap_or(Ok(String::new()))?.split(' ').nth(1).unwrap_or_default().to_string();
        let (mut range, mut token) = (0, false);
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if let Some(from) = line.strip_prefix("range: bytes=") {
                range = from.trim_end_matches('-').parse().unwrap();
            }
            token |= line == format!("authorization: bearer {TOKEN}");
            if line.is_empty() {
                break;
            }
        }
        self.requests.lock().unwrap().push(if range > 0 { format!("{path} from {range}") } else { path.clone() });
        let fault = self.fault.lock().unwrap().clone();
        if path.starts_with("/token") {
            assert!(path.contains("scope=repository%3Atest%2Fshell%3Apull&service=here"), "{path}");
            let body = format!(r#"{{"token":"{TOKEN}"}}"#);
            let status = if fault == Fault::NoToken { "401 Unauthorized" } else { "200 OK" };
            return send(&mut stream, status, "", body.as_bytes());
        }
        if !token {
            let realm = if let Fault::TokenAt(realm) = fault { realm } else { format!("http://{address}/token") };
            let header = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"here\"\r\n");
            return send(&mut stream, "401 Unauthorized", &header, b"");
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let file = match name.strip_prefix("sha256:") {
            Some(digest) => self.layout.join("blobs/sha256").join(digest),
            None => self.layout.join("index.json"),
        };
        match fs::read(file) {
            Ok(content) => self.content(&mut stream, content, range, &fault),
            Err(_) => send(&mut stream, "404 Not Found", "", b""),
        }
    }

    fn content(&self, stream: &mut TcpStream, mut content: Vec<u8>, from: usize, fault: &Fault) -> std::io::Result<()> {
        let layer = content.len() > 100_000;
        match fault {
            Fault::Truncated(times) if layer && self.tries.fetch_add(1, Ordering::SeqCst) < *times => {
                let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", content.len() - from);
                stream.write_all(head.as_bytes())?;
                return stream.write_all(&content[from..from + (content.len() - from) / 2]);
            }
            Fault::Lying if layer => content[50_000] ^= 1,
            Fault::SentOn(to) if layer => {
                return send(stream, "307 Temporary Redirect", &format!("Location: {to}\r\n"), b"");
            }
            Fault::Stalled if layer => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                // A few bytes at a time until the other side is gone.
                while stream.write_all(&[0; 512]).is_ok() {
                    std::thread::yield_now();
                }
            }
            Fault::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                while stream.write_all(&[b' '; 65_536]).is_ok() {}
            }
            _ => {}
        }
        if from == 0 {
            return send(stream, "200 OK", "", &content);
        }
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
        send(stream, "206 Partial Content", &range, &content[from..])
    }
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
