//! Connections into a sandbox: the agent makes them, this program reads and writes them.

use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use agent::protocol::{Reply, Request};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, broken, unexpected};
use crate::until::Until;
use crate::{ByteStream, Error, InnerAddress, SandboxId};

/// Connects to an address inside. The connection ends when the sandbox is `destroyed`: its network would otherwise live as long as it.
pub(super) async fn dial(
    client: &Client,
    id: &SandboxId,
    address: &InnerAddress,
    destroyed: &CancellationToken,
) -> Result<ByteStream, Error> {
    address.check().map_err(|error| Error::InvalidSpec { field: "address", reason: error.to_string() })?;
    let (descriptors, _connection) = match client.take_over(Request::Dial { address: address.clone() }).await? {
        (Reply::Connected, descriptors, connection) => (descriptors, connection),
        (other, ..) => return Err(unexpected(&other)),
    };
    adopt(descriptors, address, destroyed).map_err(|error| broken(id, error))
}

fn adopt(descriptors: Vec<OwnedFd>, address: &InnerAddress, destroyed: &CancellationToken) -> io::Result<ByteStream> {
    let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not one connection"))?;
    Ok(match address {
        InnerAddress::Unix(_) => {
            let connection = UnixStream::from(descriptor);
            connection.set_nonblocking(true)?;
            Box::new(Until::new(tokio::net::UnixStream::from_std(connection)?, destroyed))
        }
        InnerAddress::Localhost(_) | InnerAddress::Tcp(_) => {
            let connection = TcpStream::from(descriptor);
            connection.set_nonblocking(true)?;
            // What a person types is not held back.
            connection.set_nodelay(true)?;
            Box::new(Until::new(tokio::net::TcpStream::from_std(connection)?, destroyed))
        }
    })
}
