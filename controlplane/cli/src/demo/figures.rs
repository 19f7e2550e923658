//! What the proxies' `/metrics` say, per service and since the last look.
//!
//! Before: proxies run. After: [`narration`](super::narration) shows it. A sidecar counts both ways, the
//! calls to its app and those that its app makes.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::http1::{Message, write_request};

/// A proxy that does not answer for so long is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one line of the live view says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Whose.
    pub(super) service: &'static str,
    /// Of how many proxies it is the sum.
    pub(super) proxies: usize,
    /// Responses in a second.
    pub(super) rate: f64,
    /// How many of the responses were none of the mesh's or a server's failures, in percent.
    pub(super) success_percent: Option<f64>,
    /// The bound that half of the responses stayed below, in milliseconds.
    pub(super) p50_ms: Option<f64>,
    /// The same of 99 percent.
    pub(super) p99_ms: Option<f64>,
}

/// Looks at proxies again and again.
#[derive(Debug)]
pub(super) struct Figures {
    /// In the order in which they are shown, each with its proxies' admin addresses.
    services: Vec<(&'static str, Vec<SocketAddr>)>,
    /// The last readings.
    last: BTreeMap<SocketAddr, Reading>,
    at: Instant,
}

impl Figures {
    pub(super) fn new(services: Vec<(&'static str, Vec<SocketAddr>)>) -> Self {
        let mut figures = Self { services, last: BTreeMap::new(), at: Instant::now() };
        figures.look();
        figures
    }

    /// What happened since the last look.
    pub(super) fn look(&mut self) -> Vec<Row> {
        let since_s = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        let mut rows = Vec::new();
        for (service, proxies) in &self.services {
            let mut sum = Reading::default();
            for admin in proxies {
                let Ok(reading) = scrape(*admin) else { continue };
                if let Some(last) = self.last.get(admin) {
                    sum.add_growth(last, &reading);
                }
                self.last.insert(*admin, reading);
            }
            rows.push(sum.row(service, proxies.len(), since_s));
        }
        rows
    }
}

/// Whether a proxy hears from the control plane, as its metrics say.
pub(super) fn is_connected(admin: SocketAddr) -> bool {
    scrape(admin).is_ok_and(|reading| reading.is_connected)
}

/// A proxy's metrics, as far as they are shown.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    is_connected: bool,
    successes: f64,
    failures: f64,
    /// Bounds in milliseconds, and how many responses took no longer.
    buckets: Vec<(f64, f64)>,
}

impl Reading {
    fn parse(text: &str) -> Self {
        let mut reading = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "control_connected" => reading.is_connected = value > 0.0,
                "response_total" if labels.contains("classification=\"success\"") => {
                    reading.successes += value;
                }
                "response_total" => reading.failures += value,
                "response_latency_ms_bucket" => {
                    let bound = labels.split('"').nth(1).and_then(|bound| bound.parse().ok());
                    reading.buckets.push((bound.unwrap_or(f64::INFINITY), value));
                }
                _ => {}
            }
        }
        reading
    }

    fn add_growth(&mut self, from: &Self, to: &Self) {
        self.successes += to.successes - from.successes;
        self.failures += to.failures - from.failures;
        if self.buckets.is_empty() {
            self.buckets = to.buckets.iter().map(|(bound, _)| (*bound, 0.0)).collect();
        }
        let growths = to.buckets.iter().zip(&from.buckets).map(|((_, to), (_, from))| to - from);
        self.buckets.iter_mut().zip(growths).for_each(|((_, count), growth)| *count += growth);
    }

    fn row(&self, service: &'static str, proxies: usize, since_s: f64) -> Row {
        let count = self.successes + self.failures;
        Row {
            service,
            proxies,
            rate: count / since_s.max(f64::EPSILON),
            success_percent: (count > 0.0).then(|| 100.0 * self.successes / count),
            p50_ms: self.bound_of(0.5),
            p99_ms: self.bound_of(0.99),
        }
    }

    /// The first bound that at least this share stayed below.
    fn bound_of(&self, share: f64) -> Option<f64> {
        let (_, count) = self.buckets.last().filter(|(_, count)| *count > 0.0)?;
        let bound = self.buckets.iter().find(|(_, below)| *below >= share * count);
        bound.map(|(bound, _)| *bound)
    }
}

fn scrape(admin: SocketAddr) -> io::Result<Reading> {
    let stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write_request(&stream, &admin.to_string(), "/metrics")?;
    let answer = Message::read(&mut BufReader::new(stream))?;
    Ok(Reading::parse(&answer.ok_or(io::ErrorKind::UnexpectedEof)?.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(successes: u64, failures: u64, buckets: [u64; 3]) -> String {
        let [one, five, all] = buckets;
        format!(
            "# TYPE response counter\n\
             response_total{{status_class=\"2xx\",classification=\"success\"}} {successes}\n\
             response_total{{status_class=\"5xx\",classification=\"failure\"}} {failures}\n\
             response_latency_ms_bucket{{le=\"1.0\"}} {one}\n\
             response_latency_ms_bucket{{le=\"5.0\"}} {five}\n\
             response_latency_ms_bucket{{le=\"+Inf\"}} {all}\n\
             control_connected 1\n# EOF\n"
        )
    }

    #[test]
    fn shows_what_grew_between_two_looks() {
        let (before, after) = (text(10, 5, [10, 12, 15]), text(100, 15, [70, 114, 115]));
        let (before, after) = (Reading::parse(&before), Reading::parse(&after));
        assert!(before.is_connected);
        let mut sum = Reading::default();
        sum.add_growth(&before, &after);
        let expected = Row {
            service: "edge",
            proxies: 1,
            rate: 50.0,
            success_percent: Some(90.0),
            p50_ms: Some(1.0),
            p99_ms: Some(5.0),
        };
        assert_eq!(sum.row("edge", 1, 2.0), expected);
        sum.add_growth(&before, &after);
        assert_eq!(sum.row("edge", 2, 2.0).rate, 100.0);
    }

    #[test]
    fn says_nothing_of_a_proxy_without_requests() {
        let reading = Reading::parse(&text(1, 0, [1, 1, 1]));
        let mut sum = Reading::default();
        sum.add_growth(&reading, &reading);
        let row = sum.row("service2", 1, 1.0);
        assert_eq!(
            (row.rate, row.success_percent, row.p50_ms, row.p99_ms),
            (0.0, None, None, None)
        );
    }
}
