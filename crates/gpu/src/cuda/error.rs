//! What can go wrong between a program and a card.

/// Why a card cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// There is no driver library.
    #[error("NVIDIA's driver library cannot be loaded ({detail}); the sandbox needs a card and its driver")]
    NoLibrary {
        /// What the loader said.
        detail: String,
    },
    /// What was loaded is not the driver.
    #[error("the library lacks `{0}`: it is not NVIDIA's driver, or one from before CUDA 11.4")]
    NotCuda(&'static str),
    /// The driver does not show the card to this program.
    #[error("no card {0} is here; see which the sandbox was given")]
    NoCard(String),
    /// There is not that much memory.
    #[error("the card has no {0} bytes left: stop what else uses it")]
    NoRoom(u64),
    /// The driver refused something.
    #[error("the driver refused `{function}` with error {code}; look it up under CUresult in the driver's manual")]
    Refused {
        /// What was asked for.
        function: &'static str,
        /// What the driver answered.
        code: i32,
    },
}
