//! Every wait is given up at its n-th poll, for all n, and the stream goes on: no byte is lost or
//! repeated, and nothing stays lent or open.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use lateen_ring::{Config, Deadline, Elapsed, Moved, Spliced, Stream, spawn, splice, yield_now};

use crate::support::{
    a_while, give_up_after, listener, on_all, on_all_with, pair, pattern, receive_all, streams,
    until,
};

/// Writes `bytes` in pieces of odd sizes, with breaks in between.
fn write_in_pieces(mut peer: TcpStream, bytes: Vec<u8>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut rest = &bytes[..];
        let mut size = 1;
        while !rest.is_empty() {
            let piece = size.min(rest.len());
            peer.write_all(&rest[..piece]).expect("read to the end");
            rest = &rest[piece..];
            size = size * 7 % 9_973 + 1;
            thread::yield_now();
        }
    })
}

#[test]
fn a_receive_given_up_at_any_poll_loses_no_byte() {
    on_all(async || {
        for multishot in [false, true] {
            for times in 1..=3 {
                let (stream, peer) = pair().await;
                stream.set_multishot(multishot);
                let sent = pattern(300_000);
                let writer = write_in_pieces(peer, sent.clone());
                let mut got = Vec::new();
                loop {
                    match give_up_after(times, stream.recv()).await {
                        Some(Ok(Some(lease))) => got.extend_from_slice(&lease),
                        Some(end) => break assert!(end.expect("no reset").is_none()),
                        None => yield_now().await,
                    }
                }
                assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
                writer.join().expect("it only writes");
            }
        }
    });
}

#[test]
fn a_direct_read_given_up_at_any_poll_loses_no_byte() {
    on_all(async || {
        for times in 1..=3 {
            let (stream, peer) = pair().await;
            let sent = pattern(300_000);
            let writer = write_in_pieces(peer, sent.clone());
            let mut got = Vec::new();
            loop {
                let read = give_up_after(times, stream.read(&mut got, 5_000)).await;
                match read.map(|count| count.expect("no reset")) {
                    Some(0) => break,
                    Some(_) => {}
                    None => yield_now().await,
                }
            }
            assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
            writer.join().expect("it only writes");
        }
    });
}

#[test]
fn stopping_while_bytes_arrive_keeps_all_of_them_in_order() {
    on_all(async || {
        for multishot in [false, true] {
            // Stops that are waited for, and stops that are given up at once.
            for patient in [true, false] {
                let (stream, peer) = pair().await;
                stream.set_multishot(multishot);
                let sent = pattern(400_000);
                let writer = write_in_pieces(peer, sent.clone());
                let mut got = Vec::new();
                let mut round = 0;
                loop {
                    round += 1;
                    if patient || round % 3 == 0 {
                        stream.recv_stop().await;
                        // Completed although it was cancelled: it comes first, the socket's after.
                        while let Some(lease) = stream.try_recv() {
                            got.extend_from_slice(&lease);
                        }
                        let direct = give_up_after(1, stream.read(&mut got, 3_000)).await;
                        if let Some(0) = direct.map(|count| count.expect("no reset")) {
                            break;
                        }
                    } else {
                        let _ = give_up_after(1, stream.recv_stop()).await;
                    }
                    match give_up_after(1 + round % 2, stream.recv()).await {
                        Some(Ok(Some(lease))) => got.extend_from_slice(&lease),
                        Some(end) => break assert!(end.expect("no reset").is_none()),
                        None => {}
                    }
                }
                assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
                writer.join().expect("it only writes");
            }
        }
    });
}

#[test]
fn a_stopped_receive_leaves_the_body_in_the_socket() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        assert!(give_up_after(1, stream.recv()).await.is_none());
        let sent = pattern(1_000_000);
        let bytes = sent.clone();
        let writer = thread::spawn(move || peer.write_all(&bytes).expect("read to the end"));
        a_while().await;
        stream.recv_stop().await;
        let mut got = Vec::new();
        while let Some(lease) = stream.try_recv() {
            got.extend_from_slice(&lease);
        }
        // Read ahead: one receive, however much had arrived and however long it was left alone.
        assert!(got.len() <= Config::default().buffer_bytes, "{} bytes read ahead", got.len());
        assert!(got.len() < sent.len());
        let (sink, reader) = streams().await;
        let head = got.len() as u64;
        spawn(async move {
            let moved = Moved::default();
            let end = splice(&stream, &sink, 1_000_000 - head, false, &moved).await;
            assert!(matches!(end, Spliced::Done), "{end:?}");
        });
        got.extend(receive_all(&reader).await.expect("a clean end"));
        assert!(got == sent);
        writer.join().expect("it only writes");
    });
}

#[test]
fn a_reader_that_lags_bounds_what_a_multishot_receive_reads_ahead() {
    on_all(async || {
        let (stream, peer) = pair().await;
        stream.set_multishot(true);
        stream.arm_recv();
        let sent = pattern(8_000_000);
        let writer = write_in_pieces(peer, sent.clone());
        a_while().await;
        stream.recv_stop().await;
        let mut got = Vec::new();
        let mut leases = 0;
        while let Some(lease) = stream.try_recv() {
            leases += 1;
            got.extend_from_slice(&lease);
        }
        // One multishot receive may deliver several before a stop acts, never without end.
        assert!(leases <= 200, "{leases} leases read ahead");
        got.extend(receive_all(&stream).await.expect("a clean end"));
        assert!(got == sent);
        writer.join().expect("it only writes");
    });
}

#[test]
fn a_send_given_up_at_any_poll_still_arrives_whole_and_in_order() {
    on_all(async || {
        for times in 1..=3 {
            let (stream, mut peer) = pair().await;
            let piece = pattern(150_000);
            let reader = thread::spawn(move || {
                let mut got = Vec::new();
                let mut room = [0; 5_000];
                loop {
                    match peer.read(&mut room).expect("no reset") {
                        0 => return got,
                        count => got.extend_from_slice(&room[..count]),
                    }
                    thread::yield_now();
                }
            });
            let mut expected = Vec::new();
            for _ in 0..30 {
                // Begun when nothing else is under way, it is sent whatever becomes of its future.
                let _ = give_up_after(times, stream.send(piece.clone())).await;
                expected.extend_from_slice(&piece);
                let mut polls = 1;
                while stream.is_sending() && give_up_after(polls, stream.flush()).await.is_none() {
                    polls += 1;
                    yield_now().await;
                }
            }
            assert_eq!(stream.bytes_sent(), expected.len() as u64);
            drop(stream);
            until("the reader is done", || reader.is_finished()).await;
            assert!(reader.join().expect("it only reads") == expected);
        }
    });
}

#[test]
fn a_send_behind_another_is_whole_or_not_at_all() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        stream.start_send([Some(vec![1; 12_000_000].into()), None, None]);
        assert!(give_up_after(1, stream.flush()).await.is_none());
        // Not begun, since the first is under way: given up, it leaves no byte.
        assert!(give_up_after(1, stream.send(vec![2; 100])).await.is_none());
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            peer.read_to_end(&mut got).expect("a clean end");
            got
        });
        stream.send(vec![3; 100]).await.expect("read");
        drop(stream);
        until("the reader is done", || reader.is_finished()).await;
        let got = reader.join().expect("it only reads");
        assert_eq!(got.len(), 12_000_100);
        assert!(got[..12_000_000].iter().all(|&byte| byte == 1));
        assert!(got[12_000_000..].iter().all(|&byte| byte == 3));
    });
}

#[test]
fn a_connect_given_up_at_any_poll_leaves_nothing() {
    on_all(async || {
        let (listener, address) = listener();
        for times in 1..=3 {
            for _ in 0..20 {
                if let Some(stream) = give_up_after(times, Stream::connect(&address.into())).await {
                    drop(stream.expect("listening"));
                }
            }
        }
        // A listener whose queue is full answers nothing: these stay under way until given up.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("descriptors are left");
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        socket.listen(1).expect("bound");
        let full = socket.local_addr().expect("bound").as_socket().expect("TCP");
        let mut pending = 0;
        let mut queued = Vec::new();
        for _ in 0..6 {
            let deadline = Deadline::new();
            deadline.set_after(Duration::from_millis(20));
            match deadline.guard(Stream::connect(&full.into())).await {
                Ok(connected) => queued.push(connected.expect("listening")),
                Err(Elapsed) => pending += 1,
            }
        }
        assert!(pending > 0, "the queue is longer than asked for");
        drop(listener.empty().await);
    });
}

#[test]
fn an_accept_given_up_at_any_poll_loses_no_connection() {
    on_all(async || {
        let (listener, address) = listener();
        for times in 1..=3 {
            let clients = thread::spawn(move || {
                let open = |index: u8| {
                    let mut client = TcpStream::connect(address).expect("listening");
                    client.write_all(&[index]).expect("connected");
                    client
                };
                (0..60).map(open).collect::<Vec<_>>()
            });
            let mut seen = [false; 60];
            while seen.contains(&false) {
                match give_up_after(times, listener.accept()).await {
                    Some(stream) => {
                        let stream = stream.expect("descriptors are left");
                        let lease = stream.recv().await.expect("no reset").expect("one byte");
                        seen[usize::from(lease[0])] = true;
                    }
                    None => yield_now().await,
                }
            }
            drop(clients.join().expect("they only connect"));
        }
    });
}

#[test]
fn a_splice_given_up_while_it_waits_for_its_source_loses_nothing() {
    on_all(async || {
        for times in 1..=3 {
            let (source, mut peer) = pair().await;
            let (sink, reader) = streams().await;
            let moved = Moved::default();
            let mut got = Vec::new();
            let mut expected = Vec::new();
            for round in 0..20_u8 {
                assert!(give_up_after(1, splice(&source, &sink, 9, false, &moved)).await.is_none());
                peer.write_all(&[round; 9]).expect("connected");
                expected.extend_from_slice(&[round; 9]);
                loop {
                    let rest = 9 * (u64::from(round) + 1) - moved.given();
                    match give_up_after(times, splice(&source, &sink, rest, false, &moved)).await {
                        Some(end) => break assert!(matches!(end, Spliced::Done), "{end:?}"),
                        None => yield_now().await,
                    }
                }
                while got.len() < expected.len() {
                    let lease = reader.recv().await.expect("no reset").expect("bytes");
                    got.extend_from_slice(&lease);
                }
                assert_eq!(got, expected);
            }
        }
    });
}

#[test]
fn a_splice_given_up_with_bytes_in_its_pipe_taints_no_other() {
    on_all(async || {
        for _ in 0..3 {
            let (source, peer) = pair().await;
            // Nobody reads from this sink: bytes stay in the pipe.
            let (sink, _reader) = streams().await;
            let writer = thread::spawn(move || {
                let mut peer = peer;
                // Ends by a reset when the streams are closed.
                let _ = peer.write_all(&vec![0xbd; 30_000_000]);
            });
            let moved = Moved::default();
            let mut calm = 0;
            let mut last = 0;
            {
                let mut splicing = std::pin::pin!(splice(&source, &sink, u64::MAX, false, &moved));
                // Until the sink takes no more.
                while calm < 5 {
                    assert!(give_up_after(1, splicing.as_mut()).await.is_none());
                    a_while().await;
                    calm = if moved.given() == last { calm + 1 } else { 0 };
                    last = moved.given();
                }
            }
            drop((source, sink));
            // The kernel may still hold the source, and lets go of it in a turn.
            while !writer.is_finished() {
                a_while().await;
            }
            writer.join().expect("it only writes");

            let (source, peer) = streams().await;
            let (sink, reader) = streams().await;
            peer.send(b"clean".to_vec()).await.expect("connected");
            drop(peer);
            let end = splice(&source, &sink, u64::MAX, false, &moved).await;
            assert!(matches!(end, Spliced::Ended), "{end:?}");
            drop(sink);
            assert_eq!(receive_all(&reader).await.expect("a clean end"), b"clean");
        }
    });
}

#[test]
fn a_hang_up_wait_given_up_disturbs_nothing() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        for times in 1..=3 {
            for _ in 0..5 {
                assert!(give_up_after(1, stream.hung_up()).await.is_none());
                peer.write_all(&[times]).expect("connected");
                let lease = stream.recv().await.expect("no reset").expect("bytes");
                assert_eq!(lease[..], [times]);
                stream.send(lease).await.expect("read");
                peer.read_exact(&mut [0; 1]).expect("echoed");
            }
        }
    });
}

#[test]
fn cancelled_receives_return_their_buffers_however_few_there_are() {
    let few = |config| Config { buffer_bytes: 4_096, buffers_max: 2, ..config };
    on_all_with(few, async || {
        for round in 0..200 {
            let (stream, mut peer) = pair().await;
            stream.set_multishot(round % 2 == 0);
            let _ = give_up_after(1, stream.recv()).await;
            peer.write_all(b"maybe taken").expect("connected");
            if round % 3 == 0 {
                yield_now().await;
            }
            drop(stream);
        }
        // Both are there again.
        let (first, mut peer) = pair().await;
        let (second, mut other) = pair().await;
        peer.write_all(b"a").expect("connected");
        other.write_all(b"b").expect("connected");
        let one = first.recv().await.expect("no reset").expect("bytes");
        let two = second.recv().await.expect("no reset").expect("bytes");
        assert_eq!((&one[..], &two[..]), (&b"a"[..], &b"b"[..]));
    });
}
