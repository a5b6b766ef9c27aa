//! Level 2 of the hardware check: a program inside the rented sandbox shows that devices there compute as fast, and hold as much, as they
//! were said to. The renter, who has no card, checks this on a laptop.
//!
//! # The protocol
//!
//! 1. *Prepare*: the prover opens all devices, compiles the kernels and takes memory. Not timed.
//! 2. *Begin*, with a nonce: each device computes products of square matrices of 32-bit words, one after the other, and **keeps all of them**,
//!    which fills its memory. The factors of a product are hashes of the nonce, both peer ids, the device's UUID and the root of the product
//!    before, so that nothing can be computed beforehand, twice, or for another device. The prover answers with one Merkle root for each
//!    device. The verifier's clock runs from nonce to roots.
//! 3. *Open*, with a second nonce: it chooses products on which Freivalds' check is made, and rows of them that are held against the roots;
//!    and it is the key under which the prover hashes its whole memory once more, into a second root. The clock runs again, and there is much
//!    less time: enough to read the memory, too little to compute it again.
//! 4. *Recall*, with a third nonce: it chooses chunks of a kibibyte. The prover shows their ways to the second root; the verifier computes
//!    the chunks themselves.
//!
//! All devices work at the same time, and one limit covers all.
//!
//! # What it costs
//!
//! With matrices of size n the prover does n³ multiply-adds for each product. The verifier does about 16·n² for each of the two it samples, and
//! n·256 for each of 32 chunks. Messages are some hundred KiB. At n = 16,384, the largest, each of the two
//! took 0.30 s on one core of a quiet machine and all chunks 0.03 s, and they grow with n² (`docs/performance.md`). [`Work::size_for`] chooses n so that
//! filling the memory takes a few seconds, which for cards of today should be 2,048 to 8,192.
//!
//! # What is certain, and how far
//!
//! - *A wrong product* of a prover who computes its answers from what it has: at worst it escapes with probability 2⁻⁸ (one element, wrong
//!   only in its highest bit), with 2⁻¹⁶ if any lower bit is wrong. This finds broken memory and broken cards. The reasons stand in `freivalds.rs`.
//! - *A prover who lies* can compute the image A·(B·R) as the verifier does, without a product. So the image alone proves nothing; the rows and
//!   chunks bind it to what was committed to. Who skips a share s of the products, or of each product, shows a wrong chunk with probability
//!   1 − (1−s)³²: 97 % at a tenth. Skipping less saves less than machines differ by. Roots are found by SHA-256's compression with keys, which
//!   nobody can steer.
//! - *Memory*: the words of a product fill all 32 bits evenly and can be had only by computing or by keeping them. Who lacks a part must
//!   compute that part again before the second root, in a sixth of the time that the whole took and half a second; who leaves it out is
//!   found like who skips work. So with ten seconds of computing at least two thirds are held, even by a prover who stretches the first
//!   time to its limit. Of devices that nobody measured the limit is wider, and the bound weaker.
//! - *Speed*: a floor. A device that was measured must reach 60 % of that, so that one card cannot work for two; one that was not measured
//!   must reach a bound from published figures, and the verdict says [`Verdict::Unmeasured`].
//!
//! # What it does not show
//!
//! - **Whose** devices these are. A prover who passes everything on to a machine elsewhere passes too, if the line is fast. Challenging
//!   all of a provider's slots at once, at random times, makes that dear; only attestation by the card itself rules it out.
//! - That a card is **of the model**. Multiplying 32-bit words is done at the same rate by an RTX 4090 and an H100; what tells them apart is the
//!   memory. Better code than ours helps a cheat: tensor cores can do such products from 8-bit pieces, perhaps several times as fast as
//!   our kernels on the larger cards. Rates are compared between cards that run *this* program.
//! - That the device will be **free** for the job as it was for the check: compare the job's own speed.
//! - On machines with different cards at once, how fast each is: the slowest sets the limit. Challenge them by model then.

mod cpu;
mod cuda;
mod digest;
mod engine;
mod expectation;
mod freivalds;
mod inspection;
mod kernels;
mod message;
mod nonces;
pub mod program;
mod prover;
mod sampling;
mod stream;
#[cfg(test)]
mod tests;
mod verdict;
mod verifier;
mod work;

pub use cpu::CpuEngine;
pub use cuda::CudaEngine;
pub use digest::{Digest, NoDigest, TreeKeys};
pub use engine::{Engine, EngineError, Folded};
pub use expectation::{Expectation, Rate};
pub use kernels::text as kernels;
pub use message::{
    Answer, Chunk, Commitment, Committed, Located, Opened, Opening, Recalled, Recollection, Request, Row, Sample,
};
pub use nonces::{NonceSpent, Nonces};
pub use prover::{Prover, ProverError};
pub use stream::{Key, Seed};
pub(crate) use stream::{fill as fill_words, widely};
pub use verdict::{Miss, Seen, Verdict};
pub use verifier::{AwaitingOpening, AwaitingRecall, ChallengeError, Secrets, Verifier};
pub use work::{Device, FILLED_PERCENT, LongName, NoDevice, Parties, Share, Work, WorkError};
