//! The local control API: one set of records ([`types`], and [`evidence`] of one rental), the calls ([`control`]), an HTTP server over them ([`server`]) and the
//! client that the command line uses ([`client`]). The server listens on a Unix socket that only the daemon's user may open; its
//! OpenAPI description is served at `/openapi.json`. What both sides tell alike of a rental's end is in [`story`].

pub mod client;
pub mod console;
pub mod control;
pub mod evidence;
pub mod search;
mod seen;
pub mod server;
pub mod story;
pub mod types;
