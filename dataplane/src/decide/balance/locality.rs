//! Which of several clusters gets a request, where they are one service at growing distances.
//!
//! Before: a request's route leads to the nearest. After: the balancer chooses in the one that is told here.

/// A cluster, as far as that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// How much of it is in service.
    pub in_service_percent: u32,
    /// It is passed over with less.
    pub threshold_percent: u32,
}

/// The first that has enough in service; if none has, the one that has most, the nearer of two. `None`:
/// there are none.
pub fn nearest(levels: impl Iterator<Item = Level>) -> Option<usize> {
    let mut most: Option<(u32, usize)> = None;
    for (index, level) in levels.enumerate() {
        if level.in_service_percent >= level.threshold_percent {
            return Some(index);
        }
        if most.is_none_or(|(percent, _)| level.in_service_percent > percent) {
            most = Some((level.in_service_percent, index));
        }
    }
    most.map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_that_has_enough_wins_and_if_none_has_the_one_that_has_most() {
        for (percents, expected) in [
            (&[100, 100, 100][..], Some(0)),
            (&[50, 100, 100], Some(0)),
            (&[49, 100, 100], Some(1)),
            (&[0, 49, 50], Some(2)),
            (&[0, 49, 0], Some(1)),
            (&[20, 40, 40], Some(1)),
            (&[0, 0, 0], Some(0)),
            (&[0], Some(0)),
            (&[], None),
        ] {
            let levels = percents
                .iter()
                .map(|&in_service_percent| Level { in_service_percent, threshold_percent: 50 });
            assert_eq!(nearest(levels), expected, "{percents:?}");
        }
    }
}
