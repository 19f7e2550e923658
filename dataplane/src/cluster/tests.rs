//! What of a cluster survives a change of snapshots.

use lateen_snapshot::model::ClusterId;

use super::*;
use crate::live::settle;
use crate::testing::{clusters, on_worker};

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
