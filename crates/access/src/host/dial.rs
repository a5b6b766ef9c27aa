//! Connections to what listens inside the sandbox.

use crate::AccessError;
use market::refusal::{Refusal, RefusalCode};
use network::IncomingSession;
use sandbox::{Error, InnerAddress, Sandbox};
use std::{net::SocketAddr, sync::Arc};
use tokio::io::copy_bidirectional;
use wire::proto::{self, dial::To};

/// Connects, or says why not, and carries bytes both ways to the end of both.
pub(super) async fn dial(
    session: IncomingSession,
    sandbox: Arc<dyn Sandbox>,
    dial: proto::Dial,
) -> Result<(), AccessError> {
    let address = match read_address(dial) {
        Ok(address) => address,
        Err(why) => return Ok(session.refuse(super::bad_request(&why)).await?),
    };
    match sandbox.dial(&address).await {
        Ok(mut inside) => {
            let mut stream = session.accept().await?;
            copy_bidirectional(&mut stream, &mut inside).await.map_err(network::FrameError::from)?;
            Ok(())
        }
        Err(error) => {
            let code =
                if matches!(error, Error::Dial { .. }) { RefusalCode::NotConnected } else { RefusalCode::Internal };
            Ok(session.refuse(Refusal::new(code, error.to_string())).await?)
        }
    }
}

fn read_address(dial: proto::Dial) -> Result<InnerAddress, String> {
    match dial.to.ok_or("the address is missing")? {
        To::Port(port) => {
            let port = u16::try_from(port).map_err(|_| format!("{port} is no port"))?;
            InnerAddress::tcp("localhost", port).map_err(|error| error.to_string())
        }
        To::Address(text) => {
            let address: SocketAddr = text.parse().map_err(|_| format!("`{}` is no address", wire::shown(&text)))?;
            InnerAddress::tcp(&address.ip().to_string(), address.port()).map_err(|error| error.to_string())
        }
        To::Socket(path) => InnerAddress::unix(&path).map_err(|error| error.to_string()),
    }
}

/// An address as it goes over the network.
pub(crate) fn address_to_proto(address: &InnerAddress) -> proto::Dial {
    let to = match address {
        InnerAddress::Localhost(port) => To::Port(u32::from(*port)),
        InnerAddress::Tcp(address) => To::Address(address.to_string()),
        InnerAddress::Unix(path) => To::Socket(path.clone()),
    };
    proto::Dial { to: Some(to) }
}
