//! Unix sockets are streams like any other.

use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use lateen_ring::{Address, Listener, Moved, Spliced, Stream, spawn, splice};

use crate::support::{give_up_after, on_all, pattern, receive_all, until};

/// A path for a socket, removed at the end.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lateen-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn address(&self) -> Address {
        Address::Unix(self.0.clone())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn connects_accepts_and_knows_the_addresses() {
    on_all(async || {
        let path = SocketPath::new("echo");
        let listener = Listener::bind(&path.address()).expect("a free path");
        assert_eq!(listener.local_address().expect("bound"), path.address());
        let accepts = async {
            let stream = listener.accept().await.expect("a client comes");
            assert_eq!(stream.local_address().expect("connected"), path.address());
            assert_eq!(stream.peer_address().expect("connected"), Address::Unix(PathBuf::new()));
            stream
        };
        assert!(give_up_after(1, listener.accept()).await.is_none());
        let ours = Stream::connect(&path.address()).await.expect("listening");
        let theirs = accepts.await;
        assert_eq!(ours.peer_address().expect("connected"), path.address());
        let sent = pattern(1_000_000);
        let expected = sent.clone();
        spawn(async move {
            assert!(receive_all(&theirs).await.expect("a clean end") == expected);
            theirs.send(b"all of it".to_vec()).await.expect("half open");
        });
        ours.send(sent).await.expect("read");
        ours.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(receive_all(&ours).await.expect("a clean end"), b"all of it");
        assert!(Listener::bind(&path.address()).is_err(), "the path is in use");
    });
}

#[test]
fn a_missing_path_is_refused() {
    on_all(async || {
        let path = SocketPath::new("missing");
        assert!(Stream::connect(&path.address()).await.is_err());
        let endless = Address::Unix(PathBuf::from("x".repeat(500)));
        assert!(Stream::connect(&endless).await.is_err());
        assert!(Listener::bind(&endless).is_err());
    });
}

#[test]
fn splices_from_tcp_to_unix_and_back() {
    on_all(async || {
        const BYTES: usize = 3_000_000;
        let (near, far) = UnixStream::pair().expect("descriptors are left");
        near.set_nonblocking(true).expect("a socket");
        let near = Stream::from_fd(near.into()).expect("watched");
        let (tcp, peer) = crate::support::streams().await;
        spawn(async move {
            peer.send(pattern(BYTES)).await.expect("read");
        });
        let reader = thread::spawn(move || {
            let mut far = far;
            let mut got = Vec::new();
            far.read_to_end(&mut got).expect("a clean end");
            got
        });
        let moved = Moved::default();
        let end = splice(&tcp, &near, u64::MAX, false, &moved).await;
        assert!(matches!(end, Spliced::Ended), "{end:?}");
        assert_eq!(moved.given(), BYTES as u64);
        drop(near);
        until("the reader is done", || reader.is_finished()).await;
        assert!(reader.join().expect("it only reads") == pattern(BYTES));

        let (near, mut far) = UnixStream::pair().expect("descriptors are left");
        near.set_nonblocking(true).expect("a socket");
        let near = Stream::from_fd(near.into()).expect("watched");
        let writer = thread::spawn(move || {
            use std::io::Write;
            far.write_all(&pattern(BYTES)).expect("read");
        });
        let (tcp, peer) = crate::support::streams().await;
        spawn(async move {
            let moved = Moved::default();
            let end = splice(&near, &tcp, u64::MAX, false, &moved).await;
            assert!(matches!(end, Spliced::Ended), "{end:?}");
        });
        assert!(receive_all(&peer).await.expect("a clean end") == pattern(BYTES));
        writer.join().expect("it only writes");
    });
}
