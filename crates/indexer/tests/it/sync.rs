//! Books become equal between real indexers; whoever cheats gains nothing and costs little.

use crate::support::{Provider, address, indexer, node, until, until_holds, within};
use indexer::sync::AdId;
use network::{Handle, IncomingSync, Network, PeerId};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::mpsc;
use wire::{SyncAnswer, SyncAsk};

fn providers(count: usize) -> Vec<Provider> {
    std::iter::repeat_with(Provider::new).take(count).collect()
}

async fn connect(one: &Network, other: &Network) {
    within("a connection", one.handle().dial(address(other))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_indexers_with_different_books_end_equal() {
    let providers = providers(60);
    let (mut one, mut other, mut newest) = (Vec::new(), Vec::new(), Vec::new());
    for (number, provider) in providers.iter().enumerate() {
        let (old, new) = (provider.ad(300), provider.ad(20));
        match number % 6 {
            0 => one.push(new.clone()),
            1 => other.push(new.clone()),
            2 => {
                one.push(new.clone());
                other.push(new.clone());
            }
            3 => {
                one.push(new.clone());
                other.push(old);
            }
            4 => {
                one.push(old);
                other.push(new.clone());
            }
            _ => {
                let gone = provider.withdrawal(20);
                one.push(old);
                other.push(gone.clone());
                newest.push(gone);
                continue;
            }
        }
        newest.push(new);
    }
    let (one, other) = (indexer(&one).await, indexer(&other).await);
    connect(&one, &other).await;
    let all: Vec<&Provider> = providers.iter().collect();
    until_holds(&one.handle(), "one book", &all, &newest).await;
    until_holds(&other.handle(), "the other book", &all, &newest).await;
    for node in [&one, &other] {
        assert_eq!(node.handle().held().providers, 50, "ten have withdrawn");
        let counters = node.handle();
        let counters = counters.counters();
        assert_eq!(counters.offers_sent.get(), 0, "no list was read");
        assert_eq!(counters.ads_stale.get(), 0, "nothing was fetched that was no news");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_the_whole_book_and_passes_it_on() {
    let providers = providers(300);
    let ads: Vec<_> = providers.iter().map(|provider| provider.ad(30)).collect();
    let (full, newcomer, next) = (indexer(&ads).await, indexer(&[]).await, indexer(&[]).await);
    connect(&newcomer, &full).await;
    let all: Vec<&Provider> = providers.iter().collect();
    until_holds(&newcomer.handle(), "the newcomer's book", &all, &ads).await;
    connect(&newcomer, &next).await;
    until_holds(&next.handle(), "the next one's book", &all, &ads).await;
    assert_eq!(newcomer.handle().counters().ads_accepted.get(), 300);
}

/// Answers every question of reconciliation as `answer` says, and counts those of `victim`; others may find the way here as well.
fn cheat(handle: &Handle, victim: PeerId, answer: impl Fn(SyncAsk) -> SyncAnswer + Send + 'static) -> Arc<AtomicUsize> {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut requests: mpsc::Receiver<IncomingSync> = handle.sync_requests().unwrap();
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(incoming) = requests.recv().await {
            counted.fetch_add((incoming.peer == victim).into(), Ordering::SeqCst);
            let ask = wire::sync_from_proto(incoming.request).unwrap();
            incoming.reply.send(wire::sync_answer_to_proto(answer(ask)));
        }
    });
    asked
}

/// An honest indexer meets a cheat, and then another honest one, with which its book becomes equal all the same.
async fn survives(answer: impl Fn(SyncAsk) -> SyncAnswer + Send + 'static, most_questions: usize) {
    let providers = providers(20);
    let ads: Vec<_> = providers.iter().map(|provider| provider.ad(30)).collect();
    let (cheat_node, victim, friend) = (node(None).await, indexer(&[]).await, indexer(&ads).await);
    let asked = cheat(&cheat_node.handle(), victim.handle().local_peer_id(), answer);
    connect(&victim, &cheat_node).await;
    until("a question to the cheat", || asked.load(Ordering::SeqCst) > 0).await;
    connect(&victim, &friend).await;
    let all: Vec<&Provider> = providers.iter().collect();
    until_holds(&victim.handle(), "the book", &all, &ads).await;
    let questions = asked.load(Ordering::SeqCst);
    assert!(questions <= most_questions, "{questions} questions to a cheat");
    assert_eq!(victim.handle().held().providers, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_with_garbage_is_asked_once() {
    survives(|_| SyncAnswer::Frame(vec![0x61, 9, 9, 9, 9]), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_comes_to_an_end_is_left_after_so_many_rounds() {
    let endless = [&[0x61, 0, 0, 1][..], &[0xee; 16]].concat();
    survives(move |_| SyncAnswer::Frame(endless.clone()), indexer::sync::MAX_ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_names_what_does_not_exist_is_left_after_one_answer() {
    let made_up = |_: usize| {
        let peer = PeerId::random();
        AdId::new(&peer, market::time::UnixMillis::now().0 - 60_000).to_bytes()
    };
    let ids: Vec<_> = (0..1_000).map(made_up).collect();
    let answer = move |ask| match ask {
        // the ids up to the end of time, 1,000 of them
        SyncAsk::Open { .. } => SyncAnswer::Frame([&[0x61, 0, 0, 2, 0x87, 0x68][..], &ids.concat()].concat()),
        SyncAsk::Fetch(ids) => SyncAnswer::Ads { ads: Vec::new(), answered: ids.len() },
        other => panic!("{other:?}"),
    };
    survives(answer, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_what_nobody_signed_is_left_after_one_answer() {
    let ids: Vec<_> =
        (0..100).map(|_| AdId::new(&PeerId::random(), market::time::UnixMillis::now().0 - 60_000)).collect();
    let ids: Vec<_> = ids.into_iter().map(AdId::to_bytes).collect();
    let answer = move |ask| match ask {
        SyncAsk::Open { .. } => SyncAnswer::Frame([&[0x61, 0, 0, 2, 100][..], &ids.concat()].concat()),
        SyncAsk::Fetch(ids) => SyncAnswer::Ads { ads: vec![vec![7; 600]; ids.len()], answered: ids.len() },
        other => panic!("{other:?}"),
    };
    survives(answer, 2).await;
}
