//! A link with delay and loss in front of a real node: whoever dials the proxy reaches the node, and every byte takes as long as the link
//! says. A lost packet is one that comes late, and everything behind it waits, as with TCP.

use crate::world::Micros;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{net::SocketAddr, ops::RangeInclusive, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// Pieces on their way in one direction: far more than fit a link at the rate of the test.
const ON_THE_WAY: usize = 1_024;
/// What is taken from a sender at once.
const PIECE: usize = 16 * 1_024;

/// What a link does.
#[derive(Clone, Debug)]
pub struct Line {
    /// One way; drawn anew for each connection.
    pub delay: RangeInclusive<Micros>,
    /// The share of pieces that are lost.
    pub lost: f64,
    /// After how long those are sent again.
    pub resent: Micros,
}

/// See the module. Ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where to dial.
    pub address: SocketAddr,
    node: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens at a free port of loopback; `seed` decides what is lost.
    pub async fn start(line: Line, seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (node, target) = watch::channel(None);
        let task = tokio::spawn(serve(listener, target, line, StdRng::seed_from_u64(seed)));
        Ok(Self { address, node, task })
    }

    /// Where the node listens; connections wait until that is known.
    pub fn stands_before(&self, node: SocketAddr) {
        self.node.send_replace(Some(node));
    }
}

async fn serve(listener: TcpListener, mut node: watch::Receiver<Option<SocketAddr>>, line: Line, mut rng: StdRng) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let Ok(Some(target)) = node.wait_for(Option::is_some).await.map(|node| *node) else { return };
        let (line, seeds) = (line.clone(), [rng.random(), rng.random()]);
        let delay = Duration::from_micros(rng.random_range(line.delay.clone()));
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            let smooth = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
            if smooth.is_err() {
                return;
            }
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            // a connection ends when either direction does
            tokio::select! {
                () = carry(near_read, far_write, delay, &line, seeds[0]) => {}
                () = carry(far_read, near_write, delay, &line, seeds[1]) => {}
            }
        });
    }
}

async fn carry(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, delay: Duration, line: &Line, seed: u64) {
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    tokio::join!(send(from, sender, delay, line, seed), receive(receiver, to));
}

async fn send(
    mut from: impl AsyncRead + Unpin,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    delay: Duration,
    line: &Line,
    seed: u64,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut last = Instant::now();
    let mut piece = vec![0; PIECE];
    while let Ok(length) = from.read(&mut piece).await {
        if length == 0 {
            return;
        }
        let again = if rng.random_bool(line.lost) { Duration::from_micros(line.resent) } else { Duration::ZERO };
        last = last.max(Instant::now() + delay + again);
        if pieces.send((last, piece[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn receive(mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: impl AsyncWrite + Unpin) {
    while let Some((at, piece)) = pieces.recv().await {
        sleep_until(at).await;
        if to.write_all(&piece).await.is_err() {
            return;
        }
    }
}
