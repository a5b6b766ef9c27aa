//! A peer that speaks the protocols by hand and says what it likes: what becomes of messages that no honest node would send.

use crate::{
    rentals::{answer, question, refusal_code, serve},
    support::{
        NETWORK, TCP, address, beside, listening, names, sealed, start, until, until_connected, until_offers, within,
    },
};
use ::market::time::UnixMillis;
use alloy::primitives::keccak256;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder,
    gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode},
    identify,
    identity::Keypair,
    noise,
    request_response::{self, Message as Exchange, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use network::{AskError, Config, Interest, Multiaddr, Network, PeerId};
use prost::Message;
use std::{io, time::Duration};
use wire::proto::{
    Announcement, AnnouncementBody, OffersRequest, OffersResponse, RefusalCode, RentalResponse, offers_request::Request,
};

/// Bytes as they are, on a stream of their own.
#[derive(Clone, Default)]
struct Bytes;

impl request_response::Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        self.read_request(&StreamProtocol::new("/any"), io).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
    rental: request_response::Behaviour<Bytes>,
    offers: request_response::Behaviour<Bytes>,
}

struct Rogue {
    swarm: Swarm<Behaviour>,
    key: Keypair,
}

impl Rogue {
    fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let raw = |name| {
            let config = request_response::Config::default();
            request_response::Behaviour::<Bytes>::new([(StreamProtocol::new(name), ProtocolSupport::Full)], config)
        };
        let gossip = gossipsub::ConfigBuilder::default()
            .validation_mode(ValidationMode::Anonymous)
            .message_id_fn(|message| gossipsub::MessageId::from(keccak256(&message.data).to_vec()))
            .build()
            .unwrap();
        let behaviour = Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("gpulease/1".to_owned(), key.public())),
            gossip: gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, gossip).unwrap(),
            rental: raw("/gpulease/rental/1"),
            offers: raw("/gpulease/offers/1"),
        };
        let swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| behaviour)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        Self { swarm, key }
    }

    fn peer(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// Connects, and waits until the other side has said what it follows.
    async fn join(&mut self, place: Multiaddr) {
        self.swarm.dial(place).unwrap();
        within("a subscription", async {
            loop {
                let event = self.swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Subscribed { topic, .. })) = event
                    && topic == topic_of_cpu().hash()
                {
                    return;
                }
            }
        })
        .await;
    }

    /// Sends bytes as a rental request, and gives what came back.
    async fn ask(&mut self, peer: PeerId, bytes: Vec<u8>) -> Vec<u8> {
        self.swarm.behaviour_mut().rental.send_request(&peer, bytes);
        within("an answer", async {
            loop {
                match self.swarm.select_next_some().await {
                    SwarmEvent::Behaviour(BehaviourEvent::Rental(request_response::Event::Message {
                        message: Exchange::Response { response, .. },
                        ..
                    })) => return response,
                    SwarmEvent::Behaviour(BehaviourEvent::Rental(request_response::Event::OutboundFailure {
                        error,
                        ..
                    })) => {
                        panic!("{error}")
                    }
                    SwarmEvent::ConnectionClosed { .. } => panic!("the connection was closed"),
                    _ => {}
                }
            }
        })
        .await
    }

    /// Answers every question for advertisements with the one and every rental request with the other; its list is empty.
    async fn answer_everything(mut self, offers: Vec<u8>, rental: Vec<u8>) {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(BehaviourEvent::Offers(request_response::Event::Message {
                    message: Exchange::Request { channel, request, .. },
                    ..
                })) => {
                    let request = OffersRequest::decode_length_delimited(request.as_slice()).unwrap();
                    let answer = if let Some(Request::Get(_)) = request.request { offers.clone() } else { vec![0] };
                    self.swarm.behaviour_mut().offers.send_response(channel, answer).unwrap();
                }
                SwarmEvent::Behaviour(BehaviourEvent::Rental(request_response::Event::Message {
                    message: Exchange::Request { channel, .. },
                    ..
                })) => self.swarm.behaviour_mut().rental.send_response(channel, rental.clone()).unwrap(),
                _ => {}
            }
        }
    }

    fn publish(&mut self, announcement: Vec<u8>) {
        self.swarm.behaviour_mut().gossip.publish(topic_of_cpu(), announcement).unwrap();
    }

    /// An announcement by the letter of the specification.
    fn announcement(&self, seq: u64, ad: &[u8]) -> Vec<u8> {
        let body = AnnouncementBody {
            peer: self.peer().to_bytes(),
            seq,
            expires: seq + 600_000,
            body_hash: keccak256(ad).to_vec(),
            classes: vec!["cpu".to_owned()],
        }
        .encode_to_vec();
        let signature = self.key.sign(&[b"gpulease-announcement-v1".as_slice(), &body].concat()).unwrap();
        Announcement { body, signature, public_key: self.key.public().encode_protobuf() }.encode_to_vec()
    }
}

fn topic_of_cpu() -> IdentTopic {
    IdentTopic::new(format!("/gpulease/1/{NETWORK}/ads/cpu"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_long_or_unreadable_gets_a_typed_answer_and_the_connection_lives_on() {
    let provider = listening(TCP).await;
    serve(&provider.handle());
    let peer = provider.handle().local_peer_id();
    let mut rogue = Rogue::new();
    rogue.join(address(&provider)).await;

    let too_long = question(400_000).encode_length_delimited_to_vec();
    let unreadable = vec![3, 0xff, 0xff, 0xff];
    let no_length = vec![0xff; 20];
    for bytes in [too_long, unreadable, no_length] {
        let answer = rogue.ask(peer, bytes).await;
        let answer = RentalResponse::decode_length_delimited(answer.as_slice()).unwrap();
        assert_eq!(refusal_code(answer), RefusalCode::BadRequest);
    }
    let good = rogue.ask(peer, question(1).encode_length_delimited_to_vec()).await;
    assert_eq!(good, answer().encode_length_delimited_to_vec());
    let handle = provider.handle();
    assert_eq!((handle.counters().messages_oversize.get(), handle.counters().messages_malformed.get()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_or_unreadable_is_a_typed_error() {
    for (bytes, is_expected) in [
        (vec![0xff, 0xff, 0xff, 0x7f], (|error| matches!(error, AskError::Oversize)) as fn(&AskError) -> bool),
        (vec![3, 0xff, 0xff, 0xff], |error| matches!(error, AskError::Malformed)),
        (Vec::new(), |error| matches!(error, AskError::Lost)),
    ] {
        let renter = listening(TCP).await;
        let mut rogue = Rogue::new();
        let peer = rogue.peer();
        rogue.join(address(&renter)).await;
        let rogue = tokio::spawn(rogue.answer_everything(Vec::new(), bytes));
        let error = within("an answer", renter.handle().ask(peer, question(1))).await.unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        rogue.abort();
    }
}

/// A hub that the rogue is connected to, and a node behind it that would see whatever the hub passes on.
async fn hub_and_witness() -> (Network, Network) {
    let hub = listening(TCP).await;
    let witness = beside(&hub, Interest::All).await;
    (hub, witness)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_announcement_is_counted_and_not_passed_on() {
    let (hub, witness) = hub_and_witness().await;
    let mut rogue = Rogue::new();
    rogue.join(address(&hub)).await;
    let now = UnixMillis::now().0;
    let ad = sealed(&rogue.key, now, 600_000, "slot");
    let mut corrupt = rogue.announcement(now, &ad);
    let last = corrupt.len() / 2;
    corrupt[last] ^= 1;
    rogue.publish(corrupt);
    let ad = sealed(&rogue.key, now + 1, 600_000, "slot");
    let honest = rogue.announcement(now + 1, &ad);
    rogue.publish(honest);
    let offers = OffersResponse { ads: vec![ad], next: Vec::new() }.encode_length_delimited_to_vec();
    let driving = tokio::spawn(rogue.answer_everything(offers, Vec::new()));

    let handle = hub.handle();
    until("the verdict", || handle.counters().announcements_rejected.get() == 1).await;
    until("the honest one", || witness.handle().counters().announcements_accepted.get() == 1).await;
    assert_eq!(witness.handle().counters().announcements_rejected.get(), 0);
    driving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_advertisement_is_refused_counted_and_neither_given_nor_announced_to_anybody() {
    let (hub, witness) = hub_and_witness().await;
    let mut rogue = Rogue::new();
    rogue.join(address(&hub)).await;
    let now = UnixMillis::now().0;
    let mut ad = sealed(&rogue.key, now, 600_000, "slot");
    let middle = ad.len() / 2;
    ad[middle] ^= 1;
    let announcement = rogue.announcement(now, &ad);
    rogue.publish(announcement);
    let offers = OffersResponse { ads: vec![ad], next: Vec::new() }.encode_length_delimited_to_vec();
    let driving = tokio::spawn(rogue.answer_everything(offers, Vec::new()));

    let handle = hub.handle();
    until("the refusal", || handle.counters().ads_bad_signature.get() > 0).await;
    until("giving up", || handle.counters().pulls_abandoned.get() == 1).await;
    assert!(handle.offers().is_empty() && witness.handle().offers().is_empty());
    assert_eq!(handle.counters().announcements_accepted.get(), 0);
    assert_eq!(witness.handle().counters().gossip_received.get(), 0);
    driving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advertisement_that_is_not_the_announced_one_is_refused() {
    let hub = listening(TCP).await;
    let mut rogue = Rogue::new();
    rogue.join(address(&hub)).await;
    let now = UnixMillis::now().0;
    let announcement = rogue.announcement(now, b"another advertisement");
    rogue.publish(announcement);
    let ad = sealed(&rogue.key, now, 600_000, "slot");
    let offers = OffersResponse { ads: vec![ad], next: Vec::new() }.encode_length_delimited_to_vec();
    let driving = tokio::spawn(rogue.answer_everything(offers, Vec::new()));
    let handle = hub.handle();
    until("the refusal", || handle.counters().ads_bad_signature.get() > 0).await;
    assert!(handle.offers().is_empty());
    driving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_by_the_letter_of_the_specification_is_heard() {
    let hub = listening(TCP).await;
    let renter = start(Config { bootstrap: vec![address(&hub)], ..crate::support::config() }).await;
    until_connected(&renter.handle(), hub.handle().local_peer_id()).await;
    let mut rogue = Rogue::new();
    rogue.join(address(&hub)).await;
    let now = UnixMillis::now().0;
    let ad = sealed(&rogue.key, now, 600_000, "by hand");
    let announcement = rogue.announcement(now, &ad);
    rogue.publish(announcement);
    let offers = OffersResponse { ads: vec![ad], next: Vec::new() }.encode_length_delimited_to_vec();
    let driving = tokio::spawn(rogue.answer_everything(offers, Vec::new()));
    until_offers(&renter.handle(), "the offer", |offers| names(offers) == ["by hand"]).await;
    driving.abort();
}
