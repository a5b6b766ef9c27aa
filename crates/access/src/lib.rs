//! What a renter does inside its sandbox, carried over one encrypted connection: start the job, follow its output, send and fetch files.
//!
//! [`host`] is the provider's end: it admits whoever holds the rental's session key and connects the stream to the sandbox.
//! [`guest`] is the renter's end. Between them lie only the frames of `proto/session.proto`; [`transfer`] moves files in them, with a hash
//! over the whole, and [`archive`] turns folders into tar streams and back.

pub mod archive;
mod error;
pub mod guest;
pub mod host;
pub mod transfer;

pub use error::AccessError;
