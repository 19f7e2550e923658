//! Bulkheads on one worker, and on two that take from each other.

use std::pin::pin;

use lateen_ring::{Address, Listener, Stream, spawn};
use lateen_snapshot::model::ClusterId;

use super::*;
use crate::cluster::Cluster;
use crate::decide::balance::EndpointIndex;
use crate::decide::balance::load::OutOfService;
use crate::failure::Cause;
use crate::testing::{TestWorker, clusters, on_worker};

const CAPS: Caps = Caps {
    connections_max: 2,
    pending_max: 1,
    requests_max: None,
    retries_max: Some(1),
    queue_timeout_ms: 100,
};

fn cluster(worker: &mut TestWorker, caps: Caps) -> Rc<Cluster> {
    let live = worker.switch(clusters(&[("a", &[1, 2])]));
    let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
    cluster.bulkhead.set_caps(caps);
    cluster
}

async fn enter(bulkhead: &Rc<Bulkhead>) -> Result<ConnectionUnit, Failure> {
    bulkhead.enter(Priority::Default, &Deadline::new(), Instant::NEVER).await
}

fn try_enter(bulkhead: &Rc<Bulkhead>) -> Option<ConnectionUnit> {
    bulkhead.try_enter()
}

/// A connection to the first endpoint of a cluster, with what is at its other end.
async fn connected(shard: &Shard, cluster: &Rc<Cluster>) -> (Chosen, Upstream, (Listener, Stream)) {
    let chosen = Chosen { cluster: cluster.clone(), index: EndpointIndex::new(0) };
    let address = Address::from(chosen.address());
    let listener = Listener::bind(&address).expect("the virtual address is free");
    let unit = enter(&cluster.bulkhead).await.expect("room");
    let stream = Stream::connect(&address).await.expect("it listens");
    let peer = listener.accept().await.expect("a connection");
    (chosen, Upstream::new(shard, stream, unit), (listener, peer))
}

/// Set by a task, seen by the test.
fn flag() -> (Rc<Cell<bool>>, Rc<Cell<bool>>) {
    let flag = Rc::new(Cell::new(false));
    (Rc::clone(&flag), flag)
}

fn overflows(worker: &TestWorker, why: Overflow) -> u64 {
    worker.shard.metrics().bulkhead.overflow(Resource::Connection, why).value()
}

#[test]
fn who_waits_gets_what_comes_free_on_whatever_worker() {
    on_worker(&[], async |mut worker| {
        let here = cluster(&mut worker, CAPS).bulkhead.clone();
        let there = Bulkhead::new(&worker.shard, CAPS, here.totals.clone());
        let (one, two) = (enter(&here).await.expect("room"), enter(&there).await.expect("room"));
        assert!(try_enter(&here).is_none(), "no more than the cap, of both");
        let waiting = here.clone();
        let waits = spawn(async move {
            let _unit = enter(&waiting).await.expect("its turn comes");
            lateen_ring::sleep(Duration::from_secs(1)).await;
        });
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert_eq!(here.gate(Resource::Connection).waiting(), 1);
        drop(two);
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert_eq!(here.gate(Resource::Connection).waiting(), 0);
        assert_eq!(here.gate(Resource::Connection).lent(), 2);
        assert!(try_enter(&there).is_none(), "it went to who waited");
        // A task that is aborted gives its unit back.
        waits.abort();
        drop(one);
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert_eq!(here.gate(Resource::Connection).lent(), 0);
        assert_eq!(worker.shard.metrics().bulkhead.queued(Resource::Connection).value(), 1);
    });
}

#[test]
fn a_full_queue_turns_away_and_after_a_wait_in_vain_nobody_waits_until_something_comes_free() {
    on_worker(&[], async |mut worker| {
        let bulkhead = cluster(&mut worker, CAPS).bulkhead.clone();
        let units = [enter(&bulkhead).await.expect("room"), enter(&bulkhead).await.expect("room")];
        let began = lateen_ring::now();
        let waiting = bulkhead.clone();
        let (is_over, tells) = flag();
        spawn(async move {
            let failure = enter(&waiting).await.expect_err("nothing comes free");
            assert_eq!(failure.cause, Cause::Overflow);
            tells.set(true);
        });
        lateen_ring::sleep(Duration::from_millis(10)).await;
        let failure = enter(&bulkhead).await.expect_err("the queue is full");
        assert_eq!((failure.cause, overflows(&worker, Overflow::QueueFull)), (Cause::Overflow, 1));
        lateen_ring::sleep(Duration::from_millis(100)).await;
        assert!(is_over.get(), "{:?}", lateen_ring::now().since(began));
        assert_eq!(overflows(&worker, Overflow::TimedOut), 1);
        let began = lateen_ring::now();
        assert!(enter(&bulkhead).await.is_err());
        assert_eq!(lateen_ring::now(), began, "at once");
        assert_eq!(overflows(&worker, Overflow::FailFast), 1);
        let [one, _two] = units;
        drop(one);
        let _again = enter(&bulkhead).await.expect("room again");
        let deadline = Deadline::new();
        let mut waits = pin!(bulkhead.enter::<{ Resource::Connection as usize }>(
            Priority::Default,
            &deadline,
            Instant::NEVER
        ));
        let is_waiting = poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await;
        assert!(is_waiting, "and again one may wait");
    });
}

#[test]
fn the_requests_own_time_ends_a_wait_as_a_timeout() {
    on_worker(&[], async |mut worker| {
        let caps = Caps { connections_max: 1, ..CAPS };
        let bulkhead = cluster(&mut worker, caps).bulkhead.clone();
        let _unit = enter(&bulkhead).await.expect("room");
        let until = lateen_ring::now() + Duration::from_millis(10);
        let deadline = Deadline::new();
        let waited: Result<ConnectionUnit, _> =
            bulkhead.enter(Priority::Default, &deadline, until).await;
        assert_eq!(waited.expect_err("it takes too long").cause, Cause::UpstreamTimeout);
        assert_eq!(overflows(&worker, Overflow::TimedOut), 0);
        assert!(!bulkhead.gate(Resource::Connection).is_failing());
    });
}

#[test]
fn a_connection_that_is_done_with_goes_to_who_waits() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let cluster = cluster(&mut worker, Caps { connections_max: 1, ..CAPS });
        let (chosen, upstream, _peer) = connected(&shard, &cluster).await;
        let (of_task, waiting) = (shard.clone(), cluster.clone());
        let (is_over, tells) = flag();
        spawn(async move {
            let idle = || of_task.pool.take_any(&of_task, &waiting);
            let deadline = Deadline::new();
            let (of, priority) = (&waiting.idle, Priority::Default);
            let room = waiting.bulkhead.room(of, priority, &deadline, Instant::NEVER, idle).await;
            let Ok(Room::Connection(handed)) = room else { panic!("{room:?}") };
            let (chosen, upstream) = *handed;
            of_task.pool.put(&of_task, &chosen, upstream);
            tells.set(true);
        });
        lateen_ring::sleep(Duration::from_millis(10)).await;
        shard.pool.put(&shard, &chosen, upstream);
        assert_eq!(shard.pool.count(), 0, "it is not idle for a moment");
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert!(is_over.get());
        assert_eq!(shard.metrics().bulkhead.handed_over.value(), 1);
        assert_eq!(shard.pool.count(), 1);
        // The next one finds no room, and uses it, to whatever endpoint it leads.
        cluster.bulkhead.gate(Resource::Connection).set_failing();
        let (chosen, upstream) = shard.pool.take_any(&shard, &cluster).expect("one idles");
        shard.pool.put(&shard, &chosen, upstream);
        assert!(!cluster.bulkhead.gate(Resource::Connection).is_failing(), "one idles again");
        let idle = || shard.pool.take_any(&shard, &cluster);
        let room = cluster
            .bulkhead
            .room(&cluster.idle, Priority::Default, &Deadline::new(), Instant::NEVER, idle)
            .await;
        assert!(matches!(room, Ok(Room::Connection(_))), "{room:?}");
        assert_eq!(cluster.bulkhead.gate(Resource::Connection).waiting(), 0);
    });
}

/// Of a service that has some endpoints near and some far.
fn parts(worker: &mut TestWorker) -> [Rc<Cluster>; 2] {
    let mut snapshot = clusters(&[("shop@near", &[1]), ("shop@far", &[2])]);
    for part in &mut snapshot.clusters {
        let policy = &mut Arc::make_mut(part).policy;
        policy.part_of = Some("shop".into());
        policy.bulkhead = Some(Box::new(Caps { connections_max: 1, ..CAPS }));
    }
    let live = worker.switch(snapshot);
    [0, 1].map(|index| live.cluster(&worker.shard, ClusterId(index)).clone())
}

#[test]
fn parts_of_a_service_share_its_caps_and_its_budget() {
    on_worker(&[], async |mut worker| {
        let [near, far] = parts(&mut worker);
        let unit = enter(&near.bulkhead).await.expect("room");
        assert!(try_enter(&far.bulkhead).is_none());
        drop(unit);
        assert!(try_enter(&far.bulkhead).is_some());
        let now_ns = lateen_ring::now().as_nanos();
        let paid = (0..100).filter(|nth| [&near, &far][nth % 2].pay_for_try(now_ns)).count();
        assert_eq!(paid, 10, "as many as one service may at first");
    });
}

/// Room for a connection to a cluster, for who waits no longer than a moment.
async fn room_soon(
    cluster: &Cluster,
    idle: impl FnOnce() -> Option<(Chosen, Upstream)>,
) -> Result<Room, Failure> {
    let (deadline, until) = (Deadline::new(), lateen_ring::now() + Duration::from_millis(50));
    cluster.bulkhead.room(&cluster.idle, Priority::Default, &deadline, until, idle).await
}

#[test]
fn what_idles_of_one_part_is_given_up_for_who_waits_for_another() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let [near, far] = parts(&mut worker);
        let (chosen, upstream, _peer) = connected(&shard, &near).await;
        shard.pool.put(&shard, &chosen, upstream);
        assert_eq!(shard.pool.count(), 1);
        let room = room_soon(&far, || None).await;
        assert!(matches!(room, Ok(Room::Unit(_))), "{room:?}");
        assert_eq!(shard.pool.count(), 0);
    });
}

#[test]
fn a_connection_of_one_part_makes_room_for_who_waits_for_another() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let [near, far] = parts(&mut worker);
        let (chosen, upstream, _peer) = connected(&shard, &near).await;
        let (is_over, tells) = flag();
        spawn(async move {
            let deadline = Deadline::new();
            let room = far
                .bulkhead
                .room(&far.idle, Priority::Default, &deadline, Instant::NEVER, || None)
                .await;
            assert!(matches!(room, Ok(Room::Unit(_))), "{room:?}");
            tells.set(true);
        });
        lateen_ring::sleep(Duration::from_millis(10)).await;
        shard.pool.put(&shard, &chosen, upstream);
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert!(is_over.get());
        assert_eq!(shard.pool.count(), 0);
    });
}

#[test]
fn another_try_waits_for_nobody() {
    on_worker(&[], async |mut worker| {
        let bulkhead = cluster(&mut worker, CAPS).bulkhead.clone();
        let unit = bulkhead.try_retry().expect("room");
        assert!(bulkhead.try_retry().is_none());
        let counted =
            worker.shard.metrics().bulkhead.overflow(Resource::Retry, Overflow::QueueFull);
        assert_eq!(counted.value(), 1);
        drop(unit);
        assert!(bulkhead.try_retry().is_some());
    });
}

#[test]
fn lower_caps_of_a_snapshot_hold_once_enough_came_back() {
    on_worker(&[], async |mut worker| {
        let bulkhead = cluster(&mut worker, CAPS).bulkhead.clone();
        let units = [enter(&bulkhead).await, enter(&bulkhead).await];
        bulkhead.set_caps(Caps { connections_max: 1, ..CAPS });
        let [one, two] = units;
        drop(one);
        assert!(try_enter(&bulkhead).is_none());
        drop(two);
        assert!(try_enter(&bulkhead).is_some());
    });
}

#[test]
fn what_nobody_takes_goes_back_and_what_lower_caps_do_not_let_a_worker_keep() {
    on_worker(&[], async |mut worker| {
        let many = Caps { connections_max: 1_280, ..CAPS };
        let bulkhead = cluster(&mut worker, many).bulkhead.clone();
        let lent = || bulkhead.gate(Resource::Connection).lent();
        for _ in 0..2 {
            drop(enter(&bulkhead).await.expect("room"));
            assert!(lent() > 1, "some are kept for who comes next");
            lateen_ring::sleep(3 * limits::BULKHEAD_UNUSED).await;
            assert_eq!(lent(), 0);
        }
        // Not at once either, and whatever becomes of other units meanwhile.
        let unit = enter(&bulkhead).await.expect("room");
        lateen_ring::sleep(3 * limits::BULKHEAD_UNUSED).await;
        assert_eq!(lent(), 1, "nobody takes the others");
        drop(unit);
        for _ in 0..40 {
            drop(bulkhead.try_retry());
            lateen_ring::sleep(limits::BULKHEAD_UNUSED / 10).await;
            let retry = bulkhead.try_retry();
            lateen_ring::sleep(limits::BULKHEAD_UNUSED / 10).await;
            drop(retry);
        }
        assert_eq!(lent(), 0);
        drop(enter(&bulkhead).await.expect("room"));
        assert!(lent() > 1);
        let mut spec = ClusterSpec::clone(&clusters(&[("a", &[1])]).clusters[0]);
        spec.policy.bulkhead = Some(Box::new(CAPS));
        bulkhead.follow(&spec);
        assert_eq!(lent(), 0, "at once, for others may ask for it");
    });
}

#[test]
fn what_idles_on_an_endpoint_out_of_service_is_given_up_for_who_waits() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let cluster = cluster(&mut worker, Caps { connections_max: 1, ..CAPS });
        let (chosen, upstream, _peer) = connected(&shard, &cluster).await;
        shard.pool.put(&shard, &chosen, upstream);
        cluster.set_out_of_service(chosen.index, OutOfService::Ejected, true);
        let room = room_soon(&cluster, || shard.pool.take_any(&shard, &cluster)).await;
        assert!(matches!(room, Ok(Room::Unit(_))), "{room:?}");
        assert_eq!(shard.pool.count(), 0);
    });
}

#[test]
fn where_nobody_may_wait_what_idles_elsewhere_is_given_up_for_who_comes_next() {
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let [near, far] = parts(&mut worker);
        for part in [&near, &far] {
            part.bulkhead.set_caps(Caps { connections_max: 1, pending_max: 0, ..CAPS });
        }
        let (chosen, upstream, _peer) = connected(&shard, &near).await;
        shard.pool.put(&shard, &chosen, upstream);
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert!(enter(&far.bulkhead).await.is_err());
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert!(enter(&far.bulkhead).await.is_ok());
        assert_eq!(shard.pool.count(), 0);
    });
}

/// Whether a connection that is done with goes to who waits on its worker, since so long after another one
/// on another worker.
fn is_handed_over(after: Duration) -> bool {
    let (is_handed, tells) = flag();
    on_worker(&[], async |mut worker| {
        let shard = worker.shard.clone();
        let caps = Caps { connections_max: 1, pending_max: 2, queue_timeout_ms: 10_000, ..CAPS };
        let cluster = cluster(&mut worker, caps);
        let there = Bulkhead::new(&shard, caps, cluster.bulkhead.totals.clone());
        let (chosen, upstream, _peer) = connected(&shard, &cluster).await;
        spawn(async move {
            let _unit = enter(&there).await.expect("its turn comes");
            lateen_ring::sleep(Duration::from_secs(1)).await;
        });
        lateen_ring::sleep(after).await;
        let waiting = cluster.clone();
        spawn(async move {
            let (of, deadline) = (&waiting.idle, Deadline::new());
            let waits =
                waiting.bulkhead.room(of, Priority::Default, &deadline, Instant::NEVER, || None);
            let room = waits.await;
            tells.set(matches!(room, Ok(Room::Connection(_))));
            lateen_ring::sleep(Duration::from_secs(1)).await;
        });
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert_eq!(cluster.bulkhead.waiting(), 2);
        shard.pool.put(&shard, &chosen, upstream);
        lateen_ring::sleep(Duration::from_millis(10)).await;
        assert_eq!(cluster.bulkhead.waiting(), 1, "one of both has it");
    });
    is_handed.get()
}

#[test]
fn who_waits_on_another_worker_is_not_passed_over_for_long() {
    assert!(is_handed_over(limits::HAND_OVER_LEAD / 2));
    assert!(!is_handed_over(2 * limits::HAND_OVER_LEAD));
}
