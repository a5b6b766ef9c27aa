//! One card that this program uses: its memory, and kernels on it. Everything waits until the card is done.

use super::{
    CudaError, Driver,
    library::{Address, Functions, Handle, room},
};
use std::{
    ffi::{CString, c_int, c_uint, c_void},
    ptr, slice,
    sync::Arc,
};

/// An open card. Closed when its last memory and kernel are gone.
pub struct Card {
    driver: Arc<Driver>,
    device: c_int,
    context: Handle,
}

impl Drop for Card {
    fn drop(&mut self) {
        // SAFETY: retained once by `open`. There is nothing to do about a refusal.
        let _ = unsafe { self.functions().release(self.device) };
    }
}

impl Card {
    pub(super) fn open(driver: Arc<Driver>, device: c_int) -> Result<Self, CudaError> {
        let mut context = ptr::null_mut();
        // SAFETY: points to a pointer; the device is one that the driver named.
        unsafe { driver.0.retain(&raw mut context, device) }?;
        Ok(Self { driver, device, context: Handle(context) })
    }

    fn functions(&self) -> &Functions {
        &self.driver.0
    }

    /// Makes the calling thread's next calls go to this card.
    fn select(&self) -> Result<&Functions, CudaError> {
        // SAFETY: the context is retained while `self` lives.
        unsafe { self.functions().set_current(self.context.0) }?;
        Ok(self.functions())
    }

    /// Memory that nobody uses, and memory in all, in bytes.
    pub fn memory(&self) -> Result<(u64, u64), CudaError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: both point to numbers.
        unsafe { self.select()?.memory_info(&raw mut free, &raw mut total) }?;
        Ok((free as u64, total as u64))
    }

    /// Takes memory of the card for so many words. What is in it is not told.
    pub fn allocate(self: &Arc<Self>, words: usize) -> Result<Memory, CudaError> {
        let mut address = 0;
        let bytes = words * 4;
        // SAFETY: points to an address.
        room(unsafe { self.select()?.allocate(&raw mut address, bytes) }, bytes as u64)?;
        Ok(Memory { card: self.clone(), address, words })
    }

    /// Takes memory of the machine to which the card has direct access.
    pub fn allocate_pinned(self: &Arc<Self>, words: usize) -> Result<Pinned, CudaError> {
        let mut memory = ptr::null_mut();
        let bytes = words * 4;
        // SAFETY: points to a pointer.
        room(unsafe { self.select()?.allocate_host(&raw mut memory, bytes) }, bytes as u64)?;
        // SAFETY: the driver gave that many bytes, which nobody else has; any bytes are words.
        unsafe { ptr::write_bytes(memory.cast::<u8>(), 0, bytes) };
        Ok(Pinned { card: self.clone(), memory: Handle(memory), words })
    }

    /// Compiles PTX text, and finds the named kernels in it.
    pub fn compile<const N: usize>(self: &Arc<Self>, text: &str, names: [&str; N]) -> Result<[Kernel; N], CudaError> {
        let functions = self.select()?;
        let text = c_string(text, "cuModuleLoadData")?;
        let mut module = ptr::null_mut();
        // SAFETY: points to a pointer; the text ends with a zero.
        unsafe { functions.load_module(&raw mut module, text.as_ptr()) }?;
        let module = Arc::new(Module { card: self.clone(), module: Handle(module) });
        let mut found = Vec::with_capacity(N);
        for name in names {
            let name = c_string(name, "cuModuleGetFunction")?;
            let mut function = ptr::null_mut();
            // SAFETY: as above; the module is loaded.
            unsafe { functions.get_function(&raw mut function, module.module.0, name.as_ptr()) }?;
            found.push(Kernel { module: module.clone(), function: Handle(function) });
        }
        found.try_into().map_err(|_| CudaError::NotCuda("cuModuleGetFunction"))
    }

    /// Waits until the card has done everything.
    pub fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: takes nothing.
        unsafe { self.select()?.synchronise() }
    }
}

fn c_string(text: &str, function: &'static str) -> Result<CString, CudaError> {
    // CUDA_ERROR_INVALID_VALUE, as the driver would say
    CString::new(text).map_err(|_| CudaError::Refused { function, code: 1 })
}

/// Words in a card's memory.
pub struct Memory {
    card: Arc<Card>,
    address: Address,
    words: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated once, and nothing runs on the card that uses it: every launch is waited for.
        let _ = self.card.select().and_then(|functions| unsafe { functions.free(self.address) });
    }
}

impl Memory {
    /// How many.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Where it begins, for a kernel.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Copies words from the card, from the `first` on.
    pub fn read(&self, first: usize, to: &mut [u32]) -> Result<(), CudaError> {
        assert!(first + to.len() <= self.words, "reads beyond the card's memory");
        let from = self.address + first as u64 * 4;
        // SAFETY: the card's memory has those words, as was asserted, and `to` has room for them.
        unsafe { self.card.select()?.copy_from_card(to.as_mut_ptr().cast(), from, size_of_val(to)) }
    }

    /// Copies words to the card, from the `first` on.
    pub fn write(&mut self, first: usize, from: &[u32]) -> Result<(), CudaError> {
        assert!(first + from.len() <= self.words, "writes beyond the card's memory");
        let to = self.address + first as u64 * 4;
        // SAFETY: as in `read`, the other way round.
        unsafe { self.card.select()?.copy_to_card(to, from.as_ptr().cast(), size_of_val(from)) }
    }

    /// Copies as much as fits from other memory of the same card.
    pub fn copy_from(&mut self, other: &Self) -> Result<(), CudaError> {
        let bytes = self.words.min(other.words) * 4;
        // SAFETY: both have that many bytes, and are not the same.
        unsafe { self.card.select()?.copy_on_card(self.address, other.address, bytes) }
    }
}

/// Words in the machine's memory that the card reads and writes directly.
pub struct Pinned {
    card: Arc<Card>,
    memory: Handle,
    words: usize,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated once; every copy is waited for.
        let _ = self.card.select().and_then(|functions| unsafe { functions.free_host(self.memory.0) });
    }
}

impl Pinned {
    /// The words.
    pub fn words(&mut self) -> &mut [u32] {
        // SAFETY: that many initialised words are ours alone while `self` lives; the driver aligns to pages.
        unsafe { slice::from_raw_parts_mut(self.memory.0.cast(), self.words) }
    }
}

struct Module {
    card: Arc<Card>,
    module: Handle,
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded once, and every launch is waited for.
        let _ = self.card.select().and_then(|functions| unsafe { functions.unload_module(self.module.0) });
    }
}

/// A function that runs on the card.
pub struct Kernel {
    module: Arc<Module>,
    function: Handle,
}

impl Kernel {
    /// Starts so many blocks, in two dimensions, of so many threads, and does not wait.
    ///
    /// # Safety
    /// The parameters must be those of the kernel, in number and order, and what it does with addresses among them must stay within
    /// memory that lives until [`Card::wait`]. A parameter of 32 bits is read from the lower half.
    pub unsafe fn launch(&self, blocks: (u32, u32), threads: u32, parameters: &[u64]) -> Result<(), CudaError> {
        let mut values = parameters.to_vec();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| ptr::from_mut(value).cast()).collect();
        let functions = self.module.card.select()?;
        let (none, shared): (*mut c_void, c_uint) = (ptr::null_mut(), 0);
        // SAFETY: the driver copies the parameters during the call; the rest is the caller's.
        unsafe {
            functions.launch(
                self.function.0,
                blocks.0,
                blocks.1,
                1,
                threads,
                1,
                1,
                shared,
                none,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        }
    }
}
