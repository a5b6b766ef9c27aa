//! The functions of the driver library that are used here, declared once each as in `cuda.h`. Names with a version are the ones that the
//! header has stood for since CUDA 3.2 or 4.0 (11.0 for the release of contexts, 11.4 for UUIDs).

use super::CudaError;
use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_void};

/// A context, module, function: the driver's pointers. They may be used from every thread, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Handle(pub(super) *mut c_void);

// SAFETY: the driver's functions are safe to call from any thread (CUDA C++ Programming Guide, "Driver API"), and nothing here reads what
// the pointer points to.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// An address in a card's memory.
pub(super) type Address = u64;

/// What cuda.h calls CUDA_ERROR_OUT_OF_MEMORY.
const OUT_OF_MEMORY: c_int = 2;

/// Declares the functions, finds them in the library, and gives each a method that turns its answer into a result.
macro_rules! functions {
    ($($(#[$meta:meta])* $method:ident = $name:literal($($argument:ident: $kind:ty),*);)*) => {
        /// The library with its functions.
        pub(super) struct Functions {
            $($method: unsafe extern "C" fn($($kind),*) -> c_int,)*
            _library: Library,
        }

        impl Functions {
            pub(super) fn of(library: Library) -> Result<Self, CudaError> {
                $(
                    // SAFETY: declared as in cuda.h.
                    let $method = *unsafe { library.get(concat!($name, "\0").as_bytes()) }
                        .map_err(|_| CudaError::NotCuda($name))?;
                )*
                Ok(Self { $($method,)* _library: library })
            }
        }

        /// One method for each function. The caller keeps to what the driver's manual says of its arguments.
        #[allow(clippy::missing_safety_doc, clippy::too_many_arguments, reason = "said once, above; the driver's own")]
        impl Functions {
            $(
                $(#[$meta])*
                pub(super) unsafe fn $method(&self, $($argument: $kind),*) -> Result<(), CudaError> {
                    // SAFETY: the caller's.
                    match unsafe { (self.$method)($($argument),*) } {
                        0 => Ok(()),
                        code => Err(CudaError::Refused { function: $name, code }),
                    }
                }
            )*
        }
    };
}

functions! {
    init = "cuInit"(flags: c_uint);
    device_count = "cuDeviceGetCount"(count: *mut c_int);
    device_get = "cuDeviceGet"(device: *mut c_int, ordinal: c_int);
    device_uuid = "cuDeviceGetUuid_v2"(uuid: *mut [u8; 16], device: c_int);
    retain = "cuDevicePrimaryCtxRetain"(context: *mut *mut c_void, device: c_int);
    release = "cuDevicePrimaryCtxRelease_v2"(device: c_int);
    set_current = "cuCtxSetCurrent"(context: *mut c_void);
    synchronise = "cuCtxSynchronize"();
    load_module = "cuModuleLoadData"(module: *mut *mut c_void, image: *const c_char);
    unload_module = "cuModuleUnload"(module: *mut c_void);
    get_function = "cuModuleGetFunction"(function: *mut *mut c_void, module: *mut c_void, name: *const c_char);
    allocate = "cuMemAlloc_v2"(address: *mut Address, bytes: usize);
    free = "cuMemFree_v2"(address: Address);
    allocate_host = "cuMemAllocHost_v2"(memory: *mut *mut c_void, bytes: usize);
    free_host = "cuMemFreeHost"(memory: *mut c_void);
    memory_info = "cuMemGetInfo_v2"(free: *mut usize, total: *mut usize);
    copy_to_card = "cuMemcpyHtoD_v2"(to: Address, from: *const c_void, bytes: usize);
    copy_from_card = "cuMemcpyDtoH_v2"(to: *mut c_void, from: Address, bytes: usize);
    copy_on_card = "cuMemcpyDtoD_v2"(to: Address, from: Address, bytes: usize);
    launch = "cuLaunchKernel"(
        function: *mut c_void,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared_bytes: c_uint, stream: *mut c_void,
        parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
}

impl Functions {
    pub(super) fn initialise(&self) -> Result<(), CudaError> {
        // SAFETY: takes only a number, which must be zero.
        unsafe { self.init(0) }
    }

    pub(super) fn count(&self) -> Result<c_int, CudaError> {
        let mut count = 0;
        // SAFETY: points to a number.
        unsafe { self.device_count(&raw mut count) }?;
        Ok(count)
    }

    pub(super) fn device(&self, ordinal: c_int) -> Result<c_int, CudaError> {
        let mut device = 0;
        // SAFETY: points to a number.
        unsafe { self.device_get(&raw mut device, ordinal) }?;
        Ok(device)
    }

    pub(super) fn uuid(&self, device: c_int) -> Result<[u8; 16], CudaError> {
        let mut uuid = [0; 16];
        // SAFETY: points to sixteen bytes, which a CUuuid is.
        unsafe { self.device_uuid(&raw mut uuid, device) }?;
        Ok(uuid)
    }
}

/// Tells a lack of memory from other refusals.
pub(super) fn room<T>(result: Result<T, CudaError>, bytes: u64) -> Result<T, CudaError> {
    result.map_err(|error| match error {
        CudaError::Refused { code: OUT_OF_MEMORY, .. } => CudaError::NoRoom(bytes),
        other => other,
    })
}
