//! How connections end: FINs and resets, as Linux reports them.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;

use lateen_ring::sim::{self, SimConfig};
use lateen_ring::sleep;

use crate::support::{connected, on_seeds, pattern, read_to_end, run};

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
