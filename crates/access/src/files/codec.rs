//! Messages about files on a stream: as everywhere, their length as a varint and then protobuf, but many may be waiting to be written or to
//! be taken at once.

use super::message::{reply_from_proto, reply_to_proto, request_from_proto, request_to_proto};
use network::FrameError;
use prost::Message;
use sandbox::{FileReply, FileRequest};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::{
    bytes::{Buf, BytesMut},
    codec::{Decoder, Encoder, FramedRead, FramedWrite},
};
use wire::{MAX_FILE_MESSAGE_BYTES, WireError, proto};

/// Bytes gathered before they are written, and room for what comes: a message of full size, and some besides.
const BUFFER: usize = 128 * 1024;

/// Bytes of the longest varint.
const VARINT: usize = 10;

/// The renter's end: requests go, replies come.
#[derive(Clone, Copy)]
pub(super) struct GuestEnd;

/// The provider's end: requests come, replies go.
#[derive(Clone, Copy)]
pub(super) struct HostEnd;

/// The two directions of a stream.
pub(super) fn framed<S: AsyncRead + AsyncWrite, C: Copy + Decoder>(
    stream: S,
    end: C,
) -> (FramedRead<ReadHalf<S>, C>, FramedWrite<WriteHalf<S>, C>) {
    let (reader, writer) = tokio::io::split(stream);
    let mut writer = FramedWrite::new(writer, end);
    writer.set_backpressure_boundary(BUFFER);
    (FramedRead::with_capacity(reader, end, BUFFER), writer)
}

impl Encoder<FileRequest> for GuestEnd {
    type Error = FrameError;

    fn encode(&mut self, request: FileRequest, out: &mut BytesMut) -> Result<(), FrameError> {
        write(&request_to_proto(request), out)
    }
}

impl Decoder for GuestEnd {
    type Item = FileReply;
    type Error = FrameError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<FileReply>, FrameError> {
        read::<proto::FileReply>(from)?.map(reply_from_proto).transpose().map_err(malformed)
    }
}

impl Encoder<FileReply> for HostEnd {
    type Error = FrameError;

    fn encode(&mut self, reply: FileReply, out: &mut BytesMut) -> Result<(), FrameError> {
        write(&reply_to_proto(reply), out)
    }
}

impl Decoder for HostEnd {
    type Item = FileRequest;
    type Error = FrameError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<FileRequest>, FrameError> {
        read::<proto::FileRequest>(from)?.map(request_from_proto).transpose().map_err(malformed)
    }
}

fn write(message: &impl Message, out: &mut BytesMut) -> Result<(), FrameError> {
    let length = message.encoded_len();
    if length > MAX_FILE_MESSAGE_BYTES {
        return Err(FrameError::TooLong { length: length as u64, limit: MAX_FILE_MESSAGE_BYTES });
    }
    out.reserve(length + VARINT);
    message.encode_length_delimited(out).map_err(|error| io::Error::other(error).into())
}

/// The next whole message, if it is there.
fn read<M: Message + Default>(from: &mut BytesMut) -> Result<Option<M>, FrameError> {
    let mut rest = &from[..];
    let Some(last) = rest.iter().take(VARINT).position(|byte| byte & 0x80 == 0) else {
        return if rest.len() < VARINT { Ok(None) } else { Err(FrameError::BadLength) };
    };
    let length = prost::encoding::decode_varint(&mut rest).map_err(|_| FrameError::BadLength)?;
    if length > MAX_FILE_MESSAGE_BYTES as u64 {
        return Err(FrameError::TooLong { length, limit: MAX_FILE_MESSAGE_BYTES });
    }
    let (prefix, length) = (last + 1, length as usize);
    if from.len() < prefix + length {
        from.reserve(prefix + length - from.len());
        return Ok(None);
    }
    from.advance(prefix);
    Ok(Some(M::decode(from.split_to(length))?))
}

fn malformed(error: WireError) -> FrameError {
    io::Error::new(io::ErrorKind::InvalidData, error).into()
}
