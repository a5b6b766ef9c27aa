//! Devices for sandboxes, by the Container Device Interface: a vendor's file says which device nodes, files and variables belong to a
//! device, and whoever builds the sandbox puts them there.
//!
//! A [`Registry`] reads the files of a machine; [`Registry::resolve`] turns device names such as `nvidia.com/gpu=0` into [`Edits`], one
//! merged and checked list of what to put into a sandbox; [`Edits::check`] holds it against the machine. Where a vendor's toolkit
//! wrote no file, [`generate()`] writes one from the inventory.
//!
//! The specification also has hooks: programs that run as root while the container is made. They are never run here. What the
//! usual ones do (symbolic links, folders for the loader) is read from their arguments and done by the sandbox itself; every other
//! one is told in [`Edits::left_out`].
//!
//! The files are the administrator's and are trusted to name the right devices, not to be free of mistakes: a path that is not
//! absolute, leaves its folder or covers a part of the sandbox is refused, and so is what cannot be done without a hook or what would
//! let a sandbox write to the machine.
//!
//! ```no_run
//! use gpu::cdi::{FOLDERS, Registry};
//!
//! let registry = Registry::read(&FOLDERS);
//! let edits = registry.resolve(&["nvidia.com/gpu=0"])?;
//! edits.check()?;
//! for node in &edits.nodes {
//!     println!("{} is {} inside", node.host.display(), node.inside.display());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod edits;
mod error;
mod generate;
mod hooks;
mod loader_cache;
mod registry;
mod soname;
mod spec;
mod version;

pub use edits::{Edits, Folder, Link, Mount, Node, Variable};
pub use error::{CdiError, Fault};
pub use generate::{GenerateError, generate};
pub use registry::{FOLDERS, Registry};
pub use spec::{ContainerEdits, Device, DeviceNode, Hook, MountSpec, Spec};
