//! Which addresses a sandbox may reach: public ones. The tables follow IANA's registries of special-purpose addresses
//! (iana-ipv4-special-registry and iana-ipv6-special-registry, as of 2025) and of multicast. For IPv4 the rest is public; for IPv6 only
//! what IANA calls global unicast is, less its exceptions, so that a range set aside in future is refused before anybody updates a table.
//!
//! Names need no such rule: what counts is the address that a program connects to, whatever name led there. A name that changes its mind
//! after it was looked at (DNS rebinding) leads nowhere new.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 ranges that are not public.
const SPECIAL_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network: RFC 791, 3.2
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private: RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carrier-grade NAT: RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback: RFC 1122, 3.2.1.3
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, and clouds' metadata: RFC 3927
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private: RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments, such as the nearest port mapper: RFC 6890, RFC 7723
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation: RFC 5737
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // the nearest 6to4 relay, withdrawn: RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private: RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarking: RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation: RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation: RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast: RFC 5771
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, and broadcast at its end: RFC 1112, RFC 919
];

/// What IPv6 calls global unicast: RFC 4291 and iana-ipv6-unicast-address-assignments. Outside of it are loopback (`::1`), IPv4-mapped
/// addresses (`::ffff:0:0/96`), those translated by NAT64 (`64:ff9b::/96`, `64:ff9b:1::/48`), discard (`100::/64`), segment routing
/// (`5f00::/16`), unique local (`fc00::/7`), link-local (`fe80::/10`), site-local (`fec0::/10`) and multicast (`ff00::/8`).
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv6 ranges within that are not public, or hide an IPv4 address that this rule would have to look at.
const SPECIAL_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo and benchmarking: RFC 2928, RFC 4380, RFC 5180
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation: RFC 3849
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: RFC 3056
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation: RFC 9637
];

/// True for an address that anybody on the Internet could reach as well. An address of this machine may be one of those.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|range| within_v4(address, *range)),
        IpAddr::V6(address) => {
            within_v6(address, GLOBAL_V6) && !SPECIAL_V6.iter().any(|range| within_v6(address, *range))
        }
    }
}

fn within_v4(address: Ipv4Addr, (first, length): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ first.to_bits()).leading_zeros() >= length
}

fn within_v6(address: Ipv6Addr, (first, length): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ first.to_bits()).leading_zeros() >= length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last of every refused range of IPv4, written out so that a slip in a prefix length shows. Neighbours are joined.
    const REFUSED_V4: [(&str, &str); 14] = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "255.255.255.255"),
    ];

    /// The same for IPv6.
    const REFUSED_V6: [(&str, &str); 6] = [
        ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];

    #[test]
    fn every_refused_range_of_ipv4_begins_and_ends_where_it_should() {
        let bits = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
        let public = |bits: u32| is_public(IpAddr::V4(bits.into()));
        for (first, last) in REFUSED_V4 {
            let (first, last) = (bits(first), bits(last));
            assert!(!public(first) && !public(last) && !public(first + (last - first) / 2), "{first:x}");
            assert!(first == 0 || public(first - 1), "before {first:x}");
            assert!(last == u32::MAX || public(last + 1), "after {last:x}");
        }
    }

    #[test]
    fn every_refused_range_of_ipv6_begins_and_ends_where_it_should() {
        let bits = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
        let public = |bits: u128| is_public(IpAddr::V6(bits.into()));
        for (first, last) in REFUSED_V6 {
            let (first, last) = (bits(first), bits(last));
            assert!(!public(first) && !public(last) && !public(first + (last - first) / 2), "{first:x}");
            // 3fff::/20 ends in the middle of nothing, 4000:: begins where global unicast ends.
            assert!(first == 0 || public(first - 1), "before {first:x}");
            assert!(last == u128::MAX || public(last + 1), "after {last:x}");
        }
    }

    #[test]
    fn walking_through_all_of_ipv4_finds_no_other_refused_address() {
        let refused: Vec<(u32, u32)> = REFUSED_V4
            .iter()
            .map(|(first, last)| {
                (first.parse::<Ipv4Addr>().unwrap().to_bits(), last.parse::<Ipv4Addr>().unwrap().into())
            })
            .collect();
        // A step that shares no factor with the width of a range.
        for address in (0..=u32::MAX).step_by(10_007) {
            let expected = !refused.iter().any(|(first, last)| (*first..=*last).contains(&address));
            assert_eq!(is_public(IpAddr::V4(address.into())), expected, "{address:x}");
        }
    }

    #[test]
    fn private_addresses_in_the_clothes_of_ipv6_are_refused() {
        for address in [
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::169.254.169.254",
            "100::1",
            "2001:0:4136:e378:8000:63bf:f5ff:fffe",
            "2001:2::1",
            "2001:20::1",
            "2002:0a00:0001::1",
            "2002:a9fe:a9fe::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_everybody_uses_is_public() {
        for address in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "192.0.1.1", "100.128.0.1", "2606:4700::1111", "2a00::1"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
