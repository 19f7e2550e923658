//! A process that comes to the end of its memory, of its descriptors, or of its workers' time: who is turned
//! away then, who waits, and that nobody is lost.

use lateen_tests::example::Example;
use lateen_tests::http::{exchange, read_response, read_response_head};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::{Engine, Launch};
use lateen_tests::upstream::{Upstream, ok};
use lateen_tests::wait::{eventually, within};
use rustix::process::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

lateen_tests::on_both_engines!(
    a_process_without_memory_answers_what_matters_and_lets_nobody_in,
    a_process_that_runs_out_of_descriptors_turns_away_in_order_and_recovers,
    a_worker_that_is_kept_busy_loses_nobody_and_drains,
);

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
}

const KEPT: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn active(example: &Example, cause: &str) -> f64 {
    example.proxy.metrics().sum("overload_active", &[("cause", cause)])
}

fn shed(example: &Example, cause: &str, priority: &str) -> f64 {
    let labels = [("cause", cause), ("priority", priority)];
    example.proxy.metrics().sum("overload_shed_total", &labels)
}

fn a_process_without_memory_answers_what_matters_and_lets_nobody_in(engine: Engine) {
    let hangs = Arc::new(AtomicBool::new(false));
    let stuck = hangs.clone();
    let upstream = Upstream::answering(move |_| {
        while stuck.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        ok("done", 4)
    });
    let instances = [upstream.address()];
    let resident = {
        let example = Example::apply(engine, "priorities.yaml", &instances);
        assert_eq!(example.ask(&get("/")).status, 200);
        assert_eq!(active(&example, "memory"), 0.0);
        example.proxy.metrics().sum("process_resident_memory_bytes", &[])
    };
    let memory_max = (resident * 0.8) as u64;
    let example = Example::apply_as(engine, "priorities.yaml", &instances, |launch| {
        launch.with("--memory-max", memory_max)
    });
    assert_eq!(active(&example, "memory"), 2.0);
    let refused = example.ask(&get("/"));
    assert_eq!(refused.status, 503);
    assert_eq!(refused.head.value("retry-after").as_deref(), Some("1"));
    assert_eq!(example.ask(&get("/previews")).status, 503);
    let kept = exchange(&mut Peer::connect(example.listen), &KEPT.replace(" / ", " /orders "));
    assert_eq!(kept.status, 200);
    assert!(kept.head.lists("connection", "close"), "{kept:?}");
    assert_eq!(shed(&example, "memory", "default"), 1.0);
    assert_eq!(shed(&example, "memory", "sheddable"), 1.0);
    example.proxy.await_metric("response_flags_total", &[("flag", "OM")], 2.0);

    // While somebody is served nobody else is let in, but nobody is lost.
    hangs.store(true, Ordering::Release);
    let mut served = Peer::connect(example.listen);
    served.send(get("/orders"));
    let paused = || example.proxy.metrics().sum("overload_accept_paused_total", &[]);
    eventually("the worker lets nobody in", || (paused() >= 1.0).then_some(()));
    let open = [("side", "downstream")];
    let before = example.proxy.metrics().sum("tcp_open_connections", &open);
    let mut waiting = Peer::connect(example.listen);
    waiting.send(get("/orders"));
    let let_in = within(Duration::from_millis(400), || {
        (example.proxy.metrics().sum("tcp_open_connections", &open) > before + 1.0).then_some(())
    });
    assert_eq!(let_in, None, "more than one that was being accepted");
    hangs.store(false, Ordering::Release);
    for mut peer in [served, waiting] {
        assert_eq!(read_response(&mut peer, "GET").status, 200);
    }
    // The admin endpoint, which said all this, was never turned away.
    assert_eq!(example.proxy.ask_admin("/ready").status, 200);
}

fn a_process_that_runs_out_of_descriptors_turns_away_in_order_and_recovers(engine: Engine) {
    const MOST: u32 = 200;
    let upstream = Upstream::fixed("fine");
    let example = Example::apply_as(engine, "priorities.yaml", &[upstream.address()], |launch| {
        launch.limiting_descriptors(MOST)
    });
    let await_level = |level: f64, path: &str| {
        // It is looked once a second, and only if something happens.
        eventually("the level of descriptors", || {
            example.ask(&get(path));
            (active(&example, "descriptors") == level).then_some(())
        });
    };
    let mut clients: Vec<Peer> = Vec::new();
    let mut fill = |percent: u32| {
        eventually("so many descriptors are open", || {
            let open = example.proxy.metrics().sum("process_open_fds", &[]) as u32;
            let wanted = MOST * percent / 100;
            if open >= wanted {
                return Some(());
            }
            for _ in open..wanted {
                let mut client = Peer::connect(example.listen);
                assert!(matches!(exchange(&mut client, KEPT).status, 200 | 503));
                clients.push(client);
            }
            None
        });
    };
    fill(92);
    await_level(1.0, "/orders");
    let before = shed(&example, "descriptors", "sheddable");
    assert_eq!(example.ask(&get("/previews")).status, 503);
    assert_eq!(shed(&example, "descriptors", "sheddable"), before + 1.0);
    assert_eq!(example.ask(&get("/")).status, 200, "only the least important go");
    assert_eq!(shed(&example, "descriptors", "default"), 0.0);
    let kept = exchange(&mut Peer::connect(example.listen), KEPT);
    assert!(kept.head.lists("connection", "close"), "{kept:?}");
    // Those that say nothing stay.
    let mut silent: Vec<Peer> = Vec::new();
    eventually("next to nothing is left", || {
        let open = example.proxy.metrics().sum("process_open_fds", &[]) as u32;
        silent.extend((open..MOST * 97 / 100).map(|_| Peer::connect(example.listen)));
        example.ask(&get("/orders"));
        (active(&example, "descriptors") == 2.0).then_some(())
    });
    assert_eq!(example.ask(&get("/")).status, 503);
    assert_eq!(shed(&example, "descriptors", "default"), 1.0);
    assert_eq!(example.ask(&get("/orders")).status, 200);
    drop((clients, silent));
    await_level(0.0, "/orders");
    assert_eq!(example.ask(&get("/previews")).status, 200);
    assert_eq!(shed(&example, "descriptors", "critical"), 0.0);
}

/// Many clients ask without a pause, whether or not that makes the worker late; all of them are answered, and a
/// drain comes through meanwhile.
fn a_worker_that_is_kept_busy_loses_nobody_and_drains(engine: Engine) {
    const CLIENTS: usize = 200;
    const PIPELINED: usize = 10;
    const ROUNDS: usize = 4;
    let upstream = Upstream::fixed("");
    let mut proxy = Launch::new(engine, &[upstream.address()]).workers(1).start();
    let address = proxy.address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut peer = Peer::connect(address);
                for _ in 0..ROUNDS {
                    peer.send(KEPT.repeat(PIPELINED));
                    for _ in 0..PIPELINED {
                        assert_eq!(read_response(&mut peer, "GET").status, 200);
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("every request is answered");
    }
    let requests = (CLIENTS * PIPELINED * ROUNDS) as f64;
    proxy.await_metric("request_total", &[], requests);
    let metrics = proxy.metrics();
    assert_eq!(metrics.sum("overload_shed_total", &[]), 0.0);
    assert_eq!(metrics.sum("response_flags_total", &[]), 0.0);

    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            thread::spawn(move || {
                let mut peer = Peer::connect(address);
                while peer.try_send(KEPT).is_ok()
                    && let Some((status, head)) = read_response_head(&mut peer)
                {
                    assert_eq!(status, 200);
                    if head.lists("connection", "close") {
                        return true;
                    }
                }
                false
            })
        })
        .collect();
    proxy.await_metric("tcp_open_connections", &[("side", "downstream")], CLIENTS as f64);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.exit_code(), 0, "nobody was cut off");
    let told = clients.into_iter().map(|client| client.join().expect("only good answers"));
    assert!(told.filter(|told| *told).count() > 0);
}
