//! The store as its users see it, on a real directory.

use super::*;
use std::process::Command;

struct Numbers;
impl Table for Numbers {
    const NAME: &'static str = "numbers";
    type Key = (u64, String);
    type Value = Json<u32>;
}

struct Index;
impl Table for Index {
    const NAME: &'static str = "index";
    type Key = u32;
    type Value = ();
}

const TABLES: [TableDef; 2] = [TableDef::of::<Numbers>(), TableDef::of::<Index>()];

fn key(n: u64, text: &str) -> (u64, String) {
    (n, text.to_owned())
}

#[test]
fn a_reopened_store_has_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES).unwrap();
    store.put::<Numbers>(&key(1, "a"), &Json(10)).unwrap();
    store.put_sync::<Numbers>(&key(1, "b"), &Json(11)).unwrap();
    store.delete::<Numbers>(&key(1, "a")).unwrap();
    drop(store);

    let store = Store::open(dir.path(), &TABLES).unwrap();
    assert_eq!(store.get::<Numbers>(&key(1, "a")).unwrap(), None);
    assert_eq!(store.get::<Numbers>(&key(1, "b")).unwrap(), Some(Json(11)));
}

#[test]
fn a_table_that_is_not_listed_keeps_its_data_and_a_new_one_is_added() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path(), &TABLES[..1]).unwrap().put::<Numbers>(&key(1, "a"), &Json(1)).unwrap();
    let other = Store::open(dir.path(), &TABLES[1..]).unwrap();
    other.put::<Index>(&5, &()).unwrap();
    drop(other);
    let store = Store::open(dir.path(), &TABLES).unwrap();
    assert!(store.contains::<Index>(&5).unwrap());
    assert_eq!(store.get::<Numbers>(&key(1, "a")).unwrap(), Some(Json(1)));
}

#[test]
fn a_table_the_store_was_not_opened_with_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES[..1]).unwrap();
    assert!(matches!(store.get::<Index>(&1), Err(StoreError::UnknownTable("index"))));
}

#[test]
fn a_second_opening_of_the_same_directory_says_that_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path(), &TABLES).unwrap();
    let error = Store::open(dir.path(), &TABLES).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("another node runs on it"), "{error}");

    // a clone keeps the lock, the last one gives it up
    let clone = first.clone();
    drop(first);
    assert!(Store::open(dir.path(), &TABLES).is_err());
    drop(clone);
    Store::open(dir.path(), &TABLES).unwrap();
}

#[test]
fn another_process_cannot_open_it_either() {
    // The same test binary runs as the other process; the variable tells it apart.
    const OTHER: &str = "STORE_TEST_OTHER_PROCESS";
    if let Some(path) = std::env::var_os(OTHER) {
        let in_use = matches!(Store::open(PathBuf::from(path), &TABLES), Err(StoreError::InUse { .. }));
        std::process::exit(if in_use { 42 } else { 1 });
    }
    let dir = tempfile::tempdir().unwrap();
    let _held = Store::open(dir.path(), &TABLES).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::another_process_cannot_open_it_either"])
        .env(OTHER, dir.path())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(42));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES[..1]).unwrap();
    store.db.put(FORMAT_KEY, (FORMAT + 1).to_be_bytes()).unwrap();
    drop(store);
    let error = Store::open(dir.path(), &TABLES).unwrap_err();
    assert!(
        matches!(error, StoreError::NewerFormat { found, supported, .. } if found == FORMAT + 1 && supported == FORMAT)
    );
    assert!(error.to_string().contains("use the newer program"), "{error}");
    let families = DB::list_cf(&options::database(), dir.path()).unwrap();
    assert!(!families.contains(&"index".to_owned()), "a table was added to data of a newer format");
}

#[test]
fn a_batch_is_applied_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES[..1]).unwrap();
    let mut batch = store.batch();
    batch.put::<Numbers>(&key(1, "a"), &Json(1)).unwrap();
    // the batch never gets its second half
    assert!(batch.put::<Index>(&1, &()).is_err());
    drop(batch);
    assert_eq!(store.get::<Numbers>(&key(1, "a")).unwrap(), None);
    drop(store);

    let store = Store::open(dir.path(), &TABLES).unwrap();
    let mut batch = store.batch();
    batch.put::<Numbers>(&key(1, "a"), &Json(1)).unwrap();
    batch.put::<Index>(&1, &()).unwrap();
    assert_eq!(store.get::<Numbers>(&key(1, "a")).unwrap(), None);
    batch.commit_sync().unwrap();
    assert_eq!(store.get::<Numbers>(&key(1, "a")).unwrap(), Some(Json(1)));
    assert!(store.contains::<Index>(&1).unwrap());
}

#[test]
fn scans_stay_within_their_bounds_and_run_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES).unwrap();
    for (n, text, value) in [(1, "a", 1), (1, "b", 2), (2, "", 3), (2, "a", 4), (255, "z", 5), (u64::MAX, "z", 6)] {
        store.put::<Numbers>(&key(n, text), &Json(value)).unwrap();
    }
    let values = |scan: Scan<'_, Numbers>| scan.map(|row| row.unwrap().1.0).collect::<Vec<_>>();
    assert_eq!(values(store.scan(..).unwrap()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(values(store.scan(key(1, "b")..key(2, "a")).unwrap()), [2, 3]);
    assert_eq!(values(store.scan(key(1, "b")..=key(2, "a")).unwrap()), [2, 3, 4]);
    assert_eq!(values(store.scan_prefix(&2u64).unwrap()), [3, 4]);
    assert_eq!(values(store.scan_prefix(&u64::MAX).unwrap()), [6]);
    assert_eq!(values(store.scan_prefix(&2u64).unwrap().backwards()), [4, 3]);
    assert_eq!(values(store.scan(..).unwrap().backwards()), [6, 5, 4, 3, 2, 1]);
}

#[test]
fn a_record_of_another_type_is_named_with_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES).unwrap();
    store.db.put_cf(store.family::<Numbers>().unwrap(), key_bytes(&key(1, "a")), b"not json").unwrap();
    assert!(matches!(store.get::<Numbers>(&key(1, "a")), Err(StoreError::Record { table: "numbers", .. })));
}

#[tokio::test]
async fn tasks_use_the_store_without_blocking_their_thread() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES).unwrap();
    store.run(|store| store.put_sync::<Index>(&9, &())).await.unwrap();
    assert!(store.run(|store| store.contains::<Index>(&9)).await.unwrap());
}

#[test]
fn only_the_newest_are_kept_and_what_has_no_time_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES).unwrap();
    // the time is the value; zero stands for what goes on
    for (n, time) in [(1, 40), (2, 10), (3, 0), (4, 30), (5, 20)] {
        store.put::<Numbers>(&key(n, ""), &Json(time)).unwrap();
    }
    let time = |value: &Json<u32>| (value.0 > 0).then_some(u64::from(value.0));
    assert_eq!(store.keep_newest::<Numbers>(4, time).unwrap(), 0);
    assert_eq!(store.keep_newest::<Numbers>(2, time).unwrap(), 2);
    let left: Vec<u64> = store.scan::<Numbers>(..).unwrap().map(|row| row.unwrap().0.0).collect();
    assert_eq!(left, [1, 3, 4]);
}

#[test]
fn the_sizes_count_the_records_of_every_table() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &TABLES).unwrap();
    (0..10).for_each(|n| store.put::<Index>(&n, &()).unwrap());
    let sizes = store.sizes().unwrap();
    assert_eq!(sizes.records, [("numbers", 0), ("index", 10)]);
    assert!(sizes.memory > 0);
}
