//! What of a cluster survives a change of snapshots.

use std::future::poll_fn;
use std::pin::pin;

use lateen_snapshot::model::ClusterId;

use super::*;
use crate::live::settle;
use crate::testing::{TestWorker, clusters, on_worker};

const FIRST: ClusterId = ClusterId(0);

#[test]
fn a_cluster_that_is_back_before_it_was_forgotten_stays_what_it_is() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let before = worker.switch(clusters(&[("a", &[1])])).cluster(&shard, FIRST).clone();
        let without = worker.switch(clusters(&[]));
        let again = worker.switch(clusters(&[("a", &[1])])).cluster(&shard, FIRST).clone();
        settle(&shard, &without).await;
        assert!(Rc::ptr_eq(&before.endpoints[0], &again.endpoints[0]));
        assert!(!again.endpoints[0].is_retired());
        assert!(shard.clusters.knows("a"));
    });
}

#[test]
fn a_cluster_that_has_gone_is_forgotten() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let gone = worker.switch(clusters(&[("a", &[1])])).cluster(&shard, FIRST).clone();
        let without = worker.switch(clusters(&[]));
        settle(&shard, &without).await;
        assert!(gone.endpoints[0].is_retired());
        assert!(!shard.clusters.knows("a"));
    });
}

#[test]
fn a_request_of_an_older_snapshot_leaves_nothing_behind() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let old = worker.switch(clusters(&[("a", &[1])]));
        let without = worker.switch(clusters(&[]));
        settle(&shard, &without).await;
        let late = old.cluster(&shard, FIRST);
        assert!(late.endpoints[0].is_retired(), "no connection to it is kept");
        assert!(!shard.clusters.knows("a"));
    });
}

#[test]
fn an_endpoint_that_stays_is_the_same_whatever_was_missed() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let first = worker.switch(clusters(&[("a", &[1, 2, 3])])).cluster(&shard, FIRST).clone();
        let second = worker.switch(clusters(&[("b", &[]), ("a", &[4, 3, 1])]));
        let second = second.cluster(&shard, ClusterId(1)).clone();
        assert!(Rc::ptr_eq(&first.endpoints[0], &second.endpoints[2]));
        assert!(Rc::ptr_eq(&first.endpoints[2], &second.endpoints[1]));
        assert_eq!([0, 1, 2].map(|at| first.endpoints[at].is_retired()), [false, true, false]);
        // The next one is not looked at before there is another.
        worker.switch(clusters(&[("a", &[9])]));
        let last = worker.switch(clusters(&[("a", &[1, 9])])).cluster(&shard, FIRST).clone();
        assert!(Rc::ptr_eq(&first.endpoints[0], &last.endpoints[0]));
        assert_eq!([0, 1, 2].map(|at| second.endpoints[at].is_retired()), [true, true, false]);
    });
}

/// In how many turns a change of ten clusters is settled.
async fn turns_of(worker: &mut TestWorker, endpoints: u8) -> usize {
    let names: Vec<String> = (0..10).map(|index| index.to_string()).collect();
    let all: Vec<u8> = (0..endpoints).collect();
    let snapshot =
        |of: &[u8]| clusters(&names.iter().map(|name| (&**name, of)).collect::<Vec<_>>());
    let shard = worker.shard.clone();
    let before = worker.switch(snapshot(&all));
    (0..10).for_each(|id| drop(before.cluster(&shard, ClusterId(id)).clone()));
    let after = worker.switch(snapshot(&all[1..]));
    let mut settling = pin!(settle(&shard, &after));
    let mut turns = 0;
    poll_fn(|cx| {
        turns += 1;
        settling.as_mut().poll(cx)
    })
    .await;
    turns
}

#[test]
fn a_change_takes_more_turns_the_more_endpoints_it_has() {
    on_worker(&[], async |mut worker| {
        assert_eq!(turns_of(&mut worker, 10).await, 1);
        assert_eq!(turns_of(&mut worker, 200).await, 4);
    });
}

/// An endpoint of the cluster is ejected, or comes back.
fn eject(cluster: &Cluster, ejected: &[usize]) {
    let address = |at: &usize| cluster.spec.endpoints[*at].address;
    cluster.totals.health.decide(|verdicts| {
        verdicts.ejected = ejected.iter().map(address).collect();
    });
}

#[test]
fn who_asks_how_many_are_in_service_hears_of_those_who_came_back() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let cluster = worker.switch(clusters(&[("a", &[1])])).cluster(&shard, FIRST).clone();
        eject(&cluster, &[0]);
        assert_eq!((cluster.in_service_count(), cluster.in_service_percent()), (0, 0));
        // Nobody chooses an endpoint here meanwhile: all requests go elsewhere.
        eject(&cluster, &[]);
        assert_eq!((cluster.in_service_count(), cluster.in_service_percent()), (1, 100));
    });
}

#[test]
fn an_older_view_leaves_the_counting_to_the_newer_one() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let old = worker.switch(clusters(&[("a", &[1, 2])])).cluster(&shard, FIRST).clone();
        let new = worker.switch(clusters(&[("a", &[1, 2, 3])])).cluster(&shard, FIRST).clone();
        for ejected in [&[0_usize][..], &[], &[0, 1], &[]] {
            eject(&new, ejected);
            // A request that is pinned to the old one is the first to choose.
            let _ = old.pick(&shard, None, &[]);
            assert_eq!(new.in_service_count(), 3 - ejected.len());
            // It says of its own what the newer one has found.
            assert_eq!(old.in_service_count(), 2 - ejected.len());
        }
    });
}

#[test]
fn an_older_snapshot_does_not_bring_old_caps_back() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let parts = |connections_max| {
            let mut snapshot = clusters(&[("a@near", &[1]), ("a@far", &[2])]);
            for part in &mut snapshot.clusters {
                let policy = &mut Arc::make_mut(part).policy;
                policy.part_of = Some("a".into());
                let caps = crate::bulkhead::caps_of(policy);
                policy.bulkhead = Some(Box::new(model::bulkhead::Caps { connections_max, ..caps }));
            }
            snapshot
        };
        let old = worker.switch(parts(5));
        let new = worker.switch(parts(1));
        let near = new.cluster(&shard, FIRST).clone();
        // It was never used by the newer one.
        let far = old.cluster(&shard, ClusterId(1)).clone();
        assert!(Rc::ptr_eq(&near.bulkhead, &far.bulkhead));
        let _unit: crate::bulkhead::ConnectionUnit = near.bulkhead.try_enter().expect("room");
        assert!(far.bulkhead.try_enter::<0>().is_none());
    });
}
