//! Where a registry may lead this machine. A renter names the registry, and registries send clients on to other places, so a stranger
//! decides where requests go: to public addresses over HTTPS, never into the provider's own network. A registry on this very machine may
//! be allowed by its owner, and only such a one may speak plain HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Action, Attempt};

/// How often a registry may send us on: from the registry to its storage is one.
const MAX_REDIRECTS: usize = 5;

/// An address that a stranger must not send us to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Forbidden(pub(crate) String);

/// Checks what an address says by itself; a name is looked at when it is resolved.
pub(crate) fn check(url: &Url, loopback: bool) -> Result<(), Forbidden> {
    let forbidden = || Forbidden(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()));
    let host = url.host_str().ok_or_else(forbidden)?;
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let local = address.map_or(host == "localhost", |address| address.is_loopback());
    let allowed = match (url.scheme(), local, address) {
        ("http" | "https", true, _) => loopback,
        ("https", false, Some(address)) => is_public(address),
        ("https", false, None) => true,
        _ => false,
    };
    if allowed && url.username().is_empty() && url.password().is_none() { Ok(()) } else { Err(forbidden()) }
}

/// Follows a redirect where it may lead.
pub(crate) fn redirect(attempt: Attempt<'_>, loopback: bool) -> Action {
    if attempt.previous().len() > MAX_REDIRECTS {
        return attempt.error("it is sent on again and again");
    }
    match check(attempt.url(), loopback) {
        Ok(()) => attempt.follow(),
        Err(forbidden) => attempt.error(forbidden),
    }
}

/// Looks names up and leaves out addresses that are not public.
pub(crate) struct PublicResolver {
    pub(crate) loopback: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let loopback = self.loopback;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let may = |address: &SocketAddr| is_public(address.ip()) || loopback && address.ip().is_loopback();
            let allowed: Vec<SocketAddr> = found.iter().copied().filter(may).collect();
            if allowed.is_empty() {
                return Err(Forbidden(format!("{}, which has no public address", name.as_str())).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

impl PublicResolver {
    pub(crate) fn shared(loopback: bool) -> Arc<PublicResolver> {
        Arc::new(PublicResolver { loopback })
    }
}

/// Whether an address is one of the Internet at large. What is not certainly so is not.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// IANA's registry of special addresses, read as what is left.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match a {
        0 | 10 | 127 | 224.. => true,
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => matches!((b, c), (168, _) | (0, 0) | (0, 2) | (88, 99)),
        198 => matches!((b, c), (18 | 19, _) | (51, 100)),
        203 => (b, c) == (0, 113),
        _ => false,
    };
    !special
}

/// Global unicast without documentation, and without the ranges that carry an IPv4 address inside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global = (0x2000..0x4000).contains(&a);
    let protocols = a == 0x2001 && b < 0x0200;
    let documentation = (a == 0x2001 && b == 0x0DB8) || (a == 0x3FFF && b < 0x1000);
    global && !protocols && !documentation && a != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_sends_nobody_into_the_providers_own_network() {
        for url in [
            "https://10.1.2.3/",
            "https://127.0.0.1/",
            "https://169.254.169.254/latest",
            "https://192.168.0.1:5000/",
            "https://172.31.0.1/",
            "https://100.64.0.1/",
            "https://[::1]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[2002:a00:1::]/",
            "https://localhost/",
            "https://0/",
            "https://127.1/",
            "http://1.1.1.1/",
            "http://registry.example/",
            "ftp://registry.example/",
            "https://user:key@registry.example/",
        ] {
            assert!(check(&url.parse().unwrap(), false).is_err(), "{url}");
        }
        for url in ["https://registry.example/v2/", "https://1.1.1.1/", "https://[2606:4700::1111]/"] {
            check(&url.parse().unwrap(), false).unwrap();
        }
    }

    #[test]
    fn plain_http_is_for_this_machine_and_only_where_its_owner_allows_it() {
        for url in ["http://127.0.0.1:5000/v2/", "http://[::1]:5000/", "http://localhost:5000/"] {
            check(&url.parse().unwrap(), true).unwrap();
            assert!(check(&url.parse().unwrap(), false).is_err(), "{url}");
        }
        assert!(check(&"http://192.168.0.1/".parse().unwrap(), true).is_err());
    }

    #[tokio::test]
    async fn a_name_that_means_this_machine_is_not_resolved() {
        let name = || "localhost".parse::<Name>().unwrap();
        let error = PublicResolver { loopback: false }.resolve(name()).await.err().unwrap();
        assert!(error.downcast_ref::<Forbidden>().is_some(), "{error}");
        assert!(PublicResolver { loopback: true }.resolve(name()).await.unwrap().count() > 0);
    }
}
