//! This node's own advertisement: signed, announced on the topics of its classes, renewed long before it ends, and withdrawn by one
//! without offers.

use super::Node;
use crate::{
    ad::{self, CheckedAd},
    discovery::MIN_SEQ_STEP,
    error::PublishError,
    handle::AdDraft,
};
use ::market::{
    class::GpuClass,
    offer::{MAX_AD_LIFETIME, MAX_SKEW, ProviderAd},
    time::UnixMillis,
};
use libp2p::gossipsub::{PublishError as GossipError, TopicHash};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How far apart this node's own advertisements are: twice what others insist on.
const AD_SPACING: Duration = Duration::from_millis(2 * MIN_SEQ_STEP);

/// The last advertisement that was sent.
#[derive(Debug)]
struct Sent {
    classes: Vec<GpuClass>,
    /// Classes on whose topics the announcement is still to be sent: nobody followed them, or the queues were full.
    unsent: BTreeSet<GpuClass>,
    announcement: Vec<u8>,
    seq: u64,
    at: Instant,
}

#[derive(Debug)]
pub(super) struct OwnAd {
    /// How long each one lives, in milliseconds.
    lifetime: u64,
    /// What is advertised until further notice; without offers when a withdrawal is still to be sent.
    draft: Option<AdDraft>,
    sent: Option<Sent>,
    renew_at: Option<Instant>,
    withdrawn_at: Option<Instant>,
}

impl OwnAd {
    pub(super) fn new(lifetime: u64) -> Self {
        Self { lifetime: lifetime.min(MAX_AD_LIFETIME), draft: None, sent: None, renew_at: None, withdrawn_at: None }
    }

    /// When a withdrawal was made, or will be.
    pub(super) fn withdrawn_at(&self) -> Option<Instant> {
        match &self.draft {
            Some(draft) if draft.offers.is_empty() => self.renew_at,
            _ => self.withdrawn_at,
        }
    }
}

impl Node {
    pub(super) fn publish_draft(&mut self, draft: AdDraft) -> Result<(), PublishError> {
        let now = Instant::now();
        // checked even when it has to wait, so that whoever made it hears what is wrong
        let made = self.make_ad(&draft)?;
        match self.own_ad.sent.as_ref().map(|sent| sent.at + AD_SPACING).filter(|free| *free > now) {
            Some(free) => {
                self.own_ad.renew_at = Some(free);
                self.own_ad.draft = Some(draft);
                Ok(())
            }
            None => self.send_ad(made, draft, now),
        }
    }

    pub(super) fn withdraw(&mut self) -> Result<(), PublishError> {
        match self.own_ad.draft.clone() {
            Some(draft) => self.publish_draft(AdDraft { offers: Vec::new(), ..draft }),
            None => Ok(()),
        }
    }

    /// Sends the next advertisement when it is due, and the last announcement where it could not be sent yet.
    pub(super) fn renew_ad(&mut self, now: Instant) {
        if self.own_ad.renew_at.is_none_or(|at| at > now) {
            return self.resend(None);
        }
        let Some(draft) = self.own_ad.draft.clone() else { return };
        let sent = self.make_ad(&draft).and_then(|made| self.send_ad(made, draft, now));
        if let Err(error) = sent {
            // the binding may have run out, or the clock jumped: tried again, since either may be put right
            tracing::warn!(%error, "the advertisement could not be renewed");
            self.counters.publish_failed.add();
            self.own_ad.renew_at = Some(now + AD_SPACING);
        }
    }

    /// Signs what `draft` says, and gives the classes on whose topics it must be announced: those it is in, and those it was in, whose
    /// followers would otherwise keep the old one.
    fn make_ad(&self, draft: &AdDraft) -> Result<(CheckedAd, Vec<GpuClass>), PublishError> {
        let now = UnixMillis::now();
        let peer = *self.swarm.local_peer_id();
        // above the last by what others insist on, even when the clock was set back
        let seq = self.market.held(&peer).map_or(now.0, |held| now.0.max(held.saturating_add(MIN_SEQ_STEP)));
        if seq > now.plus(MAX_SKEW).0 {
            return Err(PublishError::Clock);
        }
        let ad = ProviderAd {
            peer,
            seq,
            expires: UnixMillis(seq).plus(self.own_ad.lifetime),
            binding: draft.binding.clone(),
            region: draft.region.clone(),
            offers: draft.offers.clone(),
        };
        let raw = ad::seal(&self.key, &ad).map_err(|error| PublishError::Signing(error.to_string()))?;
        let checked = ad::open(&raw, now)?;
        let mut classes = checked.ad.classes();
        classes.extend(self.own_ad.sent.iter().flat_map(|sent| sent.classes.iter().copied()));
        classes.sort_unstable();
        classes.dedup();
        Ok((checked, classes))
    }

    fn send_ad(&mut self, made: (CheckedAd, Vec<GpuClass>), draft: AdDraft, now: Instant) -> Result<(), PublishError> {
        let (checked, classes) = made;
        let announcement = ad::announce(&self.key, &checked.ad, &checked.raw, &classes)
            .map_err(|error| PublishError::Signing(error.to_string()))?;
        let (current, seq) = (checked.ad.classes(), checked.ad.seq);
        if let Err(stale) = self.market.take(checked) {
            tracing::error!(%stale, "the own advertisement does not fit the own book");
            self.counters.ads_stale.add();
        }
        let unsent = classes.into_iter().collect();
        self.own_ad.sent = Some(Sent { classes: current, unsent, announcement, seq, at: now });
        if draft.offers.is_empty() {
            (self.own_ad.draft, self.own_ad.renew_at, self.own_ad.withdrawn_at) = (None, None, Some(now));
        } else {
            // a third of its life, give or take a tenth of that, so that the providers of one region do not all speak at once
            let third = Duration::from_millis(self.own_ad.lifetime / 3).mul_f64(rand::random_range(0.9..1.1));
            let renew_at = now + third.max(AD_SPACING);
            (self.own_ad.draft, self.own_ad.renew_at, self.own_ad.withdrawn_at) = (Some(draft), Some(renew_at), None);
        }
        self.resend(None);
        Ok(())
    }

    /// Sends the announcement on the topics where it was not sent yet, or on the one given.
    fn resend(&mut self, only: Option<GpuClass>) {
        let Some(sent) = &mut self.own_ad.sent else { return };
        let topics: Vec<_> =
            sent.unsent.iter().copied().filter(|class| only.is_none_or(|only| only == *class)).collect();
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        for class in topics {
            match gossip.publish(self.topics.of(class), sent.announcement.clone()) {
                Ok(_) | Err(GossipError::Duplicate) => {
                    self.counters.gossip_sent.add();
                    sent.unsent.remove(&class);
                }
                Err(GossipError::NoPeersSubscribedToTopic) => {}
                Err(GossipError::AllQueuesFull(_)) => self.counters.publish_failed.add(),
                Err(error) => {
                    tracing::warn!(%error, %class, seq = sent.seq, "gossip does not take the announcement");
                    self.counters.publish_failed.add();
                    sent.unsent.remove(&class);
                }
            }
        }
    }

    /// A peer follows a topic now.
    pub(super) fn on_subscribed(&mut self, topic: &TopicHash) {
        if let Some(class) = self.topics.class(topic) {
            self.resend(Some(class));
        }
    }
}
