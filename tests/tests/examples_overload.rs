//! The files of `deploy/examples` about overload: more is asked for than can be done.

use lateen_tests::example::Example;
use lateen_tests::http::{Response, exchange, read_response};
use lateen_tests::metrics::Scrape;
use lateen_tests::peer::Peer;
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::eventually;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    at_three_times_what_a_service_can_do_it_does_that_and_in_time,
    orders_wait_previews_do_not_and_others_not_for_long,
);

/// An upstream that works on `slots` requests at a time, each for as long; others wait in their order.
fn with_slots(slots: usize, takes: Duration) -> Upstream {
    let began = Instant::now();
    let free_at: BinaryHeap<Reverse<Instant>> = (0..slots).map(|_| Reverse(began)).collect();
    let free_at = Mutex::new(free_at);
    Upstream::answering(move |_| {
        let ends = {
            let mut free_at = free_at.lock().expect("nobody panics with it");
            let Reverse(begins) = free_at.pop().expect("it has a slot");
            let ends = begins.max(Instant::now()) + takes;
            free_at.push(Reverse(ends));
            ends
        };
        thread::sleep(ends.saturating_duration_since(Instant::now()));
        ok("done", 4)
    })
}

/// What a client saw of a request.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// When it was due, from the beginning.
    due: Duration,
    status: u16,
    /// From when it was due.
    took: Duration,
    retry_after: bool,
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
/// As many as are under way at a time, and some more: each is late for none.
const CLIENTS: usize = 128;

/// Sends so many requests a second for as long, whatever becomes of them.
fn offer(example: &Example, per_s: u32, lasts: Duration) -> Vec<Seen> {
    let next = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (next, seen, listen) = (next.clone(), seen.clone(), example.listen);
            thread::spawn(move || {
                let mut peer = Peer::connect(listen);
                loop {
                    let index = next.fetch_add(1, Ordering::AcqRel) as u32;
                    let due = Duration::from_secs(1) * index / per_s;
                    if due >= lasts {
                        return;
                    }
                    thread::sleep((began + due).saturating_duration_since(Instant::now()));
                    let Response { status, head, .. } = exchange(&mut peer, GET);
                    let took = began.elapsed() - due;
                    let retry_after = head.value("retry-after").as_deref() == Some("1");
                    let one = Seen { due, status, took, retry_after };
                    seen.lock().expect("nobody panics with it").push(one);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is answered");
    }
    Arc::into_inner(seen).expect("all clients have ended").into_inner().expect("likewise")
}

fn shed(metrics: &Scrape, cause: &str, priority: &str) -> f64 {
    metrics.sum("overload_shed_total", &[("cause", cause), ("priority", priority)])
}

fn at_three_times_what_a_service_can_do_it_does_that_and_in_time(engine: Engine) {
    const SLOTS: usize = 8;
    const TAKES: Duration = Duration::from_millis(100);
    const WARM_UP: Duration = Duration::from_secs(10);
    const WINDOWS: u32 = 6;
    const WINDOW: Duration = Duration::from_secs(1);
    let upstream = with_slots(SLOTS, TAKES);
    let example = Example::apply_on(engine, 2, "overload.yaml", &[upstream.address()]);
    let capacity_per_s = SLOTS as u32 * 10;
    let seen = offer(&example, 3 * capacity_per_s, WARM_UP + WINDOWS * WINDOW);

    let refused = seen.iter().filter(|one| one.status == 503).count();
    assert!(seen.iter().all(|one| one.status == 200 || one.status == 503 && one.retry_after));
    // How much and how fast exactly is told by a simulation in the proxy's crate and by `perf/policies`: here
    // the machine may stall, in all windows but one. Without a limit the queue would be seconds long in each.
    let windows = (0..WINDOWS).map(|index| {
        let begins = WARM_UP + index * WINDOW;
        let is_in = |one: &&Seen| one.status == 200 && (begins..begins + WINDOW).contains(&one.due);
        let mut took: Vec<Duration> = seen.iter().filter(is_in).map(|one| one.took).collect();
        took.sort_unstable();
        (took.len(), took.get(took.len() * 9 / 10).copied().unwrap_or(Duration::MAX))
    });
    let windows: Vec<(usize, Duration)> = windows.collect();
    let most = capacity_per_s as usize;
    let is_well = |&(answered, p90): &(usize, Duration)| answered * 2 >= most && p90 <= 10 * TAKES;
    assert!(windows.iter().any(is_well), "answered in a second of {most}, and p90: {windows:?}");

    example.proxy.await_metric("response_flags_total", &[("flag", "OM")], refused as f64);
    let metrics = example.proxy.metrics();
    assert_eq!(shed(&metrics, "concurrency", "default"), refused as f64);
    assert_eq!(metrics.sum("overload_shed_total", &[]), refused as f64);
    assert_eq!(metrics.sum("bulkhead_overflow_total", &[]), 0.0);
    let limit = metrics.sum("overload_concurrency_limit", &[("cluster", "default/reports:80")]);
    assert!((2.0..5.0 * SLOTS as f64).contains(&limit), "a limit of {limit}");
    assert_eq!(
        example.proxy.access_log(seen.len()).iter().filter(|it| it["flags"] == "OM").count(),
        refused
    );
}

fn orders_wait_previews_do_not_and_others_not_for_long(engine: Engine) {
    let hangs = Arc::new(AtomicBool::new(true));
    let at_work = Arc::<AtomicUsize>::default();
    let (stuck, count) = (hangs.clone(), at_work.clone());
    let upstream = Upstream::answering(move |_| {
        count.fetch_add(1, Ordering::AcqRel);
        while stuck.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        ok("done", 4)
    });
    let example = Example::apply_on(engine, 2, "priorities.yaml", &[upstream.address()]);
    // Far longer than it takes two to join the queue, stalled or not.
    example.change("overload: {}", "overload: {queueDelay: {target: 500ms, interval: 2s}}");
    let begin = |path: &str| {
        let mut peer = Peer::connect(example.listen);
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"));
        peer
    };
    let status = |mut peer: Peer| read_response(&mut peer, "GET").status;
    let await_queued = |count: f64| {
        example.proxy.await_metric("bulkhead_queued_total", &[("resource", "requests")], count);
    };
    let first = begin("/");
    eventually("the upstream is at work", || (at_work.load(Ordering::Acquire) == 1).then_some(()));
    // Two wait, and as nobody gets through for longer than the target and the interval, the queue stands.
    let waiting = begin("/");
    let preview = begin("/previews");
    await_queued(2.0);
    assert_eq!(status(waiting), 503);
    assert_eq!(status(preview), 503);
    // An order waits all the same.
    let order = begin("/orders/1");
    await_queued(3.0);
    assert_eq!(status(begin("/previews")), 503, "it does not wait at all");
    assert_eq!(status(begin("/")), 503, "it waits, but not for long");
    await_queued(4.0);
    let metrics = example.proxy.metrics();
    assert_eq!(shed(&metrics, "queue_delay", "critical"), 0.0);
    assert_eq!(shed(&metrics, "queue_delay", "default"), 2.0);
    assert_eq!(shed(&metrics, "queue_delay", "sheddable"), 2.0);
    assert_eq!(metrics.sum("overload_shed_total", &[]), 4.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "OM")], 4.0);
    hangs.store(false, Ordering::Release);
    assert_eq!(status(first), 200);
    assert_eq!(status(order), 200, "it waited for as long as it took");
    // When hardly anybody is turned away any more, one may wait again.
    eventually("previews are made again", || (status(begin("/previews")) == 200).then_some(()));
    assert_eq!(metrics.sum("bulkhead_overflow_total", &[]), 0.0);
}
