use super::*;
use crate::{
    tables,
    testing::{self, sealed},
};
use market::book::Book;
use std::{path::Path, time::Duration};
use tempfile::TempDir;

const LIFETIME: u64 = 600_000;

fn open_at(path: &Path, now: UnixMillis) -> (DiskBook, Book, Loaded) {
    let store = Store::open(path, &tables()).unwrap();
    DiskBook::open(store, Arc::default(), now).unwrap()
}

fn empty() -> (TempDir, DiskBook) {
    let folder = tempfile::tempdir().unwrap();
    let (disk, book, loaded) = open_at(folder.path(), UnixMillis::now());
    assert!(book.is_empty() && loaded == Loaded::default());
    (folder, disk)
}

fn rows<T: store::Table>(disk: &DiskBook) -> usize {
    disk.store.scan::<T>(..).unwrap().count()
}

#[test]
fn what_was_acknowledged_is_there_again_and_numbers_go_on() {
    let (folder, disk) = empty();
    let now = UnixMillis::now();
    let ads: Vec<_> = (0..5).map(|i| sealed(now.0, LIFETIME, &format!("slot-{i}"))).collect();
    disk.write(&ads.iter().map(testing::put).collect::<Vec<_>>());
    let given: Vec<u64> = ads.iter().map(|ad| disk.updated_at(&ad.ad.peer, ad.ad.seq).unwrap()).collect();
    assert!(given.windows(2).all(|pair| pair[0] < pair[1]), "strictly: {given:?}");
    assert_eq!(disk.last(), given[4]);
    drop(disk);

    let (disk, book, loaded) = open_at(folder.path(), now);
    assert_eq!(loaded, Loaded { ads: 5, ..Loaded::default() });
    for (ad, updated_at) in ads.iter().zip(&given) {
        assert_eq!(book.get(&ad.ad.peer).unwrap().raw, ad.raw);
        assert_eq!(disk.updated_at(&ad.ad.peer, ad.ad.seq), Some(*updated_at));
    }
    // the clock may stand anywhere: no number is given twice
    let newer = sealed(now.0, LIFETIME, "late");
    disk.acknowledge(disk.commit(&[testing::put(&newer)], UnixMillis(1)).unwrap());
    assert_eq!(disk.updated_at(&newer.ad.peer, newer.ad.seq), Some(given[4] + 1));
}

#[test]
fn an_advertisement_and_its_rows_in_the_indexes_change_together() {
    let (_folder, disk) = empty();
    let (now, key) = (UnixMillis::now().0, testing::key());
    let first = testing::sealed_by(&key, now - 1_000, LIFETIME, "first");
    let second = testing::sealed_by(&key, now, LIFETIME, "second");
    let peer = first.ad.peer;
    disk.write(&[testing::put(&first)]);
    let before = disk.updated_at(&peer, first.ad.seq).unwrap();
    disk.write(&[testing::put(&second)]);
    assert_eq!(disk.updated_at(&peer, first.ad.seq), None, "an older one is not there any more");
    assert_eq!(
        (rows::<Ads>(&disk), rows::<ByUpdate>(&disk), rows::<ByExpiry>(&disk), rows::<ByClass>(&disk)),
        (1, 1, 1, 1)
    );
    assert_eq!(disk.changed_since(before, 10).unwrap()[0].1.raw, second.raw);

    // within one batch the last word counts
    disk.write(&[testing::put(&first), AdChange::Removed { peer }]);
    assert!(disk.is_empty() && disk.get(&peer).unwrap().is_none());
    assert_eq!((rows::<ByUpdate>(&disk), rows::<ByExpiry>(&disk), rows::<ByClass>(&disk)), (0, 0, 0));
}

#[test]
fn lists_go_on_where_they_ended() {
    let (_folder, disk) = empty();
    let now = UnixMillis::now().0;
    let ads: Vec<_> = (0..7).map(|i| sealed(now, LIFETIME, &format!("slot-{i}"))).collect();
    disk.write(&ads.iter().map(testing::put).collect::<Vec<_>>());
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = disk.of_class(GpuClass::CPU, after.as_ref(), 3).unwrap();
        listed.extend(page.iter().map(|(peer, _)| *peer));
        after = listed.last().copied();
        if page.len() < 3 {
            break;
        }
    }
    listed.sort_unstable();
    let mut all: Vec<_> = ads.iter().map(|ad| ad.ad.peer).collect();
    all.sort_unstable();
    assert_eq!(listed, all);
    assert!(disk.of_class(GpuClass::OTHER, None, 3).unwrap().is_empty());

    let (mut seen, mut since) = (Vec::new(), 0);
    while let Some((_, last)) = disk.changed_since(since, 3).unwrap().last() {
        seen.extend(disk.changed_since(since, 3).unwrap().iter().map(|(peer, _)| *peer));
        since = last.updated_at;
    }
    assert_eq!(seen, ads.iter().map(|ad| ad.ad.peer).collect::<Vec<_>>(), "in the order in which they came");
}

#[test]
fn what_ended_meanwhile_is_forgotten_with_its_rows() {
    let (folder, disk) = empty();
    let now = UnixMillis::now();
    let (brief, lasting) = (sealed(now.0, 1_000, "brief"), sealed(now.0, LIFETIME, "lasting"));
    disk.write(&[testing::put(&brief), testing::put(&lasting)]);
    drop(disk);
    let (disk, book, loaded) = open_at(folder.path(), now.plus(2_000));
    assert_eq!(loaded, Loaded { ads: 1, over: 1, corrupt: 0 });
    assert!(book.get(&brief.ad.peer).is_none() && disk.get(&brief.ad.peer).unwrap().is_none());
    assert_eq!((rows::<ByUpdate>(&disk), rows::<ByExpiry>(&disk), rows::<ByClass>(&disk)), (1, 1, 1));
}

#[test]
fn a_record_that_cannot_be_read_is_left_out_counted_and_forgotten() {
    let (folder, disk) = empty();
    let now = UnixMillis::now();
    let ads: Vec<_> = (0..4).map(|i| sealed(now.0, LIFETIME, &format!("slot-{i}"))).collect();
    disk.write(&ads.iter().map(testing::put).collect::<Vec<_>>());
    // one is cut short, one is another's, one is not even a moment
    let cut = Ad { updated_at: 7, raw: ads[0].raw[..40].into() };
    disk.store.put::<Ads>(&ads[0].ad.peer, &cut).unwrap();
    disk.store.put::<Ads>(&ads[1].ad.peer, &Ad { updated_at: 8, raw: Arc::clone(&ads[3].raw) }).unwrap();
    struct Bytes;
    impl store::Table for Bytes {
        const NAME: &'static str = Ads::NAME;
        type Key = PeerId;
        type Value = store::Raw;
    }
    disk.store.put::<Bytes>(&ads[2].ad.peer, &store::Raw(vec![1, 2, 3])).unwrap();
    drop(disk);

    let (disk, book, loaded) = open_at(folder.path(), now);
    assert_eq!(loaded, Loaded { ads: 1, over: 0, corrupt: 3 });
    assert_eq!(disk.figures.corrupt.get(), 3);
    assert_eq!((book.len(), disk.len()), (1, 1));
    assert_eq!(
        (rows::<Ads>(&disk), rows::<ByUpdate>(&disk), rows::<ByExpiry>(&disk), rows::<ByClass>(&disk)),
        (1, 1, 1, 1)
    );
    drop(disk);
    assert_eq!(open_at(folder.path(), now).2, Loaded { ads: 1, ..Loaded::default() });
}

#[tokio::test]
async fn followers_hear_of_what_is_on_disk_and_the_slow_are_told_that_they_missed_some() {
    let (_folder, disk) = empty();
    let mut follower = disk.watch();
    let ad = sealed(UnixMillis::now().0, LIFETIME, "slot");
    let (peer, seq) = (ad.ad.peer, ad.ad.seq);
    disk.write(&[testing::put(&ad)]);
    let heard = tokio::time::timeout(Duration::from_secs(10), follower.recv()).await.unwrap().unwrap();
    let updated_at = disk.updated_at(&peer, seq).unwrap();
    assert_eq!(heard, BookChange::Taken { peer, seq, updated_at });
    for _ in 0..=MAX_CHANGES_BEHIND {
        disk.write(&[AdChange::Removed { peer }]);
    }
    assert!(matches!(follower.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
}
