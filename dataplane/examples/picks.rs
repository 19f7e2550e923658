//! Picks endpoints of one cluster in a loop, for an instruction counter to watch.
//!
//! `picks METHOD ENDPOINTS PICKS`: builds what a worker knows of a cluster, says `ready`, waits for a line,
//! and picks. METHOD is one of those in [`BALANCINGS`], or `none`, which does all but picking; behind it
//! may stand `+weights`, `+slow-start`, `+aperture` and `+ejected` (999 of 1,000 endpoints are out of
//! service, and that counts). `perf/picks` runs it: the difference of two runs, divided by the difference of
//! their picks, is the cost of one.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{self, BufRead as _, Write as _};

use anyhow::{Context, bail};
use lateen_proxy::decide::balance::aperture::Seat;
use lateen_proxy::decide::balance::load::{Load, OutOfService};
use lateen_proxy::decide::balance::service::InService;
use lateen_proxy::decide::balance::{Balancer, Choice, Draw, EndpointIndex, Shared};
use lateen_snapshot::model::aperture::Aperture;
use lateen_snapshot::model::slow_start::SlowStart;
use lateen_snapshot::model::{
    Balancing, Cluster, ClusterPolicy, Endpoint, HashKey, Hashing, PeakEwma,
};

const BALANCINGS: [&str; 6] =
    ["least-request", "round-robin", "random", "peak-ewma", "ring-hash", "maglev"];

/// Of four workers this is the second.
const SEAT: Seat = Seat { worker: 1, workers: 4 };
/// Ten endpoints have an aperture too.
const APERTURE: Aperture = Aperture { min_endpoints: 2 };
/// So long that its end never comes.
const SLOW_START: SlowStart =
    SlowStart { window_ms: 3_600_000, aggression_percent: 100, min_percent: 10 };
const EWMA: PeakEwma = PeakEwma { default_rtt_ms: 30, decay_ms: 10_000 };

/// Requests that are under way at all times.
const IN_FLIGHT: usize = 64;
const NS_BETWEEN_PICKS: u64 = 1_000;
const MS: u64 = 1_000_000;

/// An endpoint as a worker has it: in a block of its own.
struct Known(Box<Load>);

impl AsRef<Load> for Known {
    fn as_ref(&self) -> &Load {
        &self.0
    }
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let method = arguments.next().context("name a method")?;
    let endpoints: usize = arguments.next().context("say how many endpoints")?.parse()?;
    let picks: u64 = arguments.next().context("say how many picks")?.parse()?;
    let mut parts = method.split('+');
    let name = parts.next().unwrap_or_default();
    let options: Vec<&str> = parts.collect();
    let known = ["weights", "slow-start", "aperture", "ejected"];
    if let Some(unknown) = options.iter().find(|option| !known.contains(option)) {
        bail!("there is no +{unknown}");
    }
    let has = |option: &str| options.contains(&option);
    let cluster = cluster(name, endpoints, &has)?;
    let endpoints: Vec<Known> = endpoints_of(&cluster, has("ejected"));
    let draw = Draw { random: 1, now_ns: 0, seat: SEAT };
    let shared = Shared::of(&cluster).unwrap_or_default();
    let balancer = Balancer::new(&cluster, shared.clone(), draw);
    // A snapshot with one new endpoint, where they start slowly.
    let stayed: Vec<Option<u32>> =
        (0..endpoints.len() as u32).map(|at| (at > 0).then_some(at)).collect();
    let balancer = match has("slow-start") {
        true => balancer.as_in(&cluster, shared, draw, &stayed),
        false => balancer,
    };
    let service = InService::of(endpoints.iter().map(AsRef::as_ref), 0);
    let worker = Worker { endpoints: &endpoints, service: &service, balancer: &balancer };
    writeln!(io::stdout(), "ready")?;
    io::stdout().flush()?;
    io::stdin().lock().read_line(&mut String::new())?;
    match name {
        "none" => {
            run(&worker, picks, |choice| Some(EndpointIndex::new((choice.random % 10) as usize)))
        }
        _ => run(&worker, picks, |choice| choice.pick_near().or_else(|| choice.pick())),
    }
}

fn cluster(name: &str, count: usize, has: &dyn Fn(&str) -> bool) -> anyhow::Result<Cluster> {
    let hashing = || Box::new(Hashing { keys: vec![HashKey::Path], bound_percent: None });
    let balancing = match name {
        "least-request" | "none" => Balancing::LeastRequest,
        "round-robin" => Balancing::RoundRobin,
        "random" => Balancing::Random,
        "peak-ewma" => Balancing::PeakEwma(EWMA),
        "ring-hash" => Balancing::RingHash(hashing()),
        "maglev" => Balancing::Maglev(hashing()),
        other => bail!("no method is called {other}: {}", BALANCINGS.join(", ")),
    };
    let address = |index: usize| {
        let [_, high, middle, low] = (index as u32).to_be_bytes();
        ([10, high, middle, low], 80).into()
    };
    let policy = ClusterPolicy {
        slow_start: has("slow-start").then(|| Box::new(SLOW_START)),
        aperture: has("aperture").then_some(APERTURE),
        ..ClusterPolicy::default()
    };
    // From 1 to 10, in no order.
    let weights = (0..count as u32).map(|index| 1 + (index * 7) % 10);
    Ok(Cluster {
        name: "c".to_owned(),
        endpoints: (0..count).map(|index| Endpoint { address: address(index) }).collect(),
        weights: if has("weights") { weights.collect() } else { Vec::new() },
        balancing,
        connect_timeout_ms: None,
        policy,
    })
}

fn endpoints_of(cluster: &Cluster, are_ejected: bool) -> Vec<Known> {
    let known = |index: usize| {
        let load = Box::new(Load::default());
        load.set_out_of_service(OutOfService::Ejected, are_ejected && !index.is_multiple_of(1_000));
        Known(load)
    };
    (0..cluster.endpoints.len()).map(known).collect()
}

/// What a worker has of a cluster.
struct Worker<'a> {
    endpoints: &'a [Known],
    service: &'a InService,
    balancer: &'a Balancer,
}

fn run(
    worker: &Worker<'_>,
    picks: u64,
    pick: impl Fn(&Choice<'_, Known>) -> Option<EndpointIndex>,
) -> anyhow::Result<()> {
    let Worker { endpoints, service, balancer } = *worker;
    let mut under_way: VecDeque<EndpointIndex> = VecDeque::with_capacity(IN_FLIGHT + 1);
    let (mut random, mut now_ns) = (1_u64, 0);
    for _ in 0..picks {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let bits = random ^ (random >> 29);
        now_ns += NS_BETWEEN_PICKS;
        let choice = Choice {
            endpoints,
            service,
            balancer,
            now_ns,
            random: bits,
            key: Some(bits.rotate_left(32)),
            tried: &[],
            panics: false,
        };
        let picked = black_box(pick(black_box(&choice))).context("there is none")?;
        endpoints[picked.as_usize()].as_ref().on_start();
        balancer.on_start();
        under_way.push_back(picked);
        if under_way.len() > IN_FLIGHT
            && let Some(done) = under_way.pop_front()
        {
            endpoints[done.as_usize()].as_ref().on_end();
            balancer.on_end(done, || Some((MS, now_ns)));
        }
    }
    Ok(())
}
