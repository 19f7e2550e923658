//! Splice: exact limits, either side's end, and no pipe to be had.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use lateen_ring::{Deadline, Moved, Spliced, Stream, spawn, splice};

use crate::support::{
    NoDescriptorsLeft, a_while, on_all, pair, pattern, receive_all, reset, streams,
};

#[test]
fn moves_exactly_the_limit_and_leaves_the_rest() {
    on_all(async || {
        let (source, mut peer) = pair().await;
        let (sink, reader) = streams().await;
        let sent = pattern(100_000);
        peer.write_all(&sent).expect("it fits the sockets");
        let moved = Moved::default();
        let mut expected = 0;
        for limit in [0, 1, 4_095, 4_096, 65_537] {
            let end = splice(&source, &sink, limit, false, &moved).await;
            assert!(matches!(end, Spliced::Done), "{end:?}");
            expected += limit;
            assert_eq!(moved.given(), expected);
        }
        // The rest is still in the socket, for whoever reads it.
        let mut rest = Vec::new();
        let left = sent.len() - expected as usize;
        while rest.len() < left {
            source.read(&mut rest, 100_000).await.expect("no reset");
        }
        assert!(rest == sent[expected as usize..]);
        drop(sink);
        assert!(receive_all(&reader).await.expect("a clean end") == sent[..expected as usize]);
    });
}

#[test]
fn says_that_the_source_ended_early() {
    on_all(async || {
        let (source, mut peer) = pair().await;
        let (sink, reader) = streams().await;
        peer.write_all(b"short").expect("connected");
        drop(peer);
        let moved = Moved::default();
        for _ in 0..2 {
            let end = splice(&source, &sink, 100, false, &moved).await;
            assert!(matches!(end, Spliced::Ended), "{end:?}");
            assert_eq!(moved.given(), 5);
        }
        assert!(source.recv().await.expect("a clean end").is_none());
        drop(sink);
        assert_eq!(receive_all(&reader).await.expect("a clean end"), b"short");
    });
}

#[test]
fn says_that_the_source_was_reset_and_never_calls_it_an_end() {
    on_all(async || {
        let (source, peer) = pair().await;
        let (sink, _reader) = streams().await;
        reset(peer);
        let moved = Moved::default();
        for _ in 0..3 {
            let end = splice(&source, &sink, 100, false, &moved).await;
            let Spliced::SourceFailed(error) = end else { panic!("{end:?}") };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        assert!(source.recv().await.is_err(), "every way of reading says the same");
    });
}

#[test]
fn says_that_the_sink_failed() {
    on_all(async || {
        let (source, mut peer) = pair().await;
        let (sink, reader) = pair().await;
        let writer = thread::spawn(move || {
            // Until the source is closed.
            while peer.write_all(&[7; 10_000]).is_ok() {}
        });
        spawn(async move {
            a_while().await;
            reset(reader);
        });
        let moved = Moved::default();
        let end = splice(&source, &sink, u64::MAX, false, &moved).await;
        let Spliced::SinkFailed(error) = end else { panic!("{end:?}") };
        assert!(
            [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()),
            "{error}"
        );
        assert!(sink.send(&b"more"[..]).await.is_err());
        drop(source);
        writer.join().expect("it only writes");
    });
}

#[test]
fn without_a_pipe_the_caller_copies_and_no_byte_is_lost() {
    on_all(async || {
        let (source, mut peer) = pair().await;
        let (sink, reader) = streams().await;
        peer.write_all(b"by hand").expect("connected");
        drop(peer);
        let moved = Moved::default();
        let none_left = NoDescriptorsLeft::take();
        let end = splice(&source, &sink, u64::MAX, false, &moved).await;
        assert!(matches!(end, Spliced::NoPipe), "{end:?}");
        assert_eq!(moved.given(), 0);
        copy(&source, &sink).await;
        drop(none_left);
        drop(sink);
        assert_eq!(receive_all(&reader).await.expect("a clean end"), b"by hand");
    });
}

async fn copy(source: &Stream, sink: &Stream) {
    while let Some(lease) = source.recv().await.expect("no reset") {
        sink.send(lease).await.expect("read");
    }
}

#[test]
fn idle_splices_hold_no_pipe() {
    on_all(async || {
        let before = crate::support::descriptors();
        let mut held = Vec::new();
        for _ in 0..20 {
            let (source, peer) = pair().await;
            let (sink, reader) = pair().await;
            held.push((peer, reader));
            spawn(async move {
                let moved = Moved::default();
                let end = splice(&source, &sink, u64::MAX, false, &moved).await;
                assert!(matches!(end, Spliced::Ended), "{end:?}");
                assert_eq!(moved.given(), 3);
            });
        }
        a_while().await;
        for (peer, _) in &mut held {
            peer.write_all(b"abc").expect("connected");
        }
        a_while().await;
        // Each pair costs four sockets; beyond these, spare pipes only (two descriptors each).
        let open = crate::support::descriptors() - before;
        assert!((80..=80 + 16).contains(&open), "{open} descriptors for 20 idle tunnels");
        drop(held);
    });
}

#[test]
fn pauses_when_the_source_has_nothing_more_and_leaves_it_to_any_receive() {
    on_all(async || {
        let (source, mut peer) = pair().await;
        let (sink, reader) = streams().await;
        let moved = Moved::default();
        for round in 1..=5_u64 {
            peer.write_all(b"burst").expect("connected");
            let end = splice(&source, &sink, u64::MAX, true, &moved).await;
            assert!(matches!(end, Spliced::Paused), "{end:?}");
            assert_eq!((moved.taken(), moved.given()), (5 * round, 5 * round));
            // Copying takes over where splicing paused, and gives back in its turn.
            assert!(crate::support::give_up_after(1, source.recv()).await.is_none());
            peer.write_all(b"copy").expect("connected");
            sink.send(source.recv().await.expect("no reset").expect("bytes")).await.expect("read");
            source.recv_stop().await;
        }
        drop(sink);
        let got = receive_all(&reader).await.expect("a clean end");
        assert_eq!(got, b"burstcopy".repeat(5));
    });
}

#[test]
fn what_goes_ahead_of_a_splice_does_not_wait_for_a_silent_source() {
    // Left to itself the kernel holds it for 200 ms at least. A machine that is busy may be late, but
    // hardly each time.
    const SOON: Duration = Duration::from_millis(100);
    on_all(async || {
        let mut in_time = 0;
        for _ in 0..4 {
            let (source, mut peer) = pair().await;
            let (sink, reader) = streams().await;
            let chunks = [Some(b"head".as_slice().into()), None, None];
            sink.start_send_ahead(chunks);
            let splicing = spawn(async move {
                sink.flush().await.expect("read");
                let moved = Moved::default();
                let end = splice(&source, &sink, 4, false, &moved).await;
                assert!(matches!(end, Spliced::Done), "{end:?}");
            });
            let deadline = Deadline::new();
            deadline.set_after(SOON);
            let head = deadline.guard(reader.recv()).await.ok();
            in_time += u32::from(head.is_some());
            peer.write_all(b"body").expect("connected");
            let rest = receive_all(&reader).await.expect("a clean end");
            match head {
                Some(head) => {
                    assert_eq!(&*head.expect("no reset").expect("bytes"), b"head");
                    assert_eq!(rest, b"body");
                }
                None => assert_eq!(rest, b"headbody"),
            }
            drop(splicing);
        }
        assert!(in_time > 0, "the head was held each time");
    });
}

#[test]
fn what_goes_ahead_of_a_splice_comes_first_and_without_a_splice_it_comes_too() {
    on_all(async || {
        let (source, mut peer) = pair().await;
        let (sink, reader) = streams().await;
        let moved = Moved::default();
        let head = || [Some(b"head".as_slice().into()), None, None];
        peer.write_all(b"body").expect("connected");
        sink.start_send_ahead(head());
        sink.flush().await.expect("read");
        let end = splice(&source, &sink, 4, false, &moved).await;
        assert!(matches!(end, Spliced::Done), "{end:?}");
        sink.start_send_ahead(head());
        sink.flush().await.expect("read");
        sink.push();
        sink.send(b"copy".as_slice()).await.expect("read");
        drop(sink);
        assert_eq!(receive_all(&reader).await.expect("a clean end"), b"headbodyheadcopy");
    });
}
