//! What the control plane knows of its proxies, for operators and for `lateen status`.
//!
//! Before: [`publish`](crate::publish) heard it. After: the API hands it out as JSON. Plain values; what
//! a proxy says of itself is repeated here as it was said, within the bounds of its message.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use lateen_snapshot::message::WorkerSwitch;
use lateen_snapshot::model::Epoch;
use serde::{Deserialize, Serialize};

/// All proxies, and who is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// By name: those with something to run, and those that are connected.
    pub proxies: Vec<ProxyStatus>,
    /// The last connections that were refused, or ended for what came on them; the oldest first.
    pub refused: Vec<Refusal>,
    /// Why nobody can connect at the moment.
    pub trouble: Option<String>,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// The `Proxy` object's.
    pub name: String,
    /// In a word.
    pub state: ProxyState,
    /// What it should run.
    pub wanted: Option<Epoch>,
    /// What it runs; what it ran last, if it is not connected.
    pub running: Option<Epoch>,
    /// While it is connected.
    pub connection: Option<ConnectionStatus>,
    /// The last change that all of its workers made.
    pub last_applied: Option<Applied>,
    /// The last change that it refused.
    pub last_rejection: Option<Rejection>,
    /// Other processes that tried to be this proxy beside it.
    pub second_connections: Option<SecondConnections>,
}

/// How it stands with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyState {
    /// Connected, and there is nothing for it to run: no `Proxy` object has its name.
    UnknownProxy,
    /// Not connected.
    Disconnected,
    /// It runs what it should.
    Current,
    /// What it should run is on its way, or waits for the answer to what was sent before.
    Changing,
    /// It refused what it should run, and keeps what it had.
    Rejected,
    /// It got what it should run, and has not answered in time.
    NoAnswer,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// As the kernel says; as the proxy says, if the kernel can't see it from here.
    pub pid: u32,
    /// As the kernel says.
    pub uid: u32,
    /// Of its program.
    pub program_version: String,
    /// In which snapshots are sent to it.
    pub snapshot_version: u16,
    /// How many it has.
    pub workers: u32,
    /// Since when.
    pub since: UnixMs,
}

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// To what.
    pub epoch: Epoch,
    /// When it was reported.
    pub at: UnixMs,
    /// How long it took each worker.
    pub workers: Vec<WorkerSwitch>,
}

/// A change that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// To what.
    pub epoch: Epoch,
    /// Why.
    pub reason: String,
    /// When it was reported.
    pub at: UnixMs,
}

/// Processes that were refused because one of that name is connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondConnections {
    /// How many tries there were.
    pub count: u64,
    /// The one that is connected, at the last try.
    pub held_by_pid: u32,
    /// The one that was refused last.
    pub last_pid: u32,
    /// Its user.
    pub last_uid: u32,
    /// When.
    pub last_at: UnixMs,
}

/// A connection that was refused, or ended for what came on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// If it came to that.
    pub name: Option<String>,
    /// As the kernel says; 0 if it can't be seen from here.
    pub pid: u32,
    /// As the kernel says.
    pub uid: u32,
    /// Why.
    pub reason: String,
    /// How often in a row.
    pub count: u64,
    /// The last time.
    pub at: UnixMs,
}

/// What became of a change at one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every worker runs it, or something newer.
    Applied,
    /// The proxy refused it, or something newer that it got instead, and keeps what it had.
    Rejected {
        /// What it refused.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// It is connected and has not answered.
    Unanswered,
    /// It was not connected.
    Disconnected,
    /// It was connected when it was told, and has not come back.
    Left,
}

/// A time of the wall clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// Now; 1970 if the clock is before it.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// In UTC, to the second: `2026-01-31T23:59:59Z` (RFC 3339).
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let (year, month, day) = civil((seconds / 86_400).min(DAYS_MAX));
        let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
        let second = seconds % 60;
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// To the end of the year 9999.
const DAYS_MAX: u64 = 2_932_896;

/// Year, month and day of a number of days since 1970 (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`). March is the first month of the years within, so that the day that
/// comes and goes is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times_around_leap_years() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(UnixMs(seconds * 1000).to_string(), expected);
        }
        assert!(UnixMs(u64::MAX).to_string().starts_with("9999-12-31T"));
    }
}
