//! Streams into rentals through the daemon.

use super::*;
use access::{AccessError, door::Door};
use network::{read_message, write_message};
use sandbox::ByteStream;
use tokio::io::{DuplexStream, duplex};
use wire::{
    MAX_MESSAGE_BYTES,
    proto::{self, process_input::Frame, session_header::Kind},
};

/// A rental that accepts every stream and hands its other end to the test.
#[derive(Debug)]
pub(super) struct Accepts(pub(super) mpsc::Sender<(Kind, DuplexStream)>);

impl Door for Accepts {
    fn open(&self, kind: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
        async move {
            let (near, far) = duplex(1024);
            self.0.send((kind, far)).await.unwrap();
            Ok(Box::new(near) as ByteStream)
        }
        .boxed()
    }
}

/// A rental that cannot be reached now.
#[derive(Debug)]
struct Away;

impl Door for Away {
    fn open(&self, _: Kind) -> BoxFuture<'_, Result<ByteStream, AccessError>> {
        std::future::ready(Err(AccessError::Truncated)).boxed()
    }
}

async fn accepting() -> (Daemon, mpsc::Receiver<(Kind, DuplexStream)>) {
    let (accepted, opened) = mpsc::channel(4);
    let fake = Fake { door: Some(Arc::new(Accepts(accepted))), ..Fake::default() };
    (Daemon::start(fake).await, opened)
}

fn dial() -> Kind {
    Kind::Dial(proto::Dial { to: Some(proto::dial::To::Port(8888)) })
}

#[tokio::test]
async fn a_stream_into_a_rental_carries_bytes_both_ways_and_each_end_ends_its_half() {
    let (daemon, mut opened) = accepting().await;
    let mut here = daemon.client().await.door("0xabcd", Visitor::Exec).open(dial()).await.unwrap();
    let (kind, mut there) = opened.recv().await.unwrap();
    assert_eq!(kind, dial());
    here.write_all(&[7; 100_000]).await.unwrap();
    let question = tokio::spawn(async move {
        let mut question = Vec::new();
        there.read_to_end(&mut question).await.unwrap();
        there.write_all(b"answer").await.unwrap();
        question.len()
    });
    here.shutdown().await.unwrap();
    let mut answer = String::new();
    here.read_to_string(&mut answer).await.unwrap();
    assert_eq!((question.await.unwrap(), answer.as_str()), (100_000, "answer"));
    assert_eq!(*daemon.fake.asked.lock().unwrap(), ["door 0xabcd exec"]);
}

#[tokio::test]
async fn a_command_that_vanishes_hangs_up_what_it_ran() {
    let (daemon, mut opened) = accepting().await;
    let mut here =
        daemon.client().await.door("0xabcd", Visitor::Exec).open(Kind::Exec(proto::Exec::default())).await.unwrap();
    let (_, mut there) = opened.recv().await.unwrap();
    let signal = proto::ProcessInput { frame: Some(Frame::Signal(2)) };
    write_message(&mut here, &signal, MAX_MESSAGE_BYTES).await.unwrap();
    // the beginning of a frame, as a command leaves it that is killed while it writes
    here.write_all(&[200, 1, 0]).await.unwrap();
    here.flush().await.unwrap();
    drop(here);
    let heard: proto::ProcessInput = read_message(&mut there, MAX_MESSAGE_BYTES).await.unwrap().unwrap();
    assert_eq!(heard, signal);
    let heard: proto::ProcessInput = read_message(&mut there, MAX_MESSAGE_BYTES).await.unwrap().unwrap();
    assert_eq!(heard.frame, Some(Frame::HangUp(proto::HangUp {})));
    assert!(read_message::<proto::ProcessInput, _>(&mut there, MAX_MESSAGE_BYTES).await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_daemon_refuses_is_refused_for_good_and_what_passes_is_said_to() {
    let error = ApiError::new(ErrorKind::Usage, "no running rental begins with `0xabcd`", "see `node ps`");
    let daemon = Daemon::start(Fake { fails: Mutex::new(Some(error)), ..Fake::default() }).await;
    let refused = daemon.client().await.door("0xabcd", Visitor::Exec).open(dial()).await.map(|_| ()).unwrap_err();
    assert!(!refused.is_passing() && refused.to_string().contains("no running rental"), "{refused}");

    let daemon = Daemon::start(Fake { door: Some(Arc::new(Away)), ..Fake::default() }).await;
    let away = daemon.client().await.door("0xabcd", Visitor::Exec).open(dial()).await.map(|_| ()).unwrap_err();
    assert!(away.is_passing(), "{away}");
}

#[tokio::test]
async fn a_request_for_a_stream_without_an_upgrade_says_what_it_needs() {
    let (daemon, _opened) = accepting().await;
    let (status, body) =
        daemon.raw("POST /v1/rentals/0xabcd/stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status, 400);
    assert!(body.contains("Upgrade: gpulease-session"), "{body}");
}
