//! How RocksDB is set up: sized for a node that shares its machine with the workloads it serves, about 100 MiB in all.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, Options, WriteBufferManager};

const MIB: usize = 1 << 20;
/// Recently read blocks, with the indexes and filters, of all tables together.
const BLOCK_CACHE: usize = 32 * MIB;
/// Unflushed writes of all tables together; writers wait when it is full rather than grow past it.
const WRITE_BUFFERS: usize = 48 * MIB;
/// Unflushed writes of one table before it is flushed: small tables rarely reach it, the offer book does.
const TABLE_WRITE_BUFFER: usize = 8 * MIB;
/// Log that may pile up before the oldest table is flushed; bounds the time that recovery takes.
const WRITE_AHEAD_LOG: u64 = 64 * MIB as u64;
/// Well below the common limit of 1,024 open files, most of which belong to connections.
const OPEN_FILES: i32 = 256;
/// Larger than the default of 4 KiB: fewer index entries for records of half a kilobyte.
const BLOCK: usize = 16 << 10;
/// Spreads write-back instead of one large burst at the end of a file.
const BYTES_PER_SYNC: u64 = MIB as u64;
/// One flush and one compaction at a time.
const BACKGROUND_JOBS: i32 = 2;
/// One false positive in a hundred for keys that are not there.
const BLOOM_BITS: f64 = 10.0;
/// RocksDB's own log: what explains a fault, no more.
const INFO_LOG_FILES: usize = 2;

/// Options of the database as a whole.
pub(crate) fn database() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(WRITE_BUFFERS, true));
    options.set_max_total_wal_size(WRITE_AHEAD_LOG);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    options
}

/// What all tables share.
pub(crate) struct Shared {
    cache: Cache,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { cache: Cache::new_lru_cache(BLOCK_CACHE) }
    }

    /// Options of one table.
    pub(crate) fn table(&self) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_block_size(BLOCK);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_bloom_filter(BLOOM_BITS, false);

        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(TABLE_WRITE_BUFFER);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_level_compaction_dynamic_level_bytes(true);
        options
    }
}
