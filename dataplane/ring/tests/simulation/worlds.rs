//! Busy simulated worlds with every fault: clients, a relay that copies and splices, and servers
//! that echo. Whatever goes wrong, bytes are exact or the failure shows, everything ends in time,
//! nothing is left behind, and the same seed gives the same run.
//!
//! `LATEEN_SEED=n` runs one seed and prints what happened on the network and what became of
//! each client.
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{Error, ErrorKind, Result};
use std::net::{Shutdown, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::sim::{self, Faults, Scope, SimConfig};
use lateen_ring::{
    Address, Chunk, Deadline, Held, Listener, Moved, Runtime, Spliced, Stream, sleep, spawn, splice,
};

const SEEDS: u64 = 400;
const CLIENTS: usize = 4;
/// One in sixty.
const OFTEN: u32 = 65_536 / 60;

/// What happens once in a connection is as likely as what may happen in each of its steps.
fn faults() -> Faults {
    Faults {
        connect_refused: OFTEN * 3,
        connect_timeout: OFTEN * 3,
        socket_refused: OFTEN * 3,
        accept_error: OFTEN * 4,
        ..Faults::uniform(OFTEN)
    }
}

/// Far beyond all that a world needs, in virtual time.
const PATIENCE: Duration = Duration::from_secs(3_600);

fn address(port: u16) -> Address {
    Address::from(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// What became of a client's exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every byte came back.
    Whole,
    /// A prefix came back, and somebody was told that it is one.
    Failed(ErrorKind),
}

#[derive(Debug, PartialEq, Eq)]
struct World {
    outcomes: Vec<Outcome>,
    trace: u64,
    counts: sim::FaultCounts,
}

/// The proxy's two ends and its listener are flaky; those of clients and servers only slow.
fn run(seed: u64, faults: Faults) -> World {
    let mut config = SimConfig::new(seed);
    // Enough for everybody: a chain of sends that all wait for a reader without a buffer is stuck.
    config.buffers_max = 256;
    config.faults = Faults { reset: 0, starve: 0, ..faults };
    let replayed = std::env::var("LATEEN_SEED").is_ok();
    config.journal_events_max = if replayed { 100_000 } else { 0 };
    let mut runtime = Runtime::simulated(config);
    let outcomes = runtime.block_on(async {
        sim::set_faults(Scope::Accepted(address(80)), faults);
        sim::set_faults(Scope::Connecting(address(90)), faults);
        let servers = spawn(serve(Listener::bind(&address(90)).expect("free")));
        let relay = spawn(relay(Listener::bind(&address(80)).expect("free")));
        let mut clients = Vec::new();
        for index in 0..CLIENTS {
            let outcome = Rc::new(Cell::new(None));
            clients.push(outcome.clone());
            spawn(async move { outcome.set(Some(exchange(index).await)) });
        }
        let ended = || clients.iter().all(|outcome| outcome.get().is_some());
        let deadline = lateen_ring::now() + PATIENCE * 2;
        while !ended() {
            sleep(Duration::from_secs(1)).await;
            // A client whose check failed has panicked, which ends its task alone.
            assert!(lateen_ring::now() < deadline, "seed {seed}: {}", sim::describe());
        }
        servers.abort();
        relay.abort();
        clients.iter().filter_map(|outcome| outcome.get()).collect()
    });
    runtime.block_on(sleep(PATIENCE));
    let (trace, counts, left, open) = runtime.block_on(async {
        (sim::trace_hash(), sim::counts(), sim::describe(), sim::sockets_open())
    });
    if replayed {
        eprintln!("{}", runtime.block_on(async { sim::journal() }));
    }
    assert_eq!((runtime.held(), open), (Held::default(), 0), "seed {seed}: left {left}");
    World { outcomes, trace, counts }
}

/// Accepts for ever; errors pass.
async fn accept(listener: &Listener) -> Stream {
    loop {
        match listener.accept().await {
            Ok(stream) => return stream,
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn serve(listener: Listener) {
    loop {
        let stream = accept(&listener).await;
        stream.set_multishot(sim::random_below(2) == 0);
        spawn(async move {
            while let Ok(Some(lease)) = stream.recv().await {
                if stream.send(lease).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn relay(listener: Listener) {
    loop {
        let downstream = accept(&listener).await;
        spawn(async move {
            let upstream = match Stream::connect(&address(90)).await {
                Ok(upstream) => upstream,
                Err(_) => return downstream.reset(),
            };
            let up = pump(&downstream, &upstream);
            let down = pump(&upstream, &downstream);
            let ended = both(up, down).await;
            if ended.is_err() {
                downstream.reset();
                upstream.reset();
            }
        });
    }
}

/// Moves everything from one stream to the other, in each of the ways that there are.
async fn pump(source: &Stream, sink: &Stream) -> Result<()> {
    loop {
        match sim::random_below(3) {
            0 => {
                let moved = Moved::default();
                let pauses = sim::random_below(2) == 0;
                let limit = 1 + sim::random_below(9_000);
                match splice(source, sink, limit, pauses, &moved).await {
                    Spliced::Done | Spliced::Paused | Spliced::NoPipe => {}
                    Spliced::Ended => break,
                    Spliced::SourceFailed(error) | Spliced::SinkFailed(error) => return Err(error),
                }
            }
            1 => {
                let mut bytes = Vec::new();
                if source.read(&mut bytes, 3_000).await? == 0 {
                    break;
                }
                sink.send(bytes).await?;
            }
            _ => {
                source.set_multishot(sim::random_below(2) == 0);
                let Some(lease) = source.recv().await? else { break };
                sink.send_all([Some(Chunk::from(lease)), None, None]).await?;
                // Sometimes something comes while the receive is armed, and is being stopped.
                source.arm_recv();
                lateen_ring::yield_now().await;
                source.recv_stop().await;
                while let Some(lease) = source.try_recv() {
                    sink.send(lease).await?;
                }
            }
        }
    }
    sink.flush().await?;
    sink.shutdown(Shutdown::Write)
}

/// A client: sends, half-closes, and reads until the end, all at once.
async fn exchange(index: usize) -> Outcome {
    sleep(Duration::from_micros(sim::random_below(3_000))).await;
    let message: Vec<u8> =
        (0..sim::random_below(60_000)).map(|at| (at * 31 % 251) as u8 ^ index as u8).collect();
    let mut got = Vec::new();
    let deadline = Deadline::new();
    deadline.set_after(PATIENCE);
    let result = deadline.guard(converse(&message, &mut got)).await;
    let result = result.expect("no connection outlives its time");
    assert!(message.starts_with(&got), "bytes are in order and unchanged");
    match result {
        Err(error) => Outcome::Failed(error.kind()),
        Ok(()) if got.len() == message.len() => Outcome::Whole,
        Ok(()) => panic!("cut from {} to {} bytes, and nobody was told", message.len(), got.len()),
    }
}

async fn converse(message: &[u8], got: &mut Vec<u8>) -> Result<()> {
    let stream = Stream::connect(&address(80)).await?;
    let sending = async {
        for part in message.chunks(1 + sim::random_below(20_000) as usize) {
            stream.send(part.to_vec()).await?;
        }
        stream.shutdown(Shutdown::Write)
    };
    let receiving = async {
        while let Some(lease) = stream.recv().await? {
            got.extend_from_slice(&lease);
        }
        Ok(())
    };
    both(sending, receiving).await
}

/// Runs both until both are done or one fails.
async fn both(
    one: impl Future<Output = Result<()>>,
    other: impl Future<Output = Result<()>>,
) -> Result<()> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_done, mut other_done) = (false, false);
    poll_fn(|cx| {
        if !one_done && let Poll::Ready(result) = one.as_mut().poll(cx) {
            one_done = true;
            result?;
        }
        if !other_done && let Poll::Ready(result) = other.as_mut().poll(cx) {
            other_done = true;
            result?;
        }
        if one_done && other_done { Poll::Ready(Ok::<(), Error>(())) } else { Poll::Pending }
    })
    .await
}

fn seeds() -> Vec<u64> {
    match std::env::var("LATEEN_SEED") {
        Ok(seed) => vec![seed.parse().expect("LATEEN_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

#[test]
fn without_faults_everything_arrives() {
    for seed in seeds() {
        let world = run(seed, Faults::NONE);
        assert_eq!(world.outcomes, [Outcome::Whole; CLIENTS], "seed {seed}");
    }
}

#[test]
fn with_every_fault_bytes_are_exact_or_the_failure_shows() {
    let (mut whole, mut failed, mut sums) = (0, 0, Vec::new());
    for seed in seeds() {
        eprintln!("seed {seed}");
        let world = run(seed, faults());
        if std::env::var("LATEEN_SEED").is_ok() {
            eprintln!("{world:#?}");
            return;
        }
        whole += world.outcomes.iter().filter(|outcome| **outcome == Outcome::Whole).count();
        failed += world.outcomes.iter().filter(|outcome| **outcome != Outcome::Whole).count();
        for (index, (name, count)) in world.counts.each().into_iter().enumerate() {
            match sums.get_mut(index) {
                None => sums.push((name, count)),
                Some((_, sum)) => *sum += count,
            }
        }
    }
    eprintln!("{whole} whole, {failed} failed, {sums:?}");
    assert!(whole >= 50 && failed >= 50, "{whole} whole, {failed} failed");
    for (name, sum) in sums {
        assert!(sum >= 50, "{name}: {sum}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut traces = Vec::new();
    for seed in 0..20 {
        let first = run(seed, faults());
        assert_eq!(first, run(seed, faults()), "seed {seed}");
        traces.push(first.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 20, "seeds differ");
}
