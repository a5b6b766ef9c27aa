//! Searches and reconciliation between nodes: who is known as an indexer, and what becomes of questions.

use crate::support::{TCP, address, beside, config, listening, start, until_connected, within};
use market::refusal::RefusalCode;
use network::{AskError, Config, Handle, Interest, Network, PeerId};
use wire::proto::{
    SearchPage, SearchRequest, SearchResponse, SyncFrame, SyncNext, SyncRequest, SyncResponse,
    search_response::Response, sync_request, sync_response,
};

async fn indexer() -> Network {
    start(Config { listen: vec![TCP.parse().unwrap()], indexes: true, ..config() }).await
}

async fn until_indexers(handle: &Handle, indexers: &[PeerId]) {
    let mut known = handle.watch_indexers();
    within("the indexers", known.wait_for(|known| known.as_slice() == indexers)).await.unwrap();
}

fn question() -> SearchRequest {
    SearchRequest { query: "cpus>=2".to_owned(), limit: 5, ..SearchRequest::default() }
}

fn code(response: SearchResponse) -> RefusalCode {
    match response.response {
        Some(Response::Refusal(refusal)) => wire::refusal_from_proto(refusal).code,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_searches_is_known_while_it_is_connected() {
    let (indexer, other) = (indexer().await, listening(TCP).await);
    let renter = start(Config { bootstrap: vec![address(&indexer), address(&other)], ..config() }).await;
    let (handle, peer) = (renter.handle(), indexer.handle().local_peer_id());
    until_connected(&handle, other.handle().local_peer_id()).await;
    until_indexers(&handle, &[peer]).await;
    assert!(indexer.handle().indexers().is_empty(), "a renter is no indexer");
    indexer.shutdown().await;
    until_indexers(&handle, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_reaches_the_indexer_role_and_its_answer_comes_back() {
    let indexer = indexer().await;
    let renter = beside(&indexer, Interest::none()).await;
    let (handle, to) = (renter.handle(), indexer.handle().local_peer_id());
    let refused = within("a refusal", handle.ask_search(to, question())).await.unwrap();
    assert_eq!(code(refused), RefusalCode::Draining, "before the role is there");

    let mut searches = indexer.handle().search_requests().unwrap();
    assert!(indexer.handle().search_requests().is_none(), "taken twice");
    let page = SearchResponse { response: Some(Response::Page(SearchPage { held: 7, ..SearchPage::default() })) };
    let answer = page.clone();
    let serving = tokio::spawn(async move {
        let incoming = searches.recv().await.unwrap();
        assert_eq!(incoming.request, question());
        incoming.reply.send(answer);
        incoming.peer
    });
    assert_eq!(within("an answer", handle.ask_search(to, question())).await.unwrap(), page);
    assert_eq!(serving.await.unwrap(), handle.local_peer_id());
    assert_eq!(indexer.handle().counters().searches_received.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_reconciliation_reaches_the_other_indexer() {
    let (there, here) = (indexer().await, indexer().await);
    let handle = here.handle();
    handle.dial(address(&there)).await.unwrap();
    let mut frames = there.handle().sync_requests().unwrap();
    tokio::spawn(async move {
        let incoming = frames.recv().await.unwrap();
        let Some(sync_request::Request::Next(SyncNext { frame })) = incoming.request.request else { panic!("another") };
        let frame = SyncFrame { frame };
        incoming.reply.send(SyncResponse { response: Some(sync_response::Response::Frame(frame)) });
    });
    let frame = sync_request::Request::Next(SyncNext { frame: vec![5; 1_000] });
    let frame = SyncRequest { request: Some(frame) };
    let answer = within("an answer", handle.ask_sync(there.handle().local_peer_id(), frame)).await.unwrap();
    let echoed = sync_response::Response::Frame(SyncFrame { frame: vec![5; 1_000] });
    assert_eq!(answer.response, Some(echoed));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_indexer_does_not_speak_the_protocol() {
    let node = listening(TCP).await;
    let renter = beside(&node, Interest::none()).await;
    let (handle, to) = (renter.handle(), node.handle().local_peer_id());
    let error = within("an error", handle.ask_search(to, question())).await.unwrap_err();
    assert!(matches!(error, AskError::Unsupported(ref name) if name == "/gpulease/search/1"), "{error:?}");
    let error = within("an error", handle.ask_sync(to, SyncRequest::default())).await.unwrap_err();
    assert!(matches!(error, AskError::Unsupported(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_searches_too_often_is_told_so() {
    let indexer = indexer().await;
    let mut searches = indexer.handle().search_requests().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = searches.recv().await {
            incoming.reply.send(SearchResponse { response: Some(Response::Page(SearchPage::default())) });
        }
    });
    let renter = beside(&indexer, Interest::none()).await;
    let (handle, to) = (renter.handle(), indexer.handle().local_peer_id());
    let limited = async {
        loop {
            let answer = handle.ask_search(to, question()).await.unwrap();
            if matches!(answer.response, Some(Response::Refusal(_))) {
                break code(answer);
            }
        }
    };
    assert_eq!(within("the limit", limited).await, RefusalCode::RateLimited);
    assert_eq!(indexer.handle().counters().rate_limited.get(), 1);
}
