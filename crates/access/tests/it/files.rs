//! The renter's end: streams of bytes, errors where they belong, and a provider who says what no agent would.

use crate::support::{content, folder, provider, rental, within};
use access::files::{
    FileCallError, FileErrorKind, FileHash, FileKind, FileTime, Files, MAX_PIECE, OpenMode,
    message::{reply_from_proto, reply_to_proto, request_from_proto, request_to_proto},
};
use sandbox::{
    FileAnswer, FileChange, FileEntry, FileError, FileExtent, FileMetadata, FileOperation, FileReply, FileRequest,
    FileSpace, Target,
};
use std::{io::SeekFrom, path::PathBuf};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt, duplex};
use wire::proto;

const NEW: OpenMode = OpenMode {
    read: true,
    write: true,
    append: false,
    create: true,
    truncate: true,
    exclusive: false,
    permissions: 0o600,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_and_read_as_a_stream_of_bytes_and_from_any_place() {
    let (files, folder) = (rental(), folder());
    let path = folder.path().join("stream");
    let sent = content(1, 20_000_001);
    let mut writer = files.open(&path, NEW).await.unwrap().into_writer(3);
    within(writer.write_all(&sent)).await.unwrap();
    within(writer.shutdown()).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[3..], sent);

    let mut reader = files.open_to_read(&path).await.unwrap().into_reader(3);
    let mut got = Vec::new();
    within(reader.read_to_end(&mut got)).await.unwrap();
    assert!(got == sent);
    for place in [SeekFrom::Start(10_000_000), SeekFrom::Current(-5_000), SeekFrom::End(-17)] {
        let at = within(reader.seek(place)).await.unwrap();
        let mut got = [0; 17];
        within(reader.read_exact(&mut got)).await.unwrap();
        assert_eq!(got, sent[at as usize - 3..][..17], "{place:?}");
    }
    // One that has grown goes on.
    let writing = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &writing, b"more").unwrap();
    let mut got = Vec::new();
    within(reader.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"more");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_while_writing_is_told_at_the_flush_and_stays_so() {
    let (files, folder) = (rental(), folder());
    let path = folder.path().join("file");
    std::fs::write(&path, "x").unwrap();
    let mut writer = files.open_to_read(&path).await.unwrap().into_writer(0);
    let _ = within(writer.write_all(b"never")).await;
    for _ in 0..2 {
        let error = within(writer.flush()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
    }
    let mut unread = files.open(&path, OpenMode { read: false, truncate: false, ..NEW }).await.unwrap().into_reader(0);
    assert!(within(unread.read(&mut [0; 4])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_askers_on_one_stream_each_get_their_own_answers() {
    let (files, folder) = (rental(), folder());
    let askers = (0..64u64).map(|number| {
        let (files, path) = (files.clone(), folder.path().join(number.to_string()));
        tokio::spawn(async move {
            let sent = content(number, 300_000);
            let file = files.open(&path, NEW).await.unwrap();
            for (at, piece) in sent.chunks(MAX_PIECE).enumerate() {
                file.write((at * MAX_PIECE) as u64, piece.to_vec()).await.unwrap();
            }
            let (hash, length) = file.hash(0, 1 << 20).await.unwrap();
            assert_eq!((hash.0, length), (*blake3::hash(&sent).as_bytes(), 300_000));
            assert!(file.read(100_000, 1_000).await.unwrap() == sent[100_000..101_000]);
            file.close().await.unwrap();
        })
    });
    for asker in askers.collect::<Vec<_>>() {
        within(asker).await.unwrap();
    }
    assert_eq!(files.list(folder.path()).await.unwrap().len(), 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_ends_every_question_on_it() {
    let (near, far) = duplex(1 << 16);
    let files = Files::new(near);
    let asking = tokio::spawn({
        let files = files.clone();
        async move { files.stat("/").await }
    });
    drop(far);
    assert!(matches!(within(asking).await.unwrap(), Err(FileCallError::Ended(_))));
    assert!(matches!(within(files.stat("/")).await, Err(FileCallError::Ended(_))));
}

/// Asks for a list of a provider who answers opening with "done" and listing with this.
async fn listed(answer: proto::file_reply::Answer, number: u64) -> Result<Vec<FileEntry>, FileCallError> {
    let (near, mut far) = duplex(1 << 16);
    tokio::spawn(async move {
        let done = proto::file_reply::Answer::Done(proto::FileDone {});
        for reply in
            [proto::FileReply { number: 0, answer: Some(done) }, proto::FileReply { number, answer: Some(answer) }]
        {
            let asked: Option<proto::FileRequest> =
                network::read_message(&mut far, wire::MAX_FILE_MESSAGE_BYTES).await.unwrap();
            assert!(asked.is_some());
            network::write_message(&mut far, &reply, wire::MAX_FILE_MESSAGE_BYTES).await.unwrap();
        }
        let _ = far.read_to_end(&mut Vec::new()).await;
    });
    within(Files::new(near).list("/")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_elsewhere_and_an_answer_to_nothing_end_the_stream() {
    let entries = |name: &[u8]| {
        let metadata = Some(proto::FileMetadata::default());
        proto::file_reply::Answer::Entries(proto::FileEntries {
            entries: vec![proto::FileEntry { name: name.to_vec(), metadata }],
            last: true,
        })
    };
    assert_eq!(listed(entries(b"name"), 1).await.unwrap().len(), 1);
    for name in [&b""[..], b".", b"..", b"a/b", b"/etc/passwd", b"nul\0"] {
        assert!(matches!(listed(entries(name), 1).await, Err(FileCallError::Ended(_))), "{name:?}");
    }
    assert!(matches!(listed(entries(b"name"), 7).await, Err(FileCallError::Ended(_))), "another number");
    let other = proto::file_reply::Answer::Path(b"/".to_vec());
    assert!(matches!(listed(other, 1).await, Err(FileCallError::Unexpected)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asker_that_sends_no_message_is_cut_off() {
    let mut near = provider();
    near.write_all(&[0xff; 64]).await.unwrap();
    let mut got = Vec::new();
    within(near.read_to_end(&mut got)).await.unwrap();
    assert!(got.is_empty());
}

fn operations() -> Vec<FileOperation> {
    use FileOperation as Ask;
    let path = PathBuf::from("/job/a");
    let time = FileTime { seconds: -7, nanoseconds: 9 };
    let change = FileChange { size: Some(0), permissions: Some(0), accessed: Some(time), modified: None };
    vec![
        Ask::Open { handle: 1, path: path.clone(), mode: OpenMode { append: true, exclusive: true, ..NEW } },
        Ask::OpenDirectory { handle: 2, path: path.clone() },
        Ask::Close { handle: 3 },
        Ask::Read { handle: 4, offset: u64::MAX, length: 5 },
        Ask::List { handle: 6 },
        Ask::Stat { target: Target::Handle(7) },
        Ask::Stat { target: Target::Path { path: path.clone(), follow: true } },
        Ask::Set { target: Target::Path { path: path.clone(), follow: false }, change },
        Ask::MakeDirectory { path: path.clone(), permissions: 0o7777 },
        Ask::Remove { path: path.clone() },
        Ask::RemoveDirectory { path: path.clone() },
        Ask::Rename { from: path.clone(), to: "/b".into(), replace: true },
        Ask::Link { from: path.clone(), to: "/b".into() },
        Ask::Symlink { target: "../x".into(), path: path.clone() },
        Ask::ReadLink { path: path.clone() },
        Ask::RealPath { path: path.clone() },
        Ask::Space { path: path.clone() },
        Ask::Sync { handle: 8 },
        Ask::Hash { handle: 9, from: 10, length: 11 },
        Ask::Extent { handle: 12, from: 13 },
        Ask::Fetch { path, longest: 14 },
    ]
}

#[test]
fn every_request_and_reply_is_the_same_after_its_message() {
    let path = PathBuf::from("/job/a");
    let mut requests: Vec<FileRequest> =
        operations().into_iter().map(|operation| FileRequest { number: 5, operation, bytes: Vec::new() }).collect();
    let hash = FileHash([7; 32]);
    let write = FileOperation::Write { handle: 1, offset: 2 };
    let store = FileOperation::Store { path: path.clone(), permissions: 1, modified: None, hash };
    requests.extend([write, store].map(|operation| FileRequest { number: 6, operation, bytes: vec![1, 2] }));
    for request in requests {
        assert_eq!(request_from_proto(request_to_proto(request.clone())).unwrap(), request);
    }
    let metadata = FileMetadata {
        kind: FileKind::Symlink,
        permissions: 0o7777,
        size: 1,
        allocated: 2,
        user: 3,
        group: 4,
        links: 5,
        accessed: FileTime { seconds: 6, nanoseconds: 7 },
        modified: FileTime { seconds: -8, nanoseconds: 9 },
    };
    let space = FileSpace {
        block_size: 1,
        blocks: 2,
        free_blocks: 3,
        available_blocks: 4,
        files: 5,
        free_files: 6,
        longest_name: 7,
    };
    let failed = FileError { kind: FileErrorKind::TooManyHandles, message: "too many".into() };
    let entries = vec![FileEntry { name: "name".into(), metadata }];
    for (answer, bytes) in [
        (FileAnswer::Done, vec![]),
        (FileAnswer::Data, vec![1, 2]),
        (FileAnswer::Metadata(metadata), vec![]),
        (FileAnswer::Entries { entries, last: true }, vec![]),
        (FileAnswer::Path(path), vec![]),
        (FileAnswer::Space(space), vec![]),
        (FileAnswer::Hash { hash, length: 3 }, vec![]),
        (FileAnswer::Extent(None), vec![]),
        (FileAnswer::Extent(Some(FileExtent { start: 0, end: 1 })), vec![]),
        (FileAnswer::Fetched { metadata, hash }, vec![4]),
        (FileAnswer::Failed(failed), vec![]),
    ] {
        let reply = FileReply { number: 9, answer, bytes };
        assert_eq!(reply_from_proto(reply_to_proto(reply.clone())).unwrap(), reply);
    }
}
