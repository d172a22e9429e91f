//! What a process costs, each measured on its own: the system keeps one peak for all children of a process, so that every
//! measured process gets a parent to itself, which is this program again.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;

/// The first argument that makes this program the parent of one measured process; the rest is its command line.
pub(crate) const MEASURE: &str = "--measure";

/// What a process cost, with the processes that it waited for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    /// Its largest resident set, in MiB.
    pub(crate) peak_mib: u64,
}

/// CPU time so far.
pub(crate) fn cpu(who: UsageWho) -> Result<Duration> {
    let usage = getrusage(who)?;
    let time = |t: nix::sys::time::TimeVal| {
        Duration::new(t.tv_sec().unsigned_abs(), u32::try_from(t.tv_usec() * 1000).unwrap_or(0))
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
}

/// Runs a command to its end, its output thrown away.
pub(crate) fn cost(command: &Command) -> Result<Cost> {
    let mut parent = Command::new(std::env::current_exe()?);
    parent.arg(MEASURE).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => parent.env(name, value),
            None => parent.env_remove(name),
        };
    }
    let output = parent.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let numbers: Vec<u64> =
        String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match numbers[..] {
        [wall, cpu, kib] => {
            Ok(Cost { wall: Duration::from_micros(wall), cpu: Duration::from_micros(cpu), peak_mib: kib / 1024 })
        }
        _ => Err("a measured process was not reported".into()),
    }
}

/// What the parent of a measured process does: runs it and prints microseconds, CPU microseconds and the peak in KiB.
pub(crate) fn measure(command: &[String]) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else { return Err("no command to measure".into()) };
    let began = Instant::now();
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    let wall = began.elapsed();
    if !status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    crate::say(&format!("{} {} {peak}", wall.as_micros(), cpu(UsageWho::RUSAGE_CHILDREN)?.as_micros()));
    Ok(ExitCode::SUCCESS)
}
