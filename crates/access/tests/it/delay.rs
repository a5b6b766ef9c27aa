//! A long way between two nodes: what goes in comes out as it was, later.

use network::Multiaddr;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Pieces on the way: more than any protocol keeps there, so that it is the way that is long and not narrow.
const ON_THE_WAY: usize = 4096;

/// An address that leads to another one in so much time, each way.
pub(crate) async fn before(address: &Multiaddr, distance: Duration) -> Multiaddr {
    let port = address.to_string().rsplit('/').next().unwrap().parse::<u16>().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            let ((near_reader, near_writer), (far_reader, far_writer)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_reader, far_writer, distance));
            tokio::spawn(carry(far_reader, near_writer, distance));
        }
    });
    format!("/ip4/127.0.0.1/tcp/{near}").parse().unwrap()
}

async fn carry(
    mut reader: impl AsyncRead + Unpin + Send + 'static,
    mut writer: impl AsyncWrite + Unpin + Send + 'static,
    distance: Duration,
) {
    let (sender, mut receiver) = mpsc::channel(ON_THE_WAY);
    tokio::spawn(async move {
        loop {
            let mut piece = vec![0; 64 * 1024];
            let Ok(length @ 1..) = reader.read(&mut piece).await else { break };
            piece.truncate(length);
            if sender.send((Instant::now() + distance, piece)).await.is_err() {
                break;
            }
        }
    });
    while let Some((due, piece)) = receiver.recv().await {
        sleep_until(due).await;
        if writer.write_all(&piece).await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
}
