//! Latencies by percentile: a few for people, a curve for plots, a text file for other tools.
//!
//! Comes after the tallies are added up. Histograms are in nanoseconds, what leaves is in
//! microseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::summary::Latency;

const NS_PER_US: f64 = 1e3;

/// Points of a curve between 0 and 90 %, between 90 and 99 %, and so on to 99.9999 %.
const POINTS_PER_DECADE: u32 = 12;
const DECADES: u32 = 6;

/// As the wrk2 and HdrHistogram tools write it.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// What is told of a histogram; nothing if it is empty.
pub(crate) fn latency_of(histogram: &Histogram<u64>) -> Option<Latency> {
    if histogram.is_empty() {
        return None;
    }
    let us = |percentile: f64| us_at(histogram, percentile);
    Some(Latency {
        count: histogram.len(),
        mean: histogram.mean() / NS_PER_US,
        p50: us(50.0),
        p90: us(90.0),
        p99: us(99.0),
        p99_9: us(99.9),
        p99_99: us(99.99),
        max: histogram.max() as f64 / NS_PER_US,
        curve: curve_of(histogram),
    })
}

fn us_at(histogram: &Histogram<u64>, percentile: f64) -> f64 {
    // The bucket's upper edge can lie past the largest value.
    histogram.value_at_percentile(percentile).min(histogram.max()) as f64 / NS_PER_US
}

/// Percentiles at even distances on an axis of 1/(1-p), as far as there are values to tell them
/// apart; the last is 100 %.
fn curve_of(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let finest = 1.0 / histogram.len() as f64;
    let mut curve: Vec<(f64, f64)> = (0..=DECADES * POINTS_PER_DECADE)
        .map(|point| 10_f64.powf(-f64::from(point) / f64::from(POINTS_PER_DECADE)))
        .take_while(|&beyond| beyond >= finest)
        .map(|beyond| {
            let percentile = 100.0 * (1.0 - beyond);
            (percentile, us_at(histogram, percentile))
        })
        .collect();
    curve.push((100.0, histogram.max() as f64 / NS_PER_US));
    curve
}

/// HdrHistogram's percentile distribution (.hgrm), values in milliseconds as wrk2 writes it.
pub(crate) fn as_hgrm(histogram: &Histogram<u64>) -> String {
    let ms = |ns: f64| ns / 1e6;
    let mut text = String::from("       Value   Percentile   TotalCount 1/(1-Percentile)\n\n");
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        let value = ms(step.value_iterated_to().min(histogram.max()) as f64);
        let quantile = step.quantile_iterated_to().min(1.0);
        let count = histogram.count_between(0, step.value_iterated_to());
        // A String takes everything.
        let _ = match 1.0 / (1.0 - quantile) {
            distance if distance.is_finite() => {
                writeln!(text, "{value:12.6} {quantile:2.12} {count:10} {distance:14.2}")
            }
            _ => writeln!(text, "{value:12.6} {quantile:2.12} {count:10}"),
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n\
         #[Max     = {:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]",
        ms(histogram.mean()),
        ms(histogram.stdev()),
        ms(histogram.max() as f64),
        histogram.len(),
        histogram.buckets(),
        2048
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000_000, 3).expect("bounds");
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        histogram
    }

    fn is_close(value: f64, expected: f64) -> bool {
        (value - expected).abs() <= expected * 0.002
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let latency = latency_of(&histogram((1..=10_000).map(|us| us * 1000))).expect("values");
        assert_eq!(latency.count, 10_000);
        for (found, expected) in [
            (latency.mean, 5000.5),
            (latency.p50, 5000.0),
            (latency.p90, 9000.0),
            (latency.p99, 9900.0),
            (latency.p99_9, 9990.0),
            (latency.p99_99, 9999.0),
            (latency.max, 10_000.0),
        ] {
            assert!(is_close(found, expected), "{found} is not {expected}");
        }
        assert_eq!(latency_of(&histogram([])), None);
    }

    #[test]
    fn a_curve_rises_to_the_largest_value() {
        for count in [1, 7, 1000, 2_000_000] {
            let latency = latency_of(&histogram(1..=count)).expect("values");
            assert!(latency.curve.len() <= 100, "{}", latency.curve.len());
            assert!(latency.curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{latency:?}");
            assert_eq!(latency.curve.last(), Some(&(100.0, latency.max)));
        }
        let long = latency_of(&histogram(1..=2_000_000)).expect("values");
        assert!(long.curve.len() >= 60, "{}", long.curve.len());
    }

    #[test]
    fn writes_what_plotters_read() {
        let text = as_hgrm(&histogram([1_000_000, 2_000_000, 3_000_000, 4_000_000]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().count(), 4);
        assert_eq!(lines[1], "");
        let rows: Vec<Vec<f64>> = lines[2..lines.len() - 3]
            .iter()
            .map(|line| line.split_whitespace().map(|word| word.parse().expect(line)).collect())
            .collect();
        assert!(rows.iter().rev().skip(1).all(|row| row.len() == 4), "{text}");
        let last = rows.last().expect("rows");
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 4.0));
        assert!(is_close(last[0], 4.0), "{text}");
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]), "{text}");
        assert!(lines[lines.len() - 2].starts_with("#[Max     ="), "{text}");
    }
}
