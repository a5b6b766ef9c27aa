use super::*;
use crate::fatbin::{Blob, Code, Compression, Features, Form, Image, Target};

const RTX_5090: Device<'_> = Device { name: "RTX 5090", sm: 120, cuda: Some(CudaVersion { major: 13, minor: 1 }) };

fn device(sm: u32, cuda: u32) -> Device<'static> {
    Device { name: "the card", sm, cuda: Some(CudaVersion::from_tenths(cuda)) }
}

/// `sm_90a` is a cubin, `9.5:sm_75` PTX, `lto:sm_80` LTO-IR.
fn image(text: &str) -> Image {
    let (code, target) = match text.split_once(':') {
        None => (Code::Cubin, text),
        Some(("lto", target)) => (Code::LtoIr, target),
        Some((isa, target)) => {
            let (major, minor) = isa.split_once('.').unwrap();
            let isa = PtxVersion { major: major.parse().unwrap(), minor: minor.parse().unwrap() };
            (Code::Ptx { isa }, target)
        }
    };
    Image { code, target: target.parse().unwrap(), compression: Compression::None }
}

/// A program of several containers: `sm_80 9.5:sm_90 | sm_90a`.
fn program(text: &str) -> Inspection {
    let blob = |images: &str| Blob { count: 1, images: images.split_whitespace().map(image).collect() };
    Inspection { form: Form::Linked, blobs: text.split('|').map(blob).collect(), stubs: 0, relocatable: 0 }
}

fn verdict(text: &str, device: &Device<'_>) -> Verdict {
    judge([&program(text)], device).verdict
}

/// Every card that the compiler knows, for every target that it knows: a driver compiles for its card as `ptxas` does for the
/// card's own target, which is the one with an `a` where there is one.
#[test]
fn ptx_compiles_for_the_cards_that_ptxas_compiles_it_for() {
    let table = include_str!("../../tests/fixtures/ptxas-matrix.txt");
    let rows: Vec<(Target, Vec<Target>)> = table
        .lines()
        .map(|line| {
            let (target, accepted) = line.split_once(':').unwrap();
            (target.parse().unwrap(), accepted.split_whitespace().map(|word| word.parse().unwrap()).collect())
        })
        .collect();
    let own = |sm: u16| rows.iter().map(|(target, _)| *target).filter(|target| target.sm == sm).max().unwrap();
    let mut checked = 0;
    for (target, accepted) in &rows {
        for sm in rows.iter().map(|(target, _)| target.sm) {
            let own = match own(sm) {
                Target { features: Features::Architecture, .. } => Target { sm, features: Features::Architecture },
                plain => plain,
            };
            let expected = if accepted.contains(&own) { Verdict::Jit } else { Verdict::No };
            assert_eq!(verdict(&format!("9.5:{target}"), &device(sm.into(), 135)), expected, "{target} on {sm}");
            checked += 1;
        }
    }
    assert_eq!(checked, 26 * 26);
}

#[test]
fn machine_code_runs_on_its_card_and_on_later_ones_of_its_generation() {
    let table = [
        ("sm_80", &[80, 86, 89][..], &[75, 87, 90, 120][..]),
        ("sm_86", &[86, 89], &[80, 87, 90]),
        ("sm_89", &[89], &[80, 86, 90]),
        // small computers have machine code of their own, in both directions
        ("sm_87", &[87], &[80, 86, 89, 90]),
        ("sm_72", &[72], &[70, 75]),
        ("sm_70", &[70, 75], &[72, 80]),
        ("sm_90", &[90], &[89, 100]),
        ("sm_90a", &[90], &[89, 100, 120]),
        ("sm_100", &[100, 103, 107], &[90, 110, 120]),
        ("sm_100a", &[100], &[103, 110, 120]),
        ("sm_100f", &[100, 103, 107], &[110, 120]),
        ("sm_103f", &[103, 107], &[100, 110]),
        // the same card under its two names
        ("sm_101a", &[101, 110], &[100, 103, 120]),
        ("sm_110a", &[101, 110], &[100, 103, 120]),
        ("sm_110f", &[101, 110], &[100, 120]),
        ("sm_101", &[101, 110], &[103, 107, 120]),
        ("sm_120", &[120, 121], &[100, 110]),
        ("sm_120a", &[120], &[121]),
        ("sm_120f", &[120, 121], &[110]),
    ];
    for (target, runs, not) in table {
        for (sms, expected) in [(runs, Verdict::Native), (not, Verdict::No)] {
            for sm in sms {
                assert_eq!(verdict(target, &device(*sm, 135)), expected, "{target} on {sm}");
            }
        }
    }
}

#[test]
fn ptx_of_the_thor_has_two_names_too() {
    for (ptx, sm, expected) in [
        ("8.7:sm_101a", 110, Verdict::Jit),
        ("9.0:sm_110a", 101, Verdict::Jit),
        ("8.7:sm_101f", 110, Verdict::Jit),
        ("8.7:sm_101", 120, Verdict::Jit),
        ("8.7:sm_101", 103, Verdict::Jit),
        ("8.7:sm_101f", 120, Verdict::No),
    ] {
        assert_eq!(verdict(ptx, &device(sm, 135)), expected, "{ptx} on {sm}");
    }
}

#[test]
fn ptx_needs_a_driver_that_knows_its_version() {
    let table = [
        ("3.2", "8.0"),
        ("6.0", "9.0"),
        ("6.2", "9.2"),
        ("6.3", "10.0"),
        ("6.5", "10.2"),
        ("7.0", "11.0"),
        ("7.8", "11.8"),
        ("8.0", "12.0"),
        ("8.4", "12.4"),
        ("8.5", "12.5"),
        ("8.6", "12.7"),
        ("8.7", "12.8"),
        ("8.8", "12.9"),
        ("9.0", "13.0"),
        ("9.1", "13.1"),
        ("9.5", "13.5"),
    ];
    for (isa, cuda) in table {
        let (major, minor) = cuda.split_once('.').unwrap();
        let enough = CudaVersion { major: major.parse().unwrap(), minor: minor.parse().unwrap() };
        // one step back: the last minor version of the major one before is below 9
        let older = match enough {
            CudaVersion { major, minor: 0 } => CudaVersion { major: major - 1, minor: 9 },
            CudaVersion { major, minor } => CudaVersion { major, minor: minor - 1 },
        };
        let ptx = format!("{isa}:sm_30");
        assert_eq!(verdict(&ptx, &Device { cuda: Some(enough), ..RTX_5090 }), Verdict::Jit, "{isa} with {enough}");
        let old = verdict(&ptx, &Device { cuda: Some(older), ..RTX_5090 });
        assert_eq!(old, Verdict::NeedsNewerDriver, "{isa} with {older}");
    }
    assert_eq!(verdict("10.0:sm_75", &RTX_5090), Verdict::Unknown);
    assert_eq!(verdict("8.0:sm_75", &Device { cuda: None, ..RTX_5090 }), Verdict::Unknown);
    // machine code asks no such thing
    assert_eq!(verdict("sm_120", &Device { cuda: None, ..RTX_5090 }), Verdict::Native);
}

#[test]
fn every_container_has_to_run_and_one_image_of_it_is_enough() {
    let table = [
        ("sm_80 sm_120", Verdict::Native),
        ("sm_80 9.1:sm_80", Verdict::Jit),
        ("sm_120 9.1:sm_80", Verdict::Native),
        ("sm_120 | 9.1:sm_80", Verdict::Jit),
        ("sm_120 | 9.5:sm_80", Verdict::NeedsNewerDriver),
        ("9.1:sm_80 | 9.5:sm_80", Verdict::NeedsNewerDriver),
        ("sm_120 | sm_90a", Verdict::Partial),
        ("9.1:sm_80 | sm_90a", Verdict::Partial),
        ("sm_80 | sm_90a", Verdict::No),
        ("9.5:sm_80 | sm_90a", Verdict::No),
        ("lto:sm_80", Verdict::Unknown),
        ("lto:sm_80 sm_120", Verdict::Native),
        ("lto:sm_80 | sm_120", Verdict::Unknown),
        ("lto:sm_80 | 9.5:sm_80", Verdict::Unknown),
        ("lto:sm_80 | sm_90a", Verdict::Partial),
    ];
    for (text, expected) in table {
        assert_eq!(verdict(text, &RTX_5090), expected, "{text}");
    }
}

#[test]
fn what_has_no_gpu_code_is_unknown_and_says_nothing_against_what_has() {
    let script = Inspection { form: Form::Other, blobs: Vec::new(), stubs: 0, relocatable: 0 };
    assert_eq!(judge([&script], &RTX_5090).verdict, Verdict::Unknown);
    assert_eq!(judge([], &RTX_5090).verdict, Verdict::Unknown);
    assert_eq!(judge([&script, &program("sm_120")], &RTX_5090).verdict, Verdict::Native);
    assert_eq!(judge([&script, &program("sm_90a")], &RTX_5090).verdict, Verdict::No);
    let unlinked = Inspection { relocatable: 2, ..script };
    assert_eq!(judge([&unlinked], &RTX_5090).reason, "its GPU code is still to be linked");
}

#[test]
fn the_reason_is_one_that_a_person_understands() {
    let driver = "needs a driver for CUDA 13.5";
    let table = [
        ("sm_90a", "needs sm_90a; RTX 5090 is sm_120"),
        ("sm_80 sm_90a", "needs sm_80 or sm_90a; RTX 5090 is sm_120"),
        ("sm_90a 9.1:sm_90a", "needs sm_90a; RTX 5090 is sm_120"),
        ("9.1:sm_121", "needs sm_121 or newer; RTX 5090 is sm_120"),
        ("sm_120 | sm_90a | sm_90a", "2 of 3 parts need sm_90a; RTX 5090 is sm_120"),
        ("sm_120 | sm_50 | sm_90a | sm_90a", "3 of 4 parts need other cards, 2 of them sm_90a; RTX 5090 is sm_120"),
        ("sm_50 | sm_90a | sm_90a", "needs sm_90a; RTX 5090 is sm_120"),
        ("9.5:sm_80", "needs a driver for CUDA 13.5; that of RTX 5090 has 13.1"),
        ("sm_120", "has machine code for sm_120"),
        ("9.1:sm_75", "the driver compiles PTX for sm_120 at the first start"),
        (
            "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90",
            "needs sm_50 or sm_60 or sm_70 or sm_75 or sm_80 or sm_86 or one of 2 others; RTX 5090 is sm_120",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(judge([&program(text)], &RTX_5090).reason, expected);
    }
    let unknown = judge([&program("9.5:sm_80")], &Device { cuda: None, ..RTX_5090 }).reason;
    assert_eq!(unknown, format!("{driver}, and the driver's version is not known"));
}
