//! Packed streams: gzip and Zstandard, told from plain ones by their first bytes, since what a description says about that may be wrong.
//! Both are unpacked by safe code and in bounded memory: strangers wrote them, and this machine's root reads them.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: [u8; 2] = [0x1F, 0x8B];
const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The first frame of some packers only holds notes.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2A, 0x4D, 0x18];

/// The memory that a Zstandard stream may ask for: four times what the highest ordinary level uses.
const MAX_WINDOW: u64 = 32 << 20;

/// The bytes, unpacked. The packed stream is read to its very end.
pub(crate) fn unpacked<'a>(mut packed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let start = packed.fill_buf()?;
    if start.starts_with(&GZIP) {
        Ok(Box::new(MultiGzDecoder::new(packed)))
    } else if start.starts_with(&ZSTD) || start.get(1..4) == Some(&ZSTD_SKIPPABLE) {
        Ok(Box::new(Frames::new(packed)))
    } else {
        Ok(Box::new(packed))
    }
}

/// Whether these first bytes are those of a packed stream.
pub(crate) fn is_packed(start: &[u8]) -> bool {
    start.starts_with(&GZIP) || start.starts_with(&ZSTD) || start.get(1..4) == Some(&ZSTD_SKIPPABLE)
}

/// Zstandard frames, one after the other.
struct Frames<R> {
    packed: R,
    decoder: FrameDecoder,
}

impl<R: BufRead> Frames<R> {
    fn new(packed: R) -> Frames<R> {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Frames { packed, decoder }
    }

    /// Begins the next frame; `false` at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.packed.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                let decoded = self.decoder.decode_blocks(&mut self.packed, one);
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            } else if !self.begin()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use super::*;

    fn read(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        unpacked(BufReader::with_capacity(16, packed))?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn each_form_is_known_by_its_first_bytes_and_read_whole_even_in_several_pieces() {
        let text = b"a line and the same line again\n".repeat(10_000);
        assert_eq!(read(&text).unwrap(), text);
        assert_eq!(read(b"").unwrap(), b"");
        for pack in [gzip, zstd] {
            assert!(is_packed(&pack(b"x")));
            assert_eq!(read(&pack(&text)).unwrap(), text);
            assert_eq!(read(&[pack(b"one "), pack(b""), pack(b"two")].concat()).unwrap(), b"one two");
            let cut = pack(&text);
            assert!(read(&cut[..cut.len() - 9]).is_err(), "a cut stream seems whole");
        }
        let notes = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(b"after notes")].concat();
        assert_eq!(read(&notes).unwrap(), b"after notes");
        assert!(read(&notes[..9]).is_err());
    }

    #[test]
    fn a_stream_that_asks_for_much_memory_is_refused_before_it_gets_any() {
        // A frame header whose window descriptor asks for 2^(10 + 31) bytes.
        let error = read(&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 31 << 3, 0, 0, 0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}
