//! Which ratio of Lateen to a peer decides something. Rounds that disagree decide nothing by
//! `statistics`; here are the reasons beyond it: a client that was the limit, rates that differ, cores
//! that were shared.

use crate::measure::{self, Measure};
use crate::numbers;
use crate::results::{Entry, Kind, Results, Row, Sample};
use crate::statistics::{
    self, CLIENT_BUSY_MAX, Figure, PROXY_BUSY_MIN, ROUNDS_MIN, Spread, Verdict,
};

/// The name of Lateen among the peers.
pub const LATEEN: &str = "lateen";
/// Values that a percentile needs beyond it to be more than an anecdote.
pub const BEYOND_MIN: f64 = 10.0;
/// The reason where each peer had a rate of its own.
pub const RATES_DIFFER: &str = "rates differ";
/// Offered rates this close are the same.
const SAME_RATE: f64 = 0.01;

/// A point of a row, as it is judged.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// All peers of it.
    pub row: &'a Row,
    /// One of the row's points.
    pub point: &'a str,
    /// What holds for all of its run.
    pub conditions: Conditions,
}

/// What of a run keeps times from being compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Whether time was a count of instructions.
    pub instruction_clock: bool,
    /// Whether the proxy shared its core with the load.
    pub shared_core: bool,
    /// Whether what connecting cost was taken off the process's figures, and not off its core's.
    pub connecting_apart: bool,
}

impl Conditions {
    /// Of a run.
    pub fn of(results: &Results) -> Conditions {
        let environment = &results.environment;
        let cpus = |part| environment.placement.get(part).map_or(&[][..], Vec::as_slice);
        let mut load = cpus("client").iter().chain(cpus("upstream"));
        Conditions {
            instruction_clock: environment.instruction_clock,
            shared_core: load.any(|cpu| cpus("proxy").contains(cpu)),
            connecting_apart: results
                .command
                .iter()
                .any(|word| word == "--requests" || word.starts_with("--requests=")),
        }
    }
}

/// What a ratio of Lateen to a peer says, from Lateen's side.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// Lateen's figure over the peer's, paired by round; `None` where the peer's is nothing.
    pub ratio: Option<Spread>,
    /// Better and worse are Lateen's.
    pub verdict: Verdict,
    /// Why it is undecided.
    pub reason: Option<String>,
    /// Whether the conditions did not allow a comparison, whatever the rounds say.
    pub objected: bool,
}

impl<'a> Place<'a> {
    /// What counts of an entry here.
    pub fn samples(&self, entry: &'a Entry) -> impl Iterator<Item = &'a Sample> {
        entry.valid(self.point)
    }

    /// What is compared here: no times where time is none, nothing of a core where it is not that of the
    /// process's figures, and a share of the rate only where somebody missed it.
    pub fn compared(&self) -> Vec<Measure> {
        let mut all = measure::compared(self.row);
        let missed = self.row.entries.iter().any(|entry| self.missed(entry) > 0);
        all.retain(|measure| self.has(measure) && (missed || *measure != Measure::Carried));
        all
    }

    /// Whether a measure is what its name says, in this run.
    pub fn has(&self, measure: &Measure) -> bool {
        !(self.conditions.instruction_clock && measure.is_time()
            || self.conditions.connecting_apart && measure.is_of_the_core())
    }

    /// Rounds in which an entry did not carry the rate that was offered.
    pub fn missed(&self, entry: &Entry) -> usize {
        entry.valid(self.point).filter(|sample| measure::misses_rate(sample)).count()
    }

    /// A measure of an entry over the rounds.
    pub fn spread(&self, entry: &Entry, measure: &Measure) -> Option<Spread> {
        Spread::of(entry.valid(self.point).filter_map(|sample| measure.of(self.row, sample)))
    }

    /// Lateen against a peer; `None` where one of them lacks the figure.
    pub fn judge(&self, lateen: &Entry, peer: &Entry, measure: &Measure) -> Option<Judgement> {
        self.spread(lateen, measure).and(self.spread(peer, measure))?;
        let missed = self.missed(lateen) + self.missed(peer) > 0;
        if !self.has(measure) || (*measure == Measure::Carried && !missed) {
            return None;
        }
        if *measure == Measure::Failed {
            return Some(self.judge_by_difference(lateen, peer, measure));
        }
        let ratio =
            statistics::ratio_by(self.point, lateen, peer, measure.lower_is_better(), |sample| {
                measure.of(self.row, sample)
            });
        if let Some(reason) = self.objection(lateen, peer, measure) {
            let undecided = Judgement::undecided(ratio.map(|ratio| ratio.spread), reason);
            return Some(Judgement { objected: true, ..undecided });
        }
        let Some(ratio) = ratio else {
            return Some(self.judge_by_difference(lateen, peer, measure));
        };
        let reason = (ratio.verdict == Verdict::Undecided).then(|| {
            if ratio.spread.count < ROUNDS_MIN {
                format!("only {}", numbers::counted(ratio.spread.count, "round"))
            } else {
                "rounds disagree".to_owned()
            }
        });
        Some(Judgement { reason, ..Judgement::decided(Some(ratio.spread), ratio.verdict) })
    }

    /// Why throughput of an entry says nothing; `None` if it does.
    pub fn client_bound(&self, entry: &Entry) -> Option<String> {
        let busy =
            self.samples(entry).map(|sample| sample.busy.as_ref().map(|busy| busy.proxy_cpu));
        let least = busy.map(|busy| busy.unwrap_or(f64::NAN)).reduce(|one, other| {
            if one.is_nan() || other.is_nan() { f64::NAN } else { one.min(other) }
        })?;
        if least.is_nan() {
            Some("load unknown".to_owned())
        } else {
            (least < PROXY_BUSY_MIN).then(|| "client-bound".to_owned())
        }
    }

    /// Median of the rate that was offered, or else carried.
    pub fn rate(&self, entry: &Entry) -> Option<f64> {
        let rates = self.samples(entry).filter_map(|sample| {
            let load = sample.load.as_ref()?;
            Some(load.rate_per_s.unwrap_or(load.requests_per_s))
        });
        Some(Spread::of(rates)?.median)
    }

    /// What cost is compared by here: instructions where Lateen has them, else CPU time.
    pub fn cost(&self) -> Measure {
        let instructions = Measure::Figure(Figure::Instructions);
        let judged = self.lateen().or(self.row.entries.first());
        if judged.is_some_and(|entry| self.spread(entry, &instructions).is_some()) {
            instructions
        } else {
            Measure::Figure(Figure::CpuUs)
        }
    }

    /// Lateen's entry.
    pub fn lateen(&self) -> Option<&'a Entry> {
        self.row.entries.iter().find(|entry| entry.peer == LATEEN)
    }

    fn objection(&self, lateen: &Entry, peer: &Entry, measure: &Measure) -> Option<String> {
        if !measure.is_count()
            && self.row.caveats.iter().any(|caveat| caveat.contains("not comparable"))
        {
            return Some("not comparable".to_owned());
        }
        let timed = measure.is_latency() || *measure == Measure::Figure(Figure::Throughput);
        if timed && self.conditions.shared_core {
            return Some("one core for all".to_owned());
        }
        if self.row.kind == Kind::Latency {
            let of_latency = || self.latency_objection(lateen, peer, measure);
            let mut objection = self.rates_objection(lateen, peer);
            if *measure != Measure::Carried {
                objection = objection.or_else(|| self.carrying_objection(lateen, peer));
            }
            return objection.or_else(|| measure.is_latency().then(of_latency).flatten());
        }
        if *measure == Measure::Figure(Figure::Throughput) {
            return self.client_bound(lateen).or_else(|| self.client_bound(peer));
        }
        None
    }

    /// At a lower rate batches are smaller and sleeps more frequent: not even cost compares.
    fn rates_objection(&self, lateen: &Entry, peer: &Entry) -> Option<String> {
        let [Some(ours), Some(theirs)] = [lateen, peer].map(|entry| self.rate(entry)) else {
            return Some("rate unknown".to_owned());
        };
        let differ = (ours - theirs).abs() > SAME_RATE * ours.max(theirs);
        differ.then(|| RATES_DIFFER.to_owned())
    }

    fn carrying_objection(&self, lateen: &Entry, peer: &Entry) -> Option<String> {
        let missed = [lateen, peer].into_iter().filter(|entry| self.missed(entry) > 0);
        let names: Vec<&str> = missed.map(|entry| entry.peer.as_str()).collect();
        (!names.is_empty()).then(|| format!("{} did not carry the rate", numbers::listed(&names)))
    }

    /// Why a latency of an entry says nothing about it, whomever it is beside; `None` if it does.
    pub fn unfit(&self, entry: &Entry, measure: &Measure) -> Option<String> {
        let missed = self.carrying_objection(entry, entry).map(|_| "rate not carried".to_owned());
        missed.or_else(|| self.latency_objection(entry, entry, measure))
    }

    fn latency_objection(&self, lateen: &Entry, peer: &Entry, measure: &Measure) -> Option<String> {
        let samples = || self.samples(lateen).chain(self.samples(peer));
        let busiest = samples().try_fold(0.0, |most: f64, sample| {
            sample.busy.as_ref().map(|busy| most.max(busy.client_cpu))
        });
        let Some(busiest) = busiest else { return Some("load unknown".to_owned()) };
        if busiest > CLIENT_BUSY_MAX {
            return Some(format!("client {} busy", numbers::share(busiest)));
        }
        let beyond = match measure {
            Measure::Figure(Figure::P999Us) => 0.001,
            Measure::Figure(Figure::P99Us) => 0.01,
            _ => 0.5,
        };
        let latencies = samples().filter_map(|sample| sample.load.as_ref()?.latency_us.as_ref());
        let fewest = latencies.map(|latency| latency.count as f64).fold(f64::INFINITY, f64::min);
        (fewest * beyond < BEYOND_MIN).then(|| "too few answers".to_owned())
    }

    /// Where the peer has none of it, as of failures mostly, there is a difference and no ratio.
    fn judge_by_difference(&self, lateen: &Entry, peer: &Entry, measure: &Measure) -> Judgement {
        let sign = if measure.lower_is_better() { 1.0 } else { -1.0 };
        let differences: Vec<f64> = self
            .samples(lateen)
            .filter_map(|one| {
                let other = peer.valid(self.point).find(|other| other.round == one.round)?;
                Some(sign * (measure.of(self.row, one)? - measure.of(self.row, other)?))
            })
            .collect();
        let all = |test: fn(&f64) -> bool| differences.iter().all(test);
        if differences.len() < ROUNDS_MIN {
            let rounds = numbers::counted(differences.len(), "round");
            Judgement::undecided(None, format!("only {rounds}"))
        } else if all(|difference| *difference == 0.0) {
            Judgement::undecided(None, "the same")
        } else if all(|difference| *difference < 0.0) {
            Judgement::decided(None, Verdict::Better)
        } else if all(|difference| *difference > 0.0) {
            Judgement::decided(None, Verdict::Worse)
        } else {
            Judgement::undecided(None, "rounds disagree")
        }
    }
}

impl Judgement {
    fn undecided(ratio: Option<Spread>, reason: impl Into<String>) -> Judgement {
        let reason = Some(reason.into());
        Judgement { reason, ..Judgement::decided(ratio, Verdict::Undecided) }
    }

    fn decided(ratio: Option<Spread>, verdict: Verdict) -> Judgement {
        Judgement { ratio, verdict, reason: None, objected: false }
    }

    /// How it is written: the ratio, or nothing.
    pub fn text(&self) -> String {
        self.ratio.map_or_else(|| "–".to_owned(), |ratio| numbers::ratio(ratio.median))
    }

    /// One word.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Undecided => "undecided",
        }
    }

    /// How many times worse (above 1) or better (below) Lateen is; without end where there is no ratio.
    pub fn weight(&self, lower_is_better: bool) -> f64 {
        match self.ratio {
            Some(ratio) if lower_is_better => ratio.median,
            Some(ratio) => 1.0 / ratio.median,
            None => f64::INFINITY,
        }
    }
}

/// No proxy that one would run: the smallest forwarder, or none at all.
pub fn is_reference(peer: &str) -> bool {
    is_floor(peer) || peer == "direct"
}

/// The smallest honest forwarder.
pub fn is_floor(peer: &str) -> bool {
    peer == "floor" || peer.starts_with("floor-") || peer.starts_with("floor_")
}

/// Lateen on another engine or with other settings: no peer of its.
pub fn is_variant(peer: &str) -> bool {
    peer.strip_prefix(LATEEN).is_some_and(|rest| rest.starts_with('-'))
}
