//! The socket between a node and the agent in a sandbox, read on both ends. The renter's program runs beside the agent and may have
//! taken it over, so that the node believes no byte of it.

use crate::memory::bounded;
use agent::protocol::{Frame, HEADER, MAX_CONTROL, MAX_DATA};

/// A stream of frames.
pub(crate) fn run(data: &[u8]) {
    let mut rest = data;
    loop {
        let before = rest;
        let Ok(Some(frame)) = bounded(before, |_| Frame::read(&mut rest)) else { return };
        let taken = before.len() - rest.len();
        assert!(taken >= HEADER && taken <= HEADER + MAX_CONTROL.max(MAX_DATA + 17));
        again(&frame, before[4]);
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
