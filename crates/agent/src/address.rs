//! Where a connection into a sandbox may lead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Bytes of a Unix socket's path: what the kernel's address holds, less the zero at its end.
pub const MAX_SOCKET_PATH: usize = 107;

/// An address as it is understood inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InnerAddress {
    /// A port of the sandbox itself: of 127.0.0.1, or of ::1 if nothing listens there, since programs differ in which they take.
    Localhost(u16),
    /// An address that can be reached from inside.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket inside.
    Unix(String),
}

/// Why something is no address inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// A name other than `localhost`. Looking it up would need the sandbox's own C library.
    Name(String),
    /// Nothing can listen on port 0.
    NoPort,
    /// An abstract name. They have no owner and no permissions: any process of the sandbox could take one, and nobody could tell who
    /// answers.
    Abstract,
    /// A path that does not begin at the root, or holds a zero.
    NotAbsolute(String),
    /// A path too long for the kernel's address.
    TooLong(usize),
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Name(name) => {
                write!(f, "`{}` is not looked up: give an IP address or `localhost`", name.escape_debug())
            }
            AddressError::NoPort => f.write_str("nothing can listen on port 0"),
            AddressError::Abstract => f.write_str("abstract sockets are not supported: give the path of a socket"),
            AddressError::NotAbsolute(path) => write!(f, "`{}` is not an absolute path", path.escape_debug()),
            AddressError::TooLong(length) => {
                write!(f, "a socket's path has at most {MAX_SOCKET_PATH} bytes and this one {length}")
            }
        }
    }
}

impl std::error::Error for AddressError {}

impl InnerAddress {
    /// A port of `localhost` or of an IP address, with or without the brackets of version 6.
    pub fn tcp(host: &str, port: u16) -> Result<InnerAddress, AddressError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address = match bare.parse::<IpAddr>() {
            Ok(ip) => InnerAddress::Tcp(SocketAddr::new(ip, port)),
            Err(_) if host.eq_ignore_ascii_case("localhost") => InnerAddress::Localhost(port),
            Err(_) => return Err(AddressError::Name(host.into())),
        };
        address.check().map(|()| address)
    }

    /// The path of a Unix socket.
    pub fn unix(path: &str) -> Result<InnerAddress, AddressError> {
        let address = InnerAddress::Unix(path.into());
        address.check().map(|()| address)
    }

    /// Checks what the types cannot say. An address that came over a wire was made without the functions above.
    pub fn check(&self) -> Result<(), AddressError> {
        match self {
            InnerAddress::Localhost(0) => Err(AddressError::NoPort),
            InnerAddress::Tcp(address) if address.port() == 0 => Err(AddressError::NoPort),
            InnerAddress::Localhost(_) | InnerAddress::Tcp(_) => Ok(()),
            InnerAddress::Unix(path) if path.starts_with(['\0', '@']) => Err(AddressError::Abstract),
            InnerAddress::Unix(path) if !path.starts_with('/') || path.contains('\0') => {
                Err(AddressError::NotAbsolute(path.clone()))
            }
            InnerAddress::Unix(path) if path.len() > MAX_SOCKET_PATH => Err(AddressError::TooLong(path.len())),
            InnerAddress::Unix(_) => Ok(()),
        }
    }

    /// The addresses to be tried for a TCP connection, in order; none for a Unix socket.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self {
            InnerAddress::Localhost(port) => {
                vec![(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()]
            }
            InnerAddress::Tcp(address) => vec![*address],
            InnerAddress::Unix(_) => vec![],
        }
    }
}

impl fmt::Display for InnerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InnerAddress::Localhost(port) => write!(f, "localhost:{port}"),
            InnerAddress::Tcp(address) => write!(f, "{address}"),
            InnerAddress::Unix(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_localhost_and_paths_and_nothing_else() {
        assert_eq!(InnerAddress::tcp("LocalHost", 80), Ok(InnerAddress::Localhost(80)));
        assert_eq!(InnerAddress::tcp("127.0.0.1", 80).unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(InnerAddress::tcp("::1", 80), InnerAddress::tcp("[::1]", 80));
        assert_eq!(InnerAddress::tcp("db.internal", 80), Err(AddressError::Name("db.internal".into())));
        assert_eq!(InnerAddress::tcp("localhost", 0), Err(AddressError::NoPort));
        assert_eq!(InnerAddress::tcp("10.0.0.1", 0), Err(AddressError::NoPort));
        assert_eq!(InnerAddress::unix("/run/x.sock").unwrap().to_string(), "/run/x.sock");
        assert_eq!(InnerAddress::unix("@x"), Err(AddressError::Abstract));
        assert_eq!(InnerAddress::unix("\0x"), Err(AddressError::Abstract));
        assert!(matches!(InnerAddress::unix("x.sock"), Err(AddressError::NotAbsolute(_))));
        assert!(matches!(InnerAddress::unix("/x\0y"), Err(AddressError::NotAbsolute(_))));
        assert!(InnerAddress::unix(&format!("/{}", "x".repeat(106))).is_ok());
        assert_eq!(InnerAddress::unix(&format!("/{}", "x".repeat(107))), Err(AddressError::TooLong(108)));
    }

    #[test]
    fn localhost_means_both_versions_and_the_older_one_first() {
        let tried: Vec<String> = InnerAddress::Localhost(8888).candidates().iter().map(ToString::to_string).collect();
        assert_eq!(tried, ["127.0.0.1:8888", "[::1]:8888"]);
    }
}
