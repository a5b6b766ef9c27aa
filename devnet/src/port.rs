//! Ports of this machine for the processes of devnets.

use anyhow::{Result, bail};
use rand::Rng;
use std::{
    net::{TcpListener, UdpSocket},
    ops::Range,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
};

/// Ports come from below the range that the kernel hands out for outgoing connections, so that a node finds its own again.
const PORTS: Range<u16> = 20_000..32_000;

/// A port of the loopback interface that no other devnet takes while this or a clone of it lives, whether what listens there runs or is
/// being started again.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    number: u16,
    /// An abstract name: it belongs to the network namespace, as ports do, and goes with the process that holds it.
    _claim: Arc<UnixDatagram>,
}

impl Port {
    /// One that is free for TCP and UDP.
    pub(crate) fn claim() -> Result<Self> {
        for _ in 0..200 {
            let number = rand::rng().random_range(PORTS);
            let name = SocketAddr::from_abstract_name(format!("gpulease-devnet-port-{number}"))?;
            let Ok(claim) = UnixDatagram::bind_addr(&name) else { continue };
            if TcpListener::bind(("127.0.0.1", number)).is_ok() && UdpSocket::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _claim: Arc::new(claim) });
            }
        }
        bail!("no free port found from {} to {}", PORTS.start, PORTS.end)
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_nobody_elses_while_it_is_held_and_free_again_afterwards() {
        let held = Port::claim().unwrap();
        let name = SocketAddr::from_abstract_name(format!("gpulease-devnet-port-{}", held.number())).unwrap();
        assert!(UnixDatagram::bind_addr(&name).is_err());
        TcpListener::bind(("127.0.0.1", held.number())).unwrap();
        drop(held);
        UnixDatagram::bind_addr(&name).unwrap();
    }
}
