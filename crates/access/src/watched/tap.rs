//! Hears how a process ended while its output passes by: the bytes go on as they are, and of the frames only the short ones are looked at.

use crate::guest::end_in_words;
use wire::proto::{ProcessOutput, process_output::Frame};

/// Bytes of the longest frame that can be an end: the words of a program that could not be started, and a little.
const MAX_END: usize = 4 * 1024;
/// Bytes of a frame's length: sixty-four bits of seven each.
const LENGTH_BYTES: u32 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tap {
    reading: Reading,
    /// How it ended, in words.
    pub(super) end: Option<String>,
}

#[derive(Debug)]
enum Reading {
    Length {
        value: u64,
        bytes: u32,
    },
    /// A frame of which so many bytes are still to come; of one that is short, what has come.
    Body {
        left: u64,
        kept: Option<Vec<u8>>,
    },
    /// What passes is no frames: nobody listens any more.
    Nothing,
}

impl Default for Reading {
    fn default() -> Self {
        Self::Length { value: 0, bytes: 0 }
    }
}

impl Tap {
    /// These bytes pass by.
    pub(super) fn hear(&mut self, mut passing: &[u8]) {
        while let Some((&first, rest)) = passing.split_first() {
            match &mut self.reading {
                Reading::Nothing => return,
                Reading::Length { value, bytes } => {
                    *value |= u64::from(first & 0x7f).checked_shl(7 * *bytes).unwrap_or_default();
                    *bytes += 1;
                    let (value, bytes) = (*value, *bytes);
                    passing = rest;
                    if first < 0x80 {
                        let short = usize::try_from(value).is_ok_and(|length| length <= MAX_END);
                        self.reading = Reading::Body { left: value, kept: short.then(Vec::new) };
                        self.finish();
                    } else if bytes == LENGTH_BYTES {
                        self.reading = Reading::Nothing;
                    }
                }
                Reading::Body { left, kept } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(passing.len());
                    let (part, rest) = passing.split_at(taken);
                    *left -= taken as u64;
                    if let Some(kept) = kept {
                        kept.extend_from_slice(part);
                    }
                    passing = rest;
                    self.finish();
                }
            }
        }
    }

    /// Looks at a frame that is whole.
    fn finish(&mut self) {
        let Reading::Body { left: 0, kept } = &mut self.reading else { return };
        let kept = kept.take();
        self.reading = Reading::default();
        let frame = kept.and_then(|bytes| <ProcessOutput as prost::Message>::decode(bytes.as_slice()).ok());
        if let Some(Frame::End(end)) = frame.and_then(|frame| frame.frame) {
            self.end = Some(end_in_words(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use wire::proto;

    fn frames() -> Vec<u8> {
        let data = |length| Frame::Data(proto::Bytes { offset: 0, data: vec![0x80; length], stderr: false });
        let end = proto::JobEnd { how: Some(proto::job_end::How::Code(3)), exit_code: 3, disk_full: false };
        let all = [Frame::Taken(0), data(5), data(30_000), data(0), Frame::End(end)];
        all.map(|frame| ProcessOutput { frame: Some(frame) }.encode_length_delimited_to_vec()).concat()
    }

    #[test]
    fn the_end_is_heard_however_the_bytes_arrive() {
        for piece in [1, 7, 4_096, usize::MAX] {
            let mut tap = Tap::default();
            frames().chunks(piece).for_each(|bytes| tap.hear(bytes));
            assert_eq!(tap.end.as_deref(), Some("exited with 3"), "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_no_frames_is_let_pass() {
        let mut tap = Tap::default();
        tap.hear(&[0xff; 100]);
        tap.hear(&frames());
        assert_eq!(tap.end, None);
    }
}
