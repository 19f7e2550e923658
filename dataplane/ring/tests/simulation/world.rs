//! What a test says to the virtual world, and what the world says of itself.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::sim::{self, FaultCounts, Faults, Scope, SimConfig};
use lateen_ring::{Deadline, Listener, Moved, Runtime, Spliced, Stream, now, sleep, spawn, splice};

use crate::support::{address, connected, run};

const ALWAYS: u32 = 65_536;

#[test]
fn faults_are_for_their_scope_alone() {
    let mut config = SimConfig::new(5);
    config.faults = Faults { connect_refused: ALWAYS, ..Faults::NONE };
    run(config, async || {
        let connecting = Scope::Connecting(address(80));
        sim::set_faults(connecting.clone(), Faults::NONE);
        let listener = Listener::bind(&address(80)).expect("a free port");
        let client = Stream::connect(&address(80)).await.expect("its scope has no faults");
        let server = listener.accept().await.expect("connected");

        sim::set_faults(connecting.clone(), Faults { connect_timeout: ALWAYS, ..Faults::NONE });
        let began = now();
        let error = Stream::connect(&address(80)).await.expect_err("nobody answers");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(now().since(began).as_secs(), 127);

        sim::set_faults(connecting.clone(), Faults { socket_refused: ALWAYS, ..Faults::NONE });
        let error = Stream::connect(&address(80)).await.expect_err("no descriptor");
        assert_eq!(error.raw_os_error(), Some(24));
        sim::set_faults(connecting, Faults::NONE);
        let _queued = Stream::connect(&address(80)).await.expect("no faults any more");

        let _other = Listener::bind(&address(81)).expect("a free port");
        let error = Stream::connect(&address(81)).await.expect_err("faults of all others");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

        sim::set_faults(
            Scope::Accepted(address(82)),
            Faults { accept_error: ALWAYS, ..Faults::NONE },
        );
        let listener = Listener::bind(&address(82)).expect("a free port");
        sim::set_faults(Scope::Others, Faults::NONE);
        let waiting = Stream::connect(&address(82)).await.expect("queued");
        assert!(listener.accept().await.is_err());
        sim::set_faults(Scope::Accepted(address(82)), Faults::NONE);
        let accepted = listener.accept().await.expect("it stayed in the queue");
        drop((waiting, accepted));

        sim::set_stream_faults(&server, Faults { splice_refused: ALWAYS, ..Faults::NONE });
        let end = splice(&server, &client, 5, false, &Moved::default()).await;
        assert!(matches!(end, Spliced::NoPipe), "{end:?}");
        let expected = FaultCounts {
            connects_refused: 1,
            connects_timed_out: 1,
            sockets_refused: 1,
            accept_errors: 1,
            pipes_refused: 1,
            ..FaultCounts::default()
        };
        let counts = sim::counts();
        assert_eq!(FaultCounts { cancel_races: 0, backpressure: 0, ..counts }, expected);
    });
}

#[test]
fn the_journal_tells_of_the_latest_events() {
    let mut config = SimConfig::new(11);
    config.journal_events_max = 3;
    let journal = run(config, async || {
        let (client, server) = connected().await;
        client.send(b"12345".to_vec()).await.expect("room");
        server.recv().await.expect("no reset").expect("bytes");
        sim::journal()
    });
    let events: Vec<_> = journal.lines().filter_map(|line| line.split("  ").last()).collect();
    assert_eq!(events, ["Sent 5", "Arrived 5", "Read 5"], "{journal}");
}

#[test]
fn a_stalled_socket_goes_on_after_its_stall() {
    run(SimConfig::new(7), async || {
        let (client, server) = connected().await;
        client.send(b"x".to_vec()).await.expect("room");
        sim::set_stream_faults(&server, Faults { stall: ALWAYS, ..Faults::NONE });
        let deadline = Deadline::new();
        deadline.set_after(Duration::from_secs(60));
        deadline.guard(server.recv()).await.expect_err("dead");
        sim::set_stream_faults(&server, Faults { stall: ALWAYS / 2, ..Faults::NONE });
        let began = now();
        server.recv().await.expect("no reset").expect("bytes");
        assert!(sim::counts().stalls > 0);
        assert!(now().since(began) > Duration::from_millis(1));
    });
}

#[test]
fn starved_receivers_are_served_when_buffers_return() {
    // With so few buffers all but one lease are copies; and a share of receives finds none at all.
    let mut config = SimConfig::new(3);
    config.buffers_max = 2;
    config.faults = Faults { starve: ALWAYS / 4, ..Faults::NONE };
    run(config, async || {
        let listener = Listener::bind(&address(80)).expect("a free port");
        let served = Rc::new(Cell::new(0));
        for _ in 0..50 {
            let client = Stream::connect(&address(80)).await.expect("listening");
            let server = listener.accept().await.expect("connected");
            let served = served.clone();
            spawn(async move {
                let lease = server.recv().await.expect("no reset").expect("bytes");
                sleep(Duration::from_millis(5)).await;
                drop(lease);
                served.set(served.get() + 1);
            });
            client.send(b"x".to_vec()).await.expect("room");
            spawn(async move { drop(client.recv().await) });
        }
        sleep(Duration::from_secs(10)).await;
        assert_eq!(served.get(), 50);
        assert!(sim::counts().starvations > 0);
    });
}

#[test]
fn days_pass_at_once() {
    run(SimConfig::new(0), async || {
        let began = now();
        assert!(began.as_nanos() > 0);
        sleep(Duration::from_secs(10 * 86_400)).await;
        assert_eq!(now().since(began).as_secs(), 10 * 86_400);
        assert!(lateen_ring::clock() >= now());
    });
}

#[test]
#[should_panic(
    expected = "1 tasks and the main future wait, no timer is set, nothing is on its way"
)]
fn a_deadlock_is_reported() {
    Runtime::simulated(SimConfig::new(0)).block_on(async {
        let (client, server) = connected().await;
        spawn(async move { drop(client.recv().await) });
        let _ = server.recv().await;
    });
}

#[test]
#[should_panic(expected = "called from within a simulated runtime")]
fn the_world_is_not_to_be_had_on_a_real_engine() {
    let mut runtime = Runtime::new(&lateen_ring::Config::default()).expect("an engine");
    runtime.block_on(async { sim::random() });
}

#[test]
fn a_wake_from_outside_is_no_deadlock() {
    let mut runtime = Runtime::simulated(SimConfig::new(0));
    let (sender, mut receiver) = lateen_ring::mailbox(1);
    let got = Rc::new(Cell::new(0));
    let seen = got.clone();
    runtime.block_on(async {
        spawn(async move { seen.set(receiver.receive().await.expect("a letter")) });
        lateen_ring::yield_now().await;
    });
    sender.post(7).expect("room");
    runtime.block_on(sleep(Duration::from_secs(1)));
    assert_eq!(got.get(), 7);
}
