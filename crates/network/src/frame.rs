//! How every message of ours lies on a stream: its length as an unsigned varint, then protobuf. The same two functions serve the request
//! protocols and the session streams, so that there is one place where sizes are checked before anything is allocated.

use prost::Message;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is allocated for a message before its bytes arrive: most messages whole. A longer one grows as it comes, so that a length of three
/// bytes does not claim a megabyte.
const BEFOREHAND: usize = 16 * 1024;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than this kind of message may be.
    #[error("a message of {length} bytes, where at most {limit} are allowed")]
    TooLong {
        /// How long it is, or claims to be.
        length: u64,
        /// How long it may be.
        limit: usize,
    },
    /// The length is not an unsigned varint of at most 64 bits.
    #[error("the length before the message is not a varint")]
    BadLength,
    /// The bytes are no such protobuf message.
    #[error("malformed message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The stream failed, or ended within a message.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes one message and flushes it. Nothing is written when it is longer than `limit`.
pub async fn write_message<M, W>(io: &mut W, message: &M, limit: usize) -> Result<(), FrameError>
where
    M: Message,
    W: AsyncWrite + Unpin,
{
    let length = message.encoded_len();
    if length > limit {
        return Err(FrameError::TooLong { length: length as u64, limit });
    }
    io.write_all(&message.encode_length_delimited_to_vec()).await?;
    Ok(io.flush().await?)
}

/// Reads one message of at most `limit` bytes; `None` when the stream ended before it began.
pub async fn read_message<M, R>(io: &mut R, limit: usize) -> Result<Option<M>, FrameError>
where
    M: Message + Default,
    R: AsyncRead + Unpin,
{
    let Some(length) = read_length(io).await? else { return Ok(None) };
    let length = match usize::try_from(length) {
        Ok(fits) if fits <= limit => fits,
        _ => return Err(FrameError::TooLong { length, limit }),
    };
    let mut body = Vec::with_capacity(length.min(BEFOREHAND));
    io.take(length as u64).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(M::decode(body.as_slice())?))
}

/// Reads the varint byte by byte, since what follows it belongs to the message.
async fn read_length<R: AsyncRead + Unpin>(io: &mut R) -> Result<Option<u64>, FrameError> {
    let mut buffer = unsigned_varint::encode::u64_buffer();
    for at in 0..buffer.len() {
        if io.read(&mut buffer[at..=at]).await? == 0 {
            return if at == 0 { Ok(None) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) };
        }
        if unsigned_varint::decode::is_last(buffer[at]) {
            let (length, _) = unsigned_varint::decode::u64(&buffer[..=at]).map_err(|_| FrameError::BadLength)?;
            return Ok(Some(length));
        }
    }
    Err(FrameError::BadLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::proto::SessionGrant;

    fn grant() -> SessionGrant {
        SessionGrant { id: vec![7; 32], serial: 2, expires: 9, signature: vec![1; 65] }
    }

    #[tokio::test]
    async fn messages_come_back_one_by_one_and_the_end_is_no_error() {
        let mut bytes = Vec::new();
        write_message(&mut bytes, &grant(), 200).await.unwrap();
        write_message(&mut bytes, &SessionGrant::default(), 200).await.unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read_message(&mut from, 200).await.unwrap(), Some(grant()));
        assert_eq!(read_message(&mut from, 200).await.unwrap(), Some(SessionGrant::default()));
        assert_eq!(read_message::<SessionGrant, _>(&mut from, 200).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_neither_written_nor_read() {
        let mut bytes = Vec::new();
        assert!(matches!(write_message(&mut bytes, &grant(), 50).await, Err(FrameError::TooLong { .. })));
        assert!(bytes.is_empty());
        write_message(&mut bytes, &grant(), 200).await.unwrap();
        let read = read_message::<SessionGrant, _>(&mut bytes.as_slice(), 50).await;
        assert!(matches!(read, Err(FrameError::TooLong { limit: 50, .. })));
    }

    #[tokio::test]
    async fn a_length_of_four_gigabytes_allocates_nothing() {
        let claimed = [0xff, 0xff, 0xff, 0xff, 0x0f];
        let read = read_message::<SessionGrant, _>(&mut claimed.as_slice(), 65_536).await;
        assert!(matches!(read, Err(FrameError::TooLong { length: 0xffff_ffff, .. })));
    }

    #[tokio::test]
    async fn a_message_longer_than_what_is_allocated_beforehand_arrives_whole() {
        let long = SessionGrant { signature: vec![1; 3 * BEFOREHAND], ..grant() };
        let mut bytes = Vec::new();
        write_message(&mut bytes, &long, 4 * BEFOREHAND).await.unwrap();
        write_message(&mut bytes, &grant(), 200).await.unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read_message(&mut from, 4 * BEFOREHAND).await.unwrap(), Some(long));
        assert_eq!(read_message(&mut from, 200).await.unwrap(), Some(grant()));
    }

    #[tokio::test]
    async fn a_broken_length_or_body_is_told_apart_from_a_broken_stream() {
        let endless = [0x80; 12];
        assert!(matches!(
            read_message::<SessionGrant, _>(&mut endless.as_slice(), 9).await,
            Err(FrameError::BadLength)
        ));
        let garbage = [2, 0xff, 0xff];
        assert!(matches!(
            read_message::<SessionGrant, _>(&mut garbage.as_slice(), 9).await,
            Err(FrameError::Malformed(_))
        ));
        let cut = [5, 1];
        assert!(matches!(read_message::<SessionGrant, _>(&mut cut.as_slice(), 9).await, Err(FrameError::Io(_))));
    }
}
