//! Tells whether this machine's run time counts instructions: under an emulator that gives each
//! instruction one nanosecond it does, and `perf/emulated` asks before it believes any figure.
//!
//! A loop of known length runs in user mode, and one syscall is repeated so often and twice as
//! often; both as one JSON line on stdout, in nanoseconds of the scheduler's run time.

use std::{arch::asm, error::Error, fs};

/// The loop below executes two instructions a turn.
const LOOP_TURNS: u64 = 20_000_000;
const LOOP_INSTRUCTIONS: u64 = 2 * LOOP_TURNS;
const SYSCALLS: u64 = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    let loop_ns = run_time_of(|| {
        // SAFETY: counts a register down to zero and touches nothing else.
        unsafe { asm!("2:", "sub {turns}, 1", "jnz 2b", turns = inout(reg) LOOP_TURNS => _) }
    })?;
    let syscalls_ns = run_time_of(|| call_kernel(SYSCALLS))?;
    let twice_ns = run_time_of(|| call_kernel(2 * SYSCALLS))?;
    println!(
        "{{\"loop_instructions\":{LOOP_INSTRUCTIONS},\"loop_ns\":{loop_ns},\
         \"syscalls\":{SYSCALLS},\"syscalls_ns\":{syscalls_ns},\"twice_ns\":{twice_ns}}}"
    );
    Ok(())
}

fn call_kernel(count: u64) {
    for _ in 0..count {
        // SAFETY: getppid takes nothing and cannot fail.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

fn run_time_of(work: impl FnOnce()) -> Result<u64, Box<dyn Error>> {
    let before = run_time_ns()?;
    work();
    Ok(run_time_ns()? - before)
}

/// Time on the CPU. The kernel adds up when a thread leaves it, so that yielding comes first.
fn run_time_ns() -> Result<u64, Box<dyn Error>> {
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/self/schedstat")?;
    Ok(text.split(' ').next().ok_or("an empty schedstat")?.parse()?)
}
