//! The way into a rental. Whoever has a [`Door`] can open streams into it and needs to know nothing else: not which provider it is, nor what
//! was signed for it.

use crate::AccessError;
use futures::{FutureExt, future::BoxFuture};
use market::id::PeerId;
use network::Handle;
use sandbox::ByteStream;
use std::{fmt, sync::Arc};
use wire::proto::{self, session_header::Kind};

/// Opens streams into one rental.
pub trait Door: fmt::Debug + Send + Sync {
    /// Opens a stream of a kind: it is accepted when this returns, and carries what `proto/session.proto` says of the kind.
    fn open(&self, kind: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>>;
}

impl<D: Door + ?Sized> Door for Arc<D> {
    fn open(&self, kind: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
        (**self).open(kind)
    }
}

/// The door of whoever holds the rental's session key and is on the network itself.
#[derive(Clone, Debug)]
pub struct Granted {
    network: Handle,
    provider: PeerId,
    grant: proto::SessionGrant,
}

impl Granted {
    /// Into a rental of `provider` with the session key's grant.
    pub fn new(network: Handle, provider: PeerId, grant: proto::SessionGrant) -> Self {
        Self { network, provider, grant }
    }
}

impl Door for Granted {
    fn open(&self, kind: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
        async move {
            let header = proto::SessionHeader { grant: Some(self.grant.clone()), kind: Some(kind) };
            let stream = self.network.open_session(self.provider, header).await?;
            Ok(Box::new(stream) as ByteStream)
        }
        .boxed()
    }
}
