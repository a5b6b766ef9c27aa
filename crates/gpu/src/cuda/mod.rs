//! NVIDIA's driver library (`libcuda.so.1`), loaded at run time: enough of it to run kernels of our own on a card, for challenges and
//! measurements. No toolkit is needed; the driver compiles the kernels' PTX text for whatever card there is.

mod card;
mod error;
mod library;

use libloading::Library;
use std::{path::Path, sync::Arc};

pub use card::{Card, Kernel, Memory, Pinned};
pub use error::CudaError;

use crate::inventory::Uuid;
use library::Functions;

/// Where the driver's library is, as the loader finds it.
const LIBRARY: &str = "libcuda.so.1";

/// The most cards that are looked at, as many as of the management library.
const MAX_CARDS: i32 = 32;

/// The driver, initialised.
pub struct Driver(Functions);

impl Driver {
    /// The driver of this machine.
    pub fn of_machine() -> Result<Self, CudaError> {
        Self::load(Path::new(LIBRARY))
    }

    /// The driver in a file.
    pub fn load(path: &Path) -> Result<Self, CudaError> {
        // SAFETY: the library's initialisers are the driver's own, which every program with CUDA runs.
        let library = unsafe { Library::new(path) };
        let library = library.map_err(|error| CudaError::NoLibrary { detail: error.to_string() })?;
        let driver = Self(Functions::of(library)?);
        driver.0.initialise()?;
        Ok(driver)
    }

    /// The UUIDs of the cards that this process may use, in the driver's order. An instance of a card has its own.
    pub fn cards(&self) -> Result<Vec<Uuid>, CudaError> {
        let count = self.0.count()?.clamp(0, MAX_CARDS);
        (0..count).map(|index| self.uuid(index)).collect()
    }

    fn uuid(&self, index: i32) -> Result<Uuid, CudaError> {
        let bytes = self.0.uuid(self.0.device(index)?)?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        format!("GPU-{text}").parse().map_err(|_| CudaError::NoCard(text))
    }

    /// Opens a card for the calling program. An instance of a card has the same digits in its name, after `MIG-`.
    pub fn open(self: &Arc<Self>, uuid: &Uuid) -> Result<Arc<Card>, CudaError> {
        let digits = |uuid: &Uuid| uuid.as_str().get(4..).unwrap_or_default().to_ascii_lowercase();
        let index = self.cards()?.iter().position(|card| digits(card) == digits(uuid));
        let index = index.ok_or_else(|| CudaError::NoCard(uuid.to_string()))?;
        Card::open(self.clone(), self.0.device(index as i32)?).map(Arc::new)
    }
}
