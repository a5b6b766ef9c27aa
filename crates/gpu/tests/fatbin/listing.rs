//! What is found in the fixtures is what `make.py` told the compilers to put there, and what NVIDIA's own tool lists.

use super::{fixtures, folder};
use gpu::compatibility::{CudaVersion, Device, Verdict, judge};
use gpu::fatbin::{Code, Compression, Form, Image, Inspection, inspect, inspect_bytes};
use std::{collections::BTreeSet, fs};

/// File, form, containers with how often each, stubs, containers still to be linked.
type Row = (&'static str, Form, &'static [(u32, &'static str)], u32, u32);

const EXPECTED: &[Row] = &[
    ("archive.a", Form::Archive, &[(1, "sm_80, sm_90a"), (1, "sm_80, sm_100a")], 0, 0),
    ("cuda12-sm_100a.cubin", Form::Cubin, &[(1, "sm_100a")], 0, 0),
    ("cuda12-sm_80.cubin", Form::Cubin, &[(1, "sm_80")], 0, 0),
    ("cuda12-sm_90a.cubin", Form::Cubin, &[(1, "sm_90a")], 0, 0),
    ("cuda12.fatbin", Form::Fatbin, &[(1, "sm_80 (lz4), sm_90a (lz4), sm_100a (lz4), PTX 8.8 for sm_80 (lz4)")], 0, 0),
    ("cuda13-sm_100.cubin", Form::Cubin, &[(1, "sm_100")], 0, 0),
    ("cuda13-sm_100a.cubin", Form::Cubin, &[(1, "sm_100a")], 0, 0),
    ("cuda13-sm_100f.cubin", Form::Cubin, &[(1, "sm_100f")], 0, 0),
    ("cuda13-sm_120f.cubin", Form::Cubin, &[(1, "sm_120f")], 0, 0),
    ("cuda13-sm_80.cubin", Form::Cubin, &[(1, "sm_80")], 0, 0),
    ("cuda13-sm_90.cubin", Form::Cubin, &[(1, "sm_90")], 0, 0),
    ("cuda13-sm_90a.cubin", Form::Cubin, &[(1, "sm_90a")], 0, 0),
    ("empty-unit.so", Form::Linked, &[(1, "sm_80 (zstd), PTX 9.5 for sm_75 (zstd)")], 1, 0),
    ("host", Form::Linked, &[], 0, 0),
    ("joined.so", Form::Linked, &[(1, "PTX 9.5 for sm_75 (zstd), sm_80 (zstd), sm_90a (zstd)")], 0, 0),
    ("kernel.ptx", Form::Ptx, &[(1, "PTX 9.5 for sm_100f")], 0, 0),
    ("linked-zstd.so", Form::Linked, &[(1, "sm_80 (zstd), sm_100a (zstd)")], 0, 2),
    ("linked.so", Form::Linked, &[(1, "sm_80, sm_100a")], 0, 2),
    ("lto.fatbin", Form::Fatbin, &[(1, "LTO-IR for sm_80 (zstd)")], 0, 0),
    ("lz4.so", Form::Linked, &[(1, "sm_80 (lz4), sm_90a (lz4), PTX 9.5 for sm_75 (lz4)")], 0, 0),
    (
        "many-targets.so",
        Form::Linked,
        &[(
            1,
            "sm_80 (zstd), sm_90a (zstd), sm_100a (zstd), sm_100f (zstd), sm_103f (zstd), sm_110 (zstd), sm_120a (zstd), \
             PTX 9.5 for sm_75 (zstd), PTX 9.5 for sm_120f (zstd)",
        )],
        0,
        0,
    ),
    ("object.o", Form::Object, &[(1, "sm_80, sm_100a")], 0, 0),
    ("only-ptx-90a.so", Form::Linked, &[(1, "PTX 9.5 for sm_90a (zstd)")], 0, 0),
    ("only-ptx.so", Form::Linked, &[(1, "PTX 9.5 for sm_75 (zstd)")], 0, 0),
    ("only-sm_90a.so", Form::Linked, &[(1, "sm_90a")], 0, 0),
    ("relocatable.cubin", Form::Cubin, &[], 0, 1),
    ("stub-lz4.so", Form::Linked, &[(1, "sm_80 (lz4), sm_100a (lz4)")], 1, 0),
    ("stub-zstd.so", Form::Linked, &[(1, "sm_80 (zstd), sm_100a (zstd)")], 1, 0),
    ("stub.so", Form::Linked, &[(1, "sm_80, sm_100a")], 1, 0),
    ("two-units.so", Form::Linked, &[(2, "PTX 9.5 for sm_80 (zstd), sm_80")], 0, 0),
    ("uncompressed.so", Form::Linked, &[(1, "sm_80, sm_90a, PTX 9.5 for sm_75")], 0, 0),
    ("unlinked.so", Form::Linked, &[], 0, 2),
    ("zstd.so", Form::Linked, &[(1, "sm_80 (zstd), sm_90a (zstd), PTX 9.5 for sm_75 (zstd)")], 0, 0),
];

fn text(images: &[Image]) -> String {
    images.iter().map(Image::to_string).collect::<Vec<_>>().join(", ")
}

fn of(name: &str) -> Inspection {
    inspect(&folder().join(name)).unwrap()
}

#[test]
fn each_fixture_has_the_code_that_was_compiled_into_it() {
    let names: Vec<String> = fixtures().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, EXPECTED.iter().map(|row| row.0).collect::<Vec<_>>(), "a row for each fixture");
    for (name, form, blobs, stubs, relocatable) in EXPECTED {
        let found = of(name);
        let listed: Vec<_> = found.blobs.iter().map(|blob| (blob.count, text(&blob.images))).collect();
        let expected: Vec<_> = blobs.iter().map(|(count, images)| (*count, (*images).to_owned())).collect();
        assert_eq!((found.form, found.stubs, found.relocatable), (*form, *stubs, *relocatable), "{name}");
        assert_eq!(listed, expected, "{name}");
    }
}

/// As `cuobjdump.txt` has it: `elf sm_90a packed`, `ptx 9.5 sm_75`.
fn as_cuobjdump_lists(image: &Image) -> String {
    let kind = match image.code {
        Code::Cubin => "elf".to_owned(),
        Code::Ptx { isa } => format!("ptx {isa}"),
        Code::LtoIr => "nvvm".to_owned(),
        Code::Other { number } => number.to_string(),
    };
    let packed = if image.compression == Compression::None { "" } else { " packed" };
    format!("{kind} {}{packed}", image.target)
}

#[test]
fn cuobjdump_lists_the_same() {
    let mut compared = 0;
    for line in fs::read_to_string(folder().join("cuobjdump.txt")).unwrap().lines() {
        let (name, images) = line.split_once(": ").unwrap();
        let found = of(name);
        // without anything that can run it lists what is still to be linked
        if found.blobs.is_empty() {
            continue;
        }
        let shorter = |image: &str| match image.split_once(' ').unwrap() {
            // the version that it has of other kinds is that of the format
            (kind @ ("elf" | "nvvm"), rest) => format!("{kind} {}", rest.split_once(' ').unwrap().1),
            _ => image.to_owned(),
        };
        let mut theirs: Vec<String> = images.split(", ").map(shorter).collect();
        theirs.sort();
        let mut ours = Vec::new();
        for blob in &found.blobs {
            for image in &blob.images {
                ours.extend((0..blob.count).map(|_| as_cuobjdump_lists(image)));
            }
        }
        ours.sort();
        if found.stubs == 0 {
            assert_eq!(ours, theirs, "{name}");
        } else {
            // it does not know a stub from the real thing
            assert!(ours.len() < theirs.len(), "{name}");
            assert_eq!(BTreeSet::from_iter(ours), BTreeSet::from_iter(theirs), "{name}");
        }
        compared += 1;
    }
    assert_eq!(compared, 19);
}

#[test]
fn a_file_says_the_same_from_memory_as_from_the_disk() {
    for (name, bytes) in fixtures() {
        assert_eq!(inspect_bytes(&bytes).unwrap(), of(&name), "{name}");
    }
}

#[test]
fn cards_get_the_programs_that_run_on_them() {
    let h200 = Device { name: "H200", sm: 90, cuda: Some(CudaVersion { major: 12, minor: 8 }) };
    let b200 = Device { name: "B200", sm: 100, cuda: Some(CudaVersion { major: 13, minor: 5 }) };
    let rtx_5090 = Device { name: "RTX 5090", sm: 120, cuda: Some(CudaVersion { major: 13, minor: 5 }) };
    use Verdict::{Jit, Native, NeedsNewerDriver, No, Unknown};
    for (name, expected) in [
        ("only-sm_90a.so", [Native, No, No]),
        ("only-ptx-90a.so", [NeedsNewerDriver, No, No]),
        ("only-ptx.so", [NeedsNewerDriver, Jit, Jit]),
        ("uncompressed.so", [Native, Jit, Jit]),
        ("many-targets.so", [Native, Native, Native]),
        ("cuda13-sm_100f.cubin", [No, Native, No]),
        // a stub or what is still to be linked must not count, for or against
        ("stub.so", [No, Native, No]),
        ("linked.so", [No, Native, No]),
        ("unlinked.so", [Unknown, Unknown, Unknown]),
        ("lto.fatbin", [Unknown, Unknown, Unknown]),
        ("host", [Unknown, Unknown, Unknown]),
        ("source/script.py", [Unknown, Unknown, Unknown]),
    ] {
        let found = of(name);
        let verdicts = [&h200, &b200, &rtx_5090].map(|device| judge([&found], device).verdict);
        assert_eq!(verdicts, expected, "{name}");
    }
    assert_eq!(judge([&of("only-sm_90a.so")], &rtx_5090).reason, "needs sm_90a; RTX 5090 is sm_120");
}
