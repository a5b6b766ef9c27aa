//! Unpacking of small images. What an image was compiled for stands outside of it, so the only question that needs this is whether a
//! small one has anything to run at all.

use super::target::Compression;
use ruzstd::decoding::FrameDecoder;

/// The largest window of a Zstandard frame, in bytes: the decoder sets so much aside. What is unpacked here is far smaller.
pub(crate) const MAX_WINDOW: u64 = 1 << 20;

/// The `size` bytes that were packed, if they are that many.
pub(crate) fn inflate(packed: &[u8], compression: Compression, size: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; size];
    let written = match compression {
        Compression::None => return (packed.len() == size).then(|| packed.to_vec()),
        Compression::Lz4 => lz4_flex::block::decompress_into(packed, &mut bytes).ok()?,
        Compression::Zstd => {
            let mut decoder = FrameDecoder::new();
            decoder.set_max_window_size(MAX_WINDOW);
            decoder.decode_all(packed, &mut bytes).ok()?
        }
    };
    (written == size).then_some(bytes)
}
