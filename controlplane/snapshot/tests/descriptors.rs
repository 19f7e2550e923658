//! Descriptors between two processes: they arrive where they were asked for, and none stays open.
//!
//! One test alone in its process, because it counts the process's descriptors.

use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lateen_snapshot::encoding::{self, VERSION};
use lateen_snapshot::frame::{Frame, FrameError, Patience, Receiver, Sender, split};
use lateen_snapshot::limits::{FRAME_TIMEOUT, INLINE_BYTES_MAX};
use lateen_snapshot::message::{Publish, ToProxy};
use lateen_snapshot::model::{Balancing, Cluster, ClusterPolicy, Endpoint, Epoch, Snapshot};
use lateen_snapshot::sealed;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

const PATIENCE: Patience =
    Patience { first_byte: Some(Duration::from_secs(60)), whole_frame: Duration::from_secs(60) };

#[test]
fn descriptors_arrive_where_they_belong_and_none_leaks() {
    let cases: [(&str, fn()); 9] = [
        ("large snapshot", a_large_snapshot_arrives),
        ("closed on exec", what_arrives_is_closed_on_exec),
        ("unread", || what_nobody_reads_is_closed(1)),
        ("unannounced", || expect_refusal(&[(b"\x01\0\0\0\x01x", 1)], "was not announced")),
        ("missing", || expect_refusal(&[(b"\x01\0\0\0\x81x", 0)], "none came")),
        ("two", || expect_refusal(&[(b"\x01\0\0\0\x81x", 2)], "more than one")),
        ("many", || expect_refusal(&[(b"\x01\0\0\0\x81x", 50)], "more than one")),
        ("late", || expect_refusal(&[(b"\x01\0\0\0\x81", 1), (b"x", 1)], "middle of a frame")),
        ("one by one", || expect_refusal(&[(b"\x01", 1), (b"\0", 1)], "more than one")),
    ];
    for (name, case) in cases {
        // Twice, so that what is opened once for good does not count.
        case();
        let before = open_descriptors();
        case();
        assert_eq!(open_descriptors(), before, "after {name}");
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn halves() -> (Sender, Receiver, UnixStream) {
    let (here, there) = UnixStream::pair().expect("sockets");
    let (sender, receiver) = split(here).expect("a descriptor");
    (sender, receiver, there)
}

fn a_large_snapshot_arrives() {
    let (_, mut receiver, there) = halves();
    let (mut sender, _peer) = split(there).expect("a descriptor");
    let endpoint = |n: u32| Endpoint { address: ([10, 0, (n >> 8) as u8, n as u8], 80).into() };
    let cluster = Cluster {
        name: "shop/cart:80".into(),
        endpoints: (0..20_000).map(endpoint).collect(),
        weights: Vec::new(),
        balancing: Balancing::LeastRequest,
        connect_timeout_ms: None,
        policy: ClusterPolicy::default(),
    };
    let snapshot = Snapshot { clusters: vec![cluster.into()], ..Snapshot::default() };
    let epoch = Epoch { store: 1, number: 1 };
    let encoded = encoding::encode(epoch, &snapshot, VERSION).expect("valid");
    assert!(encoded.bytes.len() > INLINE_BYTES_MAX, "it must go beside the frame");
    let frame = ToProxy::Publish(Publish::new(&encoded).expect("memory")).into_frame();
    sender.send(&frame, FRAME_TIMEOUT).expect("room");
    drop(frame);
    let frame = receiver.receive(PATIENCE).expect("sent").expect("a frame");
    assert!(frame.payload.len() < 100);
    let Ok(ToProxy::Publish(publish)) = ToProxy::from_frame(frame) else {
        panic!("it was that message")
    };
    let arrived = publish.open().expect("whole");
    assert_eq!(arrived.snapshot, snapshot);
}

fn what_arrives_is_closed_on_exec() {
    let (_sender, mut receiver, there) = halves();
    send_raw(&there, b"\x00\0\0\0\x81", 1);
    let frame = receiver.receive(PATIENCE).expect("sent").expect("a frame");
    let descriptor = frame.descriptor.expect("announced and sent");
    let flags = rustix::io::fcntl_getfd(&descriptor).expect("open");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

fn what_nobody_reads_is_closed(count: usize) {
    let (_sender, _receiver, there) = halves();
    send_raw(&there, b"\x00\0\0\0\x81", count);
}

fn expect_refusal(pieces: &[(&[u8], usize)], expected: &str) {
    let (_sender, mut receiver, there) = halves();
    for (bytes, count) in pieces {
        send_raw(&there, bytes, *count);
    }
    let error = receiver.receive(PATIENCE).expect_err(expected);
    assert!(matches!(error, FrameError::Descriptors(_)), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

/// As a peer would that does not keep to the rules.
fn send_raw(mut socket: &UnixStream, bytes: &[u8], count: usize) {
    if count == 0 {
        return socket.write_all(bytes).expect("room");
    }
    let memory: OwnedFd = sealed::seal(b"x").expect("memory");
    let copies: Vec<BorrowedFd<'_>> = vec![memory.as_fd(); count];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(50))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&copies)));
    let sent = sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

/// What the compiler would say if a frame could be sent that another thread reads.
#[expect(dead_code, reason = "it only has to compile")]
fn halves_go_to_threads_of_their_own(sender: Sender, receiver: Receiver, frame: Frame) {
    fn assert_send(_: impl Send + 'static) {}
    assert_send(sender);
    assert_send(receiver);
    assert_send(frame);
}
