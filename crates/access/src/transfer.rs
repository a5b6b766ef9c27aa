//! Files in frames: data frames and then one that says how much there was and what it hashes to. A transfer without its end, or
//! with another hash, never counts.

use crate::{
    AccessError,
    archive::{PIPE, Tally},
};
use market::refusal::{Refusal, RefusalCode};
use network::{read_message, write_message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use wire::{MAX_DATA_BYTES, MAX_MESSAGE_BYTES, proto};

/// A complete transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Length of the tar stream.
    pub bytes: u64,
    /// SHA-256 of the tar stream.
    pub sha256: [u8; 32],
}

/// Sends a stream to its end, calling `progress` with the bytes so far.
pub async fn send(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut progress: impl FnMut(u64),
) -> Result<Transferred, AccessError> {
    let mut tally = Tally::default();
    let mut buffer = vec![0; MAX_DATA_BYTES];
    loop {
        let n = from.read(&mut buffer).await.map_err(network::FrameError::from)?;
        if n == 0 {
            break;
        }
        tally.add(&buffer[..n]);
        write(to, proto::file_frame::Frame::Data(buffer[..n].to_vec())).await?;
        progress(tally.bytes);
    }
    let (bytes, sha256) = tally.finish();
    write(to, end(bytes, sha256)).await?;
    Ok(Transferred { bytes, sha256 })
}

/// Tells the other side that the transfer failed here.
pub async fn send_failure(to: &mut (impl AsyncWrite + Unpin), why: impl Into<String>) -> Result<(), AccessError> {
    let refusal = wire::refusal_to_proto(&Refusal::new(RefusalCode::Internal, why));
    write(to, proto::file_frame::Frame::Failed(refusal)).await
}

/// Confirms a transfer to its sender.
pub async fn confirm(to: &mut (impl AsyncWrite + Unpin), done: &Transferred) -> Result<(), AccessError> {
    write(to, end(done.bytes, done.sha256)).await
}

/// Waits for the receiver to confirm what was sent.
pub async fn confirmed(from: &mut (impl AsyncRead + Unpin), sent: &Transferred) -> Result<(), AccessError> {
    match next(from).await? {
        proto::file_frame::Frame::End(end) if end.bytes == sent.bytes && end.sha256 == sent.sha256 => Ok(()),
        proto::file_frame::Frame::Failed(refusal) => Err(AccessError::Remote(wire::refusal_from_proto(refusal))),
        _ => Err(AccessError::Damaged),
    }
}

/// Receives a stream of at most `limit` bytes into `pipe`, which is closed at the end. The hash is checked before this returns.
pub async fn receive(
    from: &mut (impl AsyncRead + Unpin),
    mut pipe: DuplexStream,
    limit: u64,
    mut progress: impl FnMut(u64),
) -> Result<Transferred, AccessError> {
    let mut tally = Tally::default();
    loop {
        match next(from).await? {
            proto::file_frame::Frame::Data(data) => {
                tally.add(&data);
                if tally.bytes > limit {
                    return Err(AccessError::TooMuch { limit });
                }
                // a reader that has failed closes its end: the rest is still taken from the stream, its own error says why
                let _ = pipe.write_all(&data).await;
                progress(tally.bytes);
            }
            proto::file_frame::Frame::End(end) => {
                let (bytes, sha256) = tally.finish();
                if end.bytes != bytes || end.sha256 != sha256 {
                    return Err(AccessError::Damaged);
                }
                let _ = pipe.shutdown().await;
                return Ok(Transferred { bytes, sha256 });
            }
            proto::file_frame::Frame::Failed(refusal) => {
                return Err(AccessError::Remote(wire::refusal_from_proto(refusal)));
            }
        }
    }
}

/// The pipe between a transfer and whoever packs or unpacks it.
pub fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(PIPE)
}

fn end(bytes: u64, sha256: [u8; 32]) -> proto::file_frame::Frame {
    proto::file_frame::Frame::End(proto::FilesEnd { bytes, sha256: sha256.to_vec() })
}

async fn write(to: &mut (impl AsyncWrite + Unpin), frame: proto::file_frame::Frame) -> Result<(), AccessError> {
    Ok(write_message(to, &proto::FileFrame { frame: Some(frame) }, MAX_MESSAGE_BYTES).await?)
}

async fn next(from: &mut (impl AsyncRead + Unpin)) -> Result<proto::file_frame::Frame, AccessError> {
    let message: Option<proto::FileFrame> = read_message(from, MAX_MESSAGE_BYTES).await?;
    message.and_then(|message| message.frame).ok_or(AccessError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(tamper: bool, limit: u64) -> Result<Transferred, AccessError> {
        let data: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let mut sent = Vec::new();
        let done = send(&mut data.as_slice(), &mut sent, |_| {}).await.unwrap();
        if tamper {
            let middle = sent.len() / 2;
            sent[middle] ^= 1;
        }
        let (near, mut far) = pipe();
        let reading = tokio::spawn(async move {
            let mut received = Vec::new();
            far.read_to_end(&mut received).await.unwrap();
            received
        });
        let result = receive(&mut sent.as_slice(), near, limit, |_| {}).await;
        if let Ok(received) = &result {
            assert_eq!(*received, done);
            assert_eq!(reading.await.unwrap(), data);
        }
        result
    }

    #[tokio::test]
    async fn what_arrives_is_what_was_sent() {
        assert_eq!(exchange(false, u64::MAX).await.unwrap().bytes, 200_000);
    }

    #[tokio::test]
    async fn one_flipped_bit_is_found() {
        assert!(matches!(exchange(true, u64::MAX).await, Err(AccessError::Damaged | AccessError::Stream(_))));
    }

    #[tokio::test]
    async fn a_sender_cannot_fill_the_disk() {
        assert!(matches!(exchange(false, 100_000).await, Err(AccessError::TooMuch { limit: 100_000 })));
    }

    #[tokio::test]
    async fn a_transfer_without_its_end_does_not_count() {
        let mut sent = Vec::new();
        send(&mut &b"abc"[..], &mut sent, |_| {}).await.unwrap();
        let cut = &sent[..6];
        let (near, _far) = pipe();
        assert!(receive(&mut &cut[..], near, u64::MAX, |_| {}).await.is_err());
    }
}
