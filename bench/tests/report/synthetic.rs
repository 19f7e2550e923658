//! Results that nobody measured: every kind of row, peers that are missing, samples that do not count,
//! rows where the client was the limit. The same each time.

use lateen_bench::load::summary::{Latency, LoadReport};
use lateen_bench::results::{
    Busy, Change, Cost, Entry, Environment, FORMAT, Kind, Peer, Profile, Results, Row, Sample,
};
use std::collections::BTreeMap;

/// Rounds of each row.
pub(crate) const ROUNDS: u32 = 5;
/// Answers of each load.
pub(crate) const ANSWERS: u64 = 200_000;

/// Name, instructions for a request in thousands, KiB for an idle connection, idle MiB.
pub(crate) const PEERS: &[(&str, f64, f64, f64)] = &[
    ("lateen", 33.1, 0.9, 9.0),
    ("lateen-epoll", 34.6, 1.0, 9.2),
    ("nginx", 49.6, 0.56, 21.0),
    ("nginx-tuned", 48.9, 0.6, 22.0),
    ("haproxy", 58.3, 1.1, 20.0),
    ("haproxy-tuned", 57.1, 1.15, 20.5),
    ("envoy", 177.0, 15.9, 64.0),
    ("floor", 30.8, 0.4, 3.0),
    ("direct", 0.0, 0.0, 0.0),
];

/// Noise that is the same in each run of the tests.
pub(crate) struct Noise(u64);

impl Noise {
    /// Of a seed.
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Between `1 - share` and `1 + share`.
    pub(crate) fn around_one(&mut self, share: f64) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
        1.0 + share * (2.0 * unit - 1.0)
    }
}

/// A whole comparison, with or without hardware counters.
pub(crate) fn results(counters: bool) -> Results {
    let mut noise = Noise::new(7);
    let peers = PEERS.iter().map(|(name, ..)| peer(name)).chain([Peer {
        name: "linkerd2-proxy".into(),
        about: "Linkerd's proxy, as its description sets it".into(),
        not_run: Some("linkerd2-proxy is not installed".into()),
        ..Peer::default()
    }]);
    let mut results = Results {
        format: FORMAT,
        started: "2026-11-20T08:15:00Z".into(),
        took_s: 4_210.0,
        command: [
            "lateen-bench",
            "compare",
            "--runs",
            "5",
            "--peer-bin",
            "envoy=/opt/envoy/bin/envoy",
        ]
        .map(str::to_owned)
        .to_vec(),
        interrupted: false,
        environment: environment(counters),
        peers: peers.collect(),
        rows: vec![
            throughput("http1-keepalive-64", Profile::Bare, &mut noise, 0.99),
            throughput("http1-keepalive-64", Profile::Mesh, &mut noise, 0.71),
            throughput("http1-new-connection", Profile::Bare, &mut noise, 0.985),
            latency("http1-rate", &mut noise),
            memory("memory", &mut noise),
            change("change", &mut noise),
        ],
    };
    // Where Lateen is behind, and a row that compares no time.
    scale_cost(&mut results.rows[2], "lateen", 2.1);
    let mut shared = throughput("http1-workers-2", Profile::Bare, &mut noise, 0.97);
    shared.caveats.push("shared-core, not comparable".into());
    results.rows.push(shared);
    results.rows.push(Row {
        scenario: "http4-quantum".into(),
        profile: Profile::Mesh,
        kind: Kind::Throughput,
        title: "A scenario that no report has heard of.".into(),
        unit: "request".into(),
        units_per_answer: 1.0,
        caveats: Vec::new(),
        entries: vec![Entry {
            peer: "lateen".into(),
            not_run: Some("needs a later proxy".into()),
            samples: Vec::new(),
        }],
    });
    let disturbed = &mut results.rows[0].entries[2].samples[1];
    disturbed.discarded = Some("other programs used 31 % of the machine".into());
    if !counters {
        let samples = results.rows.iter_mut().flat_map(|row| &mut row.entries);
        for cost in samples.flat_map(|entry| &mut entry.samples).filter_map(|one| one.cost.as_mut())
        {
            (cost.instructions_user, cost.instructions_kernel, cost.cycles) = (None, None, None);
        }
    }
    results
}

/// Multiplies what a peer uses in a row.
pub(crate) fn scale_cost(row: &mut Row, peer: &str, factor: f64) {
    for entry in row.entries.iter_mut().filter(|entry| entry.peer == peer) {
        for cost in entry.samples.iter_mut().filter_map(|sample| sample.cost.as_mut()) {
            for part in [&mut cost.user_us, &mut cost.system_us, &mut cost.cpu_us] {
                *part *= factor;
            }
            for part in
                [&mut cost.instructions_user, &mut cost.instructions_kernel, &mut cost.cycles]
            {
                *part = part.map(|value| value * factor);
            }
        }
    }
}

/// A row whose proxies' cores are as busy as given; less than 0.95 is client-bound.
pub(crate) fn throughput(scenario: &str, profile: Profile, noise: &mut Noise, busy: f64) -> Row {
    let mesh = if profile == Profile::Mesh { 1.25 } else { 1.0 };
    let mut row = empty(scenario, profile, Kind::Throughput);
    row.title = "GET of 100 bytes over 64 connections that are kept.".into();
    for (name, kilo, ..) in PEERS {
        let samples = (0..ROUNDS).map(|round| {
            let instructions = kilo * 1e3 * mesh * noise.around_one(0.004);
            let rate = if *name == "direct" { 118_000.0 } else { 2.1e9 * busy / instructions };
            let rate = rate * noise.around_one(0.03);
            let mut sample = sample(round, "as much as it can", rate, 900.0 * kilo / 33.0, noise);
            sample.cost = (*name != "direct").then(|| cost(instructions, noise));
            sample.busy =
                Some(busy_shares(if *name == "direct" { 0.02 } else { busy }, 0.88, &sample));
            sample
        });
        let samples = samples.collect();
        row.entries.push(Entry { peer: (*name).into(), not_run: None, samples });
    }
    row
}

/// A row of six points: the same rate for all, and shares of each peer's own.
pub(crate) fn latency(scenario: &str, noise: &mut Noise) -> Row {
    let mut row = empty(scenario, Profile::Bare, Kind::Latency);
    row.title = "GET of 100 bytes at a fixed rate; latency from when a request was due.".into();
    let points = [("25 % of the slowest", 0.25, false), ("50 % of the slowest", 0.5, false)]
        .into_iter()
        .chain([("75 % of the slowest", 0.75, false), ("50 % of its own", 0.5, true)])
        .chain([("75 % of its own", 0.75, true), ("90 % of its own", 0.9, true)]);
    for (name, kilo, ..) in PEERS {
        let mut entry = Entry { peer: (*name).into(), ..Entry::default() };
        for (point, share, own) in points.clone() {
            if *name == "direct" && own {
                continue;
            }
            let capacity = 2.1e6 / kilo.max(12.0);
            let rate = if own { capacity * share } else { 2.1e6 / 177.0 * share };
            let load = rate / capacity;
            for round in 0..ROUNDS {
                let median = (60.0 + 1.3 * kilo) / (1.0 - 0.8 * load) * noise.around_one(0.05);
                let mut sample = sample(round, point, rate, median, noise);
                let load_report = sample.load.as_mut().expect("a load");
                load_report.open_loop = true;
                load_report.rate_per_s = Some(rate);
                let instructions = kilo * 1e3 * 1.3 * noise.around_one(0.006);
                sample.cost = (*name != "direct").then(|| cost(instructions, noise));
                let client = if share > 0.7 && !own { 0.74 } else { 0.5 };
                sample.busy = Some(busy_shares(load, client, &sample));
                entry.samples.push(sample);
            }
        }
        row.entries.push(entry);
    }
    row
}

/// Idle, with connections, after they left, over cycles.
pub(crate) fn memory(scenario: &str, noise: &mut Noise) -> Row {
    let mut row = empty(scenario, Profile::Bare, Kind::Memory);
    row.title = "Memory idle, with idle connections, and after they left.".into();
    row.unit = "connection".into();
    for (name, _, per_connection, idle) in PEERS.iter().filter(|(name, ..)| *name != "direct") {
        let samples = (0..ROUNDS).map(|round| {
            let idle = idle * 1024.0 * noise.around_one(0.01);
            let held = |count: f64| idle + per_connection * count;
            let mut stages: BTreeMap<String, f64> = BTreeMap::new();
            stages.insert("idle".into(), idle);
            stages.insert("idle_1000".into(), held(1_000.0) * noise.around_one(0.002));
            stages.insert("idle_10000".into(), held(10_000.0) * noise.around_one(0.002));
            stages.insert("left".into(), idle * 1.2);
            (1..=5).for_each(|cycle| {
                stages.insert(format!("cycle_{cycle}"), idle * (1.2 + 0.01 * f64::from(cycle)));
            });
            Sample { round, point: "idle".into(), resident_kib: stages, ..Sample::default() }
        });
        let samples = samples.collect();
        row.entries.push(Entry { peer: (*name).into(), not_run: None, samples });
    }
    row
}

/// Changes of config under load.
pub(crate) fn change(scenario: &str, noise: &mut Noise) -> Row {
    let mut row = empty(scenario, Profile::Mesh, Kind::Change);
    row.title = "A hundred changes of config under load.".into();
    for (index, (name, kilo, _, idle)) in PEERS.iter().take(7).enumerate() {
        let samples = (0..ROUNDS).map(|round| {
            let mut sample = sample(round, "as much as it can", 9_000.0, 1_000.0, noise);
            sample.cost = Some(cost(kilo * 1e3, noise));
            sample.change = Some(Change {
                changes: 100,
                failed: if index > 1 { 3 * index as u64 } else { 0 },
                effect_ms: 4.0 * (index + 1) as f64 * noise.around_one(0.1),
                processes_max: if index > 1 { 12 } else { 1 },
                resident_kib_max: idle * 1024.0 * 2.0 * noise.around_one(0.02),
            });
            sample
        });
        let samples = samples.collect();
        row.entries.push(Entry { peer: (*name).into(), not_run: None, samples });
    }
    row
}

fn empty(scenario: &str, profile: Profile, kind: Kind) -> Row {
    Row {
        scenario: scenario.into(),
        profile,
        kind,
        title: String::new(),
        unit: "request".into(),
        units_per_answer: 1.0,
        caveats: Vec::new(),
        entries: Vec::new(),
    }
}

fn sample(round: u32, point: &str, rate: f64, median_us: f64, noise: &mut Noise) -> Sample {
    let load = LoadReport {
        format: 1,
        url: "http://127.0.0.1:8080/100".into(),
        engine: "io_uring".into(),
        connections: 64,
        threads: 1,
        elapsed_s: ANSWERS as f64 / rate,
        requests: ANSWERS,
        requests_per_s: rate,
        latency_us: Some(distribution(median_us, noise)),
        ..LoadReport::default()
    };
    Sample { round, point: point.into(), load: Some(load), ..Sample::default() }
}

fn distribution(median: f64, noise: &mut Noise) -> Latency {
    let tail = noise.around_one(0.25);
    let at = |nines: f64| median * (1.0 + 0.22 * (nines - 0.3).max(0.0).powf(1.9) * tail);
    let nines = (0..=44).map(|step| f64::from(step) / 10.0);
    let curve = nines.map(|nines| (100.0 * (1.0 - 10_f64.powf(-nines)), at(nines)));
    Latency {
        count: ANSWERS,
        mean: median * 1.1,
        p50: median,
        p90: at(1.0),
        p99: at(2.0),
        p99_9: at(3.0),
        p99_99: at(4.0),
        max: at(5.0),
        curve: curve.collect(),
    }
}

fn cost(instructions: f64, noise: &mut Noise) -> Cost {
    let answers = ANSWERS as f64;
    let cpu_us = instructions / 2_000.0 * answers * noise.around_one(0.04);
    Cost {
        user_us: cpu_us * 0.3,
        system_us: cpu_us * 0.7,
        cpu_us,
        instructions: None,
        instructions_user: Some(instructions * 0.25 * answers),
        instructions_kernel: Some(instructions * 0.75 * answers),
        cycles: Some(instructions * 1.6 * answers * noise.around_one(0.05)),
        syscalls: Some(instructions / 10_000.0 * 40_000.0),
        syscalls_answers: Some(40_000.0),
        voluntary_switches: answers * 0.02 * noise.around_one(0.3),
        involuntary_switches: answers * 0.001,
        resident_kib: 12_000.0 * noise.around_one(0.02),
    }
}

fn busy_shares(proxy: f64, client: f64, sample: &Sample) -> Busy {
    Busy {
        proxy_cpu: proxy,
        client_cpu: client,
        client_process: client * 0.6,
        upstream_process: client * 0.4,
        proxy_cpu_us: sample.cost.as_ref().map_or(0.0, |cost| cost.cpu_us * 1.22),
        proxy_cpu_instructions: None,
        others: 0.01,
        stolen: 0.004,
    }
}

fn peer(name: &str) -> Peer {
    let (base, settings) = name.split_once('-').unwrap_or((name, ""));
    let (version, released, newer) = match base {
        "lateen" => ("lateen-proxy 0.1.0", None, None),
        "nginx" => ("nginx/1.22.1", Some("2022-10-19"), Some("1.28 is the stable version")),
        "haproxy" => {
            ("HAProxy 2.6.12", Some("2023-04-01"), Some("3.0 is the newer long-term version"))
        }
        "envoy" => ("Envoy 1.40.0", Some("2026-10-14"), None),
        _ => ("", None, None),
    };
    let config = "worker_processes 1;\n\naccess_log /tmp/compare.x/access.log;\n".to_owned();
    let configs =
        if base == "nginx" { vec![("bare nginx.conf".to_owned(), config)] } else { vec![] };
    Peer {
        name: name.into(),
        about: format!(
            "{base} with one worker{}{settings}",
            if settings.is_empty() { "" } else { ", " }
        ),
        version: Some(version.to_owned()).filter(|version| !version.is_empty()),
        released: released.map(str::to_owned),
        newer: newer.map(str::to_owned),
        configs: configs.into_iter().collect(),
        not_run: None,
    }
}

fn environment(counters: bool) -> Environment {
    let texts = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    Environment {
        cpu: "AMD EPYC 9B45".into(),
        cpus: vec![0, 1],
        smt: None,
        memory_mib: 7_900,
        kernel: "Linux 6.18.1".into(),
        virtualisation: Some("kvm".into()),
        mitigations: texts(&[
            ("meltdown", "Not affected"),
            (
                "spectre_v2",
                "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional; STIBP: always-on",
            ),
        ]),
        congestion_control: "cubic".into(),
        governor: None,
        instruction_clock: false,
        no_counters: (!counters).then(|| "perf_event_open: no such device".to_owned()),
        no_syscalls: None,
        versions: texts(&[("lateen-bench", "0.1.0"), ("rustc", "1.95.0")]),
        commit: Some("a43710f+".into()),
        load_engine: "io_uring".into(),
        placement: [("proxy", vec![0]), ("client", vec![1]), ("upstream", vec![1])]
            .map(|(part, cpus)| (part.to_owned(), cpus))
            .into(),
        remarks: vec!["The machine was otherwise idle.".into()],
    }
}

/// Puts text that would break a page or a table wherever results hold text of others.
pub(crate) fn make_hostile(results: &mut Results) {
    const NASTY: &str =
        "<script>document.title='broken'</script>|\"'`&\n\n# [x](javascript:1) ]]> /opt/x/y";
    let name = format!("evil{NASTY}");
    for peer in results.peers.iter_mut().filter(|peer| peer.name == "haproxy") {
        peer.name.clone_from(&name);
        peer.about = NASTY.into();
        peer.version = Some(NASTY.into());
        peer.newer = Some(NASTY.into());
        peer.configs.insert(NASTY.into(), format!("</pre>{NASTY}"));
    }
    for row in &mut results.rows {
        row.caveats.push(NASTY.into());
        row.title = NASTY.into();
        row.scenario.push_str(NASTY);
        for entry in row.entries.iter_mut().filter(|entry| entry.peer == "haproxy") {
            entry.peer.clone_from(&name);
            if let Some(sample) = entry.samples.first_mut() {
                sample.discarded = Some(NASTY.into());
            }
        }
        for sample in row.entries.iter_mut().flat_map(|entry| &mut entry.samples) {
            sample.point.push_str(NASTY);
        }
    }
    results.started.push_str(NASTY);
    results.command.push(NASTY.into());
    results.environment.cpu = NASTY.into();
    results.environment.no_counters = Some(NASTY.into());
    results.environment.mitigations.insert(NASTY.into(), NASTY.into());
    results.environment.remarks.push(NASTY.into());
}
