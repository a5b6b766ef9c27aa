//! Names of hosts, looked up inside the sandbox: what they mean there is what counts, and its own C library knows.

use crate::guest::{Guest, Program};
use sandbox::InnerAddress;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{io::AsyncReadExt, time::timeout};

/// How long looking a name up may take. Resolvers try for as long, and whoever waits for a page has given up.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried, in the order in which the sandbox prefers them.
const MAX_ADDRESSES: usize = 4;
/// Bytes of the answer that are read: some dozens of addresses.
const MAX_ANSWER: u64 = 4 * 1024;
/// Bytes of a name.
const MAX_NAME: usize = 253;

/// The addresses to be tried for a host and a port: one, unless it is a name. None if there is no such host.
pub(super) async fn addresses(guest: &Guest, host: &str, port: u16) -> Vec<InnerAddress> {
    match InnerAddress::tcp(host, port) {
        Ok(address) => vec![address],
        Err(_) if port != 0 && is_name(host) => look_up(guest, host)
            .await
            .into_iter()
            .map(|address| InnerAddress::Tcp(SocketAddr::new(address, port)))
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !text.is_empty() && text.len() <= MAX_NAME && !text.starts_with('-') && text.chars().all(plain)
}

async fn look_up(guest: &Guest, name: &str) -> Vec<IpAddr> {
    let argv = ["getent", "ahosts", name].map(str::to_owned).to_vec();
    let answer = async {
        let process = guest.exec(Program { argv, ..Program::default() }).await.ok()?;
        let mut text = String::new();
        process.stdout.take(MAX_ANSWER).read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    read(&timeout(LOOKUP_LIMIT, answer).await.ok().flatten().unwrap_or_default())
}

/// Reads lines that begin with an address, each of which stands there once for each kind of socket.
fn read(answer: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for line in answer.lines() {
        if let Some(Ok(address)) = line.split_whitespace().next().map(str::parse)
            && !addresses.contains(&address)
            && addresses.len() < MAX_ADDRESSES
        {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_an_answer_counts_once() {
        let answer = "2001:db8::1 STREAM example.org\n2001:db8::1 DGRAM\n192.0.2.1 STREAM\n192.0.2.1 DGRAM\nnonsense\n";
        assert_eq!(read(answer), ["2001:db8::1".parse::<IpAddr>().unwrap(), "192.0.2.1".parse().unwrap()]);
        assert!(read("").is_empty());
    }

    #[test]
    fn what_is_no_name_is_not_looked_up() {
        assert!(is_name("example.org"));
        for text in ["", "-s", "a b", "a;b", "a\nb", &"a".repeat(MAX_NAME + 1)] {
            assert!(!is_name(text), "{text:?}");
        }
    }
}
