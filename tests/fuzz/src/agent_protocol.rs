//! The socket between a node and the agent in a sandbox, read on both ends. The renter's program runs beside the agent and may have
//! taken it over, so that the node believes no byte of it.

use crate::memory::bounded;
use agent::protocol::{Frame, HEADER, MAX_CONTROL, MAX_DATA};
use agent::session_frame::SessionFrame;

/// A stream of frames.
pub(crate) fn run(data: &[u8]) {
    let mut rest = data;
    loop {
        let before = rest;
        let Ok(Some(frame)) = bounded(before, |_| Frame::read(&mut rest)) else { return };
        let taken = before.len() - rest.len();
        assert!((HEADER..=HEADER + 12 + MAX_CONTROL + MAX_DATA).contains(&taken));
        again(&frame, before[4]);
        in_session(&frame, before, taken);
    }
}

/// An attached connection reads the frames of its session in another way, and no others.
fn in_session(frame: &Frame, data: &[u8], length: usize) {
    match (frame, SessionFrame::take(data)) {
        (Frame::Session(read), taken) => assert_eq!(taken.expect("it was read"), Some((read.clone(), length))),
        (_, taken) => assert!(taken.is_err(), "{frame:?} in a session"),
    }
}

/// What was read is read the same when it is written again.
fn again(frame: &Frame, kind: u8) {
    match frame.encode() {
        Ok(written) => {
            assert_eq!(written[4], kind, "written as another kind");
            assert_eq!(Frame::read(&mut written.as_slice()).expect("we wrote it").as_ref(), Some(frame));
        }
        // JSON can be longer when it is written again: a character that needs no escape is read with or without one
        Err(error) => assert!(matches!(frame, Frame::Request(_) | Frame::Reply(_) | Frame::Failure(_)), "{error}"),
    }
}
