//! Streams into a rental through the daemon that rents it.

use super::{Client, MAX_ANSWER_BYTES, read_answer};
use crate::{
    server::PROTOCOL,
    types::{ErrorKind, Visitor},
};
use access::{AccessError, door::Door, splice};
use futures::{FutureExt, future::BoxFuture};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use sandbox::ByteStream;
use wire::proto::session_header::Kind;

/// See the module.
#[derive(Clone, Debug)]
pub struct RentalDoor {
    client: Client,
    path: String,
}

impl RentalDoor {
    pub(super) fn new(client: Client, id: &str, visitor: Visitor) -> Self {
        Self { client, path: format!("/v1/rentals/{}/stream?visitor={}", super::encode(id), visitor.name()) }
    }

    /// A connection of its own, upgraded. A daemon that is away, or goes away meanwhile, may be starting again.
    async fn connect(&self) -> Result<ByteStream, AccessError> {
        let away = |what: &str, error: &dyn std::fmt::Display| AccessError::Daemon(format!("{what}: {error}"));
        let broken = |error: hyper::Error| away("the connection to the daemon broke", &error);
        let stream = self.client.open().await.map_err(|error| match error.kind {
            ErrorKind::NoDaemon => AccessError::Daemon(error.to_string()),
            _ => AccessError::Refused(error.into()),
        })?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // It ends when the upgrade hands the socket over, or with the sender.
        tokio::spawn(connection.with_upgrades());
        let request = Request::post(&self.path)
            .header(header::HOST, "localhost")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, PROTOCOL)
            .body(Empty::<Bytes>::new())
            .map_err(|error| AccessError::Refused(format!("the request cannot be written: {error}").into()))?;
        let mut response: Response<_> = sender.send_request(request).await.map_err(broken)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Box::new(TokioIo::new(hyper::upgrade::on(&mut response).await.map_err(broken)?)));
        }
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| away("the daemon's answer broke off", &*error))?.to_bytes();
        Err(match read_answer::<()>(status, &body) {
            Err(error) if error.kind == ErrorKind::Timeout => AccessError::Daemon(error.to_string()),
            Err(error) => AccessError::Refused(error.into()),
            Ok(()) => AccessError::Refused(format!("the daemon answered {status} to a request for a stream").into()),
        })
    }
}

impl Door for RentalDoor {
    fn open(&self, kind: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
        async move { splice::introduce(self.connect().await?, kind).await }.boxed()
    }
}
