//! The questions and answers of `/gpulease/sync/1`, to and from their messages.

use crate::{
    MAX_SYNC_FRAME_BYTES, WireError,
    convert::{invalid, required},
    proto, refusal_from_proto, refusal_to_proto,
};
use market::{refusal::Refusal, time::UnixMillis};
use prost::Message;

/// The length of an id, by which an advertisement is named in a reconciliation.
pub const SYNC_ID_BYTES: usize = 32;
/// The most ids in one message: as many as fit the largest frame.
pub const MAX_SYNC_IDS: usize = MAX_SYNC_FRAME_BYTES / SYNC_ID_BYTES;

/// What one indexer asks of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncAsk {
    /// Begins a reconciliation.
    Open {
        /// By the asker's clock.
        at: UnixMillis,
        /// The first frame.
        frame: Vec<u8>,
    },
    /// The next frame.
    Next(Vec<u8>),
    /// The advertisements of these ids, please.
    Fetch(Vec<[u8; SYNC_ID_BYTES]>),
    /// You lack these.
    Lacking(Vec<[u8; SYNC_ID_BYTES]>),
}

/// What the other says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncAnswer {
    /// The other side of a frame.
    Frame(Vec<u8>),
    /// Advertisements that were asked for.
    Ads {
        /// As they were signed.
        ads: Vec<Vec<u8>>,
        /// How many of the ids, from the first on, this is the answer to.
        answered: usize,
    },
    /// What is lacked here was taken note of.
    Noted,
    /// No, and why.
    Refused(Refusal),
}

/// Writes a question.
pub fn sync_to_proto(ask: SyncAsk) -> proto::SyncRequest {
    use proto::sync_request::Request;
    let request = match ask {
        SyncAsk::Open { at, frame } => Request::Open(proto::SyncOpen { at: at.0, frame }),
        SyncAsk::Next(frame) => Request::Next(proto::SyncNext { frame }),
        SyncAsk::Fetch(ids) => Request::Fetch(proto::SyncFetch { ids: ids.concat() }),
        SyncAsk::Lacking(ids) => Request::Lacking(proto::SyncLacking { ids: ids.concat() }),
    };
    proto::SyncRequest { request: Some(request) }
}

/// Reads a question.
pub fn sync_from_proto(message: proto::SyncRequest) -> Result<SyncAsk, WireError> {
    use proto::sync_request::Request;
    Ok(match required("request", message.request)? {
        Request::Open(open) => SyncAsk::Open { at: UnixMillis(open.at), frame: frame("open.frame", open.frame)? },
        Request::Next(next) => SyncAsk::Next(frame("next.frame", next.frame)?),
        Request::Fetch(fetch) => SyncAsk::Fetch(ids("fetch.ids", &fetch.ids)?),
        Request::Lacking(lacking) => SyncAsk::Lacking(ids("lacking.ids", &lacking.ids)?),
    })
}

/// Writes an answer.
pub fn sync_answer_to_proto(answer: SyncAnswer) -> proto::SyncResponse {
    use proto::sync_response::Response;
    let response = match answer {
        SyncAnswer::Frame(frame) => Response::Frame(proto::SyncFrame { frame }),
        SyncAnswer::Ads { ads, answered } => {
            Response::Ads(proto::SyncAds { ads, answered: u32::try_from(answered).unwrap_or(u32::MAX) })
        }
        SyncAnswer::Noted => Response::Noted(proto::SyncNoted {}),
        SyncAnswer::Refused(refusal) => Response::Refusal(refusal_to_proto(&refusal)),
    };
    proto::SyncResponse { response: Some(response) }
}

/// Reads an answer.
pub fn sync_answer_from_proto(message: proto::SyncResponse) -> Result<SyncAnswer, WireError> {
    use proto::sync_response::Response;
    Ok(match required("response", message.response)? {
        Response::Frame(answer) => SyncAnswer::Frame(frame("frame.frame", answer.frame)?),
        Response::Ads(answer) => {
            let answered = usize::try_from(answer.answered).unwrap_or(usize::MAX);
            if answer.ads.len() > answered || answered > MAX_SYNC_IDS {
                return Err(invalid("ads.answered", format!("{} advertisements for {answered} ids", answer.ads.len())));
            }
            SyncAnswer::Ads { ads: answer.ads, answered }
        }
        Response::Noted(proto::SyncNoted {}) => SyncAnswer::Noted,
        Response::Refusal(refusal) => SyncAnswer::Refused(refusal_from_proto(refusal)),
    })
}

/// The advertisements of an answer, as many as one message holds, in the order of the ids they are the answer to: `None` stands for an id of
/// which nothing is held.
pub fn sync_ads(held: impl IntoIterator<Item = Option<Vec<u8>>>) -> SyncAnswer {
    let (mut ads, mut answered, mut room) = (Vec::new(), 0, MAX_SYNC_FRAME_BYTES);
    for ad in held {
        if let Some(ad) = ad {
            // the tag and the length before each
            let size = 1 + prost::length_delimiter_len(ad.len()) + ad.len();
            if size > room {
                break;
            }
            room -= size;
            ads.push(ad);
        }
        answered += 1;
    }
    SyncAnswer::Ads { ads, answered }
}

/// How many bytes a question takes on a stream, with the length before it.
pub fn sync_size(ask: SyncAsk) -> usize {
    let message = sync_to_proto(ask).encoded_len();
    message + prost::length_delimiter_len(message)
}

fn frame(field: &'static str, bytes: Vec<u8>) -> Result<Vec<u8>, WireError> {
    if bytes.is_empty() || bytes.len() > MAX_SYNC_FRAME_BYTES {
        return Err(invalid(field, format!("{} bytes, a frame has 1 to {MAX_SYNC_FRAME_BYTES}", bytes.len())));
    }
    Ok(bytes)
}

fn ids(field: &'static str, bytes: &[u8]) -> Result<Vec<[u8; SYNC_ID_BYTES]>, WireError> {
    let (ids, rest) = bytes.as_chunks::<SYNC_ID_BYTES>();
    if ids.is_empty() || !rest.is_empty() || ids.len() > MAX_SYNC_IDS {
        return Err(invalid(field, format!("{} bytes, not 1 to {MAX_SYNC_IDS} ids of {SYNC_ID_BYTES}", bytes.len())));
    }
    Ok(ids.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MAX_AD_BYTES, MAX_SYNC_MESSAGE_BYTES};

    #[test]
    fn an_answer_holds_as_many_advertisements_as_fit_and_says_how_far_it_got() {
        let largest = || Some(vec![7; MAX_AD_BYTES]);
        let answer = sync_ads([None, largest(), None].into_iter().chain((0..100).map(|_| largest())));
        let SyncAnswer::Ads { ads, answered } = &answer else { panic!("{answer:?}") };
        assert_eq!((ads.len(), *answered), (7, 9), "eight of 16 KiB are a little more than 128 KiB");
        assert!(sync_answer_to_proto(answer).encoded_len() <= MAX_SYNC_MESSAGE_BYTES);
        assert_eq!(sync_ads([None, None]), SyncAnswer::Ads { ads: Vec::new(), answered: 2 });
    }

    #[test]
    fn frames_and_lists_have_their_bounds() {
        let read = |ask| sync_from_proto(sync_to_proto(ask));
        assert!(read(SyncAsk::Next(vec![0; MAX_SYNC_FRAME_BYTES])).is_ok());
        assert!(read(SyncAsk::Next(vec![0; MAX_SYNC_FRAME_BYTES + 1])).is_err());
        assert!(read(SyncAsk::Next(Vec::new())).is_err());
        assert!(read(SyncAsk::Fetch(vec![[0; SYNC_ID_BYTES]; MAX_SYNC_IDS])).is_ok());
        assert!(read(SyncAsk::Lacking(vec![[0; SYNC_ID_BYTES]; MAX_SYNC_IDS + 1])).is_err());
        assert!(ids("ids", &[0; 33]).is_err() && ids("ids", &[]).is_err());
        let more = SyncAnswer::Ads { ads: vec![vec![1]; 2], answered: 1 };
        assert!(sync_answer_from_proto(sync_answer_to_proto(more)).is_err());
    }
}
