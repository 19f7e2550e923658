//! How long a connection lasts.
//!
//! Before: a connection begins, and config says how long it may last at the most. After: it has a time of its
//! own. Connections that began together, as after a restart, do not all end together.

/// Ends up to one in so many parts of the time sooner.
const SPREAD: u64 = 10;

/// How long a connection lasts that may last for `most_ns`: from nine tenths of it on, by `random`, of which
/// all bits are even chance.
pub fn lasts_ns(most_ns: u64, random: u64) -> u64 {
    let spread_ns = u128::from(most_ns / SPREAD);
    most_ns - ((spread_ns * u128::from(random)) >> 64) as u64
}

/// Even chance of what is always the same for one connection, such as when it began: the finish of
/// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
pub fn scattered(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_lasts_longer_and_none_is_more_than_a_tenth_short() {
        assert_eq!(lasts_ns(1_000, 0), 1_000);
        assert_eq!(lasts_ns(1_000, u64::MAX), 901);
        assert_eq!(lasts_ns(1, u64::MAX), 1);
        assert_eq!(lasts_ns(u64::MAX, u64::MAX), u64::MAX - u64::MAX / 10 + 1);
    }

    #[test]
    fn those_that_begin_together_end_spread() {
        let mut by_tenth = [0; 10];
        for began_ns in 0..10_000 {
            let short_ns = 1_000_000 - lasts_ns(1_000_000, scattered(began_ns));
            by_tenth[(short_ns / 10_000) as usize] += 1;
        }
        assert!(by_tenth.iter().all(|count| (900..1_100).contains(count)), "{by_tenth:?}");
    }
}
