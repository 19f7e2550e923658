//! A proxy that answers as it is told.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lateen_control::publish::{Options, Publisher};
use lateen_control::status::ProxyStatus;
use lateen_snapshot::encoding::VERSION;
use lateen_snapshot::frame::{Frame, Patience, Receiver, Sender, split};
use lateen_snapshot::message::{Hello, PROTOCOL, ToControl, ToProxy, WorkerSwitch};
use lateen_snapshot::model::{Balancing, Cluster, ClusterPolicy, Endpoint, Epoch, Snapshot};

pub(crate) const STORE: u64 = 0x4f2a_90bb;
pub(crate) const LONG: Duration = Duration::from_secs(60);
const PATIENCE: Patience = Patience { first_byte: Some(LONG), whole_frame: LONG };

pub(crate) struct FakeProxy {
    pub(crate) sender: Sender,
    receiver: Receiver,
}

/// What a proxy of that name says that runs nothing yet.
pub(crate) fn hello(name: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        snapshot_versions: (VERSION, VERSION),
        name: name.to_owned(),
        program_version: "1.2.3".to_owned(),
        pid: std::process::id(),
        workers: 2,
        running: None,
    }
}

impl FakeProxy {
    /// Connects and is welcome; or is refused, with a reason, or without one.
    pub(crate) fn connect(socket: &Path, hello: Hello) -> Result<Self, String> {
        let mut proxy = Self::open(socket)?;
        let hello = ToControl::Hello(hello).into_frame().expect("within bounds");
        proxy.sender.send(&hello, LONG).map_err(|error| error.to_string())?;
        match proxy.hear()? {
            Some(ToProxy::Welcome { store: STORE }) => Ok(proxy),
            Some(ToProxy::Refused { reason }) => Err(reason),
            None => Err("closed without a word".to_owned()),
            Some(other) => panic!("{other:?} is no answer to a Hello"),
        }
    }

    /// Connects and says nothing.
    pub(crate) fn open(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket).map_err(|error| error.to_string())?;
        let (sender, receiver) = split(stream).expect("a descriptor");
        Ok(Self { sender, receiver })
    }

    /// The next message; `None`: the end.
    pub(crate) fn hear(&mut self) -> Result<Option<ToProxy>, String> {
        let frame = self.receiver.receive(PATIENCE).map_err(|error| error.to_string())?;
        Ok(frame.map(|frame| ToProxy::from_frame(frame).expect("a message")))
    }

    /// The next snapshot; `None`: the end.
    pub(crate) fn next(&mut self) -> Option<(Epoch, Snapshot)> {
        match self.hear().ok()?? {
            ToProxy::Publish(publish) => {
                let arrived = publish.open().expect("a snapshot");
                Some((arrived.epoch, arrived.snapshot))
            }
            other => panic!("{other:?} instead of a snapshot"),
        }
    }

    /// Of the next snapshot, which must come.
    #[track_caller]
    pub(crate) fn next_epoch(&mut self) -> Epoch {
        self.next().expect("a snapshot").0
    }

    pub(crate) fn apply(&mut self, epoch: Epoch) -> bool {
        let workers = vec![
            WorkerSwitch { prepare_us: 10, switch_us: 1 },
            WorkerSwitch { prepare_us: 20, switch_us: 2 },
        ];
        self.answer(ToControl::Applied { epoch, workers })
    }

    pub(crate) fn reject(&mut self, epoch: Epoch, reason: &str) -> bool {
        self.answer(ToControl::Rejected { epoch, reason: reason.to_owned() })
    }

    /// Whether the other side was there to take it.
    pub(crate) fn answer(&mut self, answer: ToControl) -> bool {
        self.send(&answer.into_frame().expect("within bounds"))
    }

    pub(crate) fn send(&mut self, frame: &Frame) -> bool {
        self.sender.send(frame, LONG).is_ok()
    }
}

pub(crate) fn epoch(number: u64) -> Epoch {
    Epoch { store: STORE, number }
}

/// Valid, with so many endpoints.
pub(crate) fn snapshot(endpoints: u16) -> Arc<Snapshot> {
    let endpoint = |n: u16| Endpoint { address: ([10, 0, (n >> 8) as u8, n as u8], 80).into() };
    let cluster = Cluster {
        name: "shop/cart:80".into(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        weights: Vec::new(),
        balancing: Balancing::LeastRequest,
        connect_timeout_ms: None,
        policy: ClusterPolicy::default(),
    };
    Arc::new(Snapshot { clusters: vec![cluster.into()], ..Snapshot::default() })
}

pub(crate) struct Control {
    pub(crate) publisher: Publisher,
    pub(crate) folder: tempfile::TempDir,
}

impl Control {
    pub(crate) fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let publisher = Publisher::start(&folder.path().join("control"), options).expect("free");
        Self { publisher, folder }
    }

    pub(crate) fn connect(&self, name: &str) -> FakeProxy {
        FakeProxy::connect(&self.socket(), hello(name)).expect("welcome")
    }

    pub(crate) fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("control")
    }

    pub(crate) fn proxy(&self, name: &str) -> Option<ProxyStatus> {
        self.publisher.status().proxies.into_iter().find(|proxy| proxy.name == name)
    }

    /// Waits until that is so of a proxy.
    pub(crate) fn wait_for(&self, name: &str, is_so: impl Fn(&ProxyStatus) -> bool) -> ProxyStatus {
        let mut proxy = None;
        wait_until(|| {
            proxy = self.proxy(name);
            proxy.as_ref().is_some_and(&is_so)
        });
        proxy.expect("it was there")
    }

    /// Waits until that is the reason of a refusal.
    pub(crate) fn wait_for_refusal(&self, reason: &str) {
        let refused = || self.publisher.status().refused;
        wait_until(|| refused().iter().any(|refusal| refusal.reason.contains(reason)));
    }
}

#[track_caller]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "it never became so");
        thread::yield_now();
    }
}
