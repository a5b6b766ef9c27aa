//! The prover as a program inside the rented sandbox: it reads requests from its input and writes answers to its output, each as JSON after
//! its length in four bytes, highest first. And the other end of that conversation, for whoever holds both pipes.
//!
//! The program `challenge` is nothing but [`run`]. It is built twice. Linked statically (`-C target-feature=+crt-static`) it runs in every
//! Linux sandbox and challenges the processor; a static program cannot load the driver's library, so for cards it is linked as usual and
//! needs a C library in the sandbox, which every image with CUDA has.

use super::{
    cpu::CpuEngine,
    cuda::CudaEngine,
    engine::{Engine, EngineError},
    message::{Answer, Request},
    prover::{Prover, ProverError},
    verdict::{Miss, Verdict},
    verifier::Verifier,
    work::{Device, Share},
};
use crate::cuda::{CudaError, Driver};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io::{self, ErrorKind, Read, Write},
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// The longest message: two products with two rows each, of the largest size and of every device, with ample room.
const MAX_FRAME_BYTES: u32 = 48 << 20;

/// Why the conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The other end is gone, or the pipe broke.
    #[error("the other end cannot be reached any more")]
    Pipe(#[from] io::Error),
    /// It sent something that is no message.
    #[error("the other end does not speak this protocol; use the same version on both ends")]
    Message(#[from] serde_json::Error),
    /// It announced more than any message has.
    #[error("a message of {0} bytes is longer than any: at most {MAX_FRAME_BYTES} are read")]
    TooLong(usize),
    /// It answered something else.
    #[error("the answer is not to what was asked")]
    OutOfTurn,
}

/// Writes one message.
pub fn write_message(output: &mut impl Write, message: &impl Serialize) -> Result<(), ProgramError> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).ok().filter(|length| *length <= MAX_FRAME_BYTES);
    let length = length.ok_or(ProgramError::TooLong(text.len()))?;
    output.write_all(&length.to_be_bytes())?;
    output.write_all(&text)?;
    Ok(output.flush()?)
}

/// Reads one message; nothing at the end of the input.
pub fn read_message<T: DeserializeOwned>(input: &mut impl Read) -> Result<Option<T>, ProgramError> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length);
    if length > MAX_FRAME_BYTES {
        return Err(ProgramError::TooLong(length as usize));
    }
    // grows with what really comes
    let mut text = Vec::new();
    input.take(u64::from(length)).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Proves to whoever is at the other end of standard input and output.
pub fn run() -> ExitCode {
    let driver = OnceLock::new();
    let open = |share: &Share, size| open_device(&driver, share, size);
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock(), &open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("challenge: {error}");
            ExitCode::FAILURE
        }
    }
}

type Loaded = OnceLock<Result<Arc<Driver>, CudaError>>;

fn open_device(driver: &Loaded, share: &Share, size: u32) -> Result<Box<dyn Engine>, EngineError> {
    match &share.device {
        Device::Cpu => Ok(Box::new(CpuEngine::new(size, share.products)?)),
        Device::Gpu(uuid) => {
            let driver = driver.get_or_init(|| Driver::of_machine().map(Arc::new)).clone()?;
            Ok(Box::new(CudaEngine::new(driver, uuid, size, share.products)?))
        }
    }
}

/// Answers requests until the input ends.
pub fn serve<Open>(input: &mut impl Read, output: &mut impl Write, open: &Open) -> Result<(), ProgramError>
where
    Open: Fn(&Share, u32) -> Result<Box<dyn Engine>, EngineError> + Sync,
{
    let mut prover = None;
    while let Some(request) = read_message(input)? {
        let answer = answer(&mut prover, request, open).unwrap_or_else(|error| Answer::Refused(error.to_string()));
        write_message(output, &answer)?;
    }
    Ok(())
}

fn answer<Open>(prover: &mut Option<Prover>, request: Request, open: &Open) -> Result<Answer, ProverError>
where
    Open: Fn(&Share, u32) -> Result<Box<dyn Engine>, EngineError> + Sync,
{
    let unprepared = ProverError::OutOfTurn("the preparation");
    Ok(match request {
        Request::Prepare(work) => {
            // the memory of an earlier challenge is given back first
            *prover = None;
            *prover = Some(Prover::new(work, open)?);
            Answer::Ready
        }
        Request::Begin(parties) => Answer::Committed(prover.as_mut().ok_or(unprepared)?.begin(&parties)?),
        Request::Open(nonce) => Answer::Opened(prover.as_mut().ok_or(unprepared)?.open(nonce)?),
        Request::Recall(nonce) => Answer::Recalled(prover.as_mut().ok_or(unprepared)?.recall(nonce)?),
    })
}

/// Carries out a whole challenge over two pipes. It waits as long as the prover does: whoever holds the pipes closes them when that is too
/// long. `clock` tells the time since any fixed moment.
pub fn examine(
    verifier: Verifier,
    output: &mut impl Write,
    input: &mut impl Read,
    clock: impl Fn() -> Duration,
) -> Result<Verdict, ProgramError> {
    let mut ask = |request: Request| -> Result<_, ProgramError> {
        let sent = clock();
        write_message(output, &request)?;
        let answer = read_message(input)?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
        Ok((answer, clock().saturating_sub(sent)))
    };
    let refused = |answer| match answer {
        Answer::Refused(reason) => Ok(Verdict::Missed(vec![Miss::Refused { reason }])),
        _ => Err(ProgramError::OutOfTurn),
    };
    match ask(verifier.preparation())?.0 {
        Answer::Ready => {}
        other => return refused(other),
    }
    let opening = match ask(verifier.beginning())? {
        (Answer::Committed(committed), took) => verifier.committed(&committed, took),
        (other, _) => return refused(other),
    };
    let opening = match opening {
        Ok(opening) => opening,
        Err(verdict) => return Ok(verdict),
    };
    let recall = match ask(opening.request())? {
        (Answer::Opened(opened), took) => opening.opened(&opened, took),
        (other, _) => return refused(other),
    };
    let recall = match recall {
        Ok(recall) => recall,
        Err(verdict) => return Ok(verdict),
    };
    match ask(recall.request())?.0 {
        Answer::Recalled(recalled) => Ok(recall.recalled(&recalled)),
        other => refused(other),
    }
}
