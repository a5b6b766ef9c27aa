use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::*;
use crate::protocol::{Frame, MAX_CONTROL};

fn metadata() -> FileMetadata {
    FileMetadata {
        kind: FileKind::File,
        permissions: 0o7777,
        size: u64::MAX,
        allocated: u64::MAX,
        user: u32::MAX,
        group: u32::MAX,
        links: u64::MAX,
        accessed: FileTime { seconds: i64::MIN, nanoseconds: 999_999_999 },
        modified: FileTime { seconds: i64::MIN, nanoseconds: 999_999_999 },
    }
}

fn back(frame: &Frame) -> Frame {
    Frame::read(&mut frame.encode().unwrap().as_slice()).unwrap().unwrap()
}

#[test]
fn a_path_of_any_bytes_and_the_content_beside_it_arrive_as_they_were() {
    let path = PathBuf::from(OsString::from_vec((1..=255).collect()));
    let operation = FileOperation::Store {
        path: path.clone(),
        permissions: 0o644,
        modified: Some(FileTime { seconds: -1, nanoseconds: 1 }),
        hash: FileHash([0xab; 32]),
    };
    let request = Frame::FileRequest(FileRequest { number: u64::MAX, operation, bytes: vec![0, 255, 7] });
    assert_eq!(back(&request), request);
    let reply = Frame::FileReply(FileReply { number: 7, answer: FileAnswer::Path(path), bytes: Vec::new() });
    assert_eq!(back(&reply), reply);
}

#[test]
fn the_fullest_batch_of_the_longest_names_fits_a_frame() {
    // A control character takes six bytes of JSON.
    let name = PathBuf::from(std::ffi::OsStr::from_bytes(&[1; 255]));
    let entries = vec![FileEntry { name, metadata: metadata() }; MAX_BATCH];
    let answer = FileAnswer::Entries { entries, last: false };
    assert!(serde_json::to_vec(&answer).unwrap().len() < MAX_CONTROL);
    let reply = Frame::FileReply(FileReply { number: 0, answer, bytes: Vec::new() });
    assert_eq!(back(&reply), reply);
}

#[test]
fn a_payload_cut_or_filled_with_anything_is_an_error_and_never_a_panic() {
    let operation = FileOperation::Read { handle: 1, offset: 2, length: 3 };
    let frame = Frame::FileRequest(FileRequest { number: 9, operation, bytes: Vec::new() }).encode().unwrap();
    let payload = &frame[crate::protocol::HEADER..];
    for cut in 0..payload.len() {
        assert!(read_payload::<FileOperation>(&payload[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..payload.len() {
        for bit in 0..8 {
            let mut changed = payload.to_vec();
            changed[at] ^= 1 << bit;
            let _ = read_payload::<FileOperation>(&changed);
        }
    }
    assert!(read_payload::<FileHash>(b"\0\0\0\0\0\0\0\0\0\0\0\x04\"ab\"").is_err());
}
