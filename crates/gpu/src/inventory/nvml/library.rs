//! NVIDIA's management library, loaded at run time, and the few of its functions that are used here, declared once each.
//!
//! Ours rather than `nvml-wrapper`, because that crate believes what the library says: it reserves as much memory as the library says
//! there are processes, and reads texts up to a zero wherever it stands. Here every answer has a place of fixed size.

use libloading::{Library, Symbol};
use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    fmt,
    marker::PhantomData,
    ptr,
};

/// Longest text that is taken from the library: NVML's own largest buffer for names and UUIDs.
pub(crate) const MAX_TEXT_BYTES: usize = 96;

/// Most programs on one card that are looked at; each takes a few hundred MiB of the card.
pub(crate) const MAX_PROCESSES: usize = 256;

/// What the library answers instead of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) c_uint);

impl Refusal {
    pub(crate) const NOT_SUPPORTED: Self = Self(3);
    pub(crate) const NO_PERMISSION: Self = Self(4);
    pub(crate) const NOT_FOUND: Self = Self(6);
    pub(crate) const DRIVER_NOT_LOADED: Self = Self(9);
    pub(crate) const GPU_IS_LOST: Self = Self(15);
    pub(crate) const RESET_REQUIRED: Self = Self(16);
    pub(crate) const VERSION_MISMATCH: Self = Self(18);
    /// An answer that no working library gives. Not one of NVML's numbers.
    pub(crate) const MALFORMED: Self = Self(c_uint::MAX);
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::NOT_SUPPORTED => "the card or its driver does not support this",
            Self::NO_PERMISSION => "the driver does not allow this",
            Self::NOT_FOUND => "there is no such thing",
            Self::DRIVER_NOT_LOADED => "the kernel driver is not running",
            Self::GPU_IS_LOST => {
                "the card has fallen off the bus; restart the machine, and check its power and its seat"
            }
            Self::RESET_REQUIRED => "the card must be reset; stop what uses it and run `nvidia-smi --gpu-reset`",
            Self::VERSION_MISMATCH => "library and kernel driver are of different versions; restart the machine",
            Self::MALFORMED => "the driver's answer makes no sense",
            Self(code) => return write!(f, "NVML error {code}"),
        })
    }
}

/// A card or an instance, as the library refers to it. Valid until the library is shut down, which borrowing from it assures.
#[derive(Clone, Copy)]
pub(crate) struct Handle<'a>(*mut c_void, PhantomData<&'a Nvml>);

/// A function that writes one value of type `T` about a card. The type is what the C declaration says; only this file makes these.
pub(crate) struct Fact<T>(&'static CStr, PhantomData<T>);

/// The same, with a number before the answer: a link, a sensor, an instance.
pub(crate) struct NumberedFact<T>(&'static CStr, PhantomData<T>);

/// A function that writes a text about a card.
pub(crate) struct TextFact(&'static CStr);

const fn fact<T>(name: &'static CStr) -> Fact<T> {
    Fact(name, PhantomData)
}

const fn numbered<T>(name: &'static CStr) -> NumberedFact<T> {
    NumberedFact(name, PhantomData)
}

pub(crate) const NAME: TextFact = TextFact(c"nvmlDeviceGetName");
pub(crate) const UUID: TextFact = TextFact(c"nvmlDeviceGetUUID");
pub(crate) const MINOR: Fact<c_uint> = fact(c"nvmlDeviceGetMinorNumber");
pub(crate) const MEMORY: Fact<Memory> = fact(c"nvmlDeviceGetMemoryInfo");
pub(crate) const PCI: Fact<Pci> = fact(c"nvmlDeviceGetPciInfo_v3");
pub(crate) const CORES: Fact<c_uint> = fact(c"nvmlDeviceGetNumGpuCores");
pub(crate) const MEMORY_BUS: Fact<c_uint> = fact(c"nvmlDeviceGetMemoryBusWidth");
pub(crate) const POWER_LIMIT: Fact<c_uint> = fact(c"nvmlDeviceGetEnforcedPowerLimit");
pub(crate) const POWER: Fact<c_uint> = fact(c"nvmlDeviceGetPowerUsage");
pub(crate) const UTILISATION: Fact<Utilisation> = fact(c"nvmlDeviceGetUtilizationRates");
pub(crate) const THROTTLE: Fact<u64> = fact(c"nvmlDeviceGetCurrentClocksThrottleReasons");
pub(crate) const PCIE_GENERATION: Fact<c_uint> = fact(c"nvmlDeviceGetMaxPcieLinkGeneration");
pub(crate) const PCIE_WIDTH: Fact<c_uint> = fact(c"nvmlDeviceGetMaxPcieLinkWidth");
pub(crate) const MIG_COUNT: Fact<c_uint> = fact(c"nvmlDeviceGetMaxMigDeviceCount");
pub(crate) const GPU_INSTANCE: Fact<c_uint> = fact(c"nvmlDeviceGetGpuInstanceId");
pub(crate) const COMPUTE_INSTANCE: Fact<c_uint> = fact(c"nvmlDeviceGetComputeInstanceId");
pub(crate) const ATTRIBUTES: Fact<Attributes> = fact(c"nvmlDeviceGetAttributes_v2");
pub(crate) const TEMPERATURE: NumberedFact<c_uint> = numbered(c"nvmlDeviceGetTemperature");
pub(crate) const LINK_STATE: NumberedFact<c_uint> = numbered(c"nvmlDeviceGetNvLinkState");
const MIG_DEVICE: NumberedFact<*mut c_void> = numbered(c"nvmlDeviceGetMigDeviceHandleByIndex");

/// Functions that write two numbers.
pub(crate) const COMPUTE_CAPABILITY: &CStr = c"nvmlDeviceGetCudaComputeCapability";
pub(crate) const ECC_MODE: &CStr = c"nvmlDeviceGetEccMode";
pub(crate) const MIG_MODE: &CStr = c"nvmlDeviceGetMigMode";
pub(crate) const POWER_RANGE: &CStr = c"nvmlDeviceGetPowerManagementLimitConstraints";

/// Memory in bytes.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    _free: u64,
    pub(crate) used: u64,
}

/// A place on the PCI bus. The maker's number is in the low half of `device_id`, the model's in the high one.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Pci {
    _legacy: [c_char; 16],
    pub(crate) domain: c_uint,
    pub(crate) bus: c_uint,
    pub(crate) device: c_uint,
    pub(crate) device_id: c_uint,
    _subsystem_id: c_uint,
    _text: [c_char; 32],
}

/// Shares of the last moment, in percent.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Utilisation {
    pub(crate) gpu: c_uint,
    _memory: c_uint,
}

/// What a MIG instance is made of.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Attributes {
    pub(crate) multiprocessors: c_uint,
    _engines: [c_uint; 5],
    _slices: [c_uint; 2],
    _memory_mib: u64,
}

/// A program on a card; memory is all ones where it is not known.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct RunningProcess {
    pub(crate) pid: c_uint,
    pub(crate) memory: u64,
    _gpu_instance: c_uint,
    _compute_instance: c_uint,
}

/// The library, initialised. Its functions may be called from any thread.
pub(crate) struct Nvml(Library);

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: declared as in nvml.h; no handle outlives `self`.
        if let Ok(shutdown) = unsafe { self.0.get::<unsafe extern "C" fn() -> c_uint>(b"nvmlShutdown\0") } {
            // SAFETY: `new` initialised it once, and this is the end. There is nothing to do about a refusal.
            unsafe { shutdown() };
        }
    }
}

impl Nvml {
    /// Initialises a loaded library.
    pub(crate) fn new(library: Library) -> Result<Self, Refusal> {
        let initialise = {
            // SAFETY: declared as in nvml.h.
            let symbol = unsafe { library.get::<unsafe extern "C" fn() -> c_uint>(b"nvmlInit_v2\0") };
            *symbol.map_err(|_| Refusal::NOT_SUPPORTED)?
        };
        // SAFETY: takes nothing, and may be called at any time.
        check(unsafe { initialise() })?;
        Ok(Self(library))
    }

    /// A function by its name. One that this driver does not have yet is one that it does not support.
    fn function<F>(&self, name: &CStr) -> Result<Symbol<'_, F>, Refusal> {
        // SAFETY: the callers in this file give the type that nvml.h declares for the name.
        unsafe { self.0.get(name.to_bytes_with_nul()) }.map_err(|_| Refusal::NOT_SUPPORTED)
    }

    pub(crate) fn driver_version(&self) -> Result<String, Refusal> {
        let function =
            self.function::<unsafe extern "C" fn(*mut c_char, c_uint) -> c_uint>(c"nvmlSystemGetDriverVersion")?;
        // SAFETY: the buffer is as long as the length that is given with it.
        text(|buffer, length| unsafe { function(buffer, length) })
    }

    /// The newest CUDA that the driver runs: 12080 is 12.8.
    pub(crate) fn cuda_version(&self) -> Result<c_int, Refusal> {
        let function =
            self.function::<unsafe extern "C" fn(*mut c_int) -> c_uint>(c"nvmlSystemGetCudaDriverVersion_v2")?;
        let mut version = 0;
        // SAFETY: points to a number.
        check(unsafe { function(&raw mut version) })?;
        Ok(version)
    }

    pub(crate) fn count(&self) -> Result<c_uint, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_uint) -> c_uint>(c"nvmlDeviceGetCount_v2")?;
        let mut count = 0;
        // SAFETY: points to a number.
        check(unsafe { function(&raw mut count) })?;
        Ok(count)
    }

    pub(crate) fn card(&self, index: c_uint) -> Result<Handle<'_>, Refusal> {
        let function = self
            .function::<unsafe extern "C" fn(c_uint, *mut *mut c_void) -> c_uint>(c"nvmlDeviceGetHandleByIndex_v2")?;
        let mut handle = ptr::null_mut();
        // SAFETY: points to a pointer.
        check(unsafe { function(index, &raw mut handle) })?;
        Ok(Handle(handle, PhantomData))
    }

    pub(crate) fn mig_instance(&self, card: Handle<'_>, index: c_uint) -> Result<Handle<'_>, Refusal> {
        let function = self.function::<NumberedFunction<*mut c_void>>(MIG_DEVICE.0)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the handle is valid while `self` lives; points to a pointer.
        check(unsafe { function(card.0, index, &raw mut handle) })?;
        Ok(Handle(handle, PhantomData))
    }

    pub(crate) fn ask<T: Copy + Default>(&self, card: Handle<'_>, fact: &Fact<T>) -> Result<T, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, *mut T) -> c_uint>(fact.0)?;
        let mut answer = T::default();
        // SAFETY: the handle is valid while `self` lives; `T` is what nvml.h declares, as the constant says.
        check(unsafe { function(card.0, &raw mut answer) })?;
        Ok(answer)
    }

    pub(crate) fn ask_numbered<T: Copy + Default>(
        &self,
        card: Handle<'_>,
        fact: &NumberedFact<T>,
        number: c_uint,
    ) -> Result<T, Refusal> {
        let function = self.function::<NumberedFunction<T>>(fact.0)?;
        let mut answer = T::default();
        // SAFETY: as in `ask`.
        check(unsafe { function(card.0, number, &raw mut answer) })?;
        Ok(answer)
    }

    pub(crate) fn ask_two(&self, card: Handle<'_>, name: &CStr) -> Result<(c_uint, c_uint), Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, *mut c_uint, *mut c_uint) -> c_uint>(name)?;
        let (mut first, mut second) = (0, 0);
        // SAFETY: as in `ask`; both point to numbers.
        check(unsafe { function(card.0, &raw mut first, &raw mut second) })?;
        Ok((first, second))
    }

    pub(crate) fn ask_text(&self, card: Handle<'_>, fact: &TextFact) -> Result<String, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, *mut c_char, c_uint) -> c_uint>(fact.0)?;
        // SAFETY: as in `ask`; the buffer is as long as the length that is given with it.
        text(|buffer, length| unsafe { function(card.0, buffer, length) })
    }

    /// Errors since the driver started that error correction could not correct.
    pub(crate) fn uncorrected_errors(&self, card: Handle<'_>) -> Result<u64, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, c_uint, c_uint, *mut u64) -> c_uint>(
            c"nvmlDeviceGetTotalEccErrors",
        )?;
        const UNCORRECTED: c_uint = 1;
        const SINCE_START: c_uint = 0;
        let mut errors = 0;
        // SAFETY: as in `ask`.
        check(unsafe { function(card.0, UNCORRECTED, SINCE_START, &raw mut errors) })?;
        Ok(errors)
    }

    /// The level of the PCIe tree at which two cards meet.
    pub(crate) fn common_ancestor(&self, a: Handle<'_>, b: Handle<'_>) -> Result<c_uint, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_uint) -> c_uint>(
            c"nvmlDeviceGetTopologyCommonAncestor",
        )?;
        let mut level = 0;
        // SAFETY: as in `ask`, with two handles.
        check(unsafe { function(a.0, b.0, &raw mut level) })?;
        Ok(level)
    }

    /// Whether one card reaches another's memory through NVLink.
    pub(crate) fn joined_by_nvlink(&self, a: Handle<'_>, b: Handle<'_>) -> Result<bool, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, *mut c_void, c_uint, *mut c_uint) -> c_uint>(
            c"nvmlDeviceGetP2PStatus",
        )?;
        const NVLINK: c_uint = 2;
        let mut status = c_uint::MAX;
        // SAFETY: as in `ask`, with two handles.
        check(unsafe { function(a.0, b.0, NVLINK, &raw mut status) })?;
        Ok(status == 0)
    }

    /// The programs that compute on a card, at most [`MAX_PROCESSES`] of them.
    pub(crate) fn processes(&self, card: Handle<'_>) -> Result<Vec<RunningProcess>, Refusal> {
        let function = self.function::<unsafe extern "C" fn(*mut c_void, *mut c_uint, *mut RunningProcess) -> c_uint>(
            c"nvmlDeviceGetComputeRunningProcesses_v3",
        )?;
        let mut processes = vec![RunningProcess::default(); MAX_PROCESSES];
        let mut count = MAX_PROCESSES as c_uint;
        // SAFETY: as in `ask`; the list is as long as the count that is given with it.
        check(unsafe { function(card.0, &raw mut count, processes.as_mut_ptr()) })?;
        processes.truncate(count as usize);
        Ok(processes)
    }
}

type NumberedFunction<T> = unsafe extern "C" fn(*mut c_void, c_uint, *mut T) -> c_uint;

fn check(code: c_uint) -> Result<(), Refusal> {
    if code == 0 { Ok(()) } else { Err(Refusal(code)) }
}

/// A text of at most [`MAX_TEXT_BYTES`] that ends with a zero and that a terminal can show.
fn text(write: impl FnOnce(*mut c_char, c_uint) -> c_uint) -> Result<String, Refusal> {
    let mut buffer = [0 as c_char; MAX_TEXT_BYTES];
    check(write(buffer.as_mut_ptr(), MAX_TEXT_BYTES as c_uint))?;
    let bytes = buffer.map(|character| character as u8);
    let text = CStr::from_bytes_until_nul(&bytes).ok().and_then(|text| text.to_str().ok()).map(str::trim);
    match text {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) => {
            Ok(text.to_owned())
        }
        _ => Err(Refusal::MALFORMED),
    }
}
