//! The provider's end: admit whoever the rental's session key names, and connect the stream to the sandbox.

mod dial;
mod process;

pub(crate) use dial::address_to_proto;

use crate::{AccessError, end::exit_to_proto, files::serve_files, transfer};
use futures::StreamExt;
use market::{
    id::{PeerId, RentalId},
    quote::SignedQuote,
    refusal::{Refusal, RefusalCode},
    time::UnixMillis,
};
use network::{IncomingSession, SessionStream, write_message};
use sandbox::{JobState, LogEvent, ProcessSpec, Sandbox, Stream, WORKING_DIRECTORY};
use std::sync::Arc;
use tokio::{io::AsyncWriteExt, sync::watch};
use wire::{Grant, MAX_DATA_BYTES, MAX_MESSAGE_BYTES, proto};

/// The one job of a rental: starting it twice, after a lost answer, starts it once.
const JOB: &str = "job";

/// Which rental a stream claims to belong to.
pub fn claimed_rental(header: &proto::SessionHeader) -> Result<RentalId, Refusal> {
    let grant = header.grant.as_ref().ok_or_else(|| bad_request("the session header carries no grant"))?;
    wire::id_from_proto(&grant.id).map_err(|error| bad_request(&error.to_string()))
}

/// Checks that the rental's session key lets this peer in, here and now. Whether it has taken that back is for the caller to know.
pub fn admit(
    header: &proto::SessionHeader,
    guest: &PeerId,
    provider: &PeerId,
    quote: &SignedQuote,
    now: UnixMillis,
) -> Result<Grant, Refusal> {
    let grant = header.grant.as_ref().ok_or_else(|| bad_request("the session header carries no grant"))?;
    let grant =
        wire::grant_from_proto(grant, provider, guest, quote.quote.renter_key, &quote.escrow).map_err(|error| {
            bad_request(&format!("the grant is not what the rental's renter has signed for this node: {error}"))
        })?;
    if grant.end() <= now {
        return Err(Refusal::new(RefusalCode::Expired, format!("what let this node in was over at {}", grant.end())));
    }
    Ok(grant)
}

fn bad_request(why: &str) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, why)
}

/// What an admitted stream leads to.
#[derive(Clone)]
pub struct Place {
    /// Where the rental's programs run.
    pub sandbox: Arc<dyn Sandbox>,
    /// What they use, as it was last read; nothing before the first time.
    pub usage: watch::Receiver<Option<proto::Usage>>,
}

/// Serves one admitted stream to its end, or until its guest must leave.
pub async fn serve(session: IncomingSession, place: Place, leave: impl Future<Output = ()>) -> Result<(), AccessError> {
    use proto::session_header::Kind;
    match session.header.kind.clone() {
        // what the guest has started goes with it
        Some(Kind::Exec(exec)) => process::exec(session, place.sandbox, exec, leave).await,
        Some(Kind::Attach(attach)) => process::attach(session, place.sandbox, attach, leave).await,
        kind => tokio::select! {
            () = leave => Ok(()),
            served = serve_one(session, kind, place) => served,
        },
    }
}

async fn serve_one(
    session: IncomingSession,
    kind: Option<proto::session_header::Kind>,
    Place { sandbox, usage }: Place,
) -> Result<(), AccessError> {
    use proto::session_header::Kind;
    match kind {
        Some(Kind::Start(start)) => start_job(session, sandbox, start).await,
        Some(Kind::Logs(read)) => send_logs(session.accept().await?, sandbox, read).await,
        Some(Kind::Put(put)) => take_files(session.accept().await?, sandbox, &directory(put.path)).await,
        Some(Kind::Get(get)) => give_files(session.accept().await?, sandbox, &directory(get.path)).await,
        Some(Kind::Unfetched(ask)) => tell_unfetched(session, sandbox, &directory(ask.path)).await,
        Some(Kind::Dial(dial)) => dial::dial(session, sandbox, dial).await,
        Some(Kind::Files(proto::Files {})) => files(session, sandbox).await,
        Some(Kind::Stats(proto::Stats {})) => tell_usage(session.accept().await?, usage).await,
        // processes are served above
        Some(Kind::Exec(_) | Kind::Attach(_)) | None => {
            Ok(session.refuse(bad_request("this kind of session is not known here")).await?)
        }
    }
}

fn directory(path: String) -> String {
    if path.is_empty() { WORKING_DIRECTORY.to_owned() } else { path }
}

async fn start_job(
    session: IncomingSession,
    sandbox: Arc<dyn Sandbox>,
    start: proto::StartJob,
) -> Result<(), AccessError> {
    let spec = ProcessSpec {
        argv: start.argv,
        env: start.env.into_iter().collect(),
        // Named even where it is the usual one: an image would say another, and the job's folder is here.
        cwd: Some(directory(start.cwd)),
        terminal: None,
    };
    match sandbox.start(JOB, spec).await {
        Ok(_) => session.accept().await?.shutdown().await.map_err(network::FrameError::from)?,
        Err(error) => session.refuse(Refusal::new(RefusalCode::BadRequest, error.to_string())).await?,
    }
    Ok(())
}

async fn send_logs(
    mut stream: SessionStream,
    sandbox: Arc<dyn Sandbox>,
    read: proto::ReadLogs,
) -> Result<(), AccessError> {
    let mut events = sandbox.logs(read.from, read.follow).await?;
    while let Some(event) = events.next().await {
        match event? {
            LogEvent::Gap { to, .. } => {
                write_log(&mut stream, proto::log_frame::Frame::Gap(proto::LogGap { next: to })).await?
            }
            LogEvent::Record(record) => {
                for data in record.bytes.chunks(MAX_DATA_BYTES) {
                    let chunk = proto::LogChunk {
                        seq: record.seq,
                        stderr: record.stream == Stream::Stderr,
                        at: record.time_ms,
                        data: data.to_vec(),
                    };
                    write_log(&mut stream, proto::log_frame::Frame::Chunk(chunk)).await?;
                }
            }
        }
    }
    if let JobState::Ended { exit, disk_full, .. } = sandbox.status().await?.job {
        write_log(&mut stream, proto::log_frame::Frame::End(exit_to_proto(exit, disk_full))).await?;
    }
    stream.shutdown().await.map_err(network::FrameError::from)?;
    Ok(())
}

async fn files(session: IncomingSession, sandbox: Arc<dyn Sandbox>) -> Result<(), AccessError> {
    match sandbox.files().await {
        Ok(channel) => serve_files(session.accept().await?, channel).await,
        Err(error) => Ok(session.refuse(Refusal::new(RefusalCode::Internal, error.to_string())).await?),
    }
}

/// Says what is used, whenever it was read anew, until the renter has heard enough.
async fn tell_usage(
    mut stream: SessionStream,
    mut usage: watch::Receiver<Option<proto::Usage>>,
) -> Result<(), AccessError> {
    usage.mark_changed();
    while usage.changed().await.is_ok() {
        let read = usage.borrow_and_update().clone();
        if let Some(read) = read {
            write_message(&mut stream, &read, MAX_MESSAGE_BYTES).await?;
        }
    }
    Ok(())
}

/// Says what nobody has fetched.
async fn tell_unfetched(
    session: IncomingSession,
    sandbox: Arc<dyn Sandbox>,
    directory: &str,
) -> Result<(), AccessError> {
    let found = match sandbox.unfetched(directory).await {
        Ok(found) => found,
        Err(error) => {
            return Ok(session.refuse(Refusal::new(RefusalCode::Internal, error.to_string())).await?);
        }
    };
    let largest = found.largest.into_iter().map(|file| proto::UnfetchedFile { path: file.path, bytes: file.bytes });
    let told = proto::UnfetchedFiles { files: found.files, bytes: found.bytes, largest: largest.collect() };
    let mut stream = session.accept().await?;
    write_message(&mut stream, &told, MAX_MESSAGE_BYTES).await?;
    stream.shutdown().await.map_err(network::FrameError::from)?;
    Ok(())
}

async fn write_log(stream: &mut SessionStream, frame: proto::log_frame::Frame) -> Result<(), AccessError> {
    Ok(write_message(stream, &proto::LogFrame { frame: Some(frame) }, MAX_MESSAGE_BYTES).await?)
}

async fn take_files(mut stream: SessionStream, sandbox: Arc<dyn Sandbox>, directory: &str) -> Result<(), AccessError> {
    let (near, far) = transfer::pipe();
    // the sandbox's own disk is the bound: it answers that it is full
    let (received, stored) =
        tokio::join!(transfer::receive(&mut stream, near, u64::MAX, |_| {}), sandbox.put(directory, Box::new(far)));
    match (received, stored) {
        (Ok(done), Ok(_)) => transfer::confirm(&mut stream, &done).await?,
        (Ok(_), Err(error)) => transfer::send_failure(&mut stream, error.to_string()).await?,
        (Err(error), _) => return Err(error),
    }
    stream.shutdown().await.map_err(network::FrameError::from)?;
    Ok(())
}

async fn give_files(mut stream: SessionStream, sandbox: Arc<dyn Sandbox>, directory: &str) -> Result<(), AccessError> {
    match sandbox.get_changed(directory).await {
        Ok(mut tar) => match transfer::send(&mut tar, &mut stream, |_| {}).await {
            Ok(_) => {}
            Err(error) => {
                transfer::send_failure(&mut stream, error.to_string()).await?;
                return Err(error);
            }
        },
        Err(error) => transfer::send_failure(&mut stream, error.to_string()).await?,
    }
    stream.shutdown().await.map_err(network::FrameError::from)?;
    Ok(())
}

#[cfg(test)]
mod tests;
