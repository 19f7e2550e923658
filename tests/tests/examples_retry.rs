//! The examples of `deploy/examples` about tries beyond the first and time limits.

use lateen_tests::example::Example;
use lateen_tests::http::{Request, Response, read_response};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::Engine;
use lateen_tests::upstream::{Upstream, ok, refusing};
use lateen_tests::wait::eventually;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

lateen_tests::on_both_engines!(
    what_one_instance_answers_503_another_answers,
    an_answer_may_ask_for_another_try_by_a_field,
    an_instance_that_is_silent_or_breaks_is_left_for_another,
    an_instance_that_refuses_is_left_for_another_even_by_a_post,
    a_post_is_not_repeated_once_it_was_seen,
    a_body_is_sent_again_whole,
    what_all_instances_fail_is_passed_on_after_the_last_try,
    an_answer_that_asks_for_a_long_wait_is_passed_on,
    a_rule_of_the_gateway_api_retries_and_an_empty_budget_does_not,
    a_deadline_shrinks_and_one_that_has_passed_is_not_forwarded,
    a_slow_request_is_sent_again_and_the_first_answer_counts,
    a_failure_does_not_win_while_another_answer_may_come,
    second_requests_are_no_more_than_were_paid_for,
);

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";

fn unavailable() -> Upstream {
    Upstream::answering(|_| UNAVAILABLE.to_vec())
}

fn addresses<const N: usize>(upstreams: [&Upstream; N]) -> [SocketAddr; N] {
    upstreams.map(Upstream::address)
}

/// `retries.yaml` with a try that lasts as long as a stalled machine needs for one.
fn patient(engine: Engine, instances: &[SocketAddr]) -> Example {
    let example = Example::apply(engine, "retries.yaml", instances);
    example.change("backendRequest: 200ms", "backendRequest: 5s");
    example
}

/// `hedging.yaml` with a second request so late that a good instance has answered by then, stalled or not.
fn hedged(engine: Engine, instances: &[SocketAddr]) -> Example {
    let example = Example::apply(engine, "hedging.yaml", instances);
    example.change("delay: 50ms", "delay: 2s");
    example
}

fn ask(example: &Example, method: &str, lines: &str, body: &str) -> Response {
    example.ask(&format!(
        "{method} /cart HTTP/1.1\r\nHost: a.example\r\n{lines}Connection: close\r\n\r\n{body}"
    ))
}

fn count(example: &Example, reason: &str) -> f64 {
    example.proxy.metrics().sum("retry_total", &[("reason", reason)])
}

fn denied(example: &Example, why: &str) -> f64 {
    example.proxy.metrics().sum("retry_denied_total", &[("why", why)])
}

/// Which try it is, as the upstream was told.
fn attempt(request: &Request) -> Option<String> {
    request.head.value("x-attempt-count")
}

fn what_one_instance_answers_503_another_answers(engine: Engine) {
    let (bad, good) = (unavailable(), Upstream::fixed("good"));
    let example = patient(engine, &addresses([&bad, &good]));
    for _ in 0..10 {
        let forged = "X-Attempt-Count: 7\r\nX-Attempt-Count: 8\r\n";
        assert_eq!(ask(&example, "GET", forged, "").status, 200);
    }
    let at_bad = bad.requests_so_far();
    let at_good = good.requests_so_far();
    assert_eq!(at_good.len(), 10);
    assert!(!at_bad.is_empty(), "turns lead there too");
    assert!(at_bad.iter().all(|request| attempt(request).as_deref() == Some("1")));
    let second = at_good.iter().filter(|it| attempt(it).as_deref() == Some("2")).count();
    assert_eq!(second, at_bad.len());
    assert_eq!(count(&example, "status"), at_bad.len() as f64);
    example.proxy.await_metric("retry_success_total", &[], at_bad.len() as f64);
    example.proxy.await_metric("request_total", &[], 10.0);
    assert_eq!(example.proxy.metrics().sum("retry_total", &[]), at_bad.len() as f64);
    // The connection whose answer nobody wanted carries the next request.
    assert_eq!(bad.connections(), 1);
}

fn an_answer_may_ask_for_another_try_by_a_field(engine: Engine) {
    let warming = Upstream::answering(|_| {
        b"HTTP/1.1 404 Not Found\r\nX-Try-Again: yes\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_vec()
    });
    let ready = Upstream::fixed("ready");
    let example = patient(engine, &addresses([&warming, &ready]));
    for _ in 0..4 {
        assert_eq!(ask(&example, "GET", "", "").status, 200);
    }
    let asked = warming.requests_so_far().len();
    assert!(asked > 0);
    assert_eq!(count(&example, "header"), asked as f64);
}

fn an_instance_that_is_silent_or_breaks_is_left_for_another(engine: Engine) {
    let heard = Arc::new(AtomicUsize::new(0));
    let (hold, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let broken = Upstream::scripted({
        let heard = heard.clone();
        move |mut peer: Peer, _| {
            if peer.read_until(b"\r\n\r\n").is_none() {
                return;
            }
            if heard.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return peer.reset();
            }
            // Silent until the test is over.
            let _ = held.lock().map(|held| held.recv());
        }
    });
    let good = Upstream::fixed("good");
    let example = Example::apply(engine, "retries.yaml", &addresses([&broken, &good]));
    // As far above what a good instance needs on a stalled machine as it is below what a request may take.
    example.change("backendRequest: 200ms", "backendRequest: 2s");
    while heard.load(Ordering::SeqCst) < 2 {
        assert_eq!(ask(&example, "GET", "", "").status, 200);
    }
    assert_eq!(count(&example, "reset"), 1.0);
    assert_eq!(count(&example, "per_try_timeout"), 1.0);
    drop(hold);
}

fn an_instance_that_refuses_is_left_for_another_even_by_a_post(engine: Engine) {
    let (_refusing, refused) = refusing();
    let good = Upstream::fixed("good");
    let example = patient(engine, &[refused, good.address()]);
    for _ in 0..3 {
        assert_eq!(ask(&example, "POST", "Content-Length: 4\r\n", "body").status, 200);
    }
    assert!(good.requests_so_far().iter().all(|request| request.body == b"body"));
}

fn a_post_is_not_repeated_once_it_was_seen(engine: Engine) {
    let (one, two) = (unavailable(), unavailable());
    let example = patient(engine, &addresses([&one, &two]));
    let answer = ask(&example, "POST", "Content-Length: 4\r\n", "body");
    assert_eq!((answer.status, &*answer.body), (503, &b"no"[..]));
    assert_eq!(one.requests_so_far().len() + two.requests_so_far().len(), 1);
    assert_eq!(example.proxy.metrics().sum("retry_total", &[]), 0.0);
    assert_eq!(example.proxy.metrics().sum("retry_denied_total", &[]), 0.0);
}

fn a_body_is_sent_again_whole(engine: Engine) {
    let (one, two) = (unavailable(), unavailable());
    let example = patient(engine, &addresses([&one, &two]));
    let long = "x".repeat(60_000);
    let chunked = format!("{:x}\r\n{long}\r\n4\r\nmore\r\n0\r\n\r\n", long.len());
    let length = format!("Content-Length: {}\r\n", long.len());
    assert_eq!(ask(&example, "PUT", &length, &long).status, 503);
    assert_eq!(ask(&example, "PUT", "Transfer-Encoding: chunked\r\n", &chunked).status, 503);
    let mut seen = one.requests_so_far();
    seen.extend(two.requests_so_far());
    let (by_length, by_chunks): (Vec<_>, Vec<_>) =
        seen.iter().partition(|request| request.head.value("content-length").is_some());
    assert_eq!((by_length.len(), by_chunks.len()), (3, 3));
    assert!(by_length.iter().all(|request| request.body == long.as_bytes()));
    let whole = format!("{long}more");
    assert!(by_chunks.iter().all(|request| request.body == whole.as_bytes()));

    // One that is too long to be kept goes up once, as it comes.
    let too_long = "y".repeat(70_000);
    let length = format!("Content-Length: {}\r\n", too_long.len());
    let chunked = format!("{:x}\r\n{too_long}\r\n0\r\n\r\n", too_long.len());
    for (line, body) in [(&*length, &too_long), ("Transfer-Encoding: chunked\r\n", &chunked)] {
        assert_eq!(ask(&example, "PUT", line, body).status, 503);
        let mut seen = one.requests_so_far();
        seen.extend(two.requests_so_far());
        assert_eq!(seen.len(), 1, "{line}");
        assert_eq!(seen[0].body, too_long.as_bytes(), "{line}");
    }
}

fn what_all_instances_fail_is_passed_on_after_the_last_try(engine: Engine) {
    let (one, two) = (unavailable(), unavailable());
    let example = patient(engine, &addresses([&one, &two]));
    let answer = ask(&example, "GET", "", "");
    assert_eq!((answer.status, &*answer.body), (503, &b"no"[..]));
    assert_eq!(one.requests_so_far().len() + two.requests_so_far().len(), 3);
    assert_eq!(count(&example, "status"), 2.0);
    assert_eq!(denied(&example, "attempts"), 1.0);
    example.proxy.assert_flagged("URX");
    assert_eq!(example.proxy.metrics().sum("retry_success_total", &[]), 0.0);
}

fn an_answer_that_asks_for_a_long_wait_is_passed_on(engine: Engine) {
    let busy = || {
        Upstream::answering(|_| {
            b"HTTP/1.1 503 Busy\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n".to_vec()
        })
    };
    let (one, two) = (busy(), busy());
    let example = patient(engine, &addresses([&one, &two]));
    let answer = ask(&example, "GET", "", "");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.head.value("retry-after").as_deref(), Some("60"));
    assert_eq!(denied(&example, "retry_after"), 1.0);
    assert_eq!(example.proxy.metrics().sum("retry_total", &[]), 0.0);
}

fn a_rule_of_the_gateway_api_retries_and_an_empty_budget_does_not(engine: Engine) {
    let turn = AtomicUsize::new(0);
    let flaky = Upstream::answering(move |_| match turn.fetch_add(1, Ordering::SeqCst) % 3 {
        2 => ok("good", 4),
        0 => UNAVAILABLE.to_vec(),
        _ => b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec(),
    });
    let ledger = unavailable();
    let example = Example::apply(engine, "retries-by-route.yaml", &addresses([&flaky, &ledger]));
    for _ in 0..3 {
        assert_eq!(ask(&example, "GET", "", "").status, 200);
    }
    assert_eq!(count(&example, "status"), 6.0);
    assert_eq!(denied(&example, "budget"), 0.0);

    let request = "GET /ledger HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    for _ in 0..5 {
        assert_eq!(example.ask(request).status, 503);
    }
    assert_eq!(ledger.requests_so_far().len(), 5);
    assert_eq!(denied(&example, "budget"), 5.0);
    assert_eq!(count(&example, "status"), 6.0);
}

fn a_deadline_shrinks_and_one_that_has_passed_is_not_forwarded(engine: Engine) {
    let (one, two) = (Upstream::fixed("good"), Upstream::fixed("good"));
    let example = patient(engine, &addresses([&one, &two]));
    let told = || {
        let mut seen = one.requests_so_far();
        seen.extend(two.requests_so_far());
        assert!(seen.len() < 2);
        seen.pop().map(|request| {
            let values: Vec<&str> = request.head.values("x-request-timeout-ms").collect();
            values.join(", ").parse().unwrap_or(0)
        })
    };
    assert_eq!(ask(&example, "GET", "X-Request-Timeout-Ms: 5000\r\n", "").status, 200);
    let left: u64 = told().expect("it was forwarded");
    assert!((1..=5_000).contains(&left), "{left}");
    // The route's own limit is the shorter one.
    assert_eq!(ask(&example, "GET", "x-request-timeout-ms: 3600000\r\n", "").status, 200);
    let left = told().expect("it was forwarded");
    assert!((1..=10_000).contains(&left), "{left}");

    assert_eq!(ask(&example, "GET", "X-Request-Timeout-Ms: 0\r\n", "").status, 504);
    assert_eq!(told(), None, "nobody waits for it");
    example.proxy.await_metric("response_flags_total", &[("flag", "UT")], 1.0);
    for nonsense in ["soon", "-1", "1.5", ""] {
        let line = format!("X-Request-Timeout-Ms: {nonsense}\r\n");
        assert_eq!(ask(&example, "GET", &line, "").status, 400, "{nonsense:?}");
    }
    let twice = "X-Request-Timeout-Ms: 10\r\nX-Request-Timeout-Ms: 20\r\n";
    assert_eq!(ask(&example, "GET", twice, "").status, 400);
    assert_eq!(told(), None);
}

/// Answers when told to, or when its connection breaks off; counts those that broke off.
struct Stalling {
    upstream: Upstream,
    heard: Arc<AtomicUsize>,
    broken_off: Arc<AtomicUsize>,
}

fn stalling() -> Stalling {
    let (heard, broken_off) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let upstream = Upstream::scripted({
        let (heard, broken_off) = (heard.clone(), broken_off.clone());
        move |mut peer: Peer, _| {
            if peer.read_until(b"\r\n\r\n").is_none() {
                return;
            }
            heard.fetch_add(1, Ordering::SeqCst);
            if peer.read_until(b"never").is_none() {
                broken_off.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    Stalling { upstream, heard, broken_off }
}

fn a_slow_request_is_sent_again_and_the_first_answer_counts(engine: Engine) {
    let (slow, good) = (stalling(), Upstream::fixed("good"));
    let example = hedged(engine, &[slow.upstream.address(), good.address()]);
    for _ in 0..6 {
        assert_eq!(ask(&example, "GET", "", "").status, 200);
    }
    let answered = good.requests_so_far();
    assert_eq!(answered.len(), 6);
    let seconds = answered.iter().filter(|it| attempt(it).as_deref() == Some("2")).count();
    assert!(seconds > 0, "turns lead to the slow one too");
    // The slow one hears, and the proxy counts, a moment after a client has its answer.
    example.proxy.await_metric("hedge_total", &[("end", "won")], seconds as f64);
    example.proxy.await_metric("hedge_total", &[], seconds as f64);
    assert_eq!(example.proxy.metrics().sum("hedge_denied_total", &[]), 0.0);
    eventually("the slow ones are broken off", || {
        let stalled = slow.heard.load(Ordering::SeqCst);
        let broken_off = slow.broken_off.load(Ordering::SeqCst);
        (stalled == seconds && broken_off == seconds).then_some(())
    });
}

fn a_failure_does_not_win_while_another_answer_may_come(engine: Engine) {
    let may_answer = Arc::new(AtomicBool::new(false));
    let (heard, failed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let late = Upstream::answering({
        let (may_answer, heard) = (may_answer.clone(), heard.clone());
        move |_| {
            heard.fetch_add(1, Ordering::SeqCst);
            eventually("leave", || may_answer.load(Ordering::SeqCst).then_some(()));
            ok("late", 4)
        }
    });
    let failing = Upstream::answering({
        let failed = failed.clone();
        move |_| {
            failed.fetch_add(1, Ordering::SeqCst);
            UNAVAILABLE.to_vec()
        }
    });
    let example = hedged(engine, &[late.address(), failing.address()]);
    // In turns: the one that fails at once is asked alone, the other one with it beside.
    let asked: Vec<Peer> = (0..2)
        .map(|_| {
            let mut peer = Peer::connect(example.listen);
            peer.send("GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
            peer
        })
        .collect();
    eventually("the second request's failure", || {
        let seen = (failed.load(Ordering::SeqCst), heard.load(Ordering::SeqCst));
        (seen == (2, 1)).then_some(())
    });
    may_answer.store(true, Ordering::SeqCst);
    let mut statuses: Vec<u16> =
        asked.into_iter().map(|mut peer| read_response(&mut peer, "GET").status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    example.proxy.await_metric("hedge_total", &[("end", "failed")], 1.0);
    example.proxy.await_metric("hedge_total", &[], 1.0);
}

fn second_requests_are_no_more_than_were_paid_for(engine: Engine) {
    let (slow, good) = (stalling(), Upstream::fixed("good"));
    let example = hedged(engine, &[slow.upstream.address(), good.address()]);
    // Ten are paid for at once; half of these are slow, so that the rest has to wait.
    let waiting: Vec<Peer> = (0..40)
        .map(|_| {
            let mut peer = Peer::connect(example.listen);
            peer.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
            peer
        })
        .collect();
    let mut first = 0;
    eventually("each is at an instance", || {
        let at_good = good.requests_so_far();
        first += at_good.iter().filter(|it| attempt(it).as_deref() != Some("2")).count();
        (first + slow.heard.load(Ordering::SeqCst) == waiting.len()).then_some(())
    });
    let slow = slow.heard.load(Ordering::SeqCst) as f64;
    assert!(slow > 10.0, "only {slow} are slow");
    // Counted are those that have ended; a request that was denied one asks no more.
    eventually("all slow ones were judged", || {
        let metrics = example.proxy.metrics();
        let paid = metrics.sum("hedge_total", &[]);
        let denied = metrics.sum("hedge_denied_total", &[]);
        (paid + denied >= slow).then_some(())
    });
    example.proxy.await_metric("hedge_total", &[], 10.0);
    drop(waiting);
}
