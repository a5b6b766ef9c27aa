//! What crosses the socket while a connection is attached to a session, after `Reply::Running`.
//!
//! Output and input are each one row of bytes, counted from the session's start: a frame says where its bytes stand, so that both ends
//! can go on over a new connection exactly where the old one broke. Output counts the bytes of both streams together, in the order in
//! which the agent read them. The agent keeps output until it is acknowledged and reads no more from a process than it can keep; the
//! node has no more than [`INPUT_WINDOW`] bytes of input under way beyond what was last `Taken`.

use crate::protocol::{Exit, FrameError, HEADER, Stream, TerminalSize};

/// Bytes of input or output in one frame: a session is served with others in turn, and may hold one frame up each way.
pub const MAX_SESSION_DATA: usize = 32 * 1024;

/// Bytes of input that may be under way beyond what the program has taken: 10 MB/s at a round trip of 100 ms. The agent keeps them if the
/// program does not take them, and ends the connection of a node that sends more.
pub const INPUT_WINDOW: u64 = 1 << 20;

/// Bytes of an end: a few words of JSON.
const MAX_EXIT: usize = 256;

/// Bytes before the content of an output: its place and its stream.
const OUTPUT_HEADER: usize = 9;

/// Bytes before the content of an input: its place.
const INPUT_HEADER: usize = 8;

/// One frame of an attached connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionFrame {
    /// Kind 9, to the agent: a signal for the process's group; in a terminal, for the group in its foreground.
    Signal(i32),
    /// Kind 10, to the agent: the size of the terminal.
    Resize(TerminalSize),
    /// Kind 16, from the agent: what the process wrote.
    Output {
        /// Where the first byte stands.
        offset: u64,
        /// Where it was written; all that a terminal shows is standard output.
        stream: Stream,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// Kind 17, from the agent: how many bytes of input the process has taken.
    Taken(u64),
    /// Kind 18, from the agent, after all output: how the process ended.
    Ended(Exit),
    /// Kind 19, to the agent: input. What the agent has already is skipped.
    Input {
        /// Where the first byte stands.
        offset: u64,
        /// What the process is to read.
        bytes: Vec<u8>,
    },
    /// Kind 20, to the agent: there is no more input than this many bytes. In a terminal it says nothing: send Ctrl-D.
    InputEnd(u64),
    /// Kind 21, to the agent: so many bytes of output have arrived and need not be kept.
    Acknowledge(u64),
    /// Kind 22, to the agent: end the session with everything in it, or, after `Ended`, forget it.
    HangUp,
}

/// The most bytes that a payload of this kind may have, if it is one of these.
pub(crate) fn bound(kind: u8) -> Option<usize> {
    Some(match kind {
        9 | 10 => 4,
        16 => OUTPUT_HEADER + MAX_SESSION_DATA,
        17 | 20 | 21 => 8,
        18 => MAX_EXIT,
        19 => INPUT_HEADER + MAX_SESSION_DATA,
        22 => 0,
        _ => return None,
    })
}

/// Makes an output frame in a buffer, without another copy of its content.
pub fn write_output(out: &mut Vec<u8>, offset: u64, stream: Stream, bytes: &[u8]) -> Result<(), FrameError> {
    let length = OUTPUT_HEADER + bytes.len();
    let header = u32::try_from(length).map_err(|_| FrameError::TooLong { kind: 16, length })?.to_be_bytes();
    out.reserve(HEADER + length);
    out.extend_from_slice(&header);
    out.push(16);
    write_place(out, offset, stream);
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_place(out: &mut Vec<u8>, offset: u64, stream: Stream) {
    out.extend_from_slice(&offset.to_be_bytes());
    out.push(stream.to_byte());
}

impl SessionFrame {
    /// Appends the payload and answers the kind.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) -> Result<u8, FrameError> {
        Ok(match self {
            SessionFrame::Signal(signal) => {
                out.extend_from_slice(&signal.to_be_bytes());
                9
            }
            SessionFrame::Resize(size) => {
                out.extend_from_slice(&size.columns.to_be_bytes());
                out.extend_from_slice(&size.rows.to_be_bytes());
                10
            }
            SessionFrame::Output { offset, stream, bytes } => {
                write_place(out, *offset, *stream);
                out.extend_from_slice(bytes);
                16
            }
            SessionFrame::Taken(taken) => {
                out.extend_from_slice(&taken.to_be_bytes());
                17
            }
            SessionFrame::Ended(exit) => {
                serde_json::to_writer(out, exit).map_err(|error| FrameError::Malformed(error.to_string()))?;
                18
            }
            SessionFrame::Input { offset, bytes } => {
                out.extend_from_slice(&offset.to_be_bytes());
                out.extend_from_slice(bytes);
                19
            }
            SessionFrame::InputEnd(offset) => {
                out.extend_from_slice(&offset.to_be_bytes());
                20
            }
            SessionFrame::Acknowledge(offset) => {
                out.extend_from_slice(&offset.to_be_bytes());
                21
            }
            SessionFrame::HangUp => 22,
        })
    }

    /// The frame that a kind and a payload mean.
    pub(crate) fn decode(kind: u8, payload: &[u8]) -> Result<SessionFrame, FrameError> {
        Ok(match kind {
            9 => SessionFrame::Signal(i32::from_be_bytes(whole(payload)?)),
            10 => {
                let [a, b, c, d] = whole(payload)?;
                SessionFrame::Resize(TerminalSize {
                    columns: u16::from_be_bytes([a, b]),
                    rows: u16::from_be_bytes([c, d]),
                })
            }
            16 => {
                let (offset, rest) = place(payload)?;
                let (stream, bytes) = rest.split_first().ok_or_else(short)?;
                SessionFrame::Output { offset, stream: Stream::from_byte(*stream)?, bytes: bytes.to_vec() }
            }
            17 => SessionFrame::Taken(u64::from_be_bytes(whole(payload)?)),
            18 => {
                let exit = serde_json::from_slice(payload);
                SessionFrame::Ended(exit.map_err(|error| FrameError::Malformed(error.to_string()))?)
            }
            19 => {
                let (offset, bytes) = place(payload)?;
                SessionFrame::Input { offset, bytes: bytes.to_vec() }
            }
            20 => SessionFrame::InputEnd(u64::from_be_bytes(whole(payload)?)),
            21 => SessionFrame::Acknowledge(u64::from_be_bytes(whole(payload)?)),
            22 => SessionFrame::HangUp,
            other => return Err(FrameError::UnknownKind(other)),
        })
    }
}

/// A payload of exactly this many bytes.
fn whole<const N: usize>(payload: &[u8]) -> Result<[u8; N], FrameError> {
    payload.try_into().map_err(|_| short())
}

/// The place at the beginning of a payload, and what follows.
fn place(payload: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    let (offset, rest) = payload.split_first_chunk().ok_or_else(short)?;
    Ok((u64::from_be_bytes(*offset), rest))
}

fn short() -> FrameError {
    FrameError::Malformed("a frame of a session is too short or too long".into())
}

impl SessionFrame {
    /// The first frame of a buffer and how many bytes it takes, if it is whole. Every other kind of frame is an error.
    pub fn take(buffer: &[u8]) -> Result<Option<(SessionFrame, usize)>, FrameError> {
        let Some((&[a, b, c, d, kind], rest)) = buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > bound(kind).ok_or(FrameError::UnknownKind(kind))? {
            return Err(FrameError::TooLong { kind, length });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        Ok(Some((SessionFrame::decode(kind, payload)?, HEADER + length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Frame;

    #[test]
    fn frames_are_taken_from_a_buffer_one_by_one_and_only_whole() {
        let mut buffer = Frame::Session(SessionFrame::Input { offset: 3, bytes: vec![7; 100] }).encode().unwrap();
        let first = buffer.len();
        buffer.extend(Frame::Session(SessionFrame::HangUp).encode().unwrap());
        for cut in 0..first {
            assert_eq!(SessionFrame::take(&buffer[..cut]).unwrap(), None, "cut at {cut}");
        }
        let (frame, taken) = SessionFrame::take(&buffer).unwrap().unwrap();
        assert_eq!((frame, taken), (SessionFrame::Input { offset: 3, bytes: vec![7; 100] }, first));
        assert_eq!(SessionFrame::take(&buffer[first..]).unwrap(), Some((SessionFrame::HangUp, HEADER)));
    }

    #[test]
    fn other_frames_and_lengths_above_the_bound_are_refused_before_they_are_whole() {
        assert!(matches!(SessionFrame::take(&[0, 0, 0, 9, 1]), Err(FrameError::UnknownKind(1))));
        assert!(matches!(SessionFrame::take(&[0, 1, 0, 0, 19]), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn output_written_in_place_is_the_frame_that_it_says() {
        let frame = SessionFrame::Output { offset: 8, stream: Stream::Stderr, bytes: b"said".to_vec() };
        let mut written = vec![1];
        write_output(&mut written, 8, Stream::Stderr, b"said").unwrap();
        assert_eq!(written[1..], Frame::Session(frame).encode().unwrap());
    }
}
