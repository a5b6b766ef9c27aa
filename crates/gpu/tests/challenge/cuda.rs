//! The kernels on the stand-in, which interprets their text: every word and digest must be what the processor computes. This shows that the
//! kernels are right as far as the stand-in understands PTX, and that the driver is called in an order that it allows; it does not show that
//! a card does the same.

use crate::machine::{FIRST, Machine, SECOND};
use gpu::{
    challenge::{CpuEngine, CudaEngine, Digest, Engine, EngineError, Seed, TreeKeys},
    cuda::{CudaError, Driver},
};
use std::path::Path;

const SEED: Seed = Seed { left: [1, 2, 3, 4], right: [u32::MAX, 0x8000_0000, 7, 0x1234_5678] };

fn keys() -> TreeKeys {
    TreeKeys { leaf: Digest::from([1; 32]), node: Digest::from([2; 32]) }
}

#[test]
fn a_card_computes_and_digests_what_the_processor_does() {
    for size in [256, 512] {
        let machine = Machine::with(&[(FIRST, 64)]);
        let mut card = CudaEngine::new(machine.driver(), &FIRST.parse().unwrap(), size, 2).unwrap();
        let mut processor = CpuEngine::new(size, 2).unwrap();
        let words = (size * size) as usize;
        let (mut by_card, mut by_processor) = (vec![0; words], vec![1; words]);
        let last = size * size / 256 - 1;
        card.multiply(1, SEED).unwrap();
        processor.multiply(1, SEED).unwrap();
        card.read(1, 0, &mut by_card).unwrap();
        processor.read(1, 0, &mut by_processor).unwrap();
        let different = by_card.iter().zip(&by_processor).position(|(card, processor)| card != processor);
        assert_eq!(different, None, "size {size}");
        let folded = card.fold(1, &keys(), &[0, 5, last]).unwrap();
        assert_eq!(folded, processor.fold(1, &keys(), &[0, 5, last]).unwrap());
        assert_eq!(folded.paths[0].len(), (size * size / 256).ilog2() as usize);
    }
}

#[test]
fn cards_are_found_by_their_uuid_and_an_instance_by_its_digits() {
    let machine = Machine::with(&[(FIRST, 64), (SECOND, 64)]);
    let driver = machine.driver();
    let names: Vec<String> = driver.cards().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(names, [FIRST, SECOND]);
    assert!(driver.open(&SECOND.replacen("GPU", "MIG", 1).parse().unwrap()).is_ok());
    let elsewhere = "GPU-99999999-1111-2222-3333-444444444444";
    assert_eq!(driver.open(&elsewhere.parse().unwrap()).err(), Some(CudaError::NoCard(elsewhere.to_owned())));
}

#[test]
fn a_card_without_room_says_so_and_gives_back_what_it_took() {
    let machine = Machine::with(&[(FIRST, 16)]);
    let driver = machine.driver();
    let card = driver.open(&FIRST.parse().unwrap()).unwrap();
    // two factors and digests leave room for 61 products of 256 KiB
    let engine = |products| CudaEngine::new(driver.clone(), &FIRST.parse().unwrap(), 256, products);
    let refused = engine(64).err().unwrap();
    assert!(matches!(&refused, EngineError::NoRoom { device, bytes: 16_777_216 } if device == FIRST), "{refused}");
    assert_eq!(card.memory().unwrap(), (16 << 20, 16 << 20));
    let fits = engine(61).unwrap();
    assert!(card.memory().unwrap().0 < 1 << 20);
    drop(fits);
    assert_eq!(card.memory().unwrap(), (16 << 20, 16 << 20));
}

#[test]
fn text_that_is_no_ptx_and_kernels_that_are_not_there_are_refused() {
    let machine = Machine::with(&[(FIRST, 16)]);
    let card = machine.driver().open(&FIRST.parse().unwrap()).unwrap();
    for (text, names) in [("nonsense", ["generate"]), (".version 6.0\n", ["generate"]), ("\0", ["x"]), ("", ["a\0b"])] {
        let refused = card.compile(text, names).err();
        assert!(matches!(refused, Some(CudaError::Refused { .. })), "{text}: {refused:?}");
    }
}

#[test]
fn without_a_driver_there_is_a_reason_and_no_card() {
    let missing = Driver::load(Path::new("/nowhere/libcuda.so.1")).err().unwrap();
    assert!(matches!(missing, CudaError::NoLibrary { .. }));
    // a library that every program here has, and that is not the driver
    let other = Driver::load(Path::new("libc.so.6")).err().unwrap();
    assert_eq!(other, CudaError::NotCuda("cuInit"));
}
