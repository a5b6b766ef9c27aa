//! The local control API: one set of records ([`types`]), the calls ([`control`]), an HTTP server over them ([`server`]) and the
//! client that the command line uses ([`client`]). The server listens on a Unix socket that only the daemon's user may open; its
//! OpenAPI description is served at `/openapi.json`.

pub mod client;
pub mod control;
pub mod search;
mod seen;
pub mod server;
pub mod types;
