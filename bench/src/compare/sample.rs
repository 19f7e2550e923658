//! One load on one lane, with what the proxy used for it and what else ran.

use super::counters::{Counting, SyscallCounting};
use super::disturbance::{Moment, Spent, busy, elapsed_s, verdict};
use super::generator::{Length, Load};
use super::lanes::{Bench, Lane};
use super::processes::Running;
use super::scenarios::Work;
use super::usage::{Usage, resident_kib};
use crate::load::summary::LoadReport;
use crate::results::{Cost, Sample};
use std::time::Duration;

/// What a proxy puts off (the last lines of its access log) has happened after this; an emulator skips
/// idle time.
const SETTLE: Duration = Duration::from_secs(3);
/// Syscalls are counted in a load that is no longer than this.
const SYSCALLS: Duration = Duration::from_secs(1);

/// What to take a sample of.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Who is asked.
    pub lane: &'a Lane,
    /// What is asked for.
    pub work: &'a Work,
    /// What answers.
    pub upstream: &'a Running,
    /// Requests a second, if not as many as go.
    pub rate_per_s: Option<f64>,
    /// Sets it apart in its row.
    pub point: &'a str,
    /// From 0.
    pub round: u32,
}

impl Bench {
    /// Takes a sample; one that others disturbed is taken again, and all are handed back, the one that
    /// counts last. The sentence is there if that one was disturbed too.
    pub fn samples(&self, target: &Target) -> anyhow::Result<(Vec<Sample>, Option<String>)> {
        let mut samples = Vec::new();
        for attempt in 0..=self.repeats {
            let mut sample = self.sample(target)?;
            let disturbed =
                if self.instruction_clock { None } else { sample.busy.as_ref().and_then(verdict) };
            if sample.discarded.is_some() || disturbed.is_none() {
                samples.push(sample);
                return Ok((samples, None));
            }
            if attempt == self.repeats {
                samples.push(sample);
                return Ok((samples, disturbed));
            }
            sample.discarded = disturbed;
            samples.push(sample);
        }
        Ok((samples, None))
    }

    fn sample(&self, target: &Target) -> anyhow::Result<Sample> {
        let mut sample = self.measure(target, self.length)?;
        if let (Length::Requests(count), false) = (self.length, target.work.new_connection) {
            self.take_off_connecting(target, count, &mut sample)?;
        }
        if self.countable.no_syscalls.is_none() && sample.cost.is_some() {
            self.count_syscalls(target, &mut sample)?;
        }
        target.lane.empty_access_log();
        Ok(sample)
    }

    fn measure(&self, target: &Target, length: Length) -> anyhow::Result<Sample> {
        let lane = target.lane;
        let members = lane.members();
        let upstream = target.upstream.members();
        let counters = self.countable.no_counters.is_none() && !members.is_empty();
        let whole_cpus = self.countable.no_cpu_counters.is_none();
        let cpus: &[u32] = if whole_cpus { &lane.placement.proxy } else { &[] };
        let mut counting = counters.then(|| Counting::of(&members, cpus)).transpose()?;
        let (before, upstream_before) = (Usage::of(&members), Usage::of(&upstream));
        let moment = Moment::now();
        let report = self.load(target, length)?;
        if self.instruction_clock {
            self.interrupt.sleep(SETTLE)?;
        }
        let after = Moment::now();
        let used = Usage::of(&members) - before;
        let upstream_used = Usage::of(&upstream) - upstream_before;
        let counts = counting.as_mut().map(Counting::read).transpose()?;
        let spent = Spent {
            elapsed_s: elapsed_s(&moment, &after),
            client_us: (report.cpu_user_us + report.cpu_system_us) as f64,
            upstream_us: upstream_used
                .cpu_us
                .unwrap_or(upstream_used.user_us + upstream_used.system_us),
        };
        let mut busy = busy(&moment, &after, &lane.placement, spent);
        busy.proxy_cpu_instructions =
            counting.as_mut().map(Counting::read_cpus).transpose()?.flatten();
        let cost = used.cpu_us.filter(|_| !members.is_empty()).map(|cpu_us| Cost {
            user_us: used.user_us,
            system_us: used.system_us,
            cpu_us,
            // A nanosecond of the clock is an instruction.
            instructions: self.instruction_clock.then_some(cpu_us * 1_000.0),
            instructions_user: counts.map(|counts| counts.instructions_user),
            instructions_kernel: counts.map(|counts| counts.instructions_kernel),
            cycles: counts.map(|counts| counts.cycles),
            voluntary_switches: used.voluntary_switches,
            involuntary_switches: used.involuntary_switches,
            resident_kib: resident_kib(&members),
            ..Cost::default()
        });
        Ok(Sample {
            round: target.round,
            discarded: wrong_with(&report),
            point: target.point.to_owned(),
            load: Some(report),
            cost,
            busy: Some(busy),
            ..Sample::default()
        })
    }

    fn load(&self, target: &Target, length: Length) -> anyhow::Result<LoadReport> {
        self.generator.run(&Load {
            work: target.work,
            port: target.lane.port,
            length,
            rate_per_s: target.rate_per_s,
            placement: &target.lane.placement,
        })
    }

    /// A load of a number of requests is short, and connecting would be a part of its cost. A load of one
    /// request for each connection connects as often.
    fn take_off_connecting(
        &self,
        target: &Target,
        count: u64,
        sample: &mut Sample,
    ) -> anyhow::Result<()> {
        let connections = u64::from(target.work.connections);
        let Some(cost) = sample.cost.as_mut().filter(|_| count > 2 * connections) else {
            return Ok(());
        };
        let once = self.measure(target, Length::Requests(connections))?;
        if let (None, Some(once)) = (&once.discarded, &once.cost) {
            *cost = without(cost, once, count as f64 / (count - connections) as f64);
        }
        Ok(())
    }

    fn count_syscalls(&self, target: &Target, sample: &mut Sample) -> anyhow::Result<()> {
        let mut counting = SyscallCounting::of(&target.lane.members())?;
        let report = self.load(target, self.length.at_most(SYSCALLS))?;
        let count = counting.read()?;
        if let (Some(cost), None) = (sample.cost.as_mut(), wrong_with(&report)) {
            cost.syscalls = Some(count);
            cost.syscalls_answers = Some(report.requests as f64);
        }
        Ok(())
    }
}

/// What makes a load's figures worthless.
pub fn wrong_with(report: &LoadReport) -> Option<String> {
    let said = |counts: &std::collections::BTreeMap<String, u64>| {
        let parts: Vec<String> =
            counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        parts.join(", ")
    };
    if !report.errors.is_empty() {
        return Some(format!("requests failed: {}", said(&report.errors)));
    }
    if !report.wrong.is_empty() {
        return Some(format!("answers were wrong: {}", said(&report.wrong)));
    }
    (report.requests == 0).then(|| "there was no answer".to_owned())
}

/// A cost without another, scaled back to the answers of the first.
fn without(cost: &Cost, other: &Cost, scale: f64) -> Cost {
    let less = |first: f64, second: f64| ((first - second) * scale).max(0.0);
    let maybe = |first: Option<f64>, second: Option<f64>| Some(less(first?, second?));
    Cost {
        user_us: less(cost.user_us, other.user_us),
        system_us: less(cost.system_us, other.system_us),
        cpu_us: less(cost.cpu_us, other.cpu_us),
        instructions: maybe(cost.instructions, other.instructions),
        instructions_user: maybe(cost.instructions_user, other.instructions_user),
        instructions_kernel: maybe(cost.instructions_kernel, other.instructions_kernel),
        cycles: maybe(cost.cycles, other.cycles),
        voluntary_switches: less(cost.voluntary_switches, other.voluntary_switches),
        involuntary_switches: less(cost.involuntary_switches, other.involuntary_switches),
        ..cost.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_is_taken_off_in_proportion() {
        // 100 requests of 10 µs each, and 10 connections of 50 µs each.
        let all = Cost { cpu_us: 1_500.0, resident_kib: 7.0, ..Cost::default() };
        let once = Cost { cpu_us: 600.0, resident_kib: 6.0, ..Cost::default() };
        let rest = without(&all, &once, 100.0 / 90.0);
        assert_eq!((rest.cpu_us, rest.resident_kib, rest.cycles), (1_000.0, 7.0, None));
    }
}
