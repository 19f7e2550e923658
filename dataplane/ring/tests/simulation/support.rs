//! What the simulation's tests share: runs that leave nothing behind, pairs of streams, bytes.

use std::net::SocketAddr;
use std::time::Duration;

use lateen_ring::sim::{self, SimConfig};
use lateen_ring::{Address, Held, Listener, Runtime, Stream, sleep};

pub(crate) fn address(port: u16) -> Address {
    Address::from(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Runs `world` to its end, checks that nothing is left behind, and returns what it returned.
pub(crate) fn run<T>(config: SimConfig, world: impl AsyncFnOnce() -> T) -> T {
    let mut runtime = Runtime::simulated(config);
    assert_eq!(runtime.engine_name(), "sim");
    let output = runtime.block_on(world());
    // What is closing gets the time to close, and what was abandoned to be reset.
    runtime.block_on(sleep(Duration::from_secs(300)));
    let open = runtime.block_on(async { sim::describe() });
    assert_eq!(runtime.held(), Held::default(), "{open}");
    assert_eq!(runtime.block_on(async { sim::sockets_open() }), 0, "{open}");
    output
}

/// Runs `world` under many seeds, so that both outcomes of each coin are seen.
pub(crate) fn on_seeds(world: impl AsyncFn()) {
    for seed in 0..200 {
        eprintln!("seed {seed}");
        run(SimConfig::new(seed), &world);
    }
}

pub(crate) async fn connected() -> (Stream, Stream) {
    let listener = Listener::bind(&address(0)).expect("a free port");
    let target = listener.local_address().expect("bound");
    let client = Stream::connect(&target).await.expect("listening");
    let server = listener.accept().await.expect("connected");
    (client, server)
}

pub(crate) async fn read_to_end(stream: &Stream) -> std::io::Result<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(lease) = stream.recv().await? {
        got.extend_from_slice(&lease);
    }
    Ok(got)
}

pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 % 251) as u8).collect()
}
