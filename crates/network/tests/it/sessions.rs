//! Session streams: none is lost, each is accepted or refused in so many words, and both directions end on their own.

use crate::support::{QUIC, TCP, beside, listening, until, within};
use ::market::refusal::{Refusal, RefusalCode};
use network::{Handle, Interest, Network, OpenError, PeerId, SessionStream, read_message, write_message};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};
use wire::proto::{
    FileFrame, LogFrame, ReadLogs, SessionGrant, SessionHeader, file_frame::Frame, session_header::Kind,
};

fn header(from: u64) -> SessionHeader {
    SessionHeader { grant: Some(SessionGrant::default()), kind: Some(Kind::Logs(ReadLogs { from, follow: false })) }
}

/// Sends back whatever comes, and ends when the other side does.
fn echo(handle: &Handle) {
    let mut sessions = handle.session_requests().unwrap();
    tokio::spawn(async move {
        while let Some(session) = sessions.recv().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(session.accept().await.unwrap());
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
        }
    });
}

async fn pair(transport: &str) -> (Network, Network, PeerId) {
    let provider = listening(transport).await;
    let renter = beside(&provider, Interest::none()).await;
    let peer = provider.handle().local_peer_id();
    (provider, renter, peer)
}

async fn all_of_two_hundred_streams_echo(transport: &str) {
    let (provider, renter, peer) = pair(transport).await;
    echo(&provider.handle());
    let mut streams = JoinSet::new();
    for number in 0..200_u64 {
        let handle = renter.handle();
        streams.spawn(async move {
            let mut stream = handle.open_session(peer, header(number)).await.unwrap();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert_eq!(back, number.to_be_bytes());
        });
    }
    within("every echo", async {
        while let Some(done) = streams.join_next().await {
            done.unwrap();
        }
    })
    .await;
    assert_eq!(provider.handle().counters().sessions_dropped.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_streams_opened_at_once_none_is_lost_over_tcp() {
    all_of_two_hundred_streams_echo(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_streams_opened_at_once_none_is_lost_over_quic() {
    all_of_two_hundred_streams_echo(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_learns_who_opens_and_the_opener_why_not() {
    for transport in [TCP, QUIC] {
        let (provider, renter, peer) = pair(transport).await;
        let mut sessions = provider.handle().session_requests().unwrap();
        let opener = renter.handle();
        let opening = tokio::spawn(async move { opener.open_session(peer, header(3)).await });
        let session = within("the stream", sessions.recv()).await.unwrap();
        assert_eq!((session.peer, &session.header), (renter.handle().local_peer_id(), &header(3)));
        let refusal = Refusal::new(RefusalCode::NoSuchRental, "never heard of it");
        session.refuse(refusal.clone()).await.unwrap();
        match within("the refusal", opening).await.unwrap() {
            Err(OpenError::Refused(told)) => assert_eq!(told, refusal),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_dropped_unanswered_and_a_node_without_sessions_are_told_apart() {
    let (provider, renter, peer) = pair(TCP).await;
    match renter.handle().open_session(peer, header(0)).await {
        Err(OpenError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::Draining),
        other => panic!("{other:?}"),
    }
    let mut sessions = provider.handle().session_requests().unwrap();
    let opener = renter.handle();
    let opening = tokio::spawn(async move { opener.open_session(peer, header(0)).await });
    drop(within("the stream", sessions.recv()).await.unwrap());
    assert!(matches!(opening.await.unwrap(), Err(OpenError::NoAnswer)));
}

async fn frames(stream: &mut SessionStream) -> usize {
    let mut count = 0;
    while let Some(LogFrame { .. }) = read_message(stream, wire::MAX_MESSAGE_BYTES).await.unwrap() {
        count += 1;
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn each_direction_ends_on_its_own() {
    for transport in [TCP, QUIC] {
        let (provider, renter, peer) = pair(transport).await;
        let mut sessions = provider.handle().session_requests().unwrap();
        let serving = tokio::spawn(async move {
            let mut stream = sessions.recv().await.unwrap().accept().await.unwrap();
            // the renter's half is over before ours begins
            assert_eq!(frames(&mut stream).await, 3);
            for _ in 0..1_000 {
                write_message(&mut stream, &LogFrame::default(), wire::MAX_MESSAGE_BYTES).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        });
        let mut stream = renter.handle().open_session(peer, header(0)).await.unwrap();
        for _ in 0..3 {
            write_message(&mut stream, &LogFrame::default(), wire::MAX_MESSAGE_BYTES).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        assert_eq!(within("the other half", frames(&mut stream)).await, 1_000);
        serving.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_larger_than_every_window_arrives_whole() {
    const FRAMES: u8 = 255;
    for transport in [TCP, QUIC] {
        let (provider, renter, peer) = pair(transport).await;
        let mut sessions = provider.handle().session_requests().unwrap();
        let sending = tokio::spawn(async move {
            let mut stream = sessions.recv().await.unwrap().accept().await.unwrap();
            for number in 0..FRAMES {
                let frame = FileFrame { frame: Some(Frame::Data(vec![number; wire::MAX_DATA_BYTES])) };
                write_message(&mut stream, &frame, wire::MAX_MESSAGE_BYTES).await.unwrap();
            }
            stream.shutdown().await.unwrap();
        });
        let mut stream = renter.handle().open_session(peer, header(0)).await.unwrap();
        for number in 0..FRAMES {
            let frame =
                within("a frame", read_message::<FileFrame, _>(&mut stream, wire::MAX_MESSAGE_BYTES)).await.unwrap();
            assert_eq!(frame.unwrap().frame, Some(Frame::Data(vec![number; wire::MAX_DATA_BYTES])));
        }
        assert_eq!(read_message::<FileFrame, _>(&mut stream, wire::MAX_MESSAGE_BYTES).await.unwrap(), None);
        sending.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_queue_is_refused_in_words_and_the_rest_is_served_later() {
    let (provider, renter, peer) = pair(TCP).await;
    let mut sessions = provider.handle().session_requests().unwrap();
    let mut opening = JoinSet::new();
    for number in 0..300 {
        let handle = renter.handle();
        opening.spawn(async move { handle.open_session(peer, header(number)).await });
    }
    for _ in 0..44 {
        match within("a refusal", opening.join_next()).await.unwrap().unwrap() {
            Err(OpenError::Refused(refusal)) => assert_eq!(refusal.code, RefusalCode::RateLimited),
            other => panic!("{other:?}"),
        }
    }
    until("the count", || provider.handle().counters().sessions_queue_full.get() == 44).await;
    tokio::spawn(async move {
        while let Some(session) = sessions.recv().await {
            session.accept().await.unwrap();
        }
    });
    while let Some(opened) = within("the rest", opening.join_next()).await {
        opened.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_found_is_unreachable() {
    let (_provider, renter, _) = pair(TCP).await;
    let opened = within("the search", renter.handle().open_session(PeerId::random(), header(0))).await;
    assert!(matches!(opened, Err(OpenError::Unreachable)));
}
