//! Positions of a list that have something in common, of which the next one is found without a look at those
//! between.
//!
//! Before: [`service`](super::service) keeps those of the endpoints that are in service. After: a choice
//! that fell on others goes on from one to the next, however many of the list lie between.

use std::cell::Cell;

/// A bit for each position; above them a bit for each word that has some, and so on, up to a single word.
#[derive(Debug)]
pub struct Positions {
    levels: Box<[Box<[Cell<u64>]>]>,
}

impl Positions {
    /// Of a list of this length, in its order.
    ///
    /// Cost: linear in it.
    pub fn of(are_in: impl Iterator<Item = bool>) -> Self {
        let mut levels = vec![words(are_in)];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            levels.push(words(below.iter().map(|word| word.get() != 0)));
        }
        Self { levels: levels.into() }
    }

    /// Takes a position in or out.
    pub fn set(&self, index: usize, is_in: bool) {
        let mut at = index;
        for level in &self.levels {
            let word = &level[at / 64];
            let before = word.get();
            let bit = 1 << (at % 64);
            word.set(if is_in { before | bit } else { before & !bit });
            if (before == 0) == (word.get() == 0) {
                break;
            }
            at /= 64;
        }
    }

    /// The first one that is in from `from` on; none up to the end of the list.
    ///
    /// Cost: two words for each level, of which 100,000 positions have three.
    pub fn next(&self, from: usize) -> Option<usize> {
        let (mut level, mut at) = (0, from);
        loop {
            let word = self.levels.get(level)?.get(at / 64)?.get();
            let rest = word & (u64::MAX << (at % 64));
            if rest != 0 {
                at = at / 64 * 64 + rest.trailing_zeros() as usize;
                break;
            }
            at = at / 64 + 1;
            level += 1;
        }
        for words in self.levels[..level].iter().rev() {
            at = at * 64 + words[at].get().trailing_zeros() as usize;
        }
        Some(at)
    }

    /// All of them, each once, beginning with the first from `from` on.
    pub fn round(&self, from: usize) -> impl Iterator<Item = usize> {
        let behind = move |at: &usize| self.next(at + 1);
        let to_the_end = std::iter::successors(self.next(from), behind);
        to_the_end
            .chain(std::iter::successors(self.next(0), behind).take_while(move |at| *at < from))
    }
}

fn words(mut bits: impl Iterator<Item = bool>) -> Box<[Cell<u64>]> {
    let mut words = Vec::new();
    while let Some(first) = bits.next() {
        let rest = bits.by_ref().take(63).zip(1..);
        let word = rest.fold(u64::from(first), |word, (bit, at)| word | u64::from(bit) << at);
        words.push(Cell::new(word));
    }
    words.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_nothing_there_is_none() {
        let none = Positions::of(std::iter::empty());
        assert_eq!((none.next(0), none.round(0).count()), (None, 0));
        let empty = Positions::of(std::iter::repeat_n(false, 100_000));
        assert_eq!((empty.next(0), empty.next(99_999), empty.round(500).count()), (None, None, 0));
        assert_eq!(empty.levels.len(), 3);
        empty.set(77_777, true);
        assert_eq!(empty.next(0), Some(77_777));
        assert_eq!(empty.next(77_778), None);
        assert_eq!(empty.round(77_778).collect::<Vec<_>>(), [77_777]);
    }

    proptest! {
        #[test]
        fn they_are_those_of_a_look_at_all(
            count in 1_usize..9_000,
            are_in in any::<bool>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..200),
            from: prop::sample::Index,
        ) {
            let mut list = vec![are_in; count];
            let positions = Positions::of(list.iter().copied());
            for (index, is_in) in changes {
                let index = index.index(count);
                list[index] = is_in;
                positions.set(index, is_in);
            }
            let from = from.index(count);
            let of = |range: std::ops::Range<usize>| range.filter(|index| list[*index]);
            let expected: Vec<usize> = of(from..count).chain(of(0..from)).collect();
            prop_assert_eq!(positions.round(from).collect::<Vec<_>>(), expected);
            let anew = Positions::of(list.iter().copied());
            prop_assert_eq!(format!("{positions:?}"), format!("{anew:?}"));
        }
    }
}
