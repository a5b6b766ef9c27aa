//! What a renter does inside its sandbox, carried over one encrypted connection: start the job, follow its output, send and fetch files.
//!
//! [`host`] is the provider's end: it admits whoever holds the rental's session key and connects the stream to the sandbox.
//! [`guest`] is the renter's end, and needs nothing but a [`door`] that streams can be opened through. Between them lie only the frames of
//! `proto/session.proto`; [`transfer`] moves folders in them, with a hash over the whole, [`archive`] turns folders into tar streams and back,
//! [`files`] reads and writes single files, and [`copy`] copies any number of them and goes on where it broke off. Of a [`watched`] door
//! somebody hears who comes in.

pub mod archive;
pub mod copy;
pub mod door;
mod end;
mod error;
pub mod files;
pub mod guest;
pub mod host;
pub mod splice;
pub mod ssh;
pub mod transfer;
pub mod watched;

pub use error::AccessError;
