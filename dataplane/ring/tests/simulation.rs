//! The simulation engine: that it keeps the API's promises, that it is unkind where it should be,
//! and that the same seed gives the same run.
#![expect(clippy::print_stderr, reason = "a failed test shows its seed")]

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::sim::{self, FaultCounts, Faults, Scope, SimConfig};
use lateen_ring::{
    Address, Chunk, Deadline, Held, Listener, Moved, Runtime, Spliced, Stream, now, sleep, spawn,
    splice,
};

const ALWAYS: u32 = 65_536;

fn address(port: u16) -> Address {
    Address::from(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Runs `world` to its end, checks that nothing is left behind, and returns what it returned.
fn run<T>(config: SimConfig, world: impl AsyncFnOnce() -> T) -> T {
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
fn on_seeds(world: impl AsyncFn()) {
    for seed in 0..200 {
        eprintln!("seed {seed}");
        run(SimConfig::new(seed), &world);
    }
}

async fn connected() -> (Stream, Stream) {
    let listener = Listener::bind(&address(0)).expect("a free port");
    let target = listener.local_address().expect("bound");
    let client = Stream::connect(&target).await.expect("listening");
    let server = listener.accept().await.expect("connected");
    (client, server)
}

async fn read_to_end(stream: &Stream) -> std::io::Result<Vec<u8>> {
    let mut got = Vec::new();
    while let Some(lease) = stream.recv().await? {
        got.extend_from_slice(&lease);
    }
    Ok(got)
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index * 31 % 251) as u8).collect()
}

#[test]
fn echoes_what_a_client_sends() {
    on_seeds(async || {
        let listener = Listener::bind(&address(80)).expect("a free port");
        spawn(async move {
            let stream = listener.accept().await.expect("a client comes");
            stream.set_multishot(true);
            while let Some(lease) = stream.recv().await.expect("the client behaves") {
                stream.send(lease).await.expect("the client reads");
            }
        });
        let stream = Stream::connect(&address(80)).await.expect("listening");
        for round in 0..20_usize {
            let message = vec![round as u8; round * 100 + 1];
            stream.send(message.clone()).await.expect("read");
            let mut answer = Vec::new();
            while answer.len() < message.len() {
                let lease = stream.recv().await.expect("no reset").expect("an echo");
                answer.extend_from_slice(&lease);
            }
            assert_eq!(answer, message);
        }
    });
}

#[test]
fn connects_and_sends_several_chunks_in_order() {
    on_seeds(async || {
        let listener = Listener::bind(&address(80)).expect("a free port");
        spawn(async move {
            let stream = listener.accept().await.expect("a client comes");
            let got = read_to_end(&stream).await.expect("no reset");
            assert_eq!(got.len(), 50_009);
            assert_eq!(&got[50_000..], b"lastwords");
            stream.send(b"thanks".to_vec()).await.expect("half open");
        });
        let stream = Stream::connect(&address(80)).await.expect("listening");
        let chunks = [
            Some(Chunk::from(vec![7; 50_000])),
            Some(Chunk::from(&b"last"[..])),
            Some(b"words"[..].to_vec().into()),
        ];
        stream.send_all(chunks).await.expect("read");
        assert_eq!(stream.bytes_sent(), 50_009);
        stream.shutdown(Shutdown::Write).expect("open");
        assert_eq!(read_to_end(&stream).await.expect("no reset"), b"thanks");
    });
}

#[test]
fn splices_between_sockets() {
    on_seeds(async || {
        const BYTES: usize = 100_000;
        let listener = Listener::bind(&address(80)).expect("a free port");
        let moved = Rc::new(Moved::default());
        let seen = moved.clone();
        spawn(async move {
            let source = listener.accept().await.expect("the sender comes");
            let sink = listener.accept().await.expect("the reader comes");
            let end = splice(&source, &sink, BYTES as u64 - 5, false, &seen).await;
            assert!(matches!(end, Spliced::Done), "{end:?}");
            assert_eq!(seen.given(), BYTES as u64 - 5);
            let end = splice(&source, &sink, u64::MAX, false, &seen).await;
            assert!(matches!(end, Spliced::Ended), "{end:?}");
        });
        let sender = Stream::connect(&address(80)).await.expect("listening");
        let reader = Stream::connect(&address(80)).await.expect("listening");
        let sending = spawn(async move {
            sender.send(pattern(BYTES)).await.expect("read");
        });
        assert_eq!(read_to_end(&reader).await.expect("no reset"), pattern(BYTES));
        assert_eq!((moved.taken(), moved.given()), (BYTES as u64, BYTES as u64));
        drop(sending);
    });
}

#[test]
fn reads_in_bulk_after_a_stopped_receive_and_loses_nothing() {
    on_seeds(async || {
        let (client, server) = connected().await;
        spawn(async move { client.send(pattern(40_000)).await.expect("read") });
        server.set_multishot(true);
        let mut got = server.recv().await.expect("no reset").expect("bytes").to_vec();
        server.recv_stop().await;
        while let Some(lease) = server.try_recv() {
            got.extend_from_slice(&lease);
        }
        assert!(got.len() < 40_000, "a receive reads ahead a few leases at the most");
        while server.read(&mut got, 10_000).await.expect("no reset") > 0 {}
        assert_eq!(got, pattern(40_000));
    });
}

#[test]
fn a_multishot_receive_reads_ahead_by_a_bounded_number_of_leases() {
    on_seeds(async || {
        let (client, server) = connected().await;
        let sending = spawn(async move { drop(client.send(pattern(400_000)).await) });
        server.set_multishot(true);
        server.arm_recv();
        sleep(Duration::from_secs(5)).await;
        let mut ahead = 0;
        server.recv_stop().await;
        while let Some(lease) = server.try_recv() {
            ahead += 1;
            assert!(!lease.is_empty());
        }
        assert!((1..=12).contains(&ahead), "{ahead} leases were read ahead");
        sending.abort();
    });
}

#[test]
fn a_dropped_wait_loses_no_byte() {
    on_seeds(async || {
        let (client, server) = connected().await;
        spawn(async move {
            for part in pattern(20_000).chunks(700) {
                client.send(part.to_vec()).await.expect("read");
                sleep(Duration::from_millis(sim::random_below(3))).await;
            }
        });
        let (mut got, deadline) = (Vec::new(), Deadline::new());
        loop {
            deadline.set_after(Duration::from_micros(sim::random_below(3_000)));
            match deadline.guard(server.recv()).await {
                Ok(Ok(Some(lease))) => got.extend_from_slice(&lease),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => panic!("{error}"),
                Err(_) => server.recv_stop().await,
            }
        }
        assert_eq!(got, pattern(20_000));
    });
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    on_seeds(async || {
        let (client, server) = connected().await;
        client.start_send([Some(pattern(100_000).into()), None, None]);
        sleep(Duration::from_secs(10)).await;
        assert!(client.is_sending());
        let stuck_at = client.bytes_sent();
        assert!((512..=32_768).contains(&stuck_at), "{stuck_at}");
        let mut got = Vec::new();
        while server.read(&mut got, 1_000).await.expect("no reset") > 0 {
            if !client.is_sending() {
                client.shutdown(Shutdown::Write).or_else(closed_already).expect("open");
            }
        }
        assert_eq!(got, pattern(100_000));
        client.flush().await.expect("all is sent");
    });
}

fn closed_already(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotConnected { Ok(()) } else { Err(error) }
}

#[test]
fn closing_delivers_what_was_sent_and_then_the_end() {
    on_seeds(async || {
        let (client, server) = connected().await;
        client.send(b"last words".to_vec()).await.expect("room");
        drop(client);
        assert_eq!(read_to_end(&server).await.expect("no reset"), b"last words");
        // The peer is gone: the first write is answered by a reset, which the second one meets.
        server.send(b"anybody?".to_vec()).await.expect("nobody knows yet");
        server.hung_up().await;
        let error = server.send(b"hello?".to_vec()).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_reset_is_reported_to_whoever_meets_it_first() {
    on_seeds(async || {
        let (client, server) = connected().await;
        client.reset();
        let error = server.recv().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = server.send(b"x".to_vec()).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(server.peer_address().is_err());
        assert!(server.shutdown(Shutdown::Write).is_err());

        let (client, server) = connected().await;
        client.reset();
        server.hung_up().await;
        let error = server.send(b"x".to_vec()).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // Linux answers this read with the end of the stream, the error being taken; who reads must
        // not believe that it has everything.
        let error = server.recv().await.expect_err("still a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);

        let (client, server) = connected().await;
        client.reset();
        server.hung_up().await;
        let error = server.send(b"x".to_vec()).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let error = server.read(&mut Vec::new(), 10).await.expect_err("still a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn bytes_before_a_reset_may_be_lost_but_never_out_of_order() {
    let (mut whole, mut cut) = (0, 0);
    for seed in 0..200 {
        run(SimConfig::new(seed), async || {
            let (client, server) = connected().await;
            client.start_send([Some(pattern(5_000).into()), None, None]);
            sleep(Duration::from_micros(sim::random_below(2_000))).await;
            client.reset();
            let mut got = Vec::new();
            let error = loop {
                match server.recv().await {
                    Ok(Some(lease)) => got.extend_from_slice(&lease),
                    Ok(None) => panic!("a reset is not the end of the stream"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(pattern(5_000).starts_with(&got));
            if got.len() == 5_000 { whole += 1 } else { cut += 1 }
        });
    }
    assert!(whole > 10 && cut > 10, "whole {whole}, cut {cut}");
}

#[test]
fn closing_with_unread_bytes_resets() {
    on_seeds(async || {
        let (client, server) = connected().await;
        client.send(b"never read".to_vec()).await.expect("room");
        sleep(Duration::from_millis(10)).await;
        drop(server);
        let error = client.recv().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn half_close_leaves_the_other_direction_open() {
    on_seeds(async || {
        let (client, server) = connected().await;
        client.shutdown(Shutdown::Write).expect("open");
        assert!(server.recv().await.expect("no reset").is_none());
        assert!(server.has_ended());
        server.send(pattern(500)).await.expect("half open");
        drop(server);
        assert_eq!(read_to_end(&client).await.expect("no reset"), pattern(500));
        client.hung_up().await;
        let error = client.send(b"x".to_vec()).await.expect_err("shut down");
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_send_that_is_dropped_stays_on_its_way() {
    on_seeds(async || {
        let (client, server) = connected().await;
        let deadline = Deadline::new();
        deadline.set_after(Duration::from_micros(10));
        let _ = deadline.guard(client.send(pattern(50_000))).await;
        let reading = Rc::new(RefCell::new(Vec::new()));
        let read = reading.clone();
        spawn(async move { *read.borrow_mut() = read_to_end(&server).await.expect("no reset") });
        client.send(b"!".to_vec()).await.expect("read");
        drop(client);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(reading.borrow().len(), 50_001);
        assert_eq!(reading.borrow()[..50_000], pattern(50_000));
    });
}

#[test]
fn connecting_to_nobody_is_refused_after_a_while() {
    on_seeds(async || {
        let began = now();
        let error = Stream::connect(&address(81)).await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(now() > began);
    });
}

#[test]
fn a_dropped_connect_is_closed_on_the_other_side() {
    on_seeds(async || {
        let listener = Listener::bind(&address(80)).expect("a free port");
        let deadline = Deadline::new();
        deadline.set_after(Duration::from_micros(sim::random_below(3_000)));
        let _ = deadline.guard(Stream::connect(&address(80))).await;
        sleep(Duration::from_secs(1)).await;
        for stream in listener.empty().await {
            assert!(stream.recv().await.expect("closed, not reset").is_none());
        }
    });
}

#[test]
fn addresses_are_those_that_were_bound_and_dialled() {
    run(SimConfig::new(1), async || {
        let all = Address::from(SocketAddr::from(([0, 0, 0, 0], 80)));
        let listener = Listener::bind(&all).expect("a free port");
        let target = Address::from(SocketAddr::from(([192, 0, 2, 7], 80)));
        let client = Stream::connect(&target).await.expect("bound to all");
        let server = listener.accept().await.expect("connected");
        assert_eq!(server.local_address().expect("open"), target);
        assert_eq!(client.peer_address().expect("open"), target);
        let local = client.local_address().expect("open");
        assert_eq!(server.peer_address().expect("open"), local);
        assert_ne!(local.inet().expect("TCP").port(), 0);

        for taken in [&all, &target] {
            let error = Listener::bind(taken).expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        }
        drop(listener);
        // As on io_uring, an accept that is armed is cancelled before the socket closes.
        sleep(Duration::from_millis(1)).await;
        let listener = Listener::bind(&target).expect("free again");
        let other = Listener::bind(&address(0)).expect("a port is found");
        assert_ne!(listener.local_address().ok(), other.local_address().ok());

        let path = Address::Unix("/run/lateen.sock".into());
        let listener = Listener::bind(&path).expect("free");
        let client = Stream::connect(&path).await.expect("listening");
        let server = listener.accept().await.expect("connected");
        assert_eq!(client.peer_address().expect("open"), path);
        assert_eq!(server.peer_address().expect("open"), Address::Unix("".into()));
    });
}

#[test]
fn an_emptied_listener_resets_nobody_and_a_dropped_one_everybody() {
    on_seeds(async || {
        let listener = Listener::bind(&address(80)).expect("a free port");
        let mut clients = Vec::new();
        for _ in 0..10 {
            clients.push(Stream::connect(&address(80)).await.expect("queued"));
        }
        let first = listener.accept().await.expect("queued");
        let mut servers = listener.empty().await;
        drop(listener);
        servers.push(first);
        assert_eq!(servers.len(), 10);
        for server in servers {
            server.send(b"hello".to_vec()).await.expect("open");
        }
        for client in clients {
            assert_eq!(read_to_end(&client).await.expect("no reset"), b"hello");
        }

        let listener = Listener::bind(&address(80)).expect("free again");
        let client = Stream::connect(&address(80)).await.expect("queued");
        drop(listener);
        let error = client.recv().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

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
    let mut config = SimConfig::new(3);
    config.buffers_max = 2;
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
