//! Waiting for what can only be looked at, not awaited: a counter, a file, a process that ends.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that should come at once. Generous, because the machine is
/// shared and a test that fails only when it is busy is worth nothing.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(5);

/// Looks until `look` returns something, for at most [`PATIENCE`].
///
/// # Panics
/// When it never does, with `what` in the message.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// Looks until `look` returns something; `None` after `limit`.
pub fn within<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if began.elapsed() > limit {
            return None;
        }
        thread::sleep(PERIOD);
    }
}

/// Waits until `value` has not changed for `calm`, and returns it.
///
/// # Panics
/// When it still changes after [`PATIENCE`].
pub fn settled<T: PartialEq>(what: &str, calm: Duration, mut value: impl FnMut() -> T) -> T {
    let mut last = value();
    let mut since = Instant::now();
    eventually(what, || {
        let now = value();
        if now != last {
            last = now;
            since = Instant::now();
            return None;
        }
        (since.elapsed() >= calm).then(&mut value)
    })
}
