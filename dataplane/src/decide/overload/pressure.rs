//! How close a process is to the end of what it may use, and what it does without then.
//!
//! Before: the main thread looked how much of a resource is used. After: each worker goes by the levels, for
//! each request and before it accepts.

use lateen_snapshot::model::overload::Priority;

/// From so many percent on the least important requests are turned away. Source: issue.
const TIGHT_PERCENT: u64 = 90;
/// From so many on nobody is let in and only the most important requests are answered. Source: issue.
const FULL_PERCENT: u64 = 95;
/// A level holds until so much less is used, so that what hovers around it does not switch all the time.
const LET_GO_PERCENT: u64 = 2;

/// How close it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// There is enough.
    #[default]
    Calm,
    /// There is little: [`Priority::Sheddable`] requests are turned away, and answers close their connection.
    Tight,
    /// There is next to nothing: only [`Priority::Critical`] requests are answered, and who comes waits.
    Full,
}

impl Level {
    /// With so much used of so much that there is, after this level.
    pub fn after(self, used: u64, most: u64) -> Self {
        let percent = u64::try_from(u128::from(used) * 100 / u128::from(most.max(1)));
        let percent = percent.unwrap_or(u64::MAX);
        let from = |level: Self, percent: u64| match self >= level {
            true => percent - LET_GO_PERCENT,
            false => percent,
        };
        if percent >= from(Self::Full, FULL_PERCENT) {
            Self::Full
        } else if percent >= from(Self::Tight, TIGHT_PERCENT) {
            Self::Tight
        } else {
            Self::Calm
        }
    }

    /// Whether requests of this priority are turned away.
    pub const fn sheds(self, priority: Priority) -> bool {
        match (self, priority) {
            (Self::Calm, _) | (_, Priority::Critical) => false,
            (Self::Tight, Priority::Default) => false,
            (Self::Tight | Self::Full, Priority::Sheddable) | (Self::Full, Priority::Default) => {
                true
            }
        }
    }
}

/// The levels of all resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of memory.
    pub memory: Level,
    /// Of descriptors.
    pub descriptors: Level,
}

const LEVELS: [Level; 3] = [Level::Calm, Level::Tight, Level::Full];

impl Levels {
    /// All of them in a number; 0: there is enough of everything.
    pub const fn to_word(self) -> u8 {
        self.memory as u8 | (self.descriptors as u8) << 4
    }

    /// What [`to_word`](Self::to_word) made a number of.
    pub fn of_word(word: u8) -> Self {
        let level = |bits: u8| LEVELS[usize::from(bits).min(LEVELS.len() - 1)];
        Self { memory: level(word & 15), descriptors: level(word >> 4) }
    }

    /// The closest.
    pub fn worst(self) -> Level {
        self.memory.max(self.descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_entered_at_its_share_and_left_somewhat_below() {
        use Level::{Calm, Full, Tight};
        let table = [
            (Calm, 89, Calm),
            (Calm, 90, Tight),
            (Tight, 89, Tight),
            (Tight, 88, Tight),
            (Tight, 87, Calm),
            (Tight, 94, Tight),
            (Tight, 95, Full),
            (Full, 93, Full),
            (Full, 92, Tight),
            (Full, 87, Calm),
            (Calm, 250, Full),
        ];
        for (before, percent, after) in table {
            assert_eq!(before.after(percent * 1_000, 100_000), after, "{percent} % of {before:?}");
        }
        assert_eq!(Calm.after(u64::MAX, 1), Full);
        assert_eq!(Calm.after(0, 0), Calm);
    }

    #[test]
    fn the_least_important_go_first() {
        let shed = |level: Level| {
            [Priority::Critical, Priority::Default, Priority::Sheddable].map(|it| level.sheds(it))
        };
        assert_eq!(shed(Level::Calm), [false, false, false]);
        assert_eq!(shed(Level::Tight), [false, false, true]);
        assert_eq!(shed(Level::Full), [false, true, true]);
    }

    #[test]
    fn levels_survive_being_a_number() {
        for memory in LEVELS {
            for descriptors in LEVELS {
                let levels = Levels { memory, descriptors };
                assert_eq!(Levels::of_word(levels.to_word()), levels);
                assert_eq!(levels.to_word() == 0, levels.worst() == Level::Calm);
            }
        }
    }
}
