//! Session streams from either side: the header that opens one and the answer, the frames of logs, and files in frames.

use crate::{
    choice,
    discovery::{messages, stable},
    memory::bounded,
};
use access::{
    files::{
        FileAnswer,
        message::{reply_from_proto, reply_to_proto, request_from_proto, request_to_proto},
    },
    guest::{JobEvent, job_event},
    host::claimed_rental,
    transfer,
};
use futures::{executor::block_on, join};
use tokio::io::AsyncReadExt;
use wire::{MAX_DETAIL_BYTES, MAX_FILE_MESSAGE_BYTES, MAX_MESSAGE_BYTES, proto, refusal_from_proto};

/// What a transfer may bring here: less than an input can hold, so that the bound is met.
const TRANSFER_LIMIT: u64 = 2_048;

/// The first byte says what the rest is.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 6) {
        Some((0, stream)) => {
            stable::<proto::SessionHeader>(stream, MAX_MESSAGE_BYTES);
            messages(stream, MAX_MESSAGE_BYTES, |header: &proto::SessionHeader| drop(claimed_rental(header)));
        }
        Some((1, stream)) => {
            stable::<proto::SessionAnswer>(stream, MAX_MESSAGE_BYTES);
            messages(stream, MAX_MESSAGE_BYTES, answer);
        }
        Some((2, stream)) => {
            stable::<proto::LogFrame>(stream, MAX_MESSAGE_BYTES);
            messages(stream, MAX_MESSAGE_BYTES, log);
        }
        Some((3, stream)) => files(stream),
        Some((4, stream)) => {
            stable::<proto::FileRequest>(stream, MAX_FILE_MESSAGE_BYTES);
            messages(stream, MAX_FILE_MESSAGE_BYTES, file_request);
        }
        Some((_, stream)) => {
            stable::<proto::FileReply>(stream, MAX_FILE_MESSAGE_BYTES);
            messages(stream, MAX_FILE_MESSAGE_BYTES, file_reply);
        }
        None => {}
    }
}

fn answer(message: &proto::SessionAnswer) {
    if let Some(proto::session_answer::Answer::Refusal(refusal)) = &message.answer {
        let refusal = refusal_from_proto(refusal.clone());
        assert!(refusal.detail.len() <= MAX_DETAIL_BYTES && !refusal.detail.contains(char::is_control));
    }
}

fn log(frame: &proto::LogFrame) {
    if let Ok(JobEvent::Ended(end)) = job_event(frame.clone()) {
        assert!(end.exit_code >= 0);
        assert!(end.how.len() <= MAX_DETAIL_BYTES + 64 && !end.how.contains(char::is_control));
    }
}

fn file_request(message: &proto::FileRequest) {
    if let Ok(request) = request_from_proto(message.clone()) {
        assert_eq!(request_from_proto(request_to_proto(request.clone())).as_ref(), Ok(&request));
    }
}

/// A name in a directory is a name, and what a stranger says of an error cannot steer a terminal.
fn file_reply(message: &proto::FileReply) {
    let Ok(reply) = reply_from_proto(message.clone()) else { return };
    match &reply.answer {
        FileAnswer::Entries { entries, .. } => {
            assert!(entries.iter().all(|entry| entry.name.file_name() == Some(entry.name.as_os_str())));
        }
        FileAnswer::Failed(error) => assert!(!error.message.contains(char::is_control)),
        _ => {}
    }
    assert_eq!(reply_from_proto(reply_to_proto(reply.clone())).as_ref(), Ok(&reply));
}

/// A transfer counts only when it is whole, and nothing beyond the limit is passed on.
fn files(stream: &[u8]) {
    let (near, mut far) = transfer::pipe();
    let mut from = stream;
    let mut passed = Vec::new();
    let mut told = 0;
    let result = bounded(stream, |_| {
        block_on(async {
            let receiving = transfer::receive(&mut from, near, TRANSFER_LIMIT, |bytes| told = bytes);
            join!(receiving, far.read_to_end(&mut passed)).0
        })
    });
    assert!(passed.len() as u64 <= TRANSFER_LIMIT, "{} bytes were passed on", passed.len());
    assert_eq!(passed.len() as u64, told);
    if let Ok(done) = result {
        assert_eq!(done.bytes, told);
        let mut again = Vec::new();
        let sent = block_on(transfer::send(&mut passed.as_slice(), &mut again, |_| {})).expect("into memory");
        assert_eq!(sent, done, "what was received and confirmed is not what was hashed");
    }
}
