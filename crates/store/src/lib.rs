//! What a node remembers: RocksDB behind small typed tables.
//!
//! A table is a type that names its key and its value; which tables exist is decided by the crates that own them. A [`Store`] is
//! opened with their list and shared by cloning.
//!
//! ```
//! use store::{Json, Store, Table, TableDef};
//!
//! struct Rents;
//! impl Table for Rents {
//!     const NAME: &'static str = "rents";
//!     type Key = (u64, String);
//!     type Value = Json<Vec<u32>>;
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path(), &[TableDef::of::<Rents>()])?;
//! store.put_sync::<Rents>(&(1, "a".into()), &Json(vec![7]))?;
//! for row in store.scan_prefix::<Rents, _>(&1u64)? {
//!     let ((_, name), value) = row?;
//!     assert_eq!((name.as_str(), value[0]), ("a", 7));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Whatever is a promise to somebody else (a quote, a voucher, a receipt, a transaction) is written with `put_sync` or
//! `commit_sync`: it is on the disk before the promise leaves the node. Everything that can be learned again uses the plain forms.

mod codec;
mod crash;
mod error;
mod options;
mod scan;

pub use codec::{Json, KeyCodec, PrefixOf, Raw, ValueCodec};
pub use crash::{CRASH_AT, crash_point};
pub use error::{CodecError, StoreError};
pub use scan::Scan;

use codec::key_bytes;
use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DEFAULT_COLUMN_FAMILY_NAME, WriteBatch, WriteOptions};
use scan::Bounds;
use std::{
    collections::BTreeSet,
    fmt,
    ops::RangeBounds,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The layout of the data that this program writes. Raised, together with a migration in [`Store::open`], when a record changes in a
/// way that an optional field cannot express.
pub const FORMAT: u32 = 1;

/// Where the format version stands, in the default column family, which holds nothing else.
const FORMAT_KEY: &[u8] = b"format";

/// One kind of record.
pub trait Table {
    /// The table's name on disk; never reused for something else.
    const NAME: &'static str;
    /// What a record is found by.
    type Key: KeyCodec;
    /// The record.
    type Value: ValueCodec;
}

/// A table as [`Store::open`] needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDef {
    name: &'static str,
}

impl TableDef {
    /// The definition of `T`.
    pub const fn of<T: Table>() -> Self {
        Self { name: T::NAME }
    }

    /// The table's name on disk.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// The open database. Clones share it; it closes, and gives up its lock, with the last of them.
#[derive(Clone)]
pub struct Store {
    db: Arc<DB>,
    path: Arc<PathBuf>,
    /// The tables it was opened with.
    tables: Arc<[&'static str]>,
}

/// How much a store keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Records of each table.
    pub records: Vec<(&'static str, u64)>,
    /// Bytes of files.
    pub files: u64,
    /// Bytes of memory: what is not yet in files, indexes, and recently read blocks.
    pub memory: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.path).finish()
    }
}

impl Store {
    /// Opens the database in `path`, or makes it, with at least the given tables. Tables that exist on disk but are not listed keep
    /// their data. Blocks while an earlier unclean end is recovered from.
    pub fn open(path: impl AsRef<Path>, tables: &[TableDef]) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        let options = options::database();
        let open_error = |source: rocksdb::Error| {
            // RocksDB has no kind of its own for a lock that is held; both of its messages (same process, other process) say so.
            let locked =
                source.kind() == rocksdb::ErrorKind::IOError && source.as_ref().to_ascii_lowercase().contains("lock");
            if locked {
                StoreError::InUse { path: path.clone(), source }
            } else {
                StoreError::Open { path: path.clone(), source }
            }
        };

        let existing =
            if path.join("CURRENT").exists() { DB::list_cf(&options, &path).map_err(open_error)? } else { Vec::new() };
        let mut names: BTreeSet<&str> = existing.iter().map(String::as_str).collect();
        names.insert(DEFAULT_COLUMN_FAMILY_NAME);
        let shared = options::Shared::new();
        let families: Vec<_> = names.iter().map(|name| ColumnFamilyDescriptor::new(*name, shared.table())).collect();
        let mut db = DB::open_cf_descriptors(&options, &path, families).map_err(open_error)?;

        // Before anything is created or written: a newer program's data stays exactly as it is.
        let bad_format = || StoreError::BadFormat { path: path.clone() };
        match db.get(FORMAT_KEY)? {
            None if existing.len() <= 1 => {
                db.put_opt(FORMAT_KEY, FORMAT.to_be_bytes(), &synced())?;
            }
            None => return Err(bad_format()),
            Some(record) => {
                let found = record.try_into().map(u32::from_be_bytes).map_err(|_| bad_format())?;
                if found > FORMAT {
                    return Err(StoreError::NewerFormat { path: path.clone(), found, supported: FORMAT });
                }
            }
        }
        for table in tables.iter().filter(|table| !names.contains(table.name)) {
            if db.cf_handle(table.name).is_none() {
                db.create_cf(table.name, &shared.table())?;
            }
        }
        let tables = tables.iter().map(TableDef::name).collect();
        Ok(Self { db: Arc::new(db), path: Arc::new(path), tables })
    }

    /// The record under `key`.
    pub fn get<T: Table>(&self, key: &T::Key) -> Result<Option<T::Value>, StoreError> {
        let found = self.db.get_pinned_cf(self.family::<T>()?, key_bytes(key))?;
        found.map(|bytes| T::Value::decode(&bytes).map_err(record::<T>)).transpose()
    }

    /// Whether there is a record under `key`.
    pub fn contains<T: Table>(&self, key: &T::Key) -> Result<bool, StoreError> {
        Ok(self.db.get_pinned_cf(self.family::<T>()?, key_bytes(key))?.is_some())
    }

    /// Writes a record that could be learned again; the last few may be lost when the machine (not the program) dies.
    pub fn put<T: Table>(&self, key: &T::Key, value: &T::Value) -> Result<(), StoreError> {
        let mut batch = self.batch();
        batch.put::<T>(key, value)?;
        batch.commit()
    }

    /// Writes a record that is a promise: it is on the disk when this returns.
    pub fn put_sync<T: Table>(&self, key: &T::Key, value: &T::Value) -> Result<(), StoreError> {
        let mut batch = self.batch();
        batch.put::<T>(key, value)?;
        batch.commit_sync()
    }

    /// Removes a record, if it is there.
    pub fn delete<T: Table>(&self, key: &T::Key) -> Result<(), StoreError> {
        let mut batch = self.batch();
        batch.delete::<T>(key)?;
        batch.commit()
    }

    /// The records of a range, in the order of their keys ([`Scan::backwards`] reads them the other way). A scan shows the moment of
    /// the call: later writes do not appear. Rows are read as it advances, so take only as many as needed.
    pub fn scan<T: Table>(&self, range: impl RangeBounds<T::Key>) -> Result<Scan<'_, T>, StoreError> {
        Ok(Scan::new(&self.db, self.family::<T>()?, Bounds::of_range(&range)))
    }

    /// The records whose key begins with `prefix`, in the order of their keys.
    pub fn scan_prefix<T: Table, P: PrefixOf<T::Key>>(&self, prefix: &P) -> Result<Scan<'_, T>, StoreError> {
        Ok(Scan::new(&self.db, self.family::<T>()?, Bounds::of_prefix(key_bytes(prefix))))
    }

    /// Removes the records of a table that come before its newest `keep`, by the time that `time` gives; those without one stay, and are
    /// not counted. Says how many went. Every record is read, so this is for now and then.
    pub fn keep_newest<T: Table>(
        &self,
        keep: usize,
        time: impl Fn(&T::Value) -> Option<u64>,
    ) -> Result<usize, StoreError> {
        let mut times = Vec::new();
        for row in self.scan::<T>(..)? {
            let (key, value) = row?;
            times.extend(time(&value).map(|time| (time, key)));
        }
        let Some(beyond) = times.len().checked_sub(keep).filter(|beyond| *beyond > 0) else { return Ok(0) };
        times.sort_by_key(|(time, _)| *time);
        let mut batch = self.batch();
        for (_, key) in times.iter().take(beyond) {
            batch.delete::<T>(key)?;
        }
        batch.commit()?;
        Ok(beyond)
    }

    /// Starts a batch: writes to any tables that happen together or not at all.
    pub fn batch(&self) -> Batch<'_> {
        Batch { store: self, writes: WriteBatch::default() }
    }

    /// How much is kept. The numbers are RocksDB's estimates, and cost it nothing.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let mut sizes = Sizes::default();
        for table in self.tables.iter() {
            let Some(family) = self.db.cf_handle(table) else { continue };
            let read = |name: &str| self.db.property_int_value_cf(family, name).map(Option::unwrap_or_default);
            sizes.records.push((*table, read("rocksdb.estimate-num-keys")?));
            sizes.files += read("rocksdb.total-sst-files-size")?;
            sizes.memory += read("rocksdb.cur-size-all-mem-tables")? + read("rocksdb.estimate-table-readers-mem")?;
        }
        // the cache is one for all tables
        let default = self.db.property_int_value("rocksdb.block-cache-usage")?;
        sizes.memory += default.unwrap_or_default();
        Ok(sizes)
    }

    /// Runs `work` on a thread that may block, which every call of a store may. The way to use a store from a task.
    pub async fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(StoreError::Interrupted)?
    }

    fn family<T: Table>(&self) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(T::NAME).ok_or(StoreError::UnknownTable(T::NAME))
    }
}

/// Writes that are applied together. Dropped without a commit, nothing happens.
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch<'a> {
    store: &'a Store,
    writes: WriteBatch,
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("writes", &self.writes.len()).finish()
    }
}

impl Batch<'_> {
    /// Adds or replaces a record.
    pub fn put<T: Table>(&mut self, key: &T::Key, value: &T::Value) -> Result<(), StoreError> {
        self.writes.put_cf(self.store.family::<T>()?, key_bytes(key), value.encode().map_err(record::<T>)?);
        Ok(())
    }

    /// Removes a record, if it is there.
    pub fn delete<T: Table>(&mut self, key: &T::Key) -> Result<(), StoreError> {
        self.writes.delete_cf(self.store.family::<T>()?, key_bytes(key));
        Ok(())
    }

    /// Applies the writes.
    pub fn commit(self) -> Result<(), StoreError> {
        Ok(self.store.db.write(self.writes)?)
    }

    /// Applies the writes; they are on the disk when this returns.
    pub fn commit_sync(self) -> Result<(), StoreError> {
        Ok(self.store.db.write_opt(self.writes, &synced())?)
    }
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn record<T: Table>(source: CodecError) -> StoreError {
    StoreError::Record { table: T::NAME, source }
}

#[cfg(test)]
mod tests;
