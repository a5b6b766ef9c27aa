//! What a renter starts inside a rented sandbox to see what it is made of; see `gpu::challenge::program`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gpu::challenge::program::run()
}
