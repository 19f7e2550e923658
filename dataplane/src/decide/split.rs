//! Which of several weighted backends a request or connection goes to: chance, in proportion.
//!
//! Before: a route with backends. After: the balancer chooses among the backend's endpoints.

/// The position of one of `weights`, each as likely as its share of their sum (at most `u32::MAX`).
/// `None` when they add up to nothing. `random`: 64 evenly spread bits.
#[inline]
pub fn choose_weighted(weights: impl Iterator<Item = u32> + Clone, random: u64) -> Option<usize> {
    let sum: u64 = weights.clone().map(u64::from).sum();
    // By multiplication instead of division (D. Lemire, ACM TOMACS 29(1), 2019).
    let mut left = ((random >> 32) * sum) >> 32;
    for (index, weight) in weights.enumerate() {
        if left < u64::from(weight) {
            return Some(index);
        }
        left -= u64::from(weight);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_in_proportion() {
        let weights = [90_u32, 0, 10];
        let mut counts = [0_u32; 3];
        for draw in 0..100_000_u64 {
            let random = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            counts[choose_weighted(weights.into_iter(), random).expect("a sum")] += 1;
        }
        assert!((89_500..=90_500).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
    }

    #[test]
    fn nothing_is_chosen_from_nothing() {
        assert_eq!(choose_weighted([].into_iter(), u64::MAX), None);
        assert_eq!(choose_weighted([0, 0].into_iter(), u64::MAX), None);
    }

    #[test]
    fn the_greatest_draw_is_the_last_backend() {
        assert_eq!(choose_weighted([u32::MAX - 1, 1].into_iter(), u64::MAX), Some(1));
        assert_eq!(choose_weighted([7].into_iter(), 0), Some(0));
    }
}
