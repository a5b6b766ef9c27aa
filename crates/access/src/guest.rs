//! The renter's end of a rental's sessions: each call opens one stream and does one thing.

mod listener;
mod process;

pub use listener::{Incoming, Listener};
pub use process::{Controls, Process, Program};

use crate::{
    AccessError,
    archive::{self, Contents},
    door::Door,
    files::Files,
    host::address_to_proto,
    transfer::{self, Transferred},
};
use futures::stream::{BoxStream, StreamExt, try_unfold};
use network::read_message;
use sandbox::{ByteStream, InnerAddress};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::io::AsyncWriteExt;
use wire::{
    MAX_MESSAGE_BYTES,
    proto::{self, session_header::Kind},
};

/// What one renter can do in one rental.
#[derive(Clone, Debug)]
pub struct Guest {
    door: Arc<dyn Door>,
}

/// What a job's log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// Output.
    Output {
        /// The record's number.
        seq: u64,
        /// True for standard error.
        stderr: bool,
        /// The bytes.
        data: Vec<u8>,
    },
    /// The provider's ring no longer held what came before this number.
    Gap {
        /// The first number after the hole.
        next: u64,
    },
    /// The job is over; the last event.
    Ended(JobEnd),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// As a shell reports it.
    pub exit_code: i32,
    /// In words.
    pub how: String,
}

/// Files received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The transfer.
    pub transferred: Transferred,
    /// What is in the folder now.
    pub contents: Contents,
}

impl Guest {
    /// Whoever has this door.
    pub fn new(door: impl Door + 'static) -> Self {
        Self { door: Arc::new(door) }
    }

    async fn open(&self, kind: Kind) -> Result<ByteStream, AccessError> {
        self.door.open(kind).await
    }

    /// Runs a program beside the job. It goes on over connections that break, and is hung up when its handle is dropped.
    pub async fn exec(&self, program: Program) -> Result<Process, AccessError> {
        Process::start(Arc::clone(&self.door), program).await
    }

    /// Connects to what listens inside. Where nothing does, that is a refusal here, before any byte flows.
    pub async fn dial(&self, to: &InnerAddress) -> Result<ByteStream, AccessError> {
        self.open(Kind::Dial(address_to_proto(to))).await
    }

    /// Listens at an address inside, for connections that are made there. Port 0 is any that is free; one that is taken is a refusal.
    pub async fn listen(&self, at: SocketAddr) -> Result<Listener, AccessError> {
        Listener::start(self.clone(), at).await
    }

    /// The files inside, for many requests at once.
    pub async fn files(&self) -> Result<Files, AccessError> {
        Ok(Files::new(self.open(Kind::Files(proto::Files {})).await?))
    }

    /// What the sandbox uses, once a second, until nobody listens any more.
    pub async fn usage(&self) -> Result<BoxStream<'static, Result<proto::Usage, AccessError>>, AccessError> {
        let stream = self.open(Kind::Stats(proto::Stats {})).await?;
        let read = |mut stream| async move {
            let usage: Option<proto::Usage> = read_message(&mut stream, MAX_MESSAGE_BYTES).await?;
            Ok(usage.map(|usage| (usage, stream)))
        };
        Ok(try_unfold(stream, read).boxed())
    }

    /// Starts the job. Asking again, after a lost answer, does not start it twice.
    pub async fn start_job(&self, argv: Vec<String>, env: BTreeMap<String, String>) -> Result<(), AccessError> {
        let start = proto::StartJob { argv, env: env.into_iter().collect(), cwd: String::new() };
        self.open(Kind::Start(start)).await.map(|_| ())
    }

    /// The job's output from record `from` on: what there is, and with `follow` live until the job has ended.
    pub async fn logs(
        &self,
        from: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<JobEvent, AccessError>>, AccessError> {
        let stream = self.open(Kind::Logs(proto::ReadLogs { from, follow })).await?;
        Ok(try_unfold(Some(stream), move |stream| async move {
            let Some(mut stream) = stream else { return Ok(None) };
            match read_message::<proto::LogFrame, _>(&mut stream, MAX_MESSAGE_BYTES).await? {
                None if !follow => Ok(None),
                frame => {
                    let event = job_event(frame.unwrap_or_default())?;
                    let more = !matches!(event, JobEvent::Ended(_));
                    Ok(Some((event, more.then_some(stream))))
                }
            }
        })
        .boxed())
    }

    /// Sends a folder's contents into the working directory. `progress` hears the bytes sent so far.
    pub async fn put_folder(&self, folder: PathBuf, progress: impl FnMut(u64)) -> Result<Transferred, AccessError> {
        let mut stream = self.open(Kind::Put(proto::PutFiles { path: String::new() })).await?;
        let mut packing = archive::pack(folder);
        let sent = transfer::send(&mut packing.stream, &mut stream, progress).await;
        // why the folder could not be read explains a stream that ended early
        packing.done.await.map_err(|_| AccessError::Interrupted)??;
        let sent = sent?;
        stream.shutdown().await.map_err(network::FrameError::from)?;
        transfer::confirmed(&mut stream, &sent).await?;
        Ok(sent)
    }

    /// What in the working directory nobody has fetched: it would be lost if the rental ended now.
    pub async fn unfetched(&self) -> Result<proto::UnfetchedFiles, AccessError> {
        let mut stream = self.open(Kind::Unfetched(proto::Unfetched { path: String::new() })).await?;
        read_message(&mut stream, MAX_MESSAGE_BYTES).await?.ok_or(AccessError::Truncated)
    }

    /// Fetches what is new or changed in the working directory into `folder`: at most `limit` bytes.
    pub async fn get_changed(
        &self,
        folder: PathBuf,
        limit: u64,
        progress: impl FnMut(u64),
    ) -> Result<Received, AccessError> {
        let mut stream = self.open(Kind::Get(proto::GetChanged { path: String::new() })).await?;
        let (near, far) = transfer::pipe();
        let (transferred, contents) =
            tokio::join!(transfer::receive(&mut stream, near, limit, progress), archive::unpack(far, folder));
        // a stream that broke explains a folder that is incomplete
        let transferred = transferred?;
        Ok(Received { transferred, contents: contents? })
    }
}

/// Reads a frame of a job's log.
pub fn job_event(frame: proto::LogFrame) -> Result<JobEvent, AccessError> {
    use proto::log_frame::Frame;
    Ok(match frame.frame.ok_or(AccessError::Truncated)? {
        Frame::Chunk(chunk) => JobEvent::Output { seq: chunk.seq, stderr: chunk.stderr, data: chunk.data },
        Frame::Gap(gap) => JobEvent::Gap { next: gap.next },
        Frame::End(end) => JobEvent::Ended(job_end(end)),
    })
}

/// How a process ended, in words that may be shown.
pub fn end_in_words(end: proto::JobEnd) -> String {
    job_end(end).how
}

fn job_end(end: proto::JobEnd) -> JobEnd {
    use proto::job_end::How;
    let exit_code = i32::try_from(end.exit_code).unwrap_or(i32::MAX);
    let how = match end.how {
        Some(How::Code(code)) => format!("exited with {code}"),
        Some(How::Signal(signal)) => format!("killed by signal {signal}"),
        Some(How::OutOfMemory(_)) => "killed: out of memory".to_owned(),
        Some(How::NotStarted(why)) => format!("not started: {}", wire::shown(&why)),
        None => "ended".to_owned(),
    };
    let how = if end.disk_full { format!("{how}; its disk was full") } else { how };
    JobEnd { exit_code, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_says_about_an_end_cannot_steer_the_terminal() {
        let how = proto::job_end::How::NotStarted("no such file\u{1b}[2J".repeat(1_000));
        let end = job_end(proto::JobEnd { how: Some(how), exit_code: 127, disk_full: false });
        assert!(!end.how.contains(char::is_control));
        assert!(end.how.len() <= "not started: ".len() + wire::MAX_DETAIL_BYTES);
    }

    #[test]
    fn a_job_that_failed_for_want_of_disk_says_so() {
        let how = Some(proto::job_end::How::Code(1));
        let end = job_end(proto::JobEnd { how, exit_code: 1, disk_full: true });
        assert_eq!(end.how, "exited with 1; its disk was full");
    }
}
