//! The load and what answers it: `lateen-bench load` and `lateen-bench upstream`, as programs of their
//! own on CPUs of their own.

use super::answer::{Expected, free_ports, wait_until_right, with_free_ports};
use super::interrupt::Interrupt;
use super::placement::Placement;
use super::processes::{Order, Running, Starter};
use super::scenarios::{Work, fields};
use crate::load::summary::LoadReport;
use anyhow::Context;
use std::path::PathBuf;
use std::time::Duration;

/// A load may take so much longer than it should.
const PATIENCE: Duration = Duration::from_secs(60);
/// A number of requests may take so long.
const REQUESTS_PATIENCE: Duration = Duration::from_secs(1_800);

/// What `lateen-bench upstream` takes.
const UPSTREAM_THREADS_MAX: usize = 256;

/// How long a load is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// By the clock.
    Time(Duration),
    /// By answers.
    Requests(u64),
}

impl Length {
    /// At most so long; a number of requests stays what it is.
    pub fn at_most(self, most: Duration) -> Self {
        match self {
            Self::Time(time) => Self::Time(time.min(most)),
            requests => requests,
        }
    }
}

/// One load.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// What is asked for.
    pub work: &'a Work,
    /// Of whom.
    pub port: u16,
    /// For how long.
    pub length: Length,
    /// Requests a second, if not as many as go.
    pub rate_per_s: Option<f64>,
    /// Where it runs.
    pub placement: &'a Placement,
}

/// Makes loads.
#[derive(Debug, Clone)]
pub struct Generator {
    /// Starts them.
    pub starter: Starter,
    /// Ends them early.
    pub interrupt: Interrupt,
}

impl Generator {
    /// Makes a load, from its begin to its end.
    pub fn run(&self, load: &Load) -> anyhow::Result<LoadReport> {
        let begun = self.begin(load)?;
        self.finish(begun)
    }

    /// Begins a load.
    pub fn begin(&self, load: &Load) -> anyhow::Result<Begun> {
        let report = self.starter.directory.join("load.json");
        // That of the load before must not be taken for this one's.
        let _ = std::fs::remove_file(&report);
        let mut command = vec![self.starter.launcher.to_string_lossy().into_owned()];
        command.extend(arguments(load));
        command.extend(["--json".to_owned(), report.to_string_lossy().into_owned()]);
        let running = self.starter.start(&Order {
            name: "load",
            command: &command,
            cpus: &load.placement.client,
            group: None,
            stdout: None,
        })?;
        let patience = match load.length {
            Length::Time(time) => time + PATIENCE,
            Length::Requests(_) => REQUESTS_PATIENCE,
        };
        Ok(Begun { running, report, patience })
    }

    /// Waits for its end.
    pub fn finish(&self, mut begun: Begun) -> anyhow::Result<LoadReport> {
        let status = begun.running.wait(begun.patience, &self.interrupt)?;
        let said = || format!("the load ended with {status}: {}", begun.running.last_lines());
        let text = std::fs::read_to_string(&begun.report).with_context(said)?;
        serde_json::from_str(&text).with_context(said)
    }

    /// Starts what answers, checked by one request.
    pub fn upstream(&self, work: &Work, placement: &Placement) -> anyhow::Result<(Running, u16)> {
        with_free_ports(|| self.upstream_on_free_port(work, placement))
    }

    fn upstream_on_free_port(
        &self,
        work: &Work,
        placement: &Placement,
    ) -> anyhow::Result<(Running, u16)> {
        let [port] = free_ports()?;
        let mut command = vec![self.starter.launcher.to_string_lossy().into_owned()];
        command.extend(["upstream".to_owned(), "--listen".to_owned(), format!("127.0.0.1:{port}")]);
        if work.echo {
            command.extend(["--protocol".to_owned(), "echo".to_owned()]);
        } else {
            command.extend(["--body-bytes".to_owned(), work.body_bytes.to_string()]);
        }
        command
            .push(format!("--threads={}", placement.upstream.len().clamp(1, UPSTREAM_THREADS_MAX)));
        if work.upstream_closes {
            command.extend(["--close-every".to_owned(), "1".to_owned()]);
        }
        let mut running = self.starter.start(&Order {
            name: "upstream",
            command: &command,
            cpus: &placement.upstream,
            group: None,
            stdout: None,
        })?;
        wait_until_right(&mut running, port, &expected(work), &self.interrupt)?;
        Ok((running, port))
    }
}

/// A load that has begun; it ends with this value.
#[derive(Debug)]
pub struct Begun {
    /// Its process.
    pub running: Running,
    report: PathBuf,
    patience: Duration,
}

/// What a right answer is in a piece of work.
pub fn expected(work: &Work) -> Expected {
    Expected { path: "/".to_owned(), status: 200, body_bytes: work.body_bytes, echo: work.echo }
}

fn arguments(load: &Load) -> Vec<String> {
    let work = load.work;
    let threads = load.placement.client.len().min(work.connections as usize).max(1);
    let mut arguments = vec![
        "load".to_owned(),
        format!("{}://127.0.0.1:{}/", if work.echo { "tcp" } else { "http" }, load.port),
        format!("--connections={}", work.connections),
        format!("--threads={threads}"),
        format!("--expect-bytes={}", work.body_bytes),
    ];
    if !work.echo {
        arguments.push("--expect-status=200".to_owned());
    }
    arguments.push(match load.length {
        Length::Time(time) => format!("--duration={}ms", time.as_millis()),
        Length::Requests(count) => format!("--requests={count}"),
    });
    if let Some(rate) = load.rate_per_s {
        arguments.push(format!("--rate={rate:.2}"));
    }
    for field in fields(work.head_bytes) {
        arguments.push(format!("--header={field}"));
    }
    if work.upload_bytes > 0 {
        if !work.echo {
            arguments.push("--method=POST".to_owned());
        }
        arguments.push(format!("--body-bytes={}", work.upload_bytes));
    }
    if work.new_connection {
        arguments.push("--no-keepalive".to_owned());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scenarios::SCENARIOS;

    #[test]
    fn a_load_says_what_it_expects() {
        let placement =
            Placement { proxy: vec![0], client: vec![1, 2], upstream: vec![3], caveat: None };
        let scenario = SCENARIOS.iter().find(|one| one.name == "http1-upload-64k").expect("known");
        let said = arguments(&Load {
            work: &scenario.work,
            port: 8080,
            length: Length::Requests(7),
            rate_per_s: Some(100.0),
            placement: &placement,
        });
        assert_eq!(
            said.join(" "),
            "load http://127.0.0.1:8080/ --connections=64 --threads=2 --expect-bytes=100 \
             --expect-status=200 --requests=7 --rate=100.00 --method=POST --body-bytes=65536"
        );
        let scenario = SCENARIOS.iter().find(|one| one.name == "tcp-connect").expect("known");
        let said = arguments(&Load {
            work: &scenario.work,
            port: 8080,
            length: Length::Time(Duration::from_secs(1)),
            rate_per_s: None,
            placement: &placement,
        });
        assert_eq!(
            said.join(" "),
            "load tcp://127.0.0.1:8080/ --connections=64 --threads=2 --expect-bytes=64 --duration=1000ms \
             --body-bytes=64 --no-keepalive"
        );
    }
}
