//! Connections into a sandbox: the agent makes them and carries their bytes to a stream of this program's.

use agent::protocol::{Reply, Request};

use crate::client::{Client, broken, unexpected};
use crate::{ByteStream, Error, InnerAddress, SandboxId, handover};

/// Connects to an address inside.
pub(super) async fn dial(client: &Client, id: &SandboxId, address: &InnerAddress) -> Result<ByteStream, Error> {
    address.check().map_err(|error| Error::InvalidSpec { field: "address", reason: error.to_string() })?;
    let (stream, theirs) = handover::duplex().map_err(|error| broken(id, error))?;
    match client.hand_over(Request::Dial { address: address.clone() }, theirs).await? {
        (Reply::Connected, _) => Ok(Box::new(stream)),
        (other, _) => Err(unexpected(&other)),
    }
}
