//! A proxy that answers as it is told.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver as Channel, RecvTimeoutError};
use std::thread;

use lateen_snapshot::encoding::VERSION;
use lateen_snapshot::frame::{Patience, split};
use lateen_snapshot::message::{Hello, PROTOCOL, ToControl, ToProxy, WorkerSwitch};
use lateen_snapshot::model::{Epoch, Snapshot};

use crate::support::LONG;

/// What a proxy says to a snapshot.
pub(crate) enum Answer {
    Apply,
    Reject(&'static str),
    Silence,
}

/// Connected until it is dropped, or the control plane ends.
pub(crate) struct FakeProxy {
    seen: Channel<(Epoch, Snapshot)>,
    stream: UnixStream,
}

impl FakeProxy {
    /// Takes whatever comes.
    pub(crate) fn connect(socket: &Path, name: &str) -> Self {
        Self::with(socket, name, |_, _| Answer::Apply)
    }

    /// Answers each snapshot, the first of which is number 0.
    pub(crate) fn with(
        socket: &Path,
        name: &str,
        mut answer: impl FnMut(usize, &Snapshot) -> Answer + Send + 'static,
    ) -> Self {
        let patience = Patience { first_byte: None, whole_frame: LONG };
        let stream = UnixStream::connect(socket).expect("a control plane listens");
        let kept = stream.try_clone().expect("a descriptor");
        let (mut sender, mut receiver) = split(stream).expect("a descriptor");
        let hello = Hello {
            protocol: PROTOCOL,
            snapshot_versions: (VERSION, VERSION),
            name: name.to_owned(),
            program_version: "1.2.3".to_owned(),
            pid: std::process::id(),
            workers: 2,
            running: None,
        };
        let hello = ToControl::Hello(hello).into_frame().expect("within bounds");
        sender.send(&hello, LONG).expect("it listens");
        let welcome = receiver.receive(patience).expect("it answers").expect("it answers");
        let welcome = ToProxy::from_frame(welcome).expect("a message");
        assert!(matches!(welcome, ToProxy::Welcome { .. }), "{welcome:?}");
        let (see, seen) = mpsc::channel();
        thread::spawn(move || {
            for number in 0.. {
                let Ok(Some(frame)) = receiver.receive(patience) else { return };
                let Ok(ToProxy::Publish(publish)) = ToProxy::from_frame(frame) else {
                    panic!("no snapshot")
                };
                let arrived = publish.open().expect("a snapshot");
                let epoch = arrived.epoch;
                let said = match answer(number, &arrived.snapshot) {
                    Answer::Apply => {
                        let worker = WorkerSwitch { prepare_us: 20, switch_us: 3 };
                        Some(ToControl::Applied { epoch, workers: vec![worker; 2] })
                    }
                    Answer::Reject(why) => {
                        Some(ToControl::Rejected { epoch, reason: why.to_owned() })
                    }
                    Answer::Silence => None,
                };
                // Seen before answered: whoever waits for the answer finds it.
                let _ = see.send((epoch, arrived.snapshot));
                if let Some(said) = said
                    && sender.send(&said.into_frame().expect("within bounds"), LONG).is_err()
                {
                    return;
                }
            }
        });
        Self { seen, stream: kept }
    }

    /// The next snapshot, which must come.
    #[track_caller]
    pub(crate) fn next(&self) -> (Epoch, Snapshot) {
        self.seen.recv_timeout(LONG).expect("a snapshot")
    }

    /// Nothing has come that was not taken.
    #[track_caller]
    pub(crate) fn has_seen_all(&self) {
        match self.seen.try_recv() {
            Err(_) => {}
            Ok((epoch, _)) => panic!("{epoch} came"),
        }
    }

    /// Waits until the control plane is gone.
    pub(crate) fn ends(&self) {
        loop {
            match self.seen.recv_timeout(LONG) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("it is still connected"),
            }
        }
    }
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// All addresses of all clusters, in order.
pub(crate) fn addresses(snapshot: &Snapshot) -> Vec<String> {
    let clusters = snapshot.clusters.iter();
    let endpoints = clusters.flat_map(|cluster| &cluster.endpoints);
    let mut addresses: Vec<String> = endpoints.map(|e| e.address.to_string()).collect();
    addresses.sort();
    addresses
}
