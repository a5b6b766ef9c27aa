//! A shell on its way to a page, over a websocket of binary frames: a tag of one byte, then what it says, numbers in network order.
//!
//! | to the page | tag | |
//! |---|---|---|
//! | output | 0 | bytes |
//! | begin | 1 | u64: number of the first byte of output that follows; u64: output before this number was there when the page came; u64: bytes of input accepted from other pages before |
//! | taken | 2 | u64: bytes of input that the program has taken |
//! | end | 3 | text: how the program ended; nothing follows |
//!
//! | from the page | tag | |
//! |---|---|---|
//! | input | 0 | bytes; at most [`MAX_INPUT_BYTES`](super::shell::MAX_INPUT_BYTES) beyond what was taken |
//! | size | 1 | u16 columns, u16 rows |
//! | shown | 2 | u64: output before this number is on the screen |
//!
//! A connection that is closed with [`TAKEN_OVER`] lost its shell to another page, and must not come again by itself.

use super::shell::{Attached, Progress, Shell};
use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message, WebSocket},
};
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use sandbox::TerminalSize;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The largest frame from a page: pasted text comes in pieces.
pub(crate) const MAX_FRAME_BYTES: usize = 64 << 10;
/// The close code of a page whose shell another page shows now.
const TAKEN_OVER: u16 = 4_001;
/// The close code of a page that breaks the rules above.
const BROKE_RULES: u16 = 4_002;
/// Output in one frame.
const PIECE: usize = 32 << 10;

/// What a page says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Input(Vec<u8>),
    Size(TerminalSize),
    Shown(u64),
}

fn said(frame: &[u8]) -> Option<Said> {
    let (tag, rest) = frame.split_first()?;
    match tag {
        0 => Some(Said::Input(rest.to_vec())),
        1 => {
            let [a, b, c, d] = rest.try_into().ok()?;
            let (columns, rows) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            Some(Said::Size(TerminalSize { columns, rows }))
        }
        2 => Some(Said::Shown(u64::from_be_bytes(rest.try_into().ok()?))),
        _ => None,
    }
}

fn output(bytes: &[u8]) -> Message {
    tagged(0, &[bytes])
}

fn begin(attached: Attached) -> Message {
    tagged(
        1,
        &[attached.from, attached.end, attached.accepted].map(u64::to_be_bytes).each_ref().map(<[u8; 8]>::as_slice),
    )
}

fn taken(bytes: u64) -> Message {
    tagged(2, &[&bytes.to_be_bytes()])
}

fn end(how: &str) -> Message {
    tagged(3, &[how.as_bytes()])
}

fn tagged(tag: u8, parts: &[&[u8]]) -> Message {
    let mut frame = vec![tag];
    frame.extend(parts.iter().copied().flatten());
    Message::Binary(Bytes::from(frame))
}

/// Shows `shell` to a page that has shown everything before number `seen`, until either goes or `cancel`.
pub(super) async fn show(socket: WebSocket, shell: Arc<Shell>, seen: u64, cancel: CancellationToken) {
    let progress = shell.progress();
    let attached = shell.attach(seen);
    let (mut sink, mut stream) = socket.split();
    let code = tokio::select! {
        code = speak(&mut sink, &shell, attached, progress) => code,
        code = listen(&mut stream, &shell, attached.viewer) => code,
        () = cancel.cancelled() => None,
    };
    shell.detach(attached.viewer);
    let frame = code.map(|code| CloseFrame { code, reason: "".into() });
    // a page that has gone hears nothing
    let _ = sink.send(Message::Close(frame)).await;
}

/// Sends what there is, as it comes, until the end; the close code for it.
async fn speak(
    sink: &mut SplitSink<WebSocket, Message>,
    shell: &Shell,
    attached: Attached,
    mut progress: watch::Receiver<Progress>,
) -> Option<u16> {
    sink.send(begin(attached)).await.ok()?;
    let (mut sent, mut told) = (attached.from, None);
    loop {
        let now = progress.borrow_and_update().clone();
        if now.viewer != attached.viewer {
            return Some(TAKEN_OVER);
        }
        if told != Some(now.taken) {
            sink.send(taken(now.taken)).await.ok()?;
            told = Some(now.taken);
        }
        if sent < now.end {
            let (from, bytes) = shell.read(sent, PIECE);
            sent = from + bytes.len() as u64;
            sink.send(output(&bytes)).await.ok()?;
        } else if let Some(how) = &now.ended {
            sink.send(end(how)).await.ok()?;
            return None;
        } else {
            progress.changed().await.ok()?;
        }
    }
}

/// Hears the page until it goes; the close code for it.
async fn listen(stream: &mut SplitStream<WebSocket>, shell: &Shell, viewer: u64) -> Option<u16> {
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(frame) => match said(&frame) {
                Some(Said::Input(input)) => {
                    if shell.write(input).is_err() {
                        return Some(BROKE_RULES);
                    }
                }
                Some(Said::Size(size)) => shell.resize(size).await,
                Some(Said::Shown(seen)) => shell.acknowledge(viewer, seen),
                None => return Some(BROKE_RULES),
            },
            Message::Text(_) => return Some(BROKE_RULES),
            Message::Close(_) => return None,
            // answered by the library
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_says_is_read() {
        assert_eq!(said(b"\0ls\r"), Some(Said::Input(b"ls\r".to_vec())));
        assert_eq!(said(&[1, 0, 120, 0, 40]), Some(Said::Size(TerminalSize { columns: 120, rows: 40 })));
        assert_eq!(said(&[2, 0, 0, 0, 0, 0, 0, 1, 2]), Some(Said::Shown(258)));
    }

    #[test]
    fn anything_else_is_not() {
        for frame in [&[][..], &[1, 0, 120], &[1, 0, 0, 0, 0, 0], &[2, 1], &[9, 0]] {
            assert_eq!(said(frame), None, "{frame:?}");
        }
    }
}
