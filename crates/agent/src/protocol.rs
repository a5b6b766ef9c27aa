//! Frames on the agent's Unix socket: `u32` payload length (big endian), `u8` kind, payload.
//!
//! One connection carries one [`Request`]; several connections run side by side, so nothing is multiplexed and a closed
//! connection always means "the asker is gone". Control payloads are JSON, data payloads are raw bytes. Every length is bounded
//! before anything is allocated.
//!
//! | request | the asker then sends | the agent answers |
//! |---|---|---|
//! | `Start` | nothing | `Reply::Started` |
//! | `Status` | nothing | `Reply::Status` |
//! | `Wait` | nothing | `Reply::Ended`, when the job has ended |
//! | `Logs` | nothing | `Record` and `Gap`, then `End` |
//! | `Exec`, `Attach` | frames of a session | `Reply::Running`, then frames of a session |
//! | `Dial` with a stream | nothing | `Reply::Connected` |
//! | `Put` | `Data` (a tar stream), `End` | `Reply::Stored` |
//! | `Changed`, `Get` | nothing | `Data` (a tar stream), `End` |
//! | `Unfetched` | nothing | `Reply::Unfetched` |
//! | `Signal`, `Stop` | nothing | `Reply::Done` |
//! | `Files` | `FileRequest`s | `Reply::Done`, then a `FileReply` to each |
//!
//! Any answer may be a [`Frame::Failure`] instead, after which the agent closes the connection.
//!
//! The streams of a process belong to the agent and outlive the connection: they are carried in [`SessionFrame`]s. Those of a dialled
//! connection are not carried in frames. The node makes a socket and hands its other end over with the request (`SCM_RIGHTS`), so one that
//! nobody reads holds up nothing but its own writer, and what it buffers is the kernel's and bounded. It never works the other way round:
//! whoever had taken over the agent could do to the node's reads and writes whatever the owner of a shared open file can.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::address::InnerAddress;
use crate::file_protocol::{FileReply, FileRequest, PREFIX, read_payload, write_payload};
use crate::session_frame::{self, SessionFrame};
use crate::session_key::SessionKey;

/// Bytes of one data frame: what a pipe holds by default, so that a full pipe is one frame.
pub const MAX_DATA: usize = 64 * 1024;

/// Bytes of one control frame: a command line with its environment. The kernel's own limit for one argument is 128 KiB.
pub const MAX_CONTROL: usize = 256 * 1024;

/// Bytes before a payload: its length and its kind.
pub const HEADER: usize = 5;

/// Descriptors handed over with one request at most: the stream of a dialled connection.
pub const MAX_DESCRIPTORS: usize = 1;

/// The kind of a data frame.
const DATA: u8 = 4;

/// The kinds of a request about files and of the reply to it.
const FILE_REQUEST: u8 = 24;
const FILE_REPLY: u8 = 25;

/// Bytes before the content of a log record: sequence number, time, stream.
const RECORD_HEADER: usize = 17;

/// One of a process's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As it stands in a frame.
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }

    /// The stream that a byte of a frame means.
    pub(crate) fn from_byte(byte: u8) -> Result<Stream, FrameError> {
        match byte {
            1 => Ok(Stream::Stdout),
            2 => Ok(Stream::Stderr),
            other => Err(FrameError::Malformed(format!("no stream {other}"))),
        }
    }
}

/// Where a job starts, and where uploaded folders go.
pub const WORKING_DIRECTORY: &str = "/job";

/// A program to run: nothing is inherited, the environment is exactly the one given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The program and its arguments; a name without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory, an absolute path inside the sandbox.
    pub cwd: String,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

/// What a connection asks for; its first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Request {
    /// Start the sandbox's one main job. The same key again finds the job already there, so an asker that lost its connection can
    /// repeat itself; another key is refused.
    Start {
        /// The asker's name for this job.
        key: String,
        /// What to run.
        command: Command,
        /// As whom, as images say it: `USER` or `USER:GROUP`, by name or number; root unless given. What is under the working directory
        /// of all jobs then becomes theirs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
    },
    /// How the main job is doing.
    Status,
    /// Answer when the main job has ended.
    Wait,
    /// The main job's output from a sequence number on.
    Logs {
        /// The first sequence number wanted.
        from: u64,
        /// Go on until the job has ended, waiting for more.
        follow: bool,
    },
    /// Run one more process in a session of its own, which outlives this connection, and attach to it. The same key again attaches to the
    /// session already there, so an asker that lost its connection can repeat itself.
    Exec {
        /// The asker's name for this session.
        key: SessionKey,
        /// What to run.
        command: Command,
        /// In a terminal, which is then the one its session is controlled by.
        terminal: Option<TerminalSize>,
    },
    /// Attach to a session again. A connection that is attached to it already is closed.
    Attach {
        /// The session.
        key: SessionKey,
        /// Bytes of output that have arrived: the rest is sent again.
        seen: u64,
    },
    /// Connect to an address inside, and carry bytes between it and the socket handed over.
    Dial {
        /// Where to.
        address: InnerAddress,
    },
    /// Unpack the tar stream that follows under a directory, and remember what each file looked like.
    Put {
        /// An absolute path inside; made if it is not there.
        directory: String,
    },
    /// Send, as a tar stream, the files under a directory that the asker did not bring or that have changed since.
    Changed {
        /// An absolute path inside.
        directory: String,
    },
    /// Say which of these the asker has not read through since they changed.
    Unfetched {
        /// An absolute path inside.
        directory: String,
    },
    /// Send, as a tar stream, one file under its name or everything below one directory.
    Get {
        /// An absolute path inside; links in it are followed, links below it are sent as links.
        path: String,
    },
    /// Answer the requests about files that follow, one after the other.
    Files,
    /// Send a signal to the main job's process group.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// End the main job: SIGTERM to its process group, after the grace SIGKILL to every process of the sandbox. Answers when the job has
    /// ended; the agent itself goes on, so that logs and files can still be fetched.
    Stop {
        /// Milliseconds between the two signals.
        grace_ms: u64,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code; 126 and 127 also mean "cannot be run" and "not found", as in shells.
    Code {
        /// The code.
        code: i32,
    },
    /// This signal ended it.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// The kernel killed it because the sandbox was out of memory.
    OutOfMemory,
}

impl Exit {
    /// The one number a shell would show: the code, or 128 and the signal's number.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code { code } => code,
            Exit::Signal { signal } => 128 + signal,
            Exit::OutOfMemory => 137,
        }
    }
}

/// The state of the main job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// No `Start` yet.
    NotStarted,
    /// It runs.
    Running {
        /// When it started, milliseconds since 1970.
        started_ms: u64,
    },
    /// It is over, and all of its output is in the log.
    Ended {
        /// When it started, milliseconds since 1970.
        started_ms: u64,
        /// When it ended, milliseconds since 1970.
        ended_ms: u64,
        /// How.
        exit: Exit,
        /// It failed, and by then the sandbox's disk had no room left: the likely reason.
        disk_full: bool,
    },
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The job runs, or ran already under the same key.
    Started {
        /// True when an earlier request had started it.
        already: bool,
    },
    /// The main job's state.
    Status {
        /// The state.
        state: JobState,
    },
    /// This connection is attached to a session.
    Running {
        /// Bytes of input that the process has taken: the rest is to be sent again.
        taken: u64,
    },
    /// The connection is open.
    Connected,
    /// The main job has ended.
    Ended {
        /// How.
        exit: Exit,
    },
    /// A tar stream is unpacked.
    Stored {
        /// Files, links and directories in it.
        entries: u64,
        /// Bytes of file content in it.
        bytes: u64,
    },
    /// What nobody has fetched.
    Unfetched(Unfetched),
    /// Done; there is nothing to add.
    Done,
}

/// Files that would be lost if the sandbox ended now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfetched {
    /// How many.
    pub files: u64,
    /// Their bytes in all.
    pub bytes: u64,
    /// The largest of them, the largest first.
    pub largest: Vec<NamedFile>,
}

/// A file by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFile {
    /// Its path below the directory that was asked about, for people: of a very long one the end.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// Why a request failed, for the asker to branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The request makes no sense, or a frame of it does not.
    BadRequest,
    /// Another job was started here under another key.
    AlreadyStarted,
    /// There is no job yet.
    NotStarted,
    /// The sandbox's disk is full.
    DiskFull,
    /// A bound of the agent is reached: connections, sessions, entries of one upload.
    Busy,
    /// There is no session under this key: there never was, or it has been hung up or forgotten.
    NoSuchSession,
    /// Another connection has attached to the session.
    TakenOver,
    /// Nobody listens at the address.
    ConnectionRefused,
    /// There is no socket at the path.
    NoSuchSocket,
    /// No way leads from inside to the address.
    Unreachable,
    /// The address did not answer in time.
    NoAnswer,
    /// The system refused; the message says what.
    Io,
}

/// A bad answer, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The cause, for programs.
    pub kind: FailureKind,
    /// The cause, for people.
    pub message: String,
}

/// A piece of the main job's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts up from 0 over both streams, without holes.
    pub seq: u64,
    /// Where it was written.
    pub stream: Stream,
    /// When the agent read it, milliseconds since 1970.
    pub time_ms: u64,
    /// What was written.
    pub bytes: Vec<u8>,
}

/// Everything that crosses the socket, beside the descriptors that come with some requests. There is no kind 6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Kind 1.
    Request(Request),
    /// Kind 2.
    Reply(Reply),
    /// Kind 3.
    Failure(Failure),
    /// Kind 4: bytes of a tar stream.
    Data(Vec<u8>),
    /// Kind 5: the data is complete.
    End,
    /// Kind 7: a piece of the main job's log.
    Record(Record),
    /// Kind 8: the log no longer has these records; `to` is the first one it still has.
    Gap {
        /// The first missing sequence number.
        from: u64,
        /// The first sequence number after the hole.
        to: u64,
    },
    /// Kinds 9, 10 and 16 to 22: of an attached connection.
    Session(SessionFrame),
    /// Kind 24: a request about files.
    FileRequest(FileRequest),
    /// Kind 25: the answer to one.
    FileReply(FileReply),
}

/// Bytes that are not a frame.
#[derive(Debug)]
pub enum FrameError {
    /// The length is above the bound for its kind.
    TooLong {
        /// The kind.
        kind: u8,
        /// The length announced.
        length: usize,
    },
    /// No such kind.
    UnknownKind(u8),
    /// The payload does not fit its kind.
    Malformed(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { kind, length } => write!(f, "a frame of kind {kind} announces {length} bytes"),
            FrameError::UnknownKind(kind) => write!(f, "unknown frame kind {kind}"),
            FrameError::Malformed(why) => write!(f, "malformed frame: {why}"),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// Reads the header of a frame: its kind and the length of its payload, within bounds.
pub fn parse_header(header: [u8; HEADER]) -> Result<(u8, usize), FrameError> {
    let [a, b, c, d, kind] = header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let bound = match kind {
        1..=3 => MAX_CONTROL,
        DATA => MAX_DATA,
        5 => 0,
        7 => RECORD_HEADER + MAX_DATA,
        8 => 16,
        FILE_REQUEST | FILE_REPLY => PREFIX + MAX_CONTROL + MAX_DATA,
        _ => session_frame::bound(kind).ok_or(FrameError::UnknownKind(kind))?,
    };
    if length > bound { Err(FrameError::TooLong { kind, length }) } else { Ok((kind, length)) }
}

/// Makes a data frame of a buffer whose first [`HEADER`] bytes were left free for that, so that its content is not copied.
pub fn seal_data(frame: &mut [u8]) -> Result<(), FrameError> {
    seal(DATA, frame.len().saturating_sub(HEADER), frame)
}

/// All of a request about files but its content, which is sent after this as it is.
pub fn file_request_head(request: &FileRequest) -> Result<Vec<u8>, FrameError> {
    let mut head = vec![0; HEADER];
    write_payload(request.number, &request.operation, &mut head)?;
    let length = head.len() - HEADER + request.bytes.len();
    seal(FILE_REQUEST, length, &mut head)?;
    Ok(head)
}

/// Writes the header of a frame of this kind and length into the bytes that were left free for it.
fn seal(kind: u8, length: usize, frame: &mut [u8]) -> Result<(), FrameError> {
    let [a, b, c, d] = u32::try_from(length).map_err(|_| FrameError::TooLong { kind, length })?.to_be_bytes();
    let header = [a, b, c, d, kind];
    parse_header(header)?;
    frame[..HEADER].copy_from_slice(&header);
    Ok(())
}

impl Frame {
    /// The frame as bytes, header included. Fails when it is longer than its kind may be.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        let mut out = Vec::new();
        self.append(&mut out)?;
        Ok(out)
    }

    /// Appends the frame to others; one that is too long, or cannot be said, leaves what is no frame there.
    pub fn append(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let kind = match self {
            Frame::Request(request) => json(1, request, out)?,
            Frame::Reply(reply) => json(2, reply, out)?,
            Frame::Failure(failure) => json(3, failure, out)?,
            Frame::Data(bytes) => {
                out.extend_from_slice(bytes);
                DATA
            }
            Frame::End => 5,
            Frame::Record(record) => {
                out.extend_from_slice(&record.seq.to_be_bytes());
                out.extend_from_slice(&record.time_ms.to_be_bytes());
                out.push(record.stream.to_byte());
                out.extend_from_slice(&record.bytes);
                7
            }
            Frame::Gap { from, to } => {
                out.extend_from_slice(&from.to_be_bytes());
                out.extend_from_slice(&to.to_be_bytes());
                8
            }
            Frame::Session(frame) => frame.encode(out)?,
            Frame::FileRequest(request) => {
                write_payload(request.number, &request.operation, out)?;
                out.extend_from_slice(&request.bytes);
                FILE_REQUEST
            }
            Frame::FileReply(reply) => {
                write_payload(reply.number, &reply.answer, out)?;
                out.extend_from_slice(&reply.bytes);
                FILE_REPLY
            }
        };
        let length = out.len() - start - HEADER;
        seal(kind, length, &mut out[start..])
    }

    /// The frame that a kind and a payload mean.
    pub fn decode(kind: u8, payload: Cow<'_, [u8]>) -> Result<Frame, FrameError> {
        Ok(match kind {
            1 => Frame::Request(parse(&payload)?),
            2 => Frame::Reply(parse(&payload)?),
            3 => Frame::Failure(parse(&payload)?),
            DATA => Frame::Data(payload.into_owned()),
            5 => Frame::End,
            7 => {
                let stream = *payload.get(16).ok_or_else(|| FrameError::Malformed("a short record".into()))?;
                Frame::Record(Record {
                    seq: number(&payload, 0)?,
                    time_ms: number(&payload, 8)?,
                    stream: Stream::from_byte(stream)?,
                    bytes: payload[RECORD_HEADER..].to_vec(),
                })
            }
            8 => Frame::Gap { from: number(&payload, 0)?, to: number(&payload, 8)? },
            FILE_REQUEST => {
                let (number, operation, start) = read_payload(&payload)?;
                Frame::FileRequest(FileRequest { number, operation, bytes: content(payload, start) })
            }
            FILE_REPLY => {
                let (number, answer, start) = read_payload(&payload)?;
                Frame::FileReply(FileReply { number, answer, bytes: content(payload, start) })
            }
            other => Frame::Session(SessionFrame::decode(other, &payload)?),
        })
    }

    /// Reads one frame; `None` when the other end has closed between two frames.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Frame>> {
        let mut header = [0; HEADER];
        let mut filled = 0;
        while filled < HEADER {
            match from.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let (kind, length) = parse_header(header)?;
        // a length alone claims no more than a frame of data needs
        let mut payload = Vec::with_capacity(length.min(MAX_DATA));
        if from.take(length as u64).read_to_end(&mut payload)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Frame::decode(kind, payload.into())?))
    }

    /// Writes the frame in one call.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.encode()?)
    }
}

/// What a payload ends with, from there on.
fn content(payload: Cow<'_, [u8]>, start: usize) -> Vec<u8> {
    match payload {
        Cow::Borrowed(payload) => payload[start..].to_vec(),
        Cow::Owned(mut payload) => {
            payload.drain(..start);
            payload
        }
    }
}

fn json(kind: u8, value: &impl Serialize, out: &mut Vec<u8>) -> Result<u8, FrameError> {
    serde_json::to_writer(&mut *out, value).map_err(|error| FrameError::Malformed(error.to_string()))?;
    Ok(kind)
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|error| FrameError::Malformed(error.to_string()))
}

fn number(payload: &[u8], at: usize) -> Result<u64, FrameError> {
    let bytes = payload.get(at..at + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
    bytes.map(u64::from_be_bytes).ok_or_else(|| FrameError::Malformed("a short number".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let command = Command { argv: vec!["sh".into()], env: vec![("A".into(), "b=c".into())], cwd: "/job".into() };
        let terminal = TerminalSize { columns: 80, rows: 24 };
        let key = SessionKey::from([7; 16]);
        let session = [
            SessionFrame::Signal(-1),
            SessionFrame::Resize(TerminalSize { columns: 258, rows: 3 }),
            SessionFrame::Output { offset: u64::MAX, stream: Stream::Stderr, bytes: b"said".to_vec() },
            SessionFrame::Taken(1 << 40),
            SessionFrame::Ended(Exit::Code { code: 3 }),
            SessionFrame::Input { offset: 5, bytes: b"typed".to_vec() },
            SessionFrame::InputEnd(10),
            SessionFrame::Acknowledge(4),
            SessionFrame::HangUp,
        ];
        let others = vec![
            Frame::Request(Request::Start { key: "k".into(), command: command.clone(), user: None }),
            Frame::Request(Request::Start { key: "k".into(), command: command.clone(), user: Some("app:1".into()) }),
            Frame::Request(Request::Exec { key, command, terminal: Some(terminal) }),
            Frame::Request(Request::Attach { key, seen: 9 }),
            Frame::Request(Request::Dial { address: InnerAddress::tcp("::1", 8888).unwrap() }),
            Frame::Request(Request::Dial { address: InnerAddress::unix("/run/a b").unwrap() }),
            Frame::Request(Request::Get { path: "/job".into() }),
            Frame::Request(Request::Logs { from: 7, follow: true }),
            Frame::Request(Request::Stop { grace_ms: 1 }),
            Frame::Reply(Reply::Ended { exit: Exit::OutOfMemory }),
            Frame::Reply(Reply::Status { state: JobState::Running { started_ms: 3 } }),
            Frame::Failure(Failure { kind: FailureKind::DiskFull, message: "full".into() }),
            Frame::Data(vec![0, 1, 255]),
            Frame::End,
            Frame::Reply(Reply::Running { taken: 4 }),
            Frame::Record(Record { seq: 9, stream: Stream::Stdout, time_ms: 12, bytes: b"line\n".to_vec() }),
            Frame::Gap { from: 1, to: u64::MAX },
        ];
        others.into_iter().chain(session.map(Frame::Session)).collect()
    }

    #[test]
    fn every_frame_reads_back_as_it_was_written() {
        let mut wire = Vec::new();
        for frame in frames() {
            frame.write(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        for frame in frames() {
            assert_eq!(Frame::read(&mut from).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut from).unwrap(), None);
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error_and_never_a_panic() {
        for frame in frames() {
            let wire = frame.encode().unwrap();
            for cut in 1..wire.len() {
                assert!(Frame::read(&mut &wire[..cut]).is_err(), "{frame:?} cut at {cut}");
            }
            for kind in 0..=40 {
                let _ = Frame::decode(kind, wire[HEADER..].into());
            }
        }
    }

    #[test]
    fn a_sealed_buffer_is_the_data_frame_of_its_content() {
        for content in [vec![], vec![7; 3], vec![7; MAX_DATA]] {
            let mut sealed = vec![0; HEADER];
            sealed.extend_from_slice(&content);
            seal_data(&mut sealed).unwrap();
            assert_eq!(sealed, Frame::Data(content).encode().unwrap());
        }
        assert!(seal_data(&mut vec![0; HEADER + MAX_DATA + 1]).is_err());
    }

    #[test]
    fn a_length_above_its_bound_is_refused_before_anything_is_allocated() {
        for kind in 1..=30 {
            let error = Frame::read(&mut [0xff, 0xff, 0xff, 0xff, kind].as_slice()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        assert!(Frame::Data(vec![0; MAX_DATA]).encode().is_ok());
        assert!(Frame::Data(vec![0; MAX_DATA + 1]).encode().is_err());
    }
}
