//! Which endpoints stand out among the others, by what was counted in an interval.

use lateen_snapshot::model::outlier::OutlierDetection;

use crate::decide::outlier::Cause;
use crate::limits;

/// What all workers counted of an endpoint in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Tries that ended, and say something of the endpoint.
    pub tries: u64,
    /// Those that failed.
    pub failures: u64,
    /// The median of the latencies, in microseconds; `None`: none was measured.
    pub median_us: Option<u64>,
}

impl Counts {
    fn success_percent(&self) -> f64 {
        100.0 * (self.tries - self.failures) as f64 / self.tries as f64
    }
}

/// The positions of those that should be ejected, the worst of each sort first.
pub fn sweep(detection: &OutlierDetection, counts: &[Counts]) -> Vec<(usize, Cause)> {
    let mut found = by_success_rate(detection, counts);
    found.extend(by_failures(detection, counts));
    found.extend(by_latency(detection, counts));
    found
}

/// Envoy's: below the mean less so many standard deviations; here also by a gap, since among endpoints
/// that hardly fail a deviation is next to nothing.
fn by_success_rate(detection: &OutlierDetection, counts: &[Counts]) -> Vec<(usize, Cause)> {
    let Some(rule) = detection.success_rate else { return Vec::new() };
    let enough = |of: &Counts| of.tries >= u64::from(rule.request_volume);
    let rates: Vec<(usize, f64)> = counts
        .iter()
        .enumerate()
        .filter(|(_, of)| enough(of))
        .map(|(index, of)| (index, of.success_percent()))
        .collect();
    if rates.len() < rule.minimum_hosts as usize {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let far = variance.sqrt() * f64::from(rule.stdev_factor) / 1_000.0;
    let gap = far.max(limits::SUCCESS_RATE_GAP_POINTS);
    let is_low = |rate: f64| mean - rate >= gap && mean - rate > far;
    worst_first(rates.into_iter().filter(|(_, rate)| is_low(*rate)), Cause::SuccessRate)
}

fn by_failures(detection: &OutlierDetection, counts: &[Counts]) -> Vec<(usize, Cause)> {
    let Some(rule) = detection.failure_percentage else { return Vec::new() };
    let found = counts.iter().enumerate().filter(|(_, of)| {
        of.tries >= u64::from(rule.request_volume)
            && of.failures * 100 >= of.tries * u64::from(rule.threshold)
    });
    let rates = found.map(|(index, of)| (index, of.success_percent()));
    worst_first(rates, Cause::FailurePercentage)
}

fn by_latency(detection: &OutlierDetection, counts: &[Counts]) -> Vec<(usize, Cause)> {
    let Some(rule) = detection.latency else { return Vec::new() };
    let enough = |of: &&Counts| of.tries >= u64::from(rule.request_volume);
    let mut medians: Vec<u64> =
        counts.iter().filter(enough).filter_map(|of| of.median_us).collect();
    // Of two, neither can be told to be the slow one.
    if medians.len() < 3 {
        return Vec::new();
    }
    medians.sort_unstable();
    let usual = medians[(medians.len() - 1) / 2];
    let most_us = (usual.saturating_mul(rule.factor_percent.into()) / 100)
        .max(usual + u64::from(rule.margin_ms) * 1_000);
    let slow = counts.iter().enumerate().filter(|(_, of)| enough(of));
    let slow = slow.filter_map(|(index, of)| Some((index, of.median_us?)));
    let slow = slow.filter(|(_, median_us)| *median_us > most_us);
    worst_first(slow.map(|(index, median_us)| (index, -(median_us as f64))), Cause::Latency)
}

fn worst_first(found: impl Iterator<Item = (usize, f64)>, cause: Cause) -> Vec<(usize, Cause)> {
    let mut found: Vec<(usize, f64)> = found.collect();
    found.sort_by(|one, other| one.1.total_cmp(&other.1));
    found.into_iter().map(|(index, _)| (index, cause)).collect()
}

/// Latencies are counted by so many sorts: each reaches a fifth further than the one before, from
/// [`FIRST_BOUND_US`] to about four seconds.
pub const LATENCY_SORTS: usize = 64;
const FIRST_BOUND_US: f64 = 64.0;
/// 2^(1/4).
const STEP: f64 = 1.189_207_115;

/// The sort of a latency. Cost: a logarithm's leading bits and a table of four.
#[inline]
pub const fn sort_of_latency(latency_us: u64) -> usize {
    // Quarters of an octave above 64 µs, by the three bits below the leading one: off by less than a
    // quarter of a quarter.
    if latency_us < FIRST_BOUND_US as u64 {
        return 0;
    }
    let octave = latency_us.ilog2();
    let below = (latency_us >> (octave - 3)) & 7;
    let quarter = [0, 0, 1, 1, 2, 2, 3, 3][below as usize];
    let sort = 4 * (octave as usize - 6) + quarter + 1;
    if sort < LATENCY_SORTS { sort } else { LATENCY_SORTS - 1 }
}

/// The median of latencies counted by sort, in microseconds; `None`: there are none.
pub fn median_us(sorts: &[u64; LATENCY_SORTS]) -> Option<u64> {
    let count: u64 = sorts.iter().sum();
    if count == 0 {
        return None;
    }
    let mut below = 0;
    let at = sorts.iter().position(|of_sort| {
        below += of_sort;
        2 * below >= count
    })?;
    // The middle of the sort, geometrically.
    Some((FIRST_BOUND_US * STEP.powf(at as f64 - 0.5)) as u64)
}
