//! Which name servers this machine asks, as its C library reads them, and the addresses under which a sandbox sees them: each has one
//! of its own, so that what happens when one does not answer is decided by the program that asks, as everywhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where this machine says whom it asks.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Name servers used: the C library's own bound (MAXNS).
pub(crate) const MAX_RESOLVERS: usize = 3;

/// The only port of a name server that can be reached.
const DNS: u16 = 53;

/// The first of the addresses inside.
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// The name servers in a `resolv.conf`, in order.
pub(crate) fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        // One on the link of a named interface (`fe80::1%eth0`) is left out: most machines with one have another.
        address.parse().ok()
    };
    text.lines().filter_map(server).take(MAX_RESOLVERS).collect()
}

/// The `resolv.conf` of a sandbox whose machine asks these.
pub(crate) fn inside(resolvers: &[IpAddr]) -> String {
    (0u32..).zip(resolvers).map(|(n, _)| format!("nameserver {}\n", Ipv4Addr::from(INSIDE.to_bits() + n))).collect()
}

/// The name server behind an address inside.
pub(crate) fn behind(resolvers: &[IpAddr], address: SocketAddr) -> Option<SocketAddr> {
    let IpAddr::V4(inside) = address.ip() else { return None };
    let n = usize::try_from(inside.to_bits().checked_sub(INSIDE.to_bits())?).ok()?;
    (address.port() == DNS).then_some(())?;
    resolvers.get(n).map(|resolver| SocketAddr::new(*resolver, DNS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 9.9.9.9\nsearch example.org\nnameserver 10.1.2.3\n  nameserver\t::1  \nnameserver fe80::1%eth0\n\
                    nameserver nonsense\nnameserver 127.0.0.53\nnameserver 1.1.1.1\noptions edns0\n";
        let found: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.1.2.3", "::1", "127.0.0.53"]);
        assert_eq!(parse(""), Vec::<IpAddr>::new());
    }

    #[test]
    fn every_name_server_has_an_address_inside_and_nothing_but_its_port_is_behind_it() {
        let resolvers: Vec<IpAddr> = vec!["10.1.2.3".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(inside(&resolvers), "nameserver 10.0.2.3\nnameserver 10.0.2.4\n");
        let behind = |address: &str| behind(&resolvers, address.parse().unwrap()).map(|found| found.to_string());
        assert_eq!(behind("10.0.2.3:53").as_deref(), Some("10.1.2.3:53"));
        assert_eq!(behind("10.0.2.4:53").as_deref(), Some("[::1]:53"));
        for other in
            ["10.0.2.2:53", "10.0.2.5:53", "10.0.2.3:22", "10.0.2.3:54", "10.1.2.3:53", "1.1.1.1:53", "[::1]:53"]
        {
            assert_eq!(behind(other), None, "{other}");
        }
    }
}
