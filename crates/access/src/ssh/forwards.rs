//! Ports of the sandbox that lead to the client: what `-R` asks for. Each is a listener inside; a connection that is made there becomes a
//! channel that this side opens.

use super::{
    dial::splice,
    inbox::Inbox,
    outlet::{Gone, Outlet},
};
use crate::guest::{Guest, Incoming, Listener};
use russh::{ChannelMsg, ChannelReadHalf, server::Handle};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// Ports of one connection at a time: more than people give on a command line, and each is a process inside.
const MAX_FORWARDS: usize = 16;
/// Connections of all of them at a time; one more is closed at once.
const MAX_CONNECTIONS: usize = 200;

/// The ports of one client's connection.
pub(super) struct Forwards {
    ports: Vec<Port>,
    inboxes: Arc<Inboxes>,
    places: Arc<Semaphore>,
}

/// One of them.
struct Port {
    /// As the client calls it.
    address: String,
    port: u32,
    serving: AbortOnDropHandle<()>,
}

/// The inboxes of the channels that this side has opened.
#[derive(Default)]
struct Inboxes(Mutex<Vec<Weak<Inbox>>>);

impl Inboxes {
    fn add(&self) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|inbox| inbox.strong_count() > 0);
        all.push(Arc::downgrade(&inbox));
        inbox
    }
}

impl Default for Forwards {
    fn default() -> Self {
        Self { ports: Vec::new(), inboxes: Arc::default(), places: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Forwards {
    /// Listens at a port inside, any free one for 0: which, or nothing if that cannot be.
    pub(super) async fn open(&mut self, guest: &Guest, address: &str, port: u32, client: Handle) -> Option<u32> {
        self.ports.retain(|port| !port.serving.is_finished());
        if self.ports.len() >= MAX_FORWARDS {
            tracing::info!("a client wants more ports of the sandbox than {MAX_FORWARDS}");
            return None;
        }
        let at = SocketAddr::new(where_to_listen(address)?, u16::try_from(port).ok()?);
        let listener = match guest.listen(at).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::info!(%at, %error, "a port of the sandbox cannot be had");
                return None;
            }
        };
        let port = u32::from(listener.address().port());
        let address = address.to_owned();
        let way = Way {
            address: address.clone(),
            port,
            client,
            inboxes: Arc::clone(&self.inboxes),
            places: Arc::clone(&self.places),
        };
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::new(way))));
        self.ports.push(Port { address, port, serving });
        Some(port)
    }

    /// Listens there no more; connections through it end. False where nothing did.
    pub(super) fn close(&mut self, address: &str, port: u32) -> bool {
        let before = self.ports.len();
        self.ports.retain(|open| open.address != address || open.port != port);
        self.ports.len() < before
    }

    /// What the client has sent on channels of these.
    pub(super) fn inboxes(&self) -> Vec<Arc<Inbox>> {
        let all = self.inboxes.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// What a client means by an address. Names and "everywhere" are loopback, as with any server that is not told otherwise.
fn where_to_listen(address: &str) -> Option<IpAddr> {
    match address {
        "" | "*" | "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        address => address.parse().ok(),
    }
}

/// Where connections of a port go.
struct Way {
    address: String,
    port: u32,
    client: Handle,
    inboxes: Arc<Inboxes>,
    places: Arc<Semaphore>,
}

async fn serve(mut listener: Listener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = match listener.next().await {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return,
            Err(error) => return tracing::info!(port = way.port, %error, "a port of the sandbox is lost"),
        };
        let way = Arc::clone(&way);
        connections.spawn(async move {
            match Arc::clone(&way.places).try_acquire_owned() {
                // whether the client was still there to hear of its end makes no difference
                Ok(_place) => drop(carry(incoming, &way).await),
                Err(_) => incoming.refuse().await,
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Opens a channel for a connection, and carries bytes both ways until both have ended or the client closes it.
async fn carry(incoming: Incoming, way: &Way) -> Result<(), Gone> {
    let (ip, port) = (incoming.from.ip().to_string(), u32::from(incoming.from.port()));
    let opened = way.client.channel_open_forwarded_tcpip(way.address.clone(), way.port, ip, port).await;
    let Ok(channel) = opened else {
        // nothing listens where the client would lead it
        incoming.refuse().await;
        return Ok(());
    };
    let (reader, writer) = channel.split();
    let (inbox, outlet) = (way.inboxes.add(), Outlet::new(writer, way.client.clone()));
    let carried = async {
        match incoming.take().await {
            Ok(stream) => splice(stream, &inbox, &outlet).await,
            Err(_) => outlet.close().await,
        }
    };
    tokio::select! {
        carried = carried => carried,
        () = fill(&inbox, reader) => Err(Gone),
    }
}

/// Puts what the client sends into the inbox, until it closes the channel before it has sent all.
async fn fill(inbox: &Inbox, mut reader: ChannelReadHalf) {
    let mut whole = false;
    while let Some(message) = reader.wait().await {
        match message {
            ChannelMsg::Data { data } => inbox.put(&data).await,
            ChannelMsg::Eof => {
                inbox.end();
                whole = true;
            }
            ChannelMsg::Close => break,
            _ => {}
        }
    }
    // both have said all, and some of it is still to be carried
    if whole {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_address_is_loopback_or_nothing() {
        for address in ["", "*", "localhost", "127.0.0.1"] {
            assert_eq!(where_to_listen(address), Some(Ipv4Addr::LOCALHOST.into()));
        }
        assert_eq!(where_to_listen("::1"), Some("::1".parse().unwrap()));
        assert_eq!(where_to_listen("gateway"), None);
    }
}
