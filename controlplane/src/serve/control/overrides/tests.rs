//! Orders that are over, where what runs can't be freed of them at once.

use std::sync::atomic::{AtomicU64, Ordering};

use lateen_snapshot::model::Snapshot;
use tokio::sync::watch;

use super::*;
use crate::compile::{Mesh, resolve};
use crate::publish::{Options, Publisher};
use crate::resolver::{Addresses, Names};
use crate::serve::control::Parts;
use crate::serve::intent::{Content, FileCache};
use crate::serve::remembered::Remembered;
use crate::serve::view::View;
use crate::store::open::open;
use crate::store::retention::Retention;

const MESH: &str = "\
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{name: http, port: 80}]
  endpoints: [{address: 10.0.0.1, port: 8080}, {address: 10.0.0.2, port: 8080}]
---
apiVersion: lateen.dev/v1alpha1
kind: Proxy
metadata: {name: edge, namespace: shop}
spec:
  listeners: [{name: out, type: Outbound, port: 15001, protocol: HTTP}]
";

/// Only the test here has it.
static NOW_MS: AtomicU64 = AtomicU64::new(1_000);

fn clock() -> UnixMs {
    UnixMs(NOW_MS.load(Ordering::Relaxed))
}

fn content() -> Content {
    let (parsed, content) = FileCache::default().parse([("f.yaml", MESH)].into_iter());
    assert_eq!(parsed.diagnostics, []);
    content
}

fn mesh(content: &Content) -> Mesh {
    resolve(&content.to_compile()).expect("it is right")
}

/// One that no proxy would take: two clusters have one name.
fn wrong(snapshot: &Arc<Snapshot>) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::clone(snapshot);
    snapshot.clusters.extend(snapshot.clusters.clone());
    Arc::new(snapshot)
}

impl Control {
    /// As if it had been compiled so.
    fn compiled_to(&mut self, mesh: Mesh) {
        let live = self.live.as_mut().expect("it is live");
        let plan = Plan { mesh: Arc::new(mesh), ..Plan::clone(&live.plan) };
        live.plan = Arc::new(plan);
    }

    /// How many endpoints are ordered out of what runs, and how many orders are shown.
    fn out_and_shown(&self) -> (usize, usize) {
        let plan = self.live_plan();
        let clusters = plan.snapshots.values().flat_map(|snapshot| &snapshot.clusters);
        let out = clusters.map(|cluster| cluster.policy.ordered_out.len()).sum();
        (out, self.override_views().len())
    }
}

#[tokio::test]
async fn what_runs_is_freed_of_an_order_that_is_over_even_if_not_at_once() {
    let folder = tempfile::tempdir().expect("there is room");
    let store = open(&folder.path().join("s.db"), Retention::default(), 0).expect("new").store;
    let (id, (store, _)) = (store.id(), StoreThread::start(store).expect("there are threads"));
    let publisher = Publisher::start(&folder.path().join("c.sock"), Options::new(id));
    let (_found, addresses) = watch::channel(Addresses::new());
    let parts = Parts {
        store,
        folder: None,
        names: watch::channel(Names::default()).0,
        addresses,
        remembered: Remembered::load(folder.path()),
        clock,
        view: watch::channel(View::default()).0,
    };
    let publisher = Arc::new(publisher.expect("the socket is free"));
    let mut control = Control::new(parts, publisher).await.expect("the store works");
    let plan = Plan::new(content(), &Plan::default(), &Addresses::new(), Arc::default());
    control.make_live(plan.expect("it is right"), 1).await.expect("the store works");
    let order = |what: OverrideWhat, for_ms: Option<u64>| OverrideOrder {
        what,
        author: "ann".to_owned(),
        message: String::new(),
        for_ms,
    };
    let service = || "shop/cart".parse().expect("a name");
    let endpoint = || "10.0.0.1:8080".parse().expect("a name");
    let eject = OverrideWhat::Eject { service: service(), endpoint: endpoint(), force: false };
    control.order(order(eject, Some(5_000))).await.expect("it can be");
    assert_eq!(control.out_and_shown(), (1, 1));

    // Its time is over, and what would run without it can't be.
    NOW_MS.store(7_000, Ordering::Relaxed);
    let right = mesh(&content());
    let snapshot = right.snapshot("edge", &Addresses::new()).expect("it is declared");
    control.compiled_to(right.with_snapshot("edge", wrong(&snapshot)));
    for _ in 0..2 {
        control.override_due = None;
        control.end_overrides().await;
        assert_eq!(control.out_and_shown(), (1, 1), "what holds is shown");
        assert!(control.override_due.is_some(), "it is tried again");
    }
    let readmit = || OverrideWhat::Readmit { service: service(), endpoint: endpoint() };
    let refused = control.order(order(readmit(), None)).await.expect_err("there is none");
    assert!(
        refused.to_string().contains("is over, and what runs is still held to it"),
        "{refused}"
    );
    // Nothing is over by now that was not before.
    control.compiled_to(mesh(&content()));
    control.end_overrides().await;
    assert_eq!((control.out_and_shown(), control.override_due), ((0, 0), None));
    let stored = control.parts.store.run(|store| store.orders()).await.expect("it works");
    assert_eq!(stored.len(), 0);
    let refused = control.order(order(readmit(), None)).await.expect_err("there is none");
    assert!(refused.to_string().contains("no order is about"), "{refused}");
    let epoch = control.published().expect("it is published").epoch;
    control.end_overrides().await;
    assert_eq!(control.published().expect("still").epoch, epoch, "once is enough");
}
