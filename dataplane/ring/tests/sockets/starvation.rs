//! Fewer buffers than receivers: everybody is served in turn, and nobody spins meanwhile.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;

use lateen_ring::{Config, Stream, mailbox, sleep, spawn};

use crate::support::{a_while, listener, on_all_with, on_each, until};

fn few(buffers_max: u16) -> impl Fn(Config) -> Config {
    // All may be lent: else bytes are copied before there is none left.
    move |config| Config { buffer_bytes: 4_096, buffers_max, leases_max: buffers_max, ..config }
}

async fn echo(stream: Stream) {
    stream.set_multishot(true);
    while let Some(lease) = stream.recv().await.expect("the client behaves") {
        stream.send(lease).await.expect("the client reads");
    }
}

/// As many connections as asked for; the clients are plain sockets.
async fn connections(count: usize) -> (Vec<Stream>, Vec<TcpStream>) {
    let (listener, address) = listener();
    let mut ours = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(TcpStream::connect(address).expect("listening"));
        ours.push(listener.accept().await.expect("connected"));
    }
    (ours, clients)
}

#[test]
fn two_hundred_senders_share_a_handful_of_buffers() {
    for buffers in [2, 4] {
        on_all_with(few(buffers), async || {
            let (streams, mut clients) = connections(200).await;
            for stream in streams {
                spawn(echo(stream));
            }
            a_while().await;
            let clients = thread::spawn(move || {
                for round in 0..5_u8 {
                    for client in &mut clients {
                        client.write_all(&[round; 100]).expect("connected");
                    }
                    for client in &mut clients {
                        let mut answer = [0; 100];
                        client.read_exact(&mut answer).expect("served");
                        assert_eq!(answer, [round; 100]);
                    }
                }
            });
            until("all clients are served", || clients.is_finished()).await;
            clients.join().expect("every answer is right");
        });
    }
}

#[test]
fn bytes_that_nobody_takes_leave_buffers_for_the_others() {
    let half = |config| Config { buffer_bytes: 4_096, buffers_max: 4, leases_max: 2, ..config };
    on_all_with(half, async || {
        let (streams, mut clients) = connections(40).await;
        for (stream, client) in streams.iter().zip(&mut clients).skip(1) {
            stream.set_multishot(true);
            stream.arm_recv();
            client.write_all(&[b'x'; 3 * 4_096]).expect("connected");
        }
        let mut kept = Vec::new();
        for stream in &streams[1..] {
            kept.push(stream.recv().await.expect("no reset").expect("bytes"));
        }
        clients[0].write_all(b"y").expect("connected");
        let lease = streams[0].recv().await.expect("no reset").expect("there is a buffer");
        assert_eq!(&lease[..], b"y");
        assert!(kept.iter().all(|lease| lease.iter().all(|byte| *byte == b'x')));
    });
}

#[test]
fn an_idle_starved_socket_does_not_stand_in_the_way_of_a_busy_one() {
    on_all_with(few(2), async || {
        let (streams, mut clients) = connections(40).await;
        // Lend out all buffers.
        let mut lent = Vec::new();
        for index in 0..2 {
            clients[index].write_all(b"x").expect("connected");
            lent.push(streams[index].recv().await.expect("no reset").expect("bytes"));
        }
        // These starve as soon as they are armed, and will have nothing to receive.
        for stream in &streams[2..39] {
            stream.set_multishot(true);
            stream.arm_recv();
        }
        a_while().await;
        // This one starves behind them, with a byte to receive.
        streams[39].set_multishot(true);
        streams[39].arm_recv();
        clients[39].write_all(b"y").expect("connected");
        a_while().await;
        assert!(!streams[39].has_news(), "there is no buffer");
        lent.clear();
        let lease = streams[39].recv().await.expect("no reset").expect("bytes");
        assert_eq!(&lease[..], b"y");
        drop(lease);
        // All the others are armed again: each gets its byte.
        for index in 2..39 {
            clients[index].write_all(b"z").expect("connected");
            let lease = streams[index].recv().await.expect("no reset").expect("bytes");
            assert_eq!(&lease[..], b"z");
        }
    });
}

#[test]
fn nobody_spins_while_all_buffers_are_lent() {
    on_each(few(4), |runtime| {
        let turns = Rc::new(Cell::new(0_u64));
        let enters = Rc::new(Cell::new(0_u64));
        let (counted, seen, entered) = (turns.clone(), turns.clone(), enters.clone());
        let test = async move {
            let (streams, mut clients) = connections(50).await;
            let mut lent = Vec::new();
            for index in 0..4 {
                clients[index].write_all(b"x").expect("connected");
                lent.push(streams[index].recv().await.expect("no reset").expect("bytes"));
            }
            let served = Rc::new(Cell::new(0));
            for (stream, client) in streams.into_iter().zip(&mut clients).skip(4) {
                client.write_all(b"y").expect("connected");
                let served = served.clone();
                spawn(async move {
                    stream.set_multishot(true);
                    assert_eq!(&stream.recv().await.expect("no reset").expect("bytes")[..], b"y");
                    served.set(served.get() + 1);
                });
            }
            a_while().await;
            let before = (seen.get(), enters.get());
            // Wait for another thread rather than for a timer: no turn has a reason to happen.
            let (sender, mut receiver) = mailbox(1);
            let thread = thread::spawn(move || {
                thread::sleep(std::time::Duration::from_millis(50));
                sender.post(()).expect("empty");
            });
            receiver.receive().await;
            thread.join().expect("it only posts");
            let after = (seen.get() - before.0, enters.get() - before.1);
            assert!(after.0 <= 4 && after.1 <= 4, "{after:?} turns and enters while starved");
            assert_eq!(served.get(), 0);
            lent.clear();
            until("everybody is served", || served.get() == 46).await;
        };
        runtime.block_on_with(test, None, |report| {
            counted.set(counted.get() + 1);
            entered.set(report.enters);
        });
    });
}

#[test]
fn a_starved_receive_can_be_stopped_closed_and_begun_again() {
    on_each(few(2), |runtime| {
        runtime.block_on(async {
            let (mut streams, mut clients) = connections(30).await;
            let mut lent = Vec::new();
            for index in 0..2 {
                clients[index].write_all(b"x").expect("connected");
                lent.push(streams[index].recv().await.expect("no reset").expect("bytes"));
            }
            for _ in 0..20 {
                for (stream, client) in streams[2..].iter().zip(&mut clients[2..]) {
                    stream.set_multishot(true);
                    stream.arm_recv();
                    let _ = client.write_all(b"y");
                }
                a_while().await;
                for stream in &streams[2..] {
                    stream.recv_stop().await;
                    assert!(!stream.has_news(), "there is no buffer");
                }
            }
            // Half of them go while they starve.
            for stream in &streams[2..] {
                stream.arm_recv();
            }
            a_while().await;
            streams.truncate(15);
            lent.clear();
            // Each by a task of its own: bytes that nobody takes would keep both buffers.
            let served = Rc::new(Cell::new(0));
            for stream in streams.drain(2..) {
                let served = served.clone();
                spawn(async move {
                    let mut got = 0;
                    while got < 20 {
                        got += stream.recv().await.expect("no reset").expect("bytes").len();
                    }
                    served.set(served.get() + 1);
                });
            }
            until("the others are served", || served.get() == 13).await;
        });
    });
}

#[test]
fn the_pool_grows_when_it_starves_and_then_starves_no_more() {
    on_each(
        |config| Config { buffers_max: 512, buffer_bytes: 4_096, ..config },
        |runtime| {
            let starved = Rc::new(Cell::new(0));
            let seen = starved.clone();
            let test = async move {
                let (streams, mut clients) = connections(200).await;
                let got = Rc::new(Cell::new(0));
                for stream in streams {
                    let got = got.clone();
                    spawn(async move {
                        stream.set_multishot(true);
                        while let Some(lease) = stream.recv().await.expect("no reset") {
                            got.set(got.get() + lease.len());
                            // Kept over a turn, as a lease is under a send.
                            sleep(std::time::Duration::from_millis(1)).await;
                        }
                    });
                }
                a_while().await;
                let mut after_first = 0;
                for round in 1..=10 {
                    for client in &mut clients {
                        client.write_all(b"z").expect("connected");
                    }
                    until("all bytes arrive", || got.get() == 200 * round).await;
                    a_while().await;
                    if round == 5 {
                        after_first = seen.get();
                    }
                }
                assert_eq!(seen.get(), after_first, "512 buffers are enough for 200 senders");
            };
            runtime.block_on_with(test, None, |report| starved.set(report.starved));
        },
    );
}
