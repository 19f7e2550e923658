//! What the tests share: the variants, the leak check, pairs of sockets, and futures that are dropped
//! half-way.

use std::fs;
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use lateen_ring::{
    Address, Config, EngineChoice, Features, Held, Listener, Runtime, Stream, sleep,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One test at a time: the leak check counts the whole process's descriptors.
static ALONE: Mutex<()> = Mutex::new(());

/// A test that waits longer for something than this hangs.
const HANG: Duration = Duration::from_secs(30);

/// The engines and feature masks that every test runs on.
pub(crate) fn variants() -> Vec<(&'static str, Config)> {
    let masks: [&[&str]; 9] = [
        &[],
        &["-multishot-recv"],
        &["-buffer-ring"],
        &["-defer-taskrun"],
        &["-multishot-accept"],
        &["-waiting-accept"],
        &["-registered-ring"],
        &["-quiet-send"],
        // What Linux 5.15 has.
        &[
            "-defer-taskrun",
            "-no-sqarray",
            "-buffer-ring",
            "-multishot-recv",
            "-multishot-accept",
            "-waiting-accept",
            "-registered-ring",
            "-quiet-send",
        ],
    ];
    let mut variants = vec![("epoll", Config { engine: EngineChoice::Epoll, ..Config::default() })];
    for mask in masks {
        let features = Features::all_but(mask.iter().copied()).expect("known features");
        variants
            .push(("uring", Config { engine: EngineChoice::Uring, features, ..Config::default() }));
    }
    variants
}

/// Runs `test` on every variant and checks that nothing is left behind.
pub(crate) fn on_all(test: impl AsyncFn()) {
    on_all_with(|config| config, test);
}

/// Like [`on_all`], with a changed configuration.
pub(crate) fn on_all_with(change: impl Fn(Config) -> Config, test: impl AsyncFn()) {
    on_each(change, |runtime| runtime.block_on(test()));
}

/// Like [`on_all_with`], for tests that drive the runtime themselves.
pub(crate) fn on_each(change: impl Fn(Config) -> Config, test: impl Fn(&mut Runtime)) {
    alone(|| {
        for (name, config) in variants() {
            let before = descriptors();
            let mut runtime =
                Runtime::new(&change(config)).expect("the engine is available on test machines");
            assert_eq!(runtime.engine_name(), name);
            eprintln!("{name} {}", runtime.features());
            test(&mut runtime);
            settle(&mut runtime, Held::default());
            drop(runtime);
            assert_eq!(descriptors(), before, "descriptors leaked");
        }
    });
}

/// Runs `test` while no other test of this process runs.
pub(crate) fn alone<T>(test: impl FnOnce() -> T) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    test()
}

/// Turns the runtime until it holds `wanted` and no more.
pub(crate) fn settle(runtime: &mut Runtime, wanted: Held) {
    let began = Instant::now();
    while runtime.held() != wanted {
        assert!(began.elapsed() < HANG, "left behind: {:?}, not {wanted:?}", runtime.held());
        runtime.block_on(sleep(Duration::from_millis(1)));
    }
}

/// Lets the worker turn until `done`.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < HANG, "never happened: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Lets the worker turn for a while, so that whatever is under way arrives.
pub(crate) async fn a_while() {
    for _ in 0..5 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Polls `future` and drops it after it was pending for `times` polls.
pub(crate) async fn give_up_after<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut pending = 0;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            pending += 1;
            if pending < times { Poll::Pending } else { Poll::Ready(None) }
        }
    })
    .await
}

/// A free port of the loopback.
pub(crate) fn loopback() -> Address {
    Address::from(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// A listener and the address to reach it at.
pub(crate) fn listener() -> (Listener, SocketAddr) {
    let listener = Listener::bind(&loopback()).expect("a free port");
    let address = listener.local_address().expect("bound").inet().expect("TCP");
    (listener, address)
}

/// A connection: our end, and a blocking socket as the peer.
pub(crate) async fn pair() -> (Stream, TcpStream) {
    let (listener, address) = listener();
    let peer = TcpStream::connect(address).expect("listening");
    (listener.accept().await.expect("the peer has come"), peer)
}

/// Two connected streams of this worker.
pub(crate) async fn streams() -> (Stream, Stream) {
    let (listener, address) = listener();
    let ours = Stream::connect(&address.into()).await.expect("listening");
    (ours, listener.accept().await.expect("connected"))
}

/// Bytes in which every wrong order shows.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Receives until the end.
pub(crate) async fn receive_all(stream: &Stream) -> std::io::Result<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(lease) = stream.recv().await? {
        got.extend_from_slice(&lease);
    }
    Ok(got)
}

/// Makes the coming close of a blocking peer a reset.
pub(crate) fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
}

/// Open descriptors of this process.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("proc is mounted").count()
}

/// Holds every descriptor that this process may still open.
pub(crate) struct NoDescriptorsLeft {
    limit: Rlimit,
    _fillers: Vec<OwnedFd>,
}

impl NoDescriptorsLeft {
    /// Takes all descriptors; dropping the value gives them back.
    pub(crate) fn take() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let low = (descriptors() as u64 + 64).min(limit.maximum.unwrap_or(u64::MAX));
        setrlimit(Resource::Nofile, Rlimit { current: Some(low), maximum: limit.maximum })
            .expect("lowering a soft limit is always allowed");
        let mut fillers = Vec::new();
        while let Ok(filler) = rustix::io::dup(std::io::stderr()) {
            fillers.push(filler);
        }
        Self { limit, _fillers: fillers }
    }
}

impl Drop for NoDescriptorsLeft {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.limit).expect("within the hard limit");
    }
}
