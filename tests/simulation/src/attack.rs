//! Those who would harm the market. All of them listen, take every place in a mesh that they are given, pass nothing on, and never answer a
//! question honestly; beside that each does its own harm, once a second, to every neighbour it has.

use crate::{
    gossip::Control,
    post::{Message, Post},
    provider::Provider,
    world::Micros,
};
use market::class::GpuClass;
use std::sync::Arc;
use wire::proto;

/// Providers that a spammer invents in a second, each with a valid signature and nothing behind it.
const INVENTED: u64 = 2;
/// Old announcements that are repeated in a second, each once as it was and once in another spelling.
const REPEATED: usize = 5;
/// Announcements that are forged in a second.
const FORGED: usize = 3;
/// Announcements remembered for that.
const REMEMBERED: usize = 64;

/// What one of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Noise, and announcements of providers that do not exist.
    Spam,
    /// Old announcements, and the same ones spelt otherwise.
    Replay,
    /// Announcements whose content was changed, and changed advertisements for whoever asks.
    Forgery,
    /// As many neighbours of one class as it can get, and silence.
    Eclipse,
}

impl Attack {
    pub(crate) const ALL: [Self; 4] = [Self::Spam, Self::Replay, Self::Forgery, Self::Eclipse];
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Attacker {
    attack: Attack,
    class: GpuClass,
    number: u64,
    acted: u64,
    /// What it heard, oldest first.
    heard: Vec<Arc<[u8]>>,
}

impl Attacker {
    pub(crate) fn new(attack: Attack, class: GpuClass, number: u64) -> Self {
        Self { attack, class, number, acted: 0, heard: Vec::new() }
    }

    /// Whether it wants more neighbours than others have.
    pub(crate) fn is_greedy(&self) -> bool {
        self.attack == Attack::Eclipse
    }

    /// What it answers.
    pub(crate) fn receive(&mut self, message: Message, post: &Post) -> Option<Message> {
        match message {
            Message::News(letter) => {
                let data = &post.letter(letter).data;
                if self.heard.len() < REMEMBERED && !self.heard.contains(data) {
                    self.heard.push(Arc::clone(data));
                }
                None
            }
            Message::Get(question, _) if self.attack == Attack::Forgery => {
                let forged = self.heard.last().map(|data| Arc::from([data, &b"forged"[..]].concat()));
                Some(Message::Ads(question, Vec::from_iter(forged), Vec::new()))
            }
            Message::Control(_) | Message::Get(..) | Message::List(..) | Message::Ads(..) => None,
        }
    }

    /// What it sends to every neighbour now.
    pub(crate) fn act(&mut self, post: &mut Post, now: Micros) -> Vec<Message> {
        self.acted += 1;
        let data = match self.attack {
            Attack::Spam => self.spam(post, now),
            Attack::Replay => self.replay(),
            Attack::Forgery => self.forge(),
            Attack::Eclipse => Vec::new(),
        };
        let graft = Message::Control(Control::Graft(self.class));
        let news = data.into_iter().map(|data| Message::News(post.number(self.class, &data)));
        std::iter::once(graft).chain(news).collect()
    }

    fn spam(&self, post: &Post, now: Micros) -> Vec<Arc<[u8]>> {
        let time = post.time(now);
        // numbers that no honest node has
        let first = (1 << 40) + ((self.number << 24) + self.acted) * INVENTED;
        let invented = (first..first + INVENTED).filter_map(|number| {
            let published = Provider::numbered(number, time).ok()?.publish(time.0, self.class).ok()?;
            Some(published.announcement)
        });
        let noise = Arc::from(format!("noise {} {}", self.number, self.acted).into_bytes());
        invented.chain([noise]).collect()
    }

    fn replay(&self) -> Vec<Arc<[u8]>> {
        let old = self.heard.iter().take(REPEATED);
        old.flat_map(|data| {
            // a field that nobody knows: the signed part is as it was
            let spelt = [data, &[0x78, self.acted as u8 & 0x7f][..]].concat();
            [Arc::clone(data), Arc::from(spelt)]
        })
        .collect()
    }

    fn forge(&self) -> Vec<Arc<[u8]>> {
        let forged = self.heard.iter().rev().take(FORGED).filter_map(|data| {
            let mut message: proto::Announcement = wire::decode(data, wire::MAX_ANNOUNCEMENT_BYTES).ok()?;
            let mut body: proto::AnnouncementBody = wire::decode(&message.body, wire::MAX_ANNOUNCEMENT_BYTES).ok()?;
            body.seq += 1_000 * self.acted;
            body.body_hash = vec![self.acted as u8; 32];
            message.body = wire::encode(&body);
            Some(Arc::from(wire::encode(&message)))
        });
        forged.collect()
    }
}
