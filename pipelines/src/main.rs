//! `propflow`, the program.

use std::process::ExitCode;

/// Batches are made on one thread and freed on another, all the time; the system's allocator spends a quarter of a
/// load on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::FAILURE,
    };
    runtime.block_on(pipelines::cli::main())
}
