//! A real chain whose endpoints fail and lie: what the transaction sender and the chain's readers make of it. No node runs here, and no
//! privilege is needed; anvil is what `npm ci` in `contracts/` installs.

mod endpoints;
mod nonces;
mod reorganisations;
mod sending;
mod world;
