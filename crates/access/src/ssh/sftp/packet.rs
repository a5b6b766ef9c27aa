//! The frames of SFTP: a length, and then a type and what belongs to it, in the notation of SSH (RFC 4251).

use super::Over;
use tokio_util::bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a request. Clients may send 256 KiB, as OpenSSH's server takes them; ours tells them to send less.
pub(super) const MAX_PACKET: u32 = 256 * 1024;
/// Bytes before a packet's content.
const LENGTH: usize = 4;

/// Cuts a stream into packets.
#[derive(Debug, Default)]
pub(super) struct Packets(BytesMut);

impl Packets {
    /// Adds bytes of the stream.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next whole packet, without its length.
    pub(super) fn next(&mut self) -> Result<Option<Fields>, Over> {
        let Some(length) = self.0.first_chunk().copied().map(u32::from_be_bytes) else { return Ok(None) };
        if length == 0 || length > MAX_PACKET {
            return Err(Over::Protocol("a packet of an impossible length"));
        }
        let end = LENGTH + length as usize;
        if self.0.len() < end {
            self.0.reserve(end - self.0.len());
            return Ok(None);
        }
        let mut packet = self.0.split_to(end).freeze();
        packet.advance(LENGTH);
        Ok(Some(Fields(packet)))
    }
}

/// The rest of a packet, to be read field by field.
#[derive(Debug)]
pub(super) struct Fields(Bytes);

impl Fields {
    #[cfg(test)]
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn byte(&mut self) -> Result<u8, Over> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub(super) fn number(&mut self) -> Result<u32, Over> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    pub(super) fn long(&mut self) -> Result<u64, Over> {
        self.0.try_get_u64().map_err(|_| SHORT)
    }

    pub(super) fn string(&mut self) -> Result<Bytes, Over> {
        let length = self.number()? as usize;
        if length > self.0.len() { Err(SHORT) } else { Ok(self.0.split_to(length)) }
    }
}

const SHORT: Over = Over::Protocol("a packet that ends before it is complete");

/// A packet being written.
#[derive(Debug)]
pub(super) struct Writer(BytesMut);

impl Writer {
    /// A packet of a type, with room for so much content.
    pub(super) fn new(kind: u8, room: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(LENGTH + 1 + room);
        bytes.put_u32(0);
        bytes.put_u8(kind);
        Self(bytes)
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    pub(super) fn long(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    pub(super) fn string(mut self, bytes: &[u8]) -> Self {
        // nothing of ours comes near 4 GiB
        self.0.put_u32(u32::try_from(bytes.len()).unwrap_or_default());
        self.0.put_slice(bytes);
        self
    }

    /// The packet with its length.
    pub(super) fn finish(mut self) -> Bytes {
        let length = u32::try_from(self.0.len() - LENGTH).unwrap_or_default();
        self.0[..LENGTH].copy_from_slice(&length.to_be_bytes());
        self.0.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_however_the_stream_is_cut() {
        let one = Writer::new(7, 0).number(1).string(b"first").finish();
        let two = Writer::new(8, 0).long(2).finish();
        let stream = [&one[..], &two[..]].concat();
        let mut packets = Packets::default();
        let mut found = Vec::new();
        for byte in stream {
            packets.add(&[byte]);
            while let Some(packet) = packets.next().unwrap() {
                found.push(packet);
            }
        }
        let [first, second] = &mut found[..] else { panic!("{found:?}") };
        assert_eq!((first.byte().unwrap(), first.number().unwrap(), first.string().unwrap()), (7, 1, "first".into()));
        assert_eq!((second.byte().unwrap(), second.long().unwrap()), (8, 2));
    }

    #[test]
    fn a_packet_that_claims_too_much_is_not_waited_for() {
        let mut packets = Packets::default();
        packets.add(&(MAX_PACKET + 1).to_be_bytes());
        assert!(packets.next().is_err());
        let mut fields = Fields::new(&b"\0\0\0\x05four"[..]);
        assert!(fields.string().is_err());
    }
}
