//! Questions between a renter and a provider.

use crate::support::{QUIC, TCP, beside, listening, within};
use network::{AskError, Handle, Interest, PeerId};
use wire::proto::{
    Phase, Refusal, RefusalCode, RentalRequest, RentalResponse, Status, StatusRequest, rental_request::Request,
    rental_response::Response,
};

pub(crate) fn question(bytes: usize) -> RentalRequest {
    RentalRequest { request: Some(Request::Status(StatusRequest { id: vec![1; bytes] })) }
}

pub(crate) fn answer() -> RentalResponse {
    RentalResponse { response: Some(Response::Status(Status { phase: Phase::Serving.into(), ..Status::default() })) }
}

/// Answers every question, until the node ends.
pub(crate) fn serve(handle: &Handle) {
    let mut requests = handle.rental_requests().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = requests.recv().await {
            incoming.reply.send(answer());
        }
    });
}

pub(crate) fn refusal_code(response: RentalResponse) -> RefusalCode {
    match response.response {
        Some(Response::Refusal(Refusal { code, .. })) => code.try_into().unwrap(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_over_tcp_and_over_quic() {
    for transport in [TCP, QUIC] {
        let provider = listening(transport).await;
        serve(&provider.handle());
        let renter = beside(&provider, Interest::none()).await;
        let asked = renter.handle().ask(provider.handle().local_peer_id(), question(32)).await;
        assert_eq!(asked.unwrap(), answer());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_learns_who_asks_and_what() {
    let provider = listening(TCP).await;
    let mut requests = provider.handle().rental_requests().unwrap();
    assert!(provider.handle().rental_requests().is_none(), "taken twice");
    let renter = beside(&provider, Interest::none()).await;
    let (me, to, handle) = (renter.handle().local_peer_id(), provider.handle().local_peer_id(), renter.handle());
    let asking = tokio::spawn(async move { handle.ask(to, question(7)).await });
    let incoming = within("the question", requests.recv()).await.unwrap();
    assert_eq!((incoming.peer, incoming.request), (me, question(7)));
    drop(incoming.reply);
    assert_eq!(refusal_code(asking.await.unwrap().unwrap()), RefusalCode::Internal);
    assert_eq!(provider.handle().counters().rentals_unanswered.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_rents_nothing_out_says_so() {
    let node = listening(TCP).await;
    let renter = beside(&node, Interest::none()).await;
    let asked = renter.handle().ask(node.handle().local_peer_id(), question(32)).await;
    assert_eq!(refusal_code(asked.unwrap()), RefusalCode::NoSuchSlot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_is_too_long_is_not_sent() {
    let node = listening(TCP).await;
    let asked = node.handle().ask(PeerId::random(), question(70_000)).await;
    assert!(matches!(asked, Err(AskError::RequestTooLong { limit: 65_536, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_cannot_be_found_is_unreachable() {
    let hub = listening(TCP).await;
    let renter = beside(&hub, Interest::none()).await;
    let nobody = PeerId::random();
    let asked = within("the search", renter.handle().ask(nobody, question(1))).await;
    assert!(matches!(asked, Err(AskError::Unreachable(peer)) if peer == nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_in_words() {
    let provider = listening(TCP).await;
    // taken, but never read
    let _requests = provider.handle().rental_requests().unwrap();
    let to = provider.handle().local_peer_id();
    let mut asking = tokio::task::JoinSet::new();
    // three renters, since one connection carries a hundred questions at most
    let mut renters = Vec::new();
    for _ in 0..3 {
        let renter = beside(&provider, Interest::none()).await;
        for _ in 0..60 {
            let handle = renter.handle();
            asking.spawn(async move { handle.ask(to, question(1)).await });
        }
        renters.push(renter);
    }
    for _ in 0..52 {
        let refused = within("a refusal", asking.join_next()).await.unwrap().unwrap().unwrap();
        assert_eq!(refusal_code(refused), RefusalCode::RateLimited);
    }
    assert_eq!(provider.handle().counters().rentals_queue_full.get(), 52);
}
