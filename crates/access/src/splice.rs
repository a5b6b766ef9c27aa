//! Streams through the daemon: a command of the same machine speaks to it as it would to the provider, only without a grant, and the daemon
//! carries on what is said. When the command vanishes, what it ran is hung up: on one machine that is no lost connection.

use crate::{AccessError, door::Door};
use market::refusal::{Refusal, RefusalCode};
use network::{FrameError, OpenError, read_message, write_message};
use sandbox::ByteStream;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy, copy_bidirectional_with_sizes, split},
    time::timeout,
};
use wire::{
    MAX_MESSAGE_BYTES,
    proto::{self, process_input::Frame, session_answer::Answer, session_header::Kind},
};

/// How long the daemon may take over its answer: longer than the provider may take over its own, so that its words arrive.
const ANSWER_WAIT: Duration = Duration::from_secs(40);
/// How long a command may take to say what its stream is for: it does so at once.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// After what pause a command is told to ask again for a provider that could not be reached, in milliseconds.
const ASK_AGAIN: u32 = 500;
/// Bytes carried at once each way.
const BUFFER: usize = 128 * 1024;

/// The command's side: says what the stream is for and waits until that is accepted.
pub async fn introduce(mut stream: ByteStream, kind: Kind) -> Result<ByteStream, AccessError> {
    let header = proto::SessionHeader { grant: None, kind: Some(kind) };
    let exchange = async {
        write_message(&mut stream, &header, MAX_MESSAGE_BYTES).await?;
        read_message::<proto::SessionAnswer, _>(&mut stream, MAX_MESSAGE_BYTES).await
    };
    let answer = timeout(ANSWER_WAIT, exchange).await.map_err(|_| OpenError::Timeout)?.map_err(OpenError::from)?;
    match answer.and_then(|answer| answer.answer) {
        Some(Answer::Accepted(proto::Accepted {})) => Ok(stream),
        Some(Answer::Refusal(refusal)) => Err(OpenError::Refused(wire::refusal_from_proto(refusal)).into()),
        None => Err(OpenError::NoAnswer.into()),
    }
}

/// The daemon's side: opens what the command asks for through `door`, and carries bytes until both are done.
pub async fn carry(
    mut command: impl AsyncRead + AsyncWrite + Send + Unpin,
    door: &dyn Door,
) -> Result<(), AccessError> {
    let header = read_message::<proto::SessionHeader, _>(&mut command, MAX_MESSAGE_BYTES);
    let header = timeout(HEADER_WAIT, header).await.map_err(|_| OpenError::Timeout)??;
    let kind = header.and_then(|header| header.kind).ok_or(AccessError::Truncated)?;
    let runs = matches!(kind, Kind::Exec(_) | Kind::Attach(_));
    let (answer, opened) = match door.open(kind).await {
        Ok(stream) => (Answer::Accepted(proto::Accepted {}), Some(stream)),
        Err(error) => (Answer::Refusal(wire::refusal_to_proto(&refusal(error))), None),
    };
    write_message(&mut command, &proto::SessionAnswer { answer: Some(answer) }, MAX_MESSAGE_BYTES).await?;
    match opened {
        Some(stream) if runs => carry_process(command, stream).await,
        Some(mut stream) => {
            let carried = copy_bidirectional_with_sizes(&mut command, &mut stream, BUFFER, BUFFER).await;
            carried.map(|_| ()).map_err(|error| FrameError::from(error).into())
        }
        None => Ok(command.shutdown().await.map_err(FrameError::from)?),
    }
}

/// What the command is told of a stream that could not be opened.
fn refusal(error: AccessError) -> Refusal {
    match error {
        AccessError::Open(OpenError::Refused(refusal)) => refusal,
        passing if passing.is_passing() => {
            Refusal::new(RefusalCode::Internal, passing.to_string()).retry_after(ASK_AGAIN)
        }
        lasting => Refusal::new(RefusalCode::Internal, lasting.to_string()),
    }
}

/// Carries a process's stream frame by frame, so that a last word can be added when the command is gone.
async fn carry_process(
    command: impl AsyncRead + AsyncWrite + Send + Unpin,
    stream: ByteStream,
) -> Result<(), AccessError> {
    let (from_command, mut to_command) = split(command);
    let mut from_command = BufReader::with_capacity(BUFFER, from_command);
    let (mut from_process, mut to_process) = split(stream);
    let mut said_all = false;
    let up = async {
        // a frame cut off is a command killed in the middle of it
        while let Ok(Some(message)) = read_message::<proto::ProcessInput, _>(&mut from_command, MAX_MESSAGE_BYTES).await
        {
            write_message(&mut to_process, &message, MAX_MESSAGE_BYTES).await?;
        }
        let hang_up = proto::ProcessInput { frame: Some(Frame::HangUp(proto::HangUp {})) };
        write_message(&mut to_process, &hang_up, MAX_MESSAGE_BYTES).await?;
        Ok::<_, FrameError>(to_process.shutdown().await?)
    };
    let down = async {
        copy(&mut from_process, &mut to_command).await?;
        Ok::<_, FrameError>(to_command.shutdown().await?)
    };
    tokio::pin!(up, down);
    tokio::select! {
        told = &mut up => { told?; said_all = true; }
        heard = &mut down => { let _ = heard; }
    }
    if said_all {
        return Ok(());
    }
    // the process has said all; what the command still says of it is its last acknowledgement
    let _ = timeout(HEADER_WAIT, up).await;
    Ok(())
}
