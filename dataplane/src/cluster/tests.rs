//! What of a cluster survives a change of snapshots.

use std::future::poll_fn;
use std::pin::pin;

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
