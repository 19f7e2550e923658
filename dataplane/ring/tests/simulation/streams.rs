//! What streams and listeners promise on every engine, here on the simulated network.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::sim::SimConfig;
use lateen_ring::{Address, Chunk, Listener, Moved, Spliced, Stream, now, sleep, spawn, splice};

use crate::support::{address, connected, on_seeds, pattern, read_to_end, run};

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
fn connecting_to_nobody_is_refused_after_a_while() {
    on_seeds(async || {
        let began = now();
        let error = Stream::connect(&address(81)).await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(now() > began);
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
