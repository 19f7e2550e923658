//! What follows from samples, and what does not: figures of a sample, medians with their spread, and
//! ratios that are paired by round, so that what disturbs a whole round divides out.

use crate::results::{Entry, Row, Sample};

/// A proxy's core below this was not the limit: its throughput says nothing.
pub const PROXY_BUSY_MIN: f64 = 0.95;
/// A client's core above this may itself be what latency shows.
pub const CLIENT_BUSY_MAX: f64 = 0.70;

/// What can be read from a sample. All but [`Figure::Throughput`] are better when lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Figure {
    /// Right answers a second.
    Throughput,
    /// CPU µs of the proxy for a unit.
    CpuUs,
    /// The same, in user mode.
    UserUs,
    /// The same, in the kernel.
    SystemUs,
    /// Instructions for a unit, user and kernel.
    Instructions,
    /// The same, in user mode.
    InstructionsUser,
    /// The same, in the kernel.
    InstructionsKernel,
    /// Cycles for a unit.
    Cycles,
    /// Syscalls for a unit.
    Syscalls,
    /// Context switches for a unit, of both kinds.
    Switches,
    /// CPU µs of the proxy's whole cores for a unit, whoever they were billed to.
    CoreUs,
    /// Instructions of the proxy's whole cores for a unit, whoever they were billed to.
    CoreInstructions,
    /// Median latency in µs.
    P50Us,
    /// 99th percentile in µs.
    P99Us,
    /// 99.9th percentile in µs.
    P999Us,
    /// Resident KiB at the end of the load.
    ResidentKib,
}

impl Figure {
    /// Reads it; `None` where the sample lacks it.
    pub fn of(self, row: &Row, sample: &Sample) -> Option<f64> {
        let load = sample.load.as_ref();
        let units = load
            .map(|load| load.requests as f64 * row.units_per_answer)
            .filter(|units| *units > 0.0);
        let cost = sample.cost.as_ref();
        let per_unit = |total: f64| units.map(|units| total / units);
        match self {
            Figure::Throughput => load.map(|load| load.requests_per_s),
            Figure::CpuUs => per_unit(cost?.cpu_us),
            Figure::UserUs => per_unit(cost?.user_us),
            Figure::SystemUs => per_unit(cost?.system_us),
            Figure::Instructions => {
                let cost = cost?;
                let in_both = || Some(cost.instructions_user? + cost.instructions_kernel?);
                per_unit(cost.instructions.or_else(in_both)?)
            }
            Figure::InstructionsUser => per_unit(cost?.instructions_user?),
            Figure::InstructionsKernel => per_unit(cost?.instructions_kernel?),
            Figure::Cycles => per_unit(cost?.cycles?),
            Figure::Syscalls => {
                let answers = cost?.syscalls_answers.filter(|answers| *answers > 0.0)?;
                Some(cost?.syscalls? / (answers * row.units_per_answer))
            }
            Figure::Switches => per_unit(cost?.voluntary_switches + cost?.involuntary_switches),
            Figure::CoreUs => per_unit(sample.busy.as_ref()?.proxy_cpu_us),
            Figure::CoreInstructions => per_unit(sample.busy.as_ref()?.proxy_cpu_instructions?),
            Figure::P50Us => load?.latency_us.as_ref().map(|latency| latency.p50),
            Figure::P99Us => load?.latency_us.as_ref().map(|latency| latency.p99),
            Figure::P999Us => load?.latency_us.as_ref().map(|latency| latency.p99_9),
            Figure::ResidentKib => Some(cost?.resident_kib),
        }
    }

    /// Whether more of it is worse.
    pub fn lower_is_better(self) -> bool {
        self != Figure::Throughput
    }
}

/// A median with the least and the most beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// How many values there were.
    pub count: usize,
}

impl Spread {
    /// Of some values; `None` if there are none, or one is not a number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let middle = count / 2;
        let median = if count % 2 == 1 {
            values[middle]
        } else {
            (values[middle - 1] + values[middle]) / 2.0
        };
        Some(Spread { median, least: values[0], most: values[count - 1], count })
    }
}

/// What a ratio of two peers allows to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// In every round the first did better.
    Better,
    /// In every round the first did worse.
    Worse,
    /// Rounds disagree, or there are fewer than three: nothing follows.
    Undecided,
}

/// First over second, paired by round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Of the ratios of the rounds.
    pub spread: Spread,
    /// What it allows to say.
    pub verdict: Verdict,
}

/// Rounds below this never decide anything.
pub const ROUNDS_MIN: usize = 3;

/// The ratio of two entries of a row in one figure at one point; `None` where no round has both.
pub fn ratio(
    row: &Row,
    point: &str,
    first: &Entry,
    second: &Entry,
    figure: Figure,
) -> Option<Ratio> {
    ratio_by(point, first, second, figure.lower_is_better(), |sample| figure.of(row, sample))
}

/// The same of anything else that can be read from a sample.
pub fn ratio_by(
    point: &str,
    first: &Entry,
    second: &Entry,
    lower_is_better: bool,
    read: impl Fn(&Sample) -> Option<f64>,
) -> Option<Ratio> {
    let pairs = first.valid(point).filter_map(|one| {
        let other = second.valid(point).find(|other| other.round == one.round)?;
        let divisor = read(other).filter(|value| *value > 0.0)?;
        Some(read(one)? / divisor)
    });
    let spread = Spread::of(pairs)?;
    Some(Ratio { spread, verdict: judge(spread, lower_is_better) })
}

fn judge(spread: Spread, lower_is_better: bool) -> Verdict {
    if spread.count < ROUNDS_MIN || (spread.least <= 1.0 && spread.most >= 1.0) {
        Verdict::Undecided
    } else if (spread.most < 1.0) == lower_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    }
}

/// One figure of one entry at one point, over its rounds.
pub fn figure(row: &Row, point: &str, entry: &Entry, figure: Figure) -> Option<Spread> {
    Spread::of(entry.valid(point).filter_map(|sample| figure.of(row, sample)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_of_an_even_count_is_between_the_two_in_the_middle() {
        assert_eq!(
            Spread::of([4.0, 1.0, 3.0, 2.0]),
            Some(Spread { median: 2.5, least: 1.0, most: 4.0, count: 4 })
        );
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
    }

    #[test]
    fn a_range_that_crosses_one_decides_nothing() {
        let judged =
            |values: &[f64]| judge(Spread::of(values.iter().copied()).expect("values"), true);
        assert_eq!(judged(&[0.8, 0.9, 0.95]), Verdict::Better);
        assert_eq!(judged(&[1.1, 1.2, 1.3]), Verdict::Worse);
        assert_eq!(judged(&[0.9, 0.9, 1.01]), Verdict::Undecided);
        assert_eq!(judged(&[0.5, 0.5]), Verdict::Undecided);
        let more = Spread::of([1.1, 1.2, 1.3]).expect("values");
        assert_eq!(judge(more, false), Verdict::Better);
    }
}
