//! `node forward -R`: ports inside a rental that lead to what this machine can reach.

use super::failed;
use crate::output::note;
use access::guest::{Guest, Incoming, Listener};
use api::types::{ApiError, ErrorKind};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{io::copy_bidirectional, net::TcpStream, sync::Semaphore, task::JoinSet};

/// One port inside and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Back {
    inside: SocketAddr,
    /// Where it leads.
    pub(super) to: Target,
}

/// A port of a host as this machine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    host: String,
    port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Reads `5432:localhost:5432`, `127.0.0.1:5432:db:5432` or `[::1]:5432:[2001:db8::1]:80`.
pub(crate) fn parse_back(text: &str) -> Result<Back, String> {
    let wrong = || format!("`{text}`: expected PORT:HOST:PORT or ADDRESS:PORT:HOST:PORT");
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port: give a number up to 65535"));
    let parts = split(text).ok_or_else(wrong)?;
    let (address, inside, host, there) = match &parts[..] {
        [inside, host, there] => (None, inside, host, there),
        [address, inside, host, there] => (Some(address), inside, host, there),
        _ => return Err(wrong()),
    };
    let address: IpAddr = match address {
        None => Ipv4Addr::LOCALHOST.into(),
        Some(&"localhost") => Ipv4Addr::LOCALHOST.into(),
        Some(address) => address.parse().map_err(|_| format!("`{address}` is no address inside"))?,
    };
    let to = Target { host: (*host).to_owned(), port: port(there)? };
    if to.host.is_empty() || to.port == 0 {
        return Err(wrong());
    }
    Ok(Back { inside: SocketAddr::new(address, port(inside)?), to })
}

/// The parts between colons; one in brackets may have colons of its own.
fn split(text: &str) -> Option<Vec<&str>> {
    let (mut parts, mut rest) = (Vec::new(), Some(text));
    while let Some(text) = rest {
        let (part, after) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (part, after) = bracketed.split_once(']')?;
                match after {
                    "" => (part, None),
                    after => (part, Some(after.strip_prefix(':')?)),
                }
            }
            None => text.split_once(':').map_or((text, None), |(part, after)| (part, Some(after))),
        };
        parts.push(part);
        rest = after;
    }
    Some(parts)
}

/// Listens inside.
pub(super) async fn listen(guest: &Guest, way: &Back) -> Result<Listener, ApiError> {
    guest.listen(way.inside).await.map_err(|error| {
        let next = "choose another port inside, such as 0 for a free one";
        ApiError::new(ErrorKind::Failed, format!("{}: {}", way.inside, failed(&error).message), next)
    })
}

/// Carries the connections of one port until it is lost.
pub(super) async fn serve(mut listener: Listener, to: Target, places: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        // the semaphore is never closed
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.next().await {
            Ok(Some(incoming)) => {
                let to = to.clone();
                connections.spawn(async move {
                    carry(incoming, &to).await;
                    drop(place);
                });
            }
            Ok(None) => return note("what listened inside has ended"),
            Err(error) => return note(&failed(&error).message),
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(incoming: Incoming, to: &Target) {
    let mut here = match TcpStream::connect((to.host.as_str(), to.port)).await {
        Ok(stream) => stream,
        Err(error) => {
            note(&format!("{to}: {error}"));
            return incoming.refuse().await;
        }
    };
    // small answers are not to wait for more
    let _ = here.set_nodelay(true);
    match incoming.take().await {
        Ok(mut inside) => {
            // either end may close as it likes
            let _ = copy_bidirectional(&mut here, &mut inside).await;
        }
        Err(error) => note(&failed(&error).message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_ssh_reads_them() {
        let read = |text| parse_back(text).map(|back| (back.inside.to_string(), back.to.to_string()));
        let pair = |inside: &str, to: &str| Ok((inside.to_owned(), to.to_owned()));
        assert_eq!(read("5432:localhost:5433"), pair("127.0.0.1:5432", "localhost:5433"));
        assert_eq!(read("localhost:0:db.example:80"), pair("127.0.0.1:0", "db.example:80"));
        assert_eq!(read("0.0.0.0:1:h:2"), pair("0.0.0.0:1", "h:2"));
        assert_eq!(read("[::1]:1:[2001:db8::1]:2"), pair("[::1]:1", "[2001:db8::1]:2"));
        for wrong in ["", "80", "80:80", "80::80", "80:h:0", "80:h:x", "x:80:h:80", "[::1:80:h:80", "1:2:3:4:5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
