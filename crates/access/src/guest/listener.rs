//! Ports of the sandbox whose connections come to the renter. The agent's program listens there, beside the job, and names each connection by
//! a word; the renter fetches it by dialling the program's desk and saying the word. What is carried is thus a connection into the sandbox
//! like any other, and all of it ends with the process that listens.

use super::{Guest, Process, Program};
use crate::AccessError;
use sandbox::{AGENT_PATH, ByteReader, ByteStream, ByteWriter, InnerAddress};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

/// How long the program may take to listen, or to say why it cannot: it starts like any other.
const LISTEN_WAIT: Duration = Duration::from_secs(15);
/// Bytes of a line: a word and two addresses, several times over.
const MAX_LINE: u64 = 256;
/// Bytes of what it says of a failure.
const MAX_REASON: u64 = 512;
/// Hexadecimal digits of a word.
const WORD_DIGITS: usize = 32;

/// A port of the sandbox. Dropped, nothing listens there any more, and the connections made through it end.
pub struct Listener {
    address: SocketAddr,
    desk: InnerAddress,
    lines: BufReader<ByteReader>,
    guest: Guest,
    // dropped, the process is hung up; what it would read or say besides is nothing
    _process: (ByteWriter, ByteReader, super::process::Running),
}

/// A connection that somebody inside has made, and that waits to be had.
#[derive(Debug)]
pub struct Incoming {
    /// Where it comes from, as the sandbox sees it.
    pub from: SocketAddr,
    word: String,
    desk: InnerAddress,
    guest: Guest,
}

impl Listener {
    pub(super) async fn start(guest: Guest, at: SocketAddr) -> Result<Self, AccessError> {
        let argv = vec![AGENT_PATH.to_owned(), "listen".to_owned(), at.to_string()];
        let Process { stdin, stdout, mut stderr, mut running } =
            guest.exec(Program { argv, ..Program::default() }).await?;
        let mut lines = BufReader::new(stdout);
        let begun = async {
            if let Some(line) = line(&mut lines).await? {
                return read_beginning(&line);
            }
            let mut reason = String::new();
            // what the program says is all there is to know
            let _ = (&mut stderr).take(MAX_REASON).read_to_string(&mut reason).await;
            running.wait().await?;
            Err(AccessError::Refused(format!("cannot listen inside: {}", wire::shown(reason.trim())).into()))
        };
        let (address, desk) = timeout(LISTEN_WAIT, begun)
            .await
            .map_err(|_| AccessError::Refused("the sandbox did not say in time that it listens".into()))??;
        Ok(Self { address, desk, lines, guest, _process: (stdin, stderr, running) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection; nothing when the program has ended.
    pub async fn next(&mut self) -> Result<Option<Incoming>, AccessError> {
        let Some(line) = line(&mut self.lines).await? else { return Ok(None) };
        let (word, from) = read_incoming(&line)?;
        Ok(Some(Incoming { from, word, desk: self.desk.clone(), guest: self.guest.clone() }))
    }
}

impl Incoming {
    /// The connection.
    pub async fn take(self) -> Result<ByteStream, AccessError> {
        let mut stream = self.guest.dial(&self.desk).await?;
        stream.write_all(self.word.as_bytes()).await.map_err(network::FrameError::from)?;
        stream.flush().await.map_err(network::FrameError::from)?;
        Ok(stream)
    }

    /// Closes it: nobody here wants it.
    pub async fn refuse(self) {
        // taken and let go; where that fails it is closed when it has waited long enough
        drop(self.take().await);
    }
}

/// The next line without its end; nothing after the last.
async fn line(lines: &mut BufReader<ByteReader>) -> Result<Option<String>, AccessError> {
    let mut line = String::new();
    let read = lines.take(MAX_LINE).read_line(&mut line).await;
    read.map_err(|_| AccessError::Protocol("what listens inside says what is no text"))?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(Some(whole.to_owned())),
        None if line.is_empty() => Ok(None),
        None => Err(AccessError::Protocol("what listens inside says half a line")),
    }
}

const NONSENSE: AccessError = AccessError::Protocol("what listens inside says something else");

fn read_beginning(line: &str) -> Result<(SocketAddr, InnerAddress), AccessError> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["listening", address, desk] = words[..] else { return Err(NONSENSE) };
    let (Ok(address), Ok(desk)) = (address.parse(), desk.parse::<SocketAddr>()) else { return Err(NONSENSE) };
    let desk = InnerAddress::tcp(&desk.ip().to_string(), desk.port()).map_err(|_| NONSENSE)?;
    Ok((address, desk))
}

fn read_incoming(line: &str) -> Result<(String, SocketAddr), AccessError> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["incoming", word, from] = words[..] else { return Err(NONSENSE) };
    let plain = word.len() == WORD_DIGITS && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match from.parse() {
        Ok(from) if plain => Ok((word.to_owned(), from)),
        _ => Err(NONSENSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_says_is_read_and_nothing_else_is_believed() {
        let (address, desk) = read_beginning("listening 127.0.0.1:8080 127.0.0.1:4000").unwrap();
        assert_eq!((address.port(), desk), (8080, InnerAddress::Tcp("127.0.0.1:4000".parse().unwrap())));
        for line in ["", "listening", "listening x 127.0.0.1:1", "listening 127.0.0.1:1 127.0.0.1:0", "Listening a b"] {
            assert!(read_beginning(line).is_err(), "{line}");
        }
        let word = "0123456789abcdef0123456789abcdef";
        let (read, from) = read_incoming(&format!("incoming {word} [::1]:9")).unwrap();
        assert_eq!((read.as_str(), from), (word, "[::1]:9".parse().unwrap()));
        for line in ["incoming", "incoming short [::1]:9", &format!("incoming {word} here"), &format!("{word} [::1]:9")]
        {
            assert!(read_incoming(line).is_err(), "{line}");
        }
    }

    #[tokio::test]
    async fn a_program_that_says_no_line_is_not_read_for_ever() {
        let endless: ByteReader = Box::new(tokio::io::repeat(b'x'));
        assert!(line(&mut BufReader::new(endless)).await.is_err());
        let said: ByteReader = Box::new(&b"one\ntwo"[..]);
        let mut lines = BufReader::new(said);
        assert_eq!(line(&mut lines).await.unwrap().as_deref(), Some("one"));
        assert!(line(&mut lines).await.is_err());
        assert_eq!(line(&mut lines).await.unwrap(), None);
    }
}
