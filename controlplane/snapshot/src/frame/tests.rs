//! Frames come across whole; peers that are slow, broken or hostile get an error. What that does to
//! descriptors is in `tests/descriptors.rs`, which has a process of its own.

use std::io::{Read, Write};
use std::thread;

use super::*;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(5);
const PATIENT: Patience = Patience { first_byte: None, whole_frame: LONG };

fn pair() -> ((Sender, Receiver), UnixStream) {
    let (one, other) = UnixStream::pair().expect("sockets");
    (split(one).expect("a descriptor"), other)
}

fn plain(kind: u8, payload: &[u8]) -> Frame {
    Frame { kind, payload: payload.to_vec(), descriptor: None }
}

#[test]
fn a_frame_has_these_bytes() {
    let ((mut sender, _), mut peer) = pair();
    sender.send(&plain(3, b"abc"), LONG).expect("room");
    let mut bytes = [0; 8];
    peer.read_exact(&mut bytes).expect("sent");
    assert_eq!(&bytes, b"\x03\0\0\0\x03abc");
}

#[test]
fn frames_come_across_in_order_in_both_directions() {
    let ((mut sender, mut receiver), peer) = pair();
    let (mut peer_sender, mut peer_receiver) = split(peer).expect("a descriptor");
    // More than the socket holds, so that sending waits for reading.
    let payloads: Vec<Vec<u8>> = (0..40).map(|n| vec![n as u8; n * FRAME_BYTES_MAX / 39]).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            for payload in &payloads {
                sender.send(&plain(1, payload), LONG).expect("taken");
            }
        });
        scope.spawn(|| {
            while let Some(frame) = peer_receiver.receive(PATIENT).expect("sent") {
                peer_sender.send(&frame, LONG).expect("taken");
                if frame.payload.len() == FRAME_BYTES_MAX {
                    break;
                }
            }
        });
        for payload in &payloads {
            let frame = receiver.receive(PATIENT).expect("sent").expect("a frame");
            assert_eq!((frame.kind, &frame.payload), (1, payload));
            assert!(frame.descriptor.is_none());
        }
    });
}

#[test]
fn bytes_may_trickle_in() {
    let ((_sender, mut receiver), mut peer) = pair();
    thread::scope(|scope| {
        scope.spawn(move || {
            for byte in b"\x03\0\0\0\x03abc\0\0\0\0\x04" {
                peer.write_all(&[*byte]).expect("room");
            }
        });
        let frame = receiver.receive(PATIENT).expect("sent").expect("a frame");
        assert_eq!((frame.kind, &frame.payload[..]), (3, &b"abc"[..]));
        let frame = receiver.receive(PATIENT).expect("sent").expect("a frame");
        assert_eq!((frame.kind, &frame.payload[..]), (4, &b""[..]));
        assert!(receiver.receive(PATIENT).expect("an orderly end").is_none());
    });
}

#[test]
fn an_end_between_frames_is_none_and_within_one_an_error() {
    let whole = b"\x03\0\0\0\x03abc";
    for length in 0..whole.len() {
        let ((_sender, mut receiver), mut peer) = pair();
        peer.write_all(&whole[..length]).expect("room");
        drop(peer);
        match receiver.receive(PATIENT) {
            Ok(None) => assert_eq!(length, 0),
            Err(FrameError::Broken) => assert_ne!(length, 0),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn a_frame_that_never_ends_is_given_up() {
    for length in 1..8 {
        let ((_sender, mut receiver), mut peer) = pair();
        peer.write_all(&b"\x03\0\0\0\x03abc"[..length]).expect("room");
        let patience = Patience { first_byte: None, whole_frame: SHORT };
        let error = receiver.receive(patience).expect_err("late");
        assert!(matches!(error, FrameError::TimedOut), "{length}: {error}");
    }
}

#[test]
fn a_byte_now_and_then_does_not_move_the_deadline() {
    let ((_sender, mut receiver), mut peer) = pair();
    peer.write_all(b"\xff\xff\0\0\x01").expect("room");
    thread::scope(|scope| {
        // As often as it can, until the receiver is gone; far too few bytes for the frame.
        scope.spawn(move || {
            for _ in 0..60_000 {
                if peer.write_all(b"x").is_err() {
                    return;
                }
                thread::yield_now();
            }
        });
        let patience = Patience { first_byte: None, whole_frame: SHORT };
        let error = receiver.receive(patience).expect_err("late");
        assert!(matches!(error, FrameError::TimedOut), "{error}");
        receiver.stream.shutdown(Shutdown::Both).expect("open");
    });
}

#[test]
fn waiting_for_the_first_byte_ends_when_told() {
    let ((sender, mut receiver), _peer) = pair();
    let patience = Patience { first_byte: Some(SHORT), whole_frame: LONG };
    assert!(matches!(receiver.receive(patience), Err(FrameError::TimedOut)));
    // Or when the other half is shut down.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.receive(PATIENT));
        sender.shut_down();
        let end = waiting.join().expect("no panic").expect("an orderly end");
        assert!(end.is_none());
    });
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    let ((mut sender, _), _peer) = pair();
    let frame = plain(1, &[0; FRAME_BYTES_MAX]);
    let sent = (0..1000).map(|_| sender.send(&frame, SHORT)).find(Result::is_err);
    assert!(matches!(sent, Some(Err(FrameError::TimedOut))));
}

#[test]
fn a_peer_that_is_gone_is_an_error_and_no_signal() {
    let ((mut sender, _), peer) = pair();
    drop(peer);
    let error = sender.send(&plain(1, b"x"), LONG).expect_err("nobody there");
    assert!(matches!(error, FrameError::Broken), "{error}");
}

#[test]
fn too_large_frames_are_neither_sent_nor_awaited() {
    let ((mut sender, mut receiver), mut peer) = pair();
    let error = sender.send(&plain(1, &[0; FRAME_BYTES_MAX + 1]), LONG).expect_err("too large");
    assert!(matches!(error, FrameError::TooLarge { bytes: 65_537 }), "{error}");
    peer.write_all(b"\xff\xff\xff\xff\x01").expect("room");
    let error = receiver.receive(PATIENT).expect_err("too large");
    assert!(matches!(error, FrameError::TooLarge { bytes: 0xffff_ffff }), "{error}");
}

#[test]
fn the_kernel_says_who_the_peer_is() {
    let (one, _other) = UnixStream::pair().expect("sockets");
    let credentials = peer_credentials(&one).expect("a Unix socket");
    assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
    assert_eq!(credentials.pid, std::process::id() as i32);
}
