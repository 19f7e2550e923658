//! One seed, from the drawing of its world to the check of what it leaves behind.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lateen_proxy::loaded::{EpochWord, ListenerSlot, Loaded};
use lateen_proxy::observe::metrics::{ConnectionSide, Metrics};
use lateen_proxy::shard::{Seeds, Shard};
use lateen_proxy::worker::{Accepting, drain};
use lateen_ring::sim::{self, FaultCounts};
use lateen_ring::{Address, Held, Listener, Runtime, TaskHandle, spawn};
use lateen_snapshot::model::Epoch;
use lateen_snapshot::validate::patterns::Patterns;

use crate::case::{Case, Form};
use crate::oracle::Oracle;
use crate::topology::{Topology, network};
use crate::wire::Signal;
use crate::{client, upstream};

/// What a seed came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What must not have happened; empty if all is well.
    pub(crate) violations: Vec<String>,
    /// The network's and the clients' history in one number.
    pub(crate) digest: u64,
    pub(crate) cases: usize,
    pub(crate) faults: FaultCounts,
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

/// Runs the world of a seed.
pub(crate) fn run_seed(seed: u64, tracing: bool) -> Report {
    let ran = catch_unwind(AssertUnwindSafe(|| run_in_runtime(seed, tracing)));
    ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![format!("panic: {}", text.unwrap_or_default())];
        Report { violations, ..Report::default() }
    })
}

fn run_in_runtime(seed: u64, tracing: bool) -> Report {
    let mut runtime = Runtime::simulated(network(seed));
    let panics = Cell::new(0);
    let live = live(seed, tracing);
    let mut report = runtime.block_on_with(live, None, |turn| panics.set(turn.task_panics));
    if panics.get() > 0 {
        report.violations.push(format!("{} tasks panicked", panics.get()));
    }
    let held = runtime.held();
    if held != Held::default() {
        report.violations.push(format!("left behind: {held:?}"));
    }
    report
}

async fn live(seed: u64, tracing: bool) -> Report {
    let mut topology = Topology::draw();
    let at = Address::from(topology.listen);
    topology.set_weather(topology.listen);
    let listener = Rc::new(Listener::bind(&at).expect("the virtual address is free"));
    let mut oracle = Oracle::new(topology, tracing);
    let clients = std::mem::take(&mut oracle.topology.clients);
    let oracle = Rc::new(oracle);
    let topology = &oracle.topology;
    oracle.trace(|| format!("{:?} {:?} {:#?}", topology.weather, topology.speech, topology.config));
    oracle.trace(|| format!("{:?} {:?}", topology.upstreams, topology.drain_at));

    // The upstreams, the proxy, the clients.
    let mut serving = Vec::new();
    for traits in topology.upstreams.iter().filter(|traits| traits.listens) {
        let listener = Listener::bind(&Address::from(traits.address));
        let listener = listener.expect("the virtual address is free");
        serving.push(spawn(upstream::run(oracle.clone(), listener, *traits)));
    }
    let metrics = Metrics::new(1);
    let config = Arc::new(topology.config.clone());
    let seeds = Seeds {
        random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        unix_us_at_zero: 0,
        follows_host: false,
    };
    let loaded = Loaded::first(Epoch::default(), topology.snapshot(), &mut Patterns::default());
    let loaded = Arc::new(loaded.expect("the snapshot of flags is whole"));
    let word = Arc::new(EpochWord::new(loaded.serial));
    let shard = Rc::new(Shard::new(config, word, loaded, metrics, 0, None, &seeds));
    let accepting = vec![Accepting::begin(&shard, ListenerSlot(0), listener)];
    let done = Rc::new(Signal::default());
    let client_count = clients.len();
    for sessions in clients {
        let (oracle, done) = (oracle.clone(), done.clone());
        let proxy = oracle.topology.listen;
        spawn(async move {
            client::run(oracle, proxy, sessions).await;
            done.raise(done.value() + 1);
        });
    }

    // They live; a drain may come in between, else at the end.
    let cut = match topology.drain_at {
        Some(after) => {
            lateen_ring::sleep(after).await;
            oracle.count("drains under load");
            oracle.drained_ns.set(Some(lateen_ring::now().as_nanos()));
            let cut = drain(&shard, accepting).await;
            done.at_least(client_count).await;
            cut
        }
        None => {
            done.at_least(client_count).await;
            wait_for_idle(&oracle, &shard).await;
            drain(&shard, accepting).await
        }
    };
    let enough = topology.config.drain.timeout > Duration::from_secs(10);
    if cut > 0 && enough {
        oracle.fail(format!("a drain with time enough cut off {cut}"));
    }
    end(&oracle, &shard, serving).await
}

/// All clients are gone: the proxy has to notice.
async fn wait_for_idle(oracle: &Oracle, shard: &Shard) {
    let until = lateen_ring::now() + oracle.topology.patience();
    while shard.clients.count() > 0 {
        if lateen_ring::now() > until {
            return oracle.fail(format!("{} clients are kept for ever", shard.clients.count()));
        }
        lateen_ring::sleep(Duration::from_millis(50)).await;
    }
}

async fn end(oracle: &Oracle, shard: &Rc<Shard>, serving: Vec<TaskHandle>) -> Report {
    shard.pool.clear(shard);
    for task in serving {
        task.abort();
    }
    // The upstreams see their connections end, and closed sockets leave the network.
    let until = lateen_ring::now() + oracle.topology.patience() * 3;
    while oracle.upstream_live.get() > 0 && lateen_ring::now() < until {
        lateen_ring::sleep(Duration::from_millis(50)).await;
    }
    lateen_ring::sleep(Duration::from_secs(1)).await;
    check_end(oracle, shard);
    Report {
        violations: oracle.violations.take(),
        digest: sim::trace_hash() ^ oracle.digest.get(),
        cases: oracle.cases.iter().filter(|case| case.run.borrow().outcome.is_some()).count(),
        faults: sim::counts(),
        seen: oracle.seen.take(),
    }
}

/// What must be when all is over.
fn check_end(oracle: &Oracle, shard: &Shard) {
    let metrics = shard.metrics();
    let downstream = metrics.connections(ConnectionSide::Downstream);
    let upstream = metrics.connections(ConnectionSide::Upstream);
    let responses = metrics.responses();
    let rules: [(&str, i64, i64); 8] = [
        ("upstream connections left open", oracle.upstream_live.get() as i64, 0),
        ("sockets in the network", sim::sockets_open() as i64, 0),
        ("clients", shard.clients.count() as i64, 0),
        ("pooled connections", shard.pool.count() as i64, 0),
        ("requests in flight", shard.clusters.in_flight() as i64, 0),
        ("tcp_open_connections of clients", downstream.open.value(), 0),
        ("tcp_open_connections of upstreams", upstream.open.value(), 0),
        ("request_total", metrics.request.value() as i64, responses as i64),
    ];
    for (what, is, should) in rules {
        if is != should {
            oracle.fail(format!("{what}: {is}, not {should}; {}", sim::describe()));
        }
    }
    // What an upstream was asked is counted, whatever became of it: also what a drain cut off.
    let was_asked = |case: &&Rc<Case>| {
        !matches!(case.form, Form::Tcp { .. }) && !case.run.borrow().arrivals.is_empty()
    };
    let asked = oracle.cases.iter().filter(was_asked).count() as u64;
    if asked > metrics.request.value() {
        oracle.fail(format!("{asked} requests arrived, {} are counted", metrics.request.value()));
    }
    let read = oracle.responses_read.get();
    if read > responses && oracle.opaque.borrow().is_empty() {
        oracle.fail(format!("clients read {read} responses, the proxy counts {responses}"));
    }
    // Where nothing is lost on the way, both ends count the same bytes.
    if oracle.is_peaceful() {
        let (is, should) = (upstream.write_bytes.value(), oracle.bytes_to_upstreams.get());
        if is != should {
            oracle.fail(format!("tcp_write_bytes_total of upstreams: {is}, not {should}"));
        }
    }
}
