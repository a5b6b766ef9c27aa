//! `node forward`: ports of this machine's loopback that lead into a rental; and the other way round, see [`super::back`].

use super::{Context, Failed, back, failed, guest, reached};
use crate::{cli, output::note};
use access::guest::Guest;
use api::types::{ApiError, ErrorKind, Visitor};
use sandbox::InnerAddress;
use serde::Serialize;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

/// Connections carried at once over all ports: as many as the daemon takes from this machine's commands together, less some for others.
pub(super) const MAX_CONNECTIONS: usize = 200;

/// One port here and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarding {
    here: u16,
    inside: InnerAddress,
}

/// What is printed of one.
#[derive(Serialize)]
pub(super) struct Listening {
    pub(super) listen: String,
    pub(super) to: String,
    /// Whether it listens in the rental and leads out of it.
    pub(super) inside: bool,
}

/// Reads `8888`, `9000:6006` or `9000:/run/app.sock`.
pub(crate) fn parse_forwarding(text: &str) -> Result<Forwarding, String> {
    let port = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port: give a number up to 65535"));
    let (here, inside) = match text.split_once(':') {
        Some((here, path)) if path.starts_with('/') => (port(here)?, InnerAddress::unix(path)),
        Some((here, inside)) => (port(here)?, InnerAddress::tcp("localhost", port(inside)?)),
        None => (port(text)?, InnerAddress::tcp("localhost", port(text)?)),
    };
    Ok(Forwarding { here, inside: inside.map_err(|error| error.to_string())? })
}

/// Forwards until it is interrupted.
pub(in crate::commands) async fn forward(context: &Context, args: cli::Forward) -> Result<u8, Failed> {
    // by its whole id from now on: a label may be another's tomorrow
    let guest = guest(context, &reached(context, &args.id).await?.id.to_string(), Visitor::Other).await?;
    let mut tasks = JoinSet::new();
    let mut listening = Vec::new();
    let places = places();
    for Forwarding { here, inside } in args.ports {
        let (listener, address) = listen(here).await?;
        listening.push(Listening { listen: address.to_string(), to: inside.to_string(), inside: false });
        tasks.spawn(serve(listener, guest.clone(), inside, Arc::clone(&places)));
    }
    for way in args.back {
        let listener = back::listen(&guest, &way).await?;
        listening.push(Listening { listen: listener.address().to_string(), to: way.to.to_string(), inside: true });
        tasks.spawn(back::serve(listener, way.to, Arc::clone(&places)));
    }
    context.output.result(&listening, |_| {
        let line = |one: &Listening| match one.inside {
            true => format!("{} inside leads to {}", one.listen, one.to),
            false => format!("{} leads to {} inside", one.listen, one.to),
        };
        listening.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    tokio::select! {
        _ = tasks.join_next() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(0)
}

/// Listens at a port of this machine's loopback; 0 is a free one.
pub(super) async fn listen(here: u16) -> Result<(TcpListener, SocketAddr), ApiError> {
    let failed = |error: io::Error| {
        let next = "choose another port here, such as 0 for a free one";
        ApiError::new(ErrorKind::Failed, format!("cannot listen on 127.0.0.1:{here}: {error}"), next)
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, here)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// As many connections as one command carries at once.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CONNECTIONS))
}

/// Carries every connection to an address inside.
pub(super) async fn serve(listener: TcpListener, guest: Guest, inside: InnerAddress, places: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        // the semaphore is never closed
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (guest, inside) = (guest.clone(), inside.clone());
                connections.spawn(async move {
                    carry(stream, &guest, &inside).await;
                    drop(place);
                });
            }
            Err(error) => note(&format!("a connection could not be taken: {error}")),
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut stream: TcpStream, guest: &Guest, inside: &InnerAddress) {
    // small answers are not to wait for more
    let _ = stream.set_nodelay(true);
    match guest.dial(inside).await {
        Ok(mut there) => {
            // either end may close as it likes
            let _ = copy_bidirectional(&mut stream, &mut there).await;
        }
        Err(error) => note(&failed(&error).message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_people_write_them() {
        let read = |text| parse_forwarding(text).map(|read| (read.here, read.inside.to_string()));
        assert_eq!(read("8888").unwrap().0, 8888);
        assert_eq!(parse_forwarding("9000:6006").unwrap().inside, InnerAddress::Localhost(6006));
        assert_eq!(parse_forwarding("0:/run/a.sock").unwrap().inside, InnerAddress::Unix("/run/a.sock".into()));
        for wrong in ["", "http", "70000", "8888:", "8888:0", "8888:x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
