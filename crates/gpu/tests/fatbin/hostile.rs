//! Files that lie. Each gets an answer, whatever it claims.

use super::{folder, shape::*};
use gpu::fatbin::{Form, InspectError, Inspection, inspect, inspect_bytes};
use std::fs::File;

const PTX: u16 = 1;
const CUBIN: u16 = 2;
const LTO_IR: u16 = 8;
const ZSTD: u64 = 0x8000;
const LZ4: u64 = 0x2000;

fn found(section: &[u8]) -> Result<Inspection, InspectError> {
    inspect_bytes(&library(".nv_fatbin", section))
}

/// The parts of a file that were found wrong.
fn wrong(section: &[u8]) -> &'static str {
    match found(section) {
        Err(InspectError::Damaged { what }) => what,
        other => panic!("{other:?}"),
    }
}

fn ptx() -> Vec<u8> {
    entry(PTX, 75, 0, 0, b".entry a")
}

#[test]
fn containers_are_found_behind_padding_but_not_behind_anything_else() {
    let one = container(&[ptx()]);
    for padding in [0, 8, 64, 4_088] {
        let two = [&one[..], &vec![0; padding], &one, &vec![0; padding]].concat();
        assert_eq!(found(&two).unwrap().blobs[0].count, 2, "{padding}");
    }
    assert!(found(&[]).unwrap().blobs.is_empty());
    assert!(found(&[0; 4_096]).unwrap().blobs.is_empty());
    assert_eq!(wrong(&[0; 5_000]), "section of GPU code");
    assert_eq!(wrong(&[&one[..], b"something else in here"].concat()), "section of GPU code");
}

#[test]
fn lengths_beyond_what_is_there_are_told() {
    let whole = container(&[ptx()]);
    let with = |at: usize, value: u64| {
        let mut bytes = whole.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for size in [u64::MAX, u64::MAX - 15, 1 << 63, 1 << 40] {
        assert_eq!(wrong(&with(8, size)), "container of GPU code");
        // the length of the image's payload
        assert_eq!(wrong(&with(16 + 8, size)), "image of GPU code");
    }
    // that of its header, with 64-bit kind and version in front
    for length in [0_u64, 1, 63, u64::from(u32::MAX)] {
        assert_eq!(wrong(&with(16, 0x0101_0001 | length << 32)), "header of an image");
    }
    for end in 17..whole.len() {
        assert_eq!(wrong(&whole[..end]), "container of GPU code", "cut at {end}");
    }
    // a container that ends within an image's header
    assert_eq!(wrong(&container(&[vec![1; 63]])), "header of an image");
}

#[test]
fn a_target_beyond_all_numbers_is_told() {
    assert_eq!(wrong(&container(&[entry(PTX, 70_000, 0, 0, b"")])), "target of an image");
}

#[test]
fn a_container_is_a_stub_if_none_of_its_images_has_anything_to_run() {
    let empty = entry(PTX, 75, 0, 0, b".version 9.5\n.target sm_75\n    ");
    let listed =
        |entries: &[Vec<u8>]| found(&container(entries)).map(|found| (found.blobs.len(), found.stubs)).unwrap();
    assert_eq!(listed(&[]), (0, 1));
    assert_eq!(listed(&[empty.clone(), empty.clone()]), (0, 1));
    assert_eq!(listed(&[empty.clone(), ptx()]), (1, 0));
    assert_eq!(listed(&[empty, entry(LTO_IR, 75, 0, 0, b"")]), (1, 0));
}

#[test]
fn kinds_that_came_later_are_listed_with_their_number() {
    let listed = found(&container(&[entry(77, 90, 0, 0, b"")])).unwrap();
    assert_eq!(listed.blobs[0].images[0].to_string(), "code of the unknown kind 77 for sm_90");
}

#[test]
fn what_unpacks_to_something_else_than_it_says_counts_as_code() {
    let cubin = std::fs::read(folder().join("cuda13-sm_80.cubin")).unwrap();
    let lies: [(u64, u64, &[u8]); 6] = [
        (0, 0, b"neither packed nor a cubin"),
        (0, 0, &cubin[..100]),
        (ZSTD, 8_192, b"no frame"),
        (LZ4, 8_192, b"\xff\xff\xff\xff"),
        // a frame that says it needs a window of a gigabyte, and one that says nothing
        (ZSTD, 8_192, b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00"),
        (ZSTD, 8_192, b"\x28\xb5\x2f\xfd"),
    ];
    for (flags, size, payload) in lies {
        let listed = found(&container(&[entry(CUBIN, 80, flags, size, payload)])).unwrap();
        assert_eq!((listed.blobs.len(), listed.stubs), (1, 0));
    }
}

/// A frame of a few bytes that unpacks to a hundred megabytes, where a stub of 8 KiB is promised.
#[test]
fn a_bomb_does_not_go_off() {
    let mut frame = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
    for block in 0..800_u32 {
        // 128 KiB of one byte, and whether it is the last
        let header = u32::from(block == 799) | 1 << 1 | 131_072 << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    assert_eq!(frame.len(), 3_206);
    let listed = found(&container(&[entry(CUBIN, 80, ZSTD, 8_192, &frame)])).unwrap();
    assert_eq!((listed.blobs.len(), listed.stubs), (1, 0));
}

#[test]
fn more_containers_than_any_file_has_are_too_many() {
    let empty = container(&[]);
    let many = empty.repeat((1 << 18) + 1);
    assert!(matches!(found(&many), Err(InspectError::TooMuch { limit: 262_144, .. })));
    assert!(matches!(inspect_bytes(&library("__nv_relfatbin", &many)), Err(InspectError::TooMuch { .. })));
    let enough = empty.repeat(1 << 18);
    assert_eq!(found(&enough).unwrap().stubs, 1 << 18);
}

#[test]
fn a_table_of_sections_larger_than_memory_should_hold_is_not_read() {
    let mut bytes = library(".nv_fatbin", &[]);
    // the number of sections stands in the first one when it is too large for the header
    bytes[60..62].copy_from_slice(&[0, 0]);
    bytes[64 + 32..64 + 40].copy_from_slice(&(1_u64 << 24).to_le_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    std::fs::write(&path, &bytes).unwrap();
    // a gigabyte of nothing, so that the table is really there
    File::options().write(true).open(&path).unwrap().set_len(1 << 31).unwrap();
    assert!(matches!(inspect(&path), Err(InspectError::Damaged { what: "table of sections" })));
}

#[test]
fn what_is_no_file_is_told_apart_from_what_is_not_there() {
    assert!(matches!(inspect(&folder()), Err(InspectError::NotAFile { .. })));
    assert!(matches!(inspect(&folder().join("nothing")), Err(InspectError::Open { .. })));
    assert!(matches!(inspect("/dev/null".as_ref()), Err(InspectError::NotAFile { .. })));
}

#[test]
fn archives_that_hold_nothing_or_lie_are_told() {
    assert!(matches!(inspect_bytes(b"!<thin>\nwhatever"), Err(InspectError::ThinArchive)));
    let empty = inspect_bytes(b"!<arch>\n").unwrap();
    assert_eq!((empty.form, empty.blobs.len()), (Form::Archive, 0));
    let header = |size: &str| format!("!<arch>\n{:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", "a.o/", 0, 0, 0, 644);
    for size in ["100", "9999999999", "-1", "x"] {
        let bytes = header(size);
        assert!(matches!(inspect_bytes(bytes.as_bytes()), Err(InspectError::Damaged { .. })), "{size}");
    }
}

#[test]
fn small_files_are_no_programs() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", b"\x50\xed\x55\xba"] {
        assert_eq!(inspect_bytes(bytes).unwrap().form, Form::Other);
    }
    assert!(matches!(inspect_bytes(b"\x7fELF\x02\x01\x01\0"), Err(InspectError::Damaged { .. })));
    assert!(matches!(inspect_bytes(b"\x7fELF\x01\x02\x01\0"), Err(InspectError::Damaged { .. })));
}
