//! The program as a renter starts it, in a process of its own.

use crate::machine::{FIRST, Machine, SECOND};
use gpu::challenge::{
    Answer, Device, Digest, Expectation, Miss, Nonces, Parties, Request, Secrets, Share, Verdict, Verifier, Work,
    program::{ProgramError, examine, read_message, write_message},
};
use std::{
    cell::Cell,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The program, ended when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// The program where the loader looks for the driver in a folder.
    fn start(drivers: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_challenge"));
        command.env("LD_LIBRARY_PATH", drivers).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn examine(&mut self, verifier: Verifier) -> Verdict {
        let (mut input, mut output) = (self.0.stdin.take().unwrap(), self.0.stdout.take().unwrap());
        // an interpreter has its own idea of what takes long: every answer takes a millisecond here
        let now = Cell::new(0);
        let clock = || Duration::from_millis(now.replace(now.get() + 1));
        examine(verifier, &mut input, &mut output, clock).unwrap()
    }

    fn ask(&mut self, request: &Request) -> Answer {
        write_message(self.0.stdin.as_mut().unwrap(), request).unwrap();
        read_message(self.0.stdout.as_mut().unwrap()).unwrap().unwrap()
    }
}

fn work(devices: &[&str]) -> Work {
    let share = |device: &&str| Share { device: device.parse().unwrap(), products: 2 };
    Work::new(256, devices.iter().map(share).collect()).unwrap()
}

fn parties() -> Parties {
    Parties::new([7; 32], "renter".to_owned(), "provider".to_owned()).unwrap()
}

fn verifier(devices: &[&str]) -> Verifier {
    let work = work(devices);
    let expected = |share: &Share| Expectation::of_model(share.device.clone(), "H200", Some(1));
    let expectations = work.shares().iter().map(expected).collect();
    let (deadline, round_trip) = (Duration::from_secs(120), Duration::ZERO);
    let secrets = Secrets { opening: [8; 32], recall: [9; 32] };
    Verifier::new(work, parties(), expectations, deadline, round_trip, secrets, &mut Nonces::default()).unwrap()
}

#[test]
fn a_processor_passes() {
    let machine = Machine::with(&[]);
    let verdict = Program::start(machine.folder()).examine(verifier(&["cpu"]));
    let Verdict::Passed(seen) = verdict else { panic!("{verdict:?}") };
    assert_eq!(seen[0].device, Device::Cpu);
}

#[test]
fn two_cards_answer_together_with_the_processor() {
    let machine = Machine::with(&[(FIRST, 16), (SECOND, 16)]);
    let verdict = Program::start(machine.folder()).examine(verifier(&[SECOND, "cpu", FIRST]));
    assert!(matches!(&verdict, Verdict::Passed(seen) if seen.len() == 3), "{verdict:?}");
}

#[test]
fn a_card_that_is_not_there_is_refused_with_the_reason() {
    let machine = Machine::with(&[(FIRST, 16)]);
    let verdict = Program::start(machine.folder()).examine(verifier(&[FIRST, SECOND]));
    let reason = format!("no card {SECOND} is here; see which the sandbox was given");
    assert_eq!(verdict, Verdict::Missed(vec![Miss::Refused { reason }]));
}

#[test]
fn requests_out_of_turn_are_refused_and_the_program_goes_on() {
    let machine = Machine::with(&[]);
    let mut program = Program::start(machine.folder());
    let nonce = Digest::from([1; 32]);
    let refused = |answer| matches!(answer, Answer::Refused(reason) if reason.contains("comes before this"));
    assert!(refused(program.ask(&Request::Begin(parties()))));
    assert_eq!(program.ask(&Request::Prepare(work(&["cpu"]))), Answer::Ready);
    assert!(refused(program.ask(&Request::Open(nonce))));
    assert!(matches!(program.ask(&Request::Begin(parties())), Answer::Committed(_)));
    assert!(refused(program.ask(&Request::Recall(nonce))));
    assert!(matches!(program.ask(&Request::Open(nonce)), Answer::Opened(_)));
    assert!(matches!(program.ask(&Request::Recall(nonce)), Answer::Recalled(_)));
}

#[test]
fn what_is_no_message_or_too_long_ends_the_conversation_and_takes_no_memory() {
    let read = |bytes: &[u8]| read_message::<Answer>(&mut &bytes[..]);
    assert!(matches!(read(b""), Ok(None)));
    assert!(matches!(read(&[0xff; 8]), Err(ProgramError::TooLong(0xffff_ffff))));
    assert!(matches!(read(&[0, 0, 0, 2, b'{', b'}']), Err(ProgramError::Message(_))));
    // a length that nothing follows
    assert!(matches!(read(&[2, 0, 0, 0, b'"']), Err(ProgramError::Message(_))));
}
