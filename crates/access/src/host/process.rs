//! The provider's end of a process: frames of the network on one side, the sandbox's session on the other. It keeps nothing: what was not
//! acknowledged is with the agent, so that this end may vanish at any time.

use crate::{AccessError, end::exit_to_proto};
use market::refusal::{Refusal, RefusalCode};
use network::{IncomingSession, SessionStream, read_message, write_message};
use sandbox::{
    Attached, Error, ProcessSpec, Sandbox, SessionEvent, SessionInput, SessionKey, SessionReader, SessionWriter,
    Stream, Terminal, TerminalSize,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split},
    time::timeout,
};
use wire::{
    MAX_DATA_BYTES, MAX_MESSAGE_BYTES,
    proto::{self, process_input, process_output},
};

/// What is run for a renter who names no program: the shell that the sandbox's environment names, else the best that its image has, as a
/// login shell.
const LOGIN_SHELL: [&str; 3] =
    ["/bin/sh", "-c", r#"for shell in "$SHELL" /bin/bash /bin/sh; do [ -x "$shell" ] && exec "$shell" -l; done"#];
/// How programs look up what the terminal can do, unless the renter's environment says otherwise.
const TERM: &str = "xterm-256color";
/// How long the renter's last acknowledgement may take after the end of a process. Without it the agent remembers the end for a while.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long the agent may take to be told that a process's guest must leave: it reads at once what it is told.
const HANG_UP_WAIT: Duration = Duration::from_secs(1);

/// Starts a process, or finds it started by the same key.
pub(super) async fn exec(
    session: IncomingSession,
    sandbox: Arc<dyn Sandbox>,
    exec: proto::Exec,
    leave: impl Future<Output = ()>,
) -> Result<(), AccessError> {
    let proto::Exec { key, argv, env, cwd, terminal } = exec;
    let argv = if argv.is_empty() { LOGIN_SHELL.map(str::to_owned).to_vec() } else { argv };
    let spec = ProcessSpec {
        argv,
        env: env.into_iter().collect(),
        cwd: Some(super::directory(cwd)),
        terminal: terminal.map(|size| Terminal { size: size_from_proto(size), term: TERM.to_owned() }),
    };
    match read_key(&key) {
        Ok(key) => serve(session, sandbox.open(&key, spec).await, leave).await,
        Err(refusal) => Ok(session.refuse(refusal).await?),
    }
}

/// Takes a process up again.
pub(super) async fn attach(
    session: IncomingSession,
    sandbox: Arc<dyn Sandbox>,
    attach: proto::Attach,
    leave: impl Future<Output = ()>,
) -> Result<(), AccessError> {
    match read_key(&attach.key) {
        Ok(key) => serve(session, sandbox.attach(&key, attach.seen).await, leave).await,
        Err(refusal) => Ok(session.refuse(refusal).await?),
    }
}

fn read_key(key: &[u8]) -> Result<SessionKey, Refusal> {
    let key: [u8; 16] = key.try_into().map_err(|_| super::bad_request("a process's key has 16 bytes"))?;
    Ok(SessionKey::from(key))
}

fn size_from_proto(size: proto::TerminalSize) -> TerminalSize {
    let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    TerminalSize { columns: side(size.columns), rows: side(size.rows) }
}

async fn serve(
    session: IncomingSession,
    attached: Result<Attached, Error>,
    leave: impl Future<Output = ()>,
) -> Result<(), AccessError> {
    let attached = match attached {
        Ok(attached) => attached,
        Err(error) => return Ok(session.refuse(refusal(&error)).await?),
    };
    let (reader, mut writer) = split(session.accept().await?);
    let Attached { taken, output, mut input } = attached;
    write(&mut writer, process_output::Frame::Taken(taken)).await?;
    tokio::select! {
        served = converse((reader, &mut writer), output, &mut input) => return served,
        () = leave => {}
    }
    // the stream ends whether or not the agent hears of it
    let _ = timeout(HANG_UP_WAIT, input.send(SessionInput::HangUp)).await;
    Ok(())
}

/// Carries what both sides say, until the process has ended or its guest is gone.
async fn converse(
    (reader, writer): (ReadHalf<SessionStream>, &mut WriteHalf<SessionStream>),
    output: SessionReader,
    input: &mut SessionWriter,
) -> Result<(), AccessError> {
    let listening = listen(reader, input);
    tokio::pin!(listening);
    tokio::select! {
        told = tell(output, writer) => {
            told?;
            writer.shutdown().await.map_err(network::FrameError::from)?;
            let _ = timeout(FAREWELL, listening).await;
            Ok(())
        }
        heard = &mut listening => heard,
    }
}

fn refusal(error: &Error) -> Refusal {
    let code = match error {
        Error::NoSuchSession(_) => RefusalCode::NoSuchProcess,
        Error::Busy(_) => RefusalCode::RateLimited,
        Error::Gone(_) | Error::Timeout { .. } | Error::Connection { .. } => RefusalCode::Internal,
        _ => RefusalCode::BadRequest,
    };
    Refusal::new(code, error.to_string())
}

/// What the process writes and how it ends, to the renter.
async fn tell(mut output: SessionReader, writer: &mut WriteHalf<SessionStream>) -> Result<(), AccessError> {
    while let Some(event) = output.next().await? {
        match event {
            SessionEvent::Output { mut offset, stream, bytes } => {
                for data in bytes.chunks(MAX_DATA_BYTES) {
                    let frame = proto::Bytes { offset, data: data.to_vec(), stderr: stream == Stream::Stderr };
                    offset += data.len() as u64;
                    write(writer, process_output::Frame::Data(frame)).await?;
                }
            }
            SessionEvent::Taken(taken) => write(writer, process_output::Frame::Taken(taken)).await?,
            SessionEvent::Ended(exit) => {
                return write(writer, process_output::Frame::End(exit_to_proto(exit, false))).await;
            }
        }
    }
    Ok(())
}

/// What the renter says, to the process.
async fn listen(reader: ReadHalf<SessionStream>, input: &mut SessionWriter) -> Result<(), AccessError> {
    let mut reader = BufReader::new(reader);
    while let Some(message) = read_message::<proto::ProcessInput, _>(&mut reader, MAX_MESSAGE_BYTES).await? {
        let said = match message.frame.ok_or(AccessError::Protocol("a frame without content"))? {
            process_input::Frame::Data(data) => SessionInput::Input { offset: data.offset, bytes: data.data },
            process_input::Frame::End(offset) => SessionInput::End { offset },
            process_input::Frame::Resize(size) => SessionInput::Resize(size_from_proto(size)),
            process_input::Frame::Signal(signal) => SessionInput::Signal(i32::try_from(signal).unwrap_or(i32::MAX)),
            process_input::Frame::Acknowledged(seen) => SessionInput::Acknowledge(seen),
            process_input::Frame::HangUp(_) => SessionInput::HangUp,
        };
        input.send(said).await?;
    }
    Ok(())
}

async fn write(writer: &mut WriteHalf<SessionStream>, frame: process_output::Frame) -> Result<(), AccessError> {
    Ok(write_message(writer, &proto::ProcessOutput { frame: Some(frame) }, MAX_MESSAGE_BYTES).await?)
}
