//! How connections end: FIN, reset, half-close, hang-ups, and what the other side learns of each.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::thread;

use lateen_ring::Stream;

use crate::support::{a_while, give_up_after, on_all, pair, pattern, receive_all, reset, streams};

#[test]
fn a_drop_with_an_armed_receive_sends_a_fin() {
    on_all(async || {
        for multishot in [false, true] {
            let (stream, mut peer) = pair().await;
            stream.set_multishot(multishot);
            assert!(give_up_after(1, stream.recv()).await.is_none());
            a_while().await;
            drop(stream);
            a_while().await;
            assert_eq!(peer.read(&mut [0; 8]).expect("a FIN, no reset"), 0);
            // The other end may still write for a while: it learns of the close by a reset.
            let _ = peer.write_all(b"anybody there?");
        }
    });
}

#[test]
fn a_drop_with_everything_armed_leaves_nothing_behind() {
    on_all(async || {
        for order in 0..8 {
            let (stream, mut peer) = pair().await;
            // Fill the sockets, so that the send stays under way.
            stream.start_send([Some(vec![1; 20_000_000].into()), None, None]);
            if order & 1 != 0 {
                stream.set_multishot(true);
                stream.arm_recv();
            } else {
                let mut into = Vec::new();
                assert!(give_up_after(1, stream.read(&mut into, 100)).await.is_none());
            }
            if order & 2 != 0 {
                assert!(give_up_after(1, stream.hung_up()).await.is_none());
            }
            if order & 4 != 0 {
                a_while().await;
                peer.write_all(b"at the last moment").expect("connected");
            }
            drop(stream);
            let reader = thread::spawn(move || {
                let mut got = Vec::new();
                let end = peer.read_to_end(&mut got);
                (got, end)
            });
            crate::support::until("the peer sees the end", || reader.is_finished()).await;
            let (got, end) = reader.join().expect("it only reads");
            assert!(got.iter().all(|&byte| byte == 1));
            // Unread bytes turn the close into a reset, as close(2) says.
            assert!(end.is_ok() || end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
        }
    });
}

#[test]
fn a_receive_after_an_abandoned_read_takes_over_its_wait() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        for round in 0..10_u8 {
            let mut into = Vec::new();
            assert!(give_up_after(1, stream.read(&mut into, 100)).await.is_none());
            assert!(give_up_after(1, stream.recv()).await.is_none());
            if round % 2 == 0 {
                a_while().await;
            }
            peer.write_all(&[round]).expect("connected");
            let lease = stream.recv().await.expect("no reset").expect("bytes");
            assert_eq!(lease[..], [round]);
            stream.recv_stop().await;
        }
        assert!(give_up_after(1, stream.read(&mut Vec::new(), 100)).await.is_none());
        assert!(give_up_after(1, stream.recv()).await.is_none());
        a_while().await;
        // The drop must end the wait, however many times it was begun.
        drop(stream);
        a_while().await;
        assert_eq!(peer.read(&mut [0; 8]).expect("a FIN"), 0);
    });
}

#[test]
fn reset_tells_the_peer_that_it_was_cut_off() {
    on_all(async || {
        for armed in [false, true] {
            let (stream, mut peer) = pair().await;
            stream.send(&b"half of it"[..]).await.expect("connected");
            let mut got = [0; 10];
            peer.read_exact(&mut got).expect("sent");
            if armed {
                stream.set_multishot(true);
                stream.arm_recv();
                a_while().await;
            }
            stream.reset();
            a_while().await;
            let error = peer.read(&mut got).expect_err("not a clean end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_reset_is_reported_to_every_later_receive_and_read() {
    on_all(async || {
        for direct in [false, true] {
            let (stream, mut peer) = pair().await;
            peer.write_all(b"some").expect("connected");
            let mut into = Vec::new();
            if direct {
                assert_eq!(stream.read(&mut into, 100).await.expect("bytes"), 4);
            } else {
                assert_eq!(&stream.recv().await.expect("no reset").expect("bytes")[..], b"some");
            }
            reset(peer);
            for _ in 0..3 {
                let error = if direct {
                    stream.read(&mut into, 100).await.expect_err("not a clean end")
                } else {
                    stream.recv().await.expect_err("not a clean end")
                };
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
            assert!(stream.has_ended() && stream.has_news());
            // What the two ways of reading learn is one truth.
            assert!(stream.recv().await.is_err());
            assert!(stream.read(&mut into, 100).await.is_err());
        }
    });
}

#[test]
fn a_reset_that_a_send_learned_of_is_no_clean_end_for_the_receive() {
    on_all(async || {
        for direct in [false, true] {
            let (stream, peer) = pair().await;
            reset(peer);
            a_while().await;
            let error = stream.send(&b"hello?"[..]).await.expect_err("the peer is gone");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            let again = stream.send(&b"hello?"[..]).await.expect_err("the same answer");
            assert_eq!(again.kind(), ErrorKind::ConnectionReset);
            let end = if direct {
                stream.read(&mut Vec::new(), 100).await.map(drop)
            } else {
                stream.recv().await.map(drop)
            };
            let error = end.expect_err("a reset is never taken for a proper end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn hung_up_waits_through_a_fin_for_the_reset() {
    on_all(async || {
        let (stream, peer) = pair().await;
        assert!(give_up_after(1, stream.hung_up()).await.is_none());
        peer.shutdown(Shutdown::Write).expect("connected");
        assert!(stream.recv().await.expect("no reset").is_none());
        a_while().await;
        // A FIN is half a close: the peer still reads.
        assert!(give_up_after(1, stream.hung_up()).await.is_none());
        stream.send(&b"still here"[..]).await.expect("half open");
        a_while().await;
        assert!(give_up_after(1, stream.hung_up()).await.is_none());
        reset(peer);
        stream.hung_up().await;
        // It stays so.
        stream.hung_up().await;
    });
}

#[test]
fn hung_up_sees_a_reset_at_once_and_both_directions_closed() {
    on_all(async || {
        let (stream, peer) = pair().await;
        reset(peer);
        stream.hung_up().await;

        let (stream, mut peer) = pair().await;
        stream.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(peer.read(&mut [0; 8]).expect("a FIN"), 0);
        assert!(give_up_after(1, stream.hung_up()).await.is_none());
        a_while().await;
        assert!(give_up_after(1, stream.hung_up()).await.is_none());
        peer.shutdown(Shutdown::Write).expect("half open");
        stream.hung_up().await;
        assert!(stream.recv().await.expect("a clean end").is_none());
    });
}

#[test]
fn a_half_close_ends_one_direction_only() {
    on_all(async || {
        let (ours, theirs) = streams().await;
        let sent = pattern(300_000);
        ours.send(b"request".to_vec()).await.expect("connected");
        ours.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(receive_all(&theirs).await.expect("a clean end"), b"request");
        assert!(theirs.has_ended());
        let answer = sent.clone();
        lateen_ring::spawn(async move {
            theirs.send(answer).await.expect("the other direction is open");
        });
        assert_eq!(receive_all(&ours).await.expect("a clean end"), sent);
    });
}

#[test]
fn bytes_before_a_fin_and_the_fin_arrive_together_and_in_order() {
    on_all(async || {
        for size in [1, 16 * 1024, 16 * 1024 + 1, 64 * 1024, 200_000] {
            for multishot in [false, true] {
                let (stream, mut peer) = pair().await;
                stream.set_multishot(multishot);
                let sent = pattern(size);
                let writer = thread::spawn({
                    let sent = sent.clone();
                    move || peer.write_all(&sent).expect("read to the end")
                });
                let got = receive_all(&stream).await.expect("a clean end");
                assert!(got == sent, "{} of {size} bytes", got.len());
                assert!(stream.recv().await.expect("still the end").is_none());
                writer.join().expect("it only writes");
            }
        }
    });
}

#[test]
fn a_refused_connect_is_an_error_and_leaves_nothing() {
    on_all(async || {
        let (listener, address) = crate::support::listener();
        drop(listener);
        a_while().await;
        let error = Stream::connect(&address.into()).await.expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}
