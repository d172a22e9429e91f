//! `propflow`, the program.

use std::ffi::{c_int, c_long};
use std::process::ExitCode;

/// Batches are made on one thread and freed on another, all the time; the system's allocator spends a quarter of a
/// load on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3.
const PURGE_DELAY: c_int = 15;

/// Milliseconds until memory that was freed goes back to the system. The allocator's own second is longer than several
/// slices take: what they have freed would pile up, and count. `MIMALLOC_PURGE_DELAY` says otherwise.
const PURGE_AFTER_MS: c_long = 25;

#[expect(unsafe_code, reason = "the allocator's settings have no Rust interface; this one stores a number")]
unsafe extern "C" {
    safe fn mi_option_set_default(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    mi_option_set_default(PURGE_DELAY, PURGE_AFTER_MS);
    // The allocator asks for pages of 2 MiB, and one touched byte takes a whole one: a quarter of a copy's memory, for no
    // gain in speed, of the matching of a million people neither. A kernel without the switch goes on as before.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::FAILURE,
    };
    runtime.block_on(pipelines::cli::main())
}
