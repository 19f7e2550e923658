//! What DNS last said of each name, and when to ask again. Pure: the clock comes in.
//!
//! ```text
//!            due                answered: asked again after its TTL
//! waiting ─────────► asked ──┬──────────────────────────────────────► waiting
//!    ▲                       └─ failed: the old answer stays, asked again ─┐
//!    └──────────── after 1 s, 2 s, 4 s, … 30 s ◄───────────────────────────┘
//! ```
//!
//! A name that DNS says does not exist is a failure at first too: servers that reload their zones say
//! so. Said [`ABSENT_TIMES`] times in a row it is the answer, and the name has no addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer is used for at least this long: a TTL of 0 must not make a loop.
pub const TTL_MIN: Duration = Duration::from_secs(1);

/// And for at most this long, so that a move is seen while someone still waits for it.
pub const TTL_MAX: Duration = Duration::from_secs(300);

/// After the first failure; doubles with each.
pub const RETRY_MIN: Duration = Duration::from_secs(1);

/// Between two questions at a server that fails.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// How often in a row DNS must say that there is nothing before it is believed.
pub const ABSENT_TIMES: u32 = 3;

/// Addresses of one name; more than a DNS message of 64 KiB holds of IPv4 would be 4,000.
pub const ADDRESSES_MAX: usize = 1024;

/// Questions that wait for their answer at a time.
pub const ASKED_MAX: usize = 64;

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// These addresses, for this long.
    Addresses {
        /// In any order, with or without repetition.
        addresses: Vec<IpAddr>,
        /// The least of the records it was made from.
        ttl: Duration,
    },
    /// There is no such name, or it has no address.
    Absent(String),
    /// No answer, or none that says anything.
    Failed(String),
}

/// What is known of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The last answer, ascending, none twice; `None` before the first.
    pub addresses: Option<Arc<[IpAddr]>>,
    /// Why there is no newer one.
    pub problem: Option<String>,
}

/// All names that are asked for.
#[derive(Debug)]
pub struct Answers {
    names: BTreeMap<Arc<str>, State>,
    /// When each name that is not asked is due, soonest first.
    due: BTreeSet<(Instant, Arc<str>)>,
    asked: usize,
    random: u64,
}

#[derive(Debug)]
struct State {
    known: Known,
    /// `None` while it is asked.
    due: Option<Instant>,
    /// Questions in a row without an answer, and how many of the last said "nothing there".
    failures: u32,
    absences: u32,
}

impl Answers {
    /// Nothing is asked for yet. `seed` decides the jitter.
    pub const fn new(seed: u64) -> Self {
        Self { names: BTreeMap::new(), due: BTreeSet::new(), asked: 0, random: seed | 1 }
    }

    /// From now on these names are asked for, and no others. What is known of a name that stays, stays;
    /// a new one is due at once. Returns the names that went.
    pub fn want(&mut self, wanted: &BTreeSet<Arc<str>>, now: Instant) -> Vec<Arc<str>> {
        let gone: Vec<Arc<str>> =
            self.names.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in &gone {
            let state = self.names.remove(name).expect("it was found above");
            match state.due {
                Some(due) => drop(self.due.remove(&(due, Arc::clone(name)))),
                None => self.asked -= 1,
            }
        }
        for name in wanted {
            self.names.entry(Arc::clone(name)).or_insert_with(|| {
                self.due.insert((now, Arc::clone(name)));
                State { known: Known::default(), due: Some(now), failures: 0, absences: 0 }
            });
        }
        gone
    }

    /// The next name to ask for now, if any is due and not too many are asked. The caller asks, and
    /// tells [`Answers::hear`].
    pub fn next(&mut self, now: Instant) -> Option<Arc<str>> {
        if self.asked == ASKED_MAX || self.due.first()?.0 > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        self.names.get_mut(&name)?.due = None;
        self.asked += 1;
        Some(name)
    }

    /// When [`Answers::next`] has something, unless a reply comes first.
    pub fn due(&self) -> Option<Instant> {
        if self.asked == ASKED_MAX { None } else { self.due.first().map(|(due, _)| *due) }
    }

    /// Takes a reply in. Returns what is known of the name if that has changed. A reply to a question
    /// that nobody asks any more is ignored.
    pub fn hear(&mut self, name: &str, reply: Reply, now: Instant) -> Option<Known> {
        let jitter = self.jitter();
        let (name, _) = self.names.get_key_value(name)?;
        let name = Arc::clone(name);
        let state = self.names.get_mut(&name).filter(|state| state.due.is_none())?;
        self.asked -= 1;
        let before = state.known.clone();
        let wait = state.take(reply);
        // Later, never earlier: a cache on the way would only say the rest of the TTL.
        let due = now + wait.mul_f64(1.0 + jitter / 10.0);
        state.due = Some(due);
        let changed = state.known != before;
        let known = changed.then(|| state.known.clone());
        self.due.insert((due, name));
        known
    }

    /// Evenly in 0..1 (xorshift64): names that came together must not be asked together for ever.
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl State {
    /// Notes a reply; returns how long to wait before the next question.
    fn take(&mut self, reply: Reply) -> Duration {
        match reply {
            Reply::Addresses { mut addresses, ttl } => {
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                self.known = Known { addresses: Some(addresses.into()), problem: None };
                (self.failures, self.absences) = (0, 0);
                ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Reply::Absent(why) => {
                self.absences = self.absences.saturating_add(1);
                if self.absences >= ABSENT_TIMES {
                    self.known.addresses = Some([].into());
                }
                self.fail(why)
            }
            Reply::Failed(why) => {
                self.absences = 0;
                self.fail(why)
            }
        }
    }

    fn fail(&mut self, why: String) -> Duration {
        self.known.problem = Some(why);
        let wait = RETRY_MIN * 2_u32.pow(self.failures.min(5));
        self.failures = self.failures.saturating_add(1);
        wait.min(RETRY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    fn addresses(hosts: &[u8], ttl: Duration) -> Reply {
        let addresses = hosts.iter().map(|host| [10, 0, 0, *host].into()).collect();
        Reply::Addresses { addresses, ttl }
    }

    fn known(hosts: &[u8]) -> Option<Arc<[IpAddr]>> {
        Some(hosts.iter().map(|host| [10, 0, 0, *host].into()).collect())
    }

    /// Asks for the one name there is and hears `reply`; returns what changed and the wait until it is
    /// due again.
    fn ask(answers: &mut Answers, now: Instant, reply: Reply) -> (Option<Known>, Duration) {
        let name = answers.next(now).expect("it is due");
        assert_eq!((answers.next(now), answers.due()), (None, None), "it is asked once");
        let changed = answers.hear(&name, reply, now);
        (changed, answers.due().expect("it is asked again") - now)
    }

    fn about(wait: Duration, expected: Duration) -> bool {
        wait >= expected && wait <= expected.mul_f64(1.1)
    }

    #[test]
    fn asks_again_when_the_ttl_is_over_within_bounds() {
        let mut answers = Answers::new(7);
        let mut now = Instant::now();
        answers.want(&names(&["a"]), now);
        for (ttl, expected) in [(0, 1), (1, 1), (20, 20), (300, 300), (86_400, 300)] {
            let (_, wait) = ask(&mut answers, now, addresses(&[1], ttl * SECOND));
            assert!(about(wait, expected * SECOND), "{wait:?} for a TTL of {ttl} s");
            assert_eq!(answers.next(now + wait - Duration::from_nanos(1)), None);
            now += wait;
        }
    }

    #[test]
    fn says_what_changed_and_only_that() {
        let mut answers = Answers::new(7);
        let mut now = Instant::now();
        answers.want(&names(&["a"]), now);
        for (hosts, expected) in [
            (&[3, 1, 3, 2][..], Some(&[1, 2, 3][..])),
            (&[2, 3, 1], None),
            (&[1], Some(&[1])),
            (&[], Some(&[])),
            (&[], None),
        ] {
            let (changed, wait) = ask(&mut answers, now, addresses(hosts, SECOND));
            let expected = expected.map(|hosts| Known { addresses: known(hosts), problem: None });
            assert_eq!(changed, expected);
            now += wait;
        }
    }

    #[test]
    fn keeps_the_old_answer_while_dns_fails() {
        let mut answers = Answers::new(7);
        let mut now = Instant::now();
        answers.want(&names(&["a"]), now);
        now += ask(&mut answers, now, addresses(&[1], SECOND)).1;
        for (round, expected) in [1, 2, 4, 8, 16, 30, 30, 30].into_iter().enumerate() {
            let (changed, wait) = ask(&mut answers, now, Reply::Failed("no route".into()));
            assert!(about(wait, expected * SECOND), "{wait:?} after failure {round}");
            let problem = Known { addresses: known(&[1]), problem: Some("no route".into()) };
            assert_eq!(changed, (round == 0).then_some(problem), "told once");
            now += wait;
        }
        let (changed, _) = ask(&mut answers, now, addresses(&[1], SECOND));
        assert_eq!(changed, Some(Known { addresses: known(&[1]), problem: None }));
    }

    #[test]
    fn believes_that_a_name_is_gone_when_it_was_said_often_enough() {
        let mut answers = Answers::new(7);
        let mut now = Instant::now();
        answers.want(&names(&["a"]), now);
        now += ask(&mut answers, now, addresses(&[1], SECOND)).1;
        let absent = || Reply::Absent("no such name".into());
        let failed = || Reply::Failed("timeout".into());
        let replies = [absent(), absent(), failed(), absent(), absent()];
        for reply in replies {
            let (changed, wait) = ask(&mut answers, now, reply);
            assert!(changed.is_none_or(|changed| changed.addresses == known(&[1])));
            now += wait;
        }
        let (changed, _) = ask(&mut answers, now, absent());
        assert_eq!(changed.expect("it is empty now").addresses, known(&[]));
    }

    #[test]
    fn forgets_names_that_nobody_wants() {
        let mut answers = Answers::new(7);
        let now = Instant::now();
        answers.want(&names(&["a", "b", "c"]), now);
        let asked = answers.next(now).expect("all are due");
        assert_eq!(&*asked, "a");
        let gone = answers.want(&names(&["b", "d"]), now);
        assert_eq!(gone, ["a".into(), "c".into()]);
        assert_eq!(answers.hear("a", addresses(&[1], SECOND), now), None);
        assert_eq!(answers.hear("never", addresses(&[1], SECOND), now), None);
        let due: Vec<_> = std::iter::from_fn(|| answers.next(now)).collect();
        assert_eq!(due, ["b".into(), "d".into()]);
        // Wanted again while the first question is still out: asked anew.
        answers.want(&names(&["a"]), now);
        assert_eq!(answers.next(now), Some("a".into()));
    }

    #[test]
    fn asks_no_more_than_so_many_at_a_time() {
        let mut answers = Answers::new(7);
        let now = Instant::now();
        let many: BTreeSet<Arc<str>> = (0..200).map(|n| format!("{n:03}").into()).collect();
        answers.want(&many, now);
        let asked: Vec<_> = std::iter::from_fn(|| answers.next(now)).collect();
        assert_eq!((asked.len(), answers.due()), (ASKED_MAX, None));
        answers.hear(&asked[0], Reply::Failed(String::new()), now);
        assert_eq!(answers.due(), Some(now));
        assert_eq!(answers.next(now), Some("064".into()));
    }

    #[test]
    fn spreads_names_that_came_together() {
        let mut answers = Answers::new(7);
        let now = Instant::now();
        answers.want(&(0..50).map(|n| n.to_string().into()).collect(), now);
        let asked: Vec<_> = std::iter::from_fn(|| answers.next(now)).collect();
        for name in asked {
            answers.hear(&name, addresses(&[1], 100 * SECOND), now);
        }
        let dues: BTreeSet<Instant> = answers.due.iter().map(|(due, _)| *due).collect();
        assert_eq!(dues.len(), 50);
        let spread = *dues.last().expect("50") - *dues.first().expect("50");
        assert!(spread > 5 * SECOND, "{spread:?}");
    }
}
