//! The `sori` command.

#![deny(unsafe_code)]

mod cli;
#[cfg(feature = "serve")]
mod serve;

use std::process::ExitCode;

/// For ONNX Runtime as much as for us: linked in, it takes the place of `malloc` in the whole process
/// (docs/performance.md). Where it was not measured, the system's stays.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::run()
}
