//! How many files and sockets this process may have open. Comes before anything opens many.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit as far as anybody may, which is to the hard one; how many may be open then.
pub(crate) fn raise_to_hard_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Should that be refused, the limit that is read below is still the one that holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Descriptors that a program may have where a privileged user raises the limit.
const PRIVILEGED: u64 = 65_536;

/// Raises the soft limit past the hard one, as a privileged user may: 10,000 clients need more than the
/// usual 1,024. Anybody else gets the hard one, and what needs more says so.
pub(crate) fn raise_past_hard_limit() {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let wanted = PRIVILEGED.max(hard.min(1 << 20));
    let limit = Rlimit { current: Some(wanted), maximum: Some(wanted.max(hard)) };
    if setrlimit(Resource::Nofile, limit).is_err() {
        raise_to_hard_limit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(raise_to_hard_limit(), hard);
        assert_eq!(raise_to_hard_limit(), hard, "once more changes nothing");
    }
}
