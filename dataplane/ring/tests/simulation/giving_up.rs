//! Waits that are given up: no byte is lost, nothing is left behind.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use lateen_ring::sim::{self, SimConfig};
use lateen_ring::{Deadline, Listener, Stream, sleep, spawn};

use crate::support::{address, connected, on_seeds, pattern, read_to_end, run};

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
fn every_wait_can_be_given_up_at_each_of_its_polls_and_loses_nothing() {
    for polls in (0..30).chain([100, 1_000]) {
        for seed in 0..20 {
            let mut config = SimConfig::new(seed);
            config.latency_us = 1..=20;
            config.jitter_us_max = 5;
            run(config, async || give_up_and_go_on(polls).await);
        }
    }
}

async fn give_up_and_go_on(polls: usize) {
    let listener = Listener::bind(&address(80)).expect("a free port");
    drop(give_up_after(polls, listener.accept()).await);
    drop(give_up_after(polls, Stream::connect(&address(80))).await);
    let client = Stream::connect(&address(80)).await.expect("listening");
    let local = client.local_address().expect("open");
    let server = loop {
        // One whose connect was given up may come first.
        let server = listener.accept().await.expect("no faults");
        if server.peer_address().is_ok_and(|peer| peer == local) {
            break server;
        }
    };
    give_up_after(polls, client.hung_up()).await;
    drop(give_up_after(polls, server.recv()).await);
    let sent = pattern(30_000);
    spawn(async move {
        drop(give_up_after(polls, client.send(pattern(29_999))).await);
        drop(give_up_after(polls, client.flush()).await);
        client.send(pattern(30_000)[29_999..].to_vec()).await.expect("read");
    });
    let mut got = Vec::new();
    for way in 0.. {
        let ended = match way % 4 {
            0 => match give_up_after(polls, server.recv()).await {
                Some(Ok(Some(lease))) => {
                    got.extend_from_slice(&lease);
                    false
                }
                Some(outcome) => outcome.expect("no reset").is_none(),
                None => false,
            },
            1 => {
                server.set_multishot(true);
                give_up_after(polls, server.recv_stop()).await;
                server.recv_stop().await;
                while let Some(lease) = server.try_recv() {
                    got.extend_from_slice(&lease);
                }
                false
            }
            2 => {
                let read = give_up_after(polls, server.read(&mut got, 1_000)).await;
                read.is_some_and(|read| read.expect("no reset") == 0)
            }
            _ => {
                sleep(Duration::from_micros(10)).await;
                false
            }
        };
        if ended {
            break;
        }
    }
    assert_eq!(got, sent);
}

/// Polls `future` `polls` times, turn by turn, and drops it if it is not done by then.
async fn give_up_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}
