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
    env, fs,
    io::{self, ErrorKind, Read, Write},
    process::ExitCode,
    sync::{Arc, OnceLock},
    thread,
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

/// Where the kernel is told which process to end first when memory is short, and what tells it to take this one.
const OUT_OF_MEMORY_SCORE: (&str, &str) = ("/proc/self/oom_score_adj", "1000");

/// Proves to whoever is at the other end of standard input and output. The first argument is the number of processors to use at most: a
/// sandbox may show all of the machine's and be given the time of one.
pub fn run() -> ExitCode {
    // the renter's own program must not be ended for this one's memory; where that cannot be said the size of the work is all there is
    let (path, score) = OUT_OF_MEMORY_SCORE;
    let _ = fs::write(path, score);
    let processors = env::args().nth(1).and_then(|number| number.parse().ok()).unwrap_or(usize::MAX);
    let machine = Machine { processors, driver: OnceLock::new() };
    let list = || -> Result<Vec<Device>, EngineError> {
        Ok(machine.driver()?.cards()?.into_iter().map(Device::Gpu).collect())
    };
    let open = |share: &Share, size| machine.open(share, size);
    match serve(&mut io::stdin().lock(), &mut io::stdout().lock(), (&list, &open)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("challenge: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the sandbox has.
struct Machine {
    processors: usize,
    /// Loaded when it is asked for.
    driver: OnceLock<Result<Arc<Driver>, CudaError>>,
}

impl Machine {
    fn driver(&self) -> Result<Arc<Driver>, CudaError> {
        self.driver.get_or_init(|| Driver::of_machine().map(Arc::new)).clone()
    }

    fn open(&self, share: &Share, size: u32) -> Result<Box<dyn Engine>, EngineError> {
        match &share.device {
            Device::Cpu => {
                let threads = thread::available_parallelism()?.get().min(self.processors.max(1));
                Ok(Box::new(CpuEngine::with_threads(size, share.products, threads)?))
            }
            Device::Gpu(uuid) => Ok(Box::new(CudaEngine::new(self.driver()?, uuid, size, share.products)?)),
        }
    }
}

/// Answers requests until the input ends: `list` tells which cards there are, and `open` makes a device ready for its share.
pub fn serve<List, Open>(
    input: &mut impl Read,
    output: &mut impl Write,
    (list, open): (&List, &Open),
) -> Result<(), ProgramError>
where
    List: Fn() -> Result<Vec<Device>, EngineError>,
    Open: Fn(&Share, u32) -> Result<Box<dyn Engine>, EngineError> + Sync,
{
    let mut prover = None;
    while let Some(request) = read_message(input)? {
        let answer =
            answer(&mut prover, request, (list, open)).unwrap_or_else(|error| Answer::Refused(error.to_string()));
        write_message(output, &answer)?;
    }
    Ok(())
}

fn answer<List, Open>(
    prover: &mut Option<Prover>,
    request: Request,
    (list, open): (&List, &Open),
) -> Result<Answer, ProverError>
where
    List: Fn() -> Result<Vec<Device>, EngineError>,
    Open: Fn(&Share, u32) -> Result<Box<dyn Engine>, EngineError> + Sync,
{
    let unprepared = ProverError::OutOfTurn("the preparation");
    Ok(match request {
        Request::Echo => Answer::Echoed,
        Request::List => Answer::Listed(list()?),
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

/// How long a message and its answer are on their way.
pub fn round_trip(
    output: &mut impl Write,
    input: &mut impl Read,
    clock: impl Fn() -> Duration,
) -> Result<Duration, ProgramError> {
    match ask(output, input, Request::Echo, &clock)? {
        (Answer::Echoed, took) => Ok(took),
        _ => Err(ProgramError::OutOfTurn),
    }
}

/// Which cards the sandbox has; or why it cannot be said, in the prover's words.
pub fn cards(output: &mut impl Write, input: &mut impl Read) -> Result<Result<Vec<Device>, String>, ProgramError> {
    match ask(output, input, Request::List, || Duration::ZERO)?.0 {
        Answer::Listed(cards) => Ok(Ok(cards)),
        Answer::Refused(reason) => Ok(Err(reason)),
        _ => Err(ProgramError::OutOfTurn),
    }
}

/// Sends a request; the answer, and how long it took.
fn ask(
    output: &mut impl Write,
    input: &mut impl Read,
    request: Request,
    clock: impl Fn() -> Duration,
) -> Result<(Answer, Duration), ProgramError> {
    let sent = clock();
    write_message(output, &request)?;
    let answer = read_message(input)?.ok_or_else(|| io::Error::from(ErrorKind::UnexpectedEof))?;
    Ok((answer, clock().saturating_sub(sent)))
}

/// Carries out a whole challenge over two pipes. It waits as long as the prover does: whoever holds the pipes closes them when that is too
/// long. `clock` tells the time since any fixed moment.
pub fn examine(
    verifier: Verifier,
    output: &mut impl Write,
    input: &mut impl Read,
    clock: impl Fn() -> Duration,
) -> Result<Verdict, ProgramError> {
    let mut ask = |request| ask(output, input, request, &clock);
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
