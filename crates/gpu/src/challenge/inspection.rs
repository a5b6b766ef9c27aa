//! The arithmetic of the verifier: one device's answers, held against its commitment.

use super::{
    digest::{CHUNK_WORDS, Digest, TreeKeys, height},
    freivalds,
    message::{Chunk, Located, Row, Sample},
    sampling::{self, Place},
    stream::Binding,
    verdict::Miss,
    work::Share,
};

/// One device, what it was asked and what it committed to.
pub(super) struct Inspection<'a> {
    pub(super) binding: Binding,
    pub(super) size: u32,
    pub(super) share: &'a Share,
    pub(super) root: Digest,
}

impl Inspection<'_> {
    /// Checks the products that were shown.
    pub(super) fn samples(&self, opening: Digest, samples: &[Sample]) -> Result<(), Miss> {
        let chosen = sampling::products(self.binding, opening, self.share);
        self.complete(samples.len() == chosen.len(), "the number of samples")?;
        let keys = self.binding.committed();
        for (number, (product, sample)) in chosen.into_iter().zip(samples).enumerate() {
            let before = self.before(&keys, product, sample.before.as_ref())?;
            self.committed(&keys, product, &sample.root)?;
            let size = self.size as usize;
            let vectors = freivalds::vectors(self.binding.vectors(opening, product), size);
            let seed = self.binding.seed(product, before);
            let image = freivalds::expected_image(seed, size, &vectors);
            if freivalds::digest(&image) != sample.image {
                return Err(Miss::WrongProduct { device: self.share.device.clone(), product });
            }
            let rows = sampling::rows(self.binding, opening, number, self.size);
            self.complete(sample.rows.len() == rows.len(), "the number of rows")?;
            for (row, shown) in rows.into_iter().zip(&sample.rows) {
                self.row(&keys, product, sample.root.digest, row, shown)?;
                if freivalds::image(&shown.words, size, &vectors)[0] != image[row as usize] {
                    return Err(Miss::WrongRow { device: self.share.device.clone(), product, row });
                }
            }
        }
        Ok(())
    }

    /// Checks what was in memory. `opening` is the key of the digests, and `recall` what was chosen of them.
    pub(super) fn chunks(
        &self,
        (opening, recall): (Digest, Digest),
        recalled: Digest,
        chunks: &[Chunk],
    ) -> Result<(), Miss> {
        let places = sampling::places(self.binding, recall, self.share, self.size);
        self.complete(chunks.len() == places.len(), "the number of chunks")?;
        let (committed, keys) = (self.binding.committed(), self.binding.recalled(opening));
        for (place, chunk) in places.into_iter().zip(chunks) {
            let before = self.before(&committed, place.product, chunk.before.as_ref())?;
            self.complete(chunk.path.len() == height(sampling::chunks(self.size)), "the way from a chunk")?;
            self.complete(chunk.root.path.len() == height(self.share.products), "the way from a product")?;
            let leaf = keys.leaf(&self.expected(place, before));
            let below = keys.climb(leaf, place.chunk, &chunk.path) == chunk.root.digest;
            let above = keys.climb(chunk.root.digest, place.product, &chunk.root.path) == recalled;
            if !below || !above {
                let Place { product, chunk } = place;
                return Err(Miss::NotHeld { device: self.share.device.clone(), product, chunk });
            }
        }
        Ok(())
    }

    /// What should be at a place.
    fn expected(&self, place: Place, before: Option<Digest>) -> [u32; CHUNK_WORDS] {
        let of_row = sampling::chunks_of_row(self.size);
        let (row, column) = (place.chunk / of_row, (place.chunk % of_row) as usize * CHUNK_WORDS);
        let mut words = [0; CHUNK_WORDS];
        let seed = self.binding.seed(place.product, before);
        freivalds::expected_words(seed, self.size as usize, row as usize, column, &mut words);
        words
    }

    /// The committed root of the product before, if there is one.
    fn before(&self, keys: &TreeKeys, product: u32, before: Option<&Located>) -> Result<Option<Digest>, Miss> {
        match (product.checked_sub(1), before) {
            (None, None) => Ok(None),
            (Some(number), Some(located)) => {
                self.committed(keys, number, located)?;
                Ok(Some(located.digest))
            }
            (None, Some(_)) | (Some(_), None) => Err(self.malformed("the product before")),
        }
    }

    fn committed(&self, keys: &TreeKeys, product: u32, located: &Located) -> Result<(), Miss> {
        self.complete(located.path.len() == height(self.share.products), "the way from a product")?;
        if keys.climb(located.digest, product, &located.path) == self.root {
            return Ok(());
        }
        Err(Miss::NotCommitted { device: self.share.device.clone(), product })
    }

    fn row(&self, keys: &TreeKeys, product: u32, root: Digest, row: u32, shown: &Row) -> Result<(), Miss> {
        self.complete(shown.words.len() == self.size as usize, "the length of a row")?;
        self.complete(shown.path.len() == height(self.size), "the way from a row")?;
        if keys.climb(keys.root(&shown.words), row, &shown.path) == root {
            return Ok(());
        }
        Err(Miss::NotCommitted { device: self.share.device.clone(), product })
    }

    fn complete(&self, is: bool, what: &str) -> Result<(), Miss> {
        if is { Ok(()) } else { Err(self.malformed(what)) }
    }

    fn malformed(&self, what: &str) -> Miss {
        Miss::Malformed { device: self.share.device.clone(), what: what.to_owned() }
    }
}
