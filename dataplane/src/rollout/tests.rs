//! The order of changes, and what is told of each; the workers are the test.

use std::sync::mpsc;

use lateen_snapshot::validate::patterns::Patterns;

use super::*;
use crate::testing::listening;

const WORKERS: usize = 2;

struct Told(mpsc::Receiver<Outcome>);

impl Told {
    fn outcome(&self) -> Option<Outcome> {
        self.0.try_recv().ok()
    }

    fn reason(&self) -> String {
        match self.outcome() {
            Some(Outcome::Rejected { reason }) => reason,
            other => panic!("not refused, but {other:?}"),
        }
    }

    fn is_applied(&self) -> bool {
        matches!(self.outcome(), Some(Outcome::Applied { .. }))
    }
}

fn rollout() -> Rollout {
    let loaded = Loaded::first(epoch(5), Snapshot::default(), &mut Patterns::default());
    let loaded = Arc::new(loaded.expect("an empty one is whole"));
    let word = Arc::new(EpochWord::new(loaded.serial));
    let published = Arc::new(Published::new(loaded.clone()));
    Rollout::new(word, loaded, published, Arc::default(), WORKERS)
}

const fn epoch(number: u64) -> Epoch {
    Epoch { store: 1, number }
}

fn offer(epoch: Epoch, snapshot: Snapshot) -> (Offer, Told) {
    let (tell, told) = mpsc::channel();
    let tables = RouteTables::build(&snapshot, &mut Patterns::default()).expect("valid");
    let answer = Box::new(move |outcome| tell.send(outcome).expect("the test listens"));
    (Offer { epoch, snapshot, tables, answer }, Told(told))
}

/// Offers an empty snapshot.
fn offered(rollout: &mut Rollout, number: u64) -> (Option<Orders>, Told) {
    let (offer, told) = offer(epoch(number), Snapshot::default());
    (rollout.offer(offer), told)
}

/// All workers do what a change asks of them; returns the orders of the next one.
fn carry_out(rollout: &mut Rollout) -> Option<Orders> {
    let serial = rollout.pending.as_ref().expect("a change is under way").loaded.serial;
    for worker in 0..WORKERS {
        let _ = rollout.prepared(worker, serial, Duration::ZERO);
    }
    let mut next = None;
    for worker in 0..WORKERS {
        next = rollout.switched(worker, serial, Duration::ZERO);
    }
    next
}

#[test]
fn epochs_never_go_back() {
    let mut rollout = rollout();
    let (orders, seventh) = offered(&mut rollout, 7);
    assert!(orders.is_some());
    let (_, sixth) = offered(&mut rollout, 6);
    assert!(sixth.reason().contains("1-7"), "7 is under way");
    let (_, eighth) = offered(&mut rollout, 8);
    let (_, again) = offered(&mut rollout, 7);
    assert!(again.reason().contains("1-8"), "8 waits");
    assert!(carry_out(&mut rollout).is_some(), "8 is next");
    assert!(seventh.is_applied());
    assert!(carry_out(&mut rollout).is_none());
    assert!(eighth.is_applied());
    assert_eq!(rollout.published().loaded().epoch, epoch(8));
}

#[test]
fn what_is_under_way_is_not_done_twice() {
    let mut rollout = rollout();
    let (_, first) = offered(&mut rollout, 7);
    let (orders, again) = offered(&mut rollout, 7);
    assert!(orders.is_none() && rollout.waiting.is_none());
    assert_eq!(again.outcome(), Some(Outcome::Superseded));
    assert!(carry_out(&mut rollout).is_none());
    assert!(first.is_applied());
    let (_, again) = offered(&mut rollout, 7);
    assert_eq!(again.outcome(), Some(Outcome::Superseded), "it was told when it was done");
}

#[test]
fn of_those_that_wait_the_newest_is_next() {
    let mut rollout = rollout();
    let (_, _sixth) = offered(&mut rollout, 6);
    let (_, seventh) = offered(&mut rollout, 7);
    let (_, eighth) = offered(&mut rollout, 8);
    assert_eq!(seventh.outcome(), Some(Outcome::Superseded));
    assert!(carry_out(&mut rollout).is_some());
    assert!(carry_out(&mut rollout).is_none());
    assert!(eighth.is_applied());
}

#[test]
fn it_is_ready_when_every_worker_has_switched() {
    let mut rollout = rollout();
    let (_, told) = offered(&mut rollout, 6);
    let serial = rollout.pending.as_ref().expect("it is under way").loaded.serial;
    for worker in 0..WORKERS {
        let _ = rollout.prepared(worker, serial, Duration::ZERO);
    }
    for worker in 0..WORKERS {
        assert_eq!(rollout.lifecycle.phase(), Phase::Starting);
        let _ = rollout.switched(worker, serial, Duration::ZERO);
    }
    assert_eq!(rollout.lifecycle.phase(), Phase::Ready);
    assert!(told.is_applied());
}

#[test]
fn a_new_store_begins_anew() {
    let mut rollout = rollout();
    let (offer, told) = offer(Epoch { store: 2, number: 1 }, Snapshot::default());
    assert!(rollout.offer(offer).is_some());
    carry_out(&mut rollout);
    assert!(told.is_applied());
}

#[test]
fn a_change_that_no_worker_takes_is_freed_here() {
    let mut rollout = rollout();
    let (orders, told) = offered(&mut rollout, 6);
    let orders = orders.expect("what workers are to prepare");
    let serial = rollout.pending.as_ref().expect("it is under way").loaded.serial;
    assert!(rollout.unprepared(serial, &io::Error::other("no room")).is_none());
    let abandon = rollout.prepared(1, serial, Duration::ZERO).expect("all have answered");
    assert!(abandon.iter().all(|order| matches!(order, Order::Abandon)));
    assert!(told.reason().contains("no room"));
    rollout.tidy();
    assert!(rollout.is_untidy(), "a worker still has it");
    drop(orders);
    rollout.tidy();
    assert!(!rollout.is_untidy());
}

fn bound() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[test]
fn a_change_that_is_refused_takes_no_slots() {
    let mut rollout = rollout();
    let ((_taken, taken), (free, address)) = (bound(), bound());
    drop(free);
    for number in 6..10 {
        let (offer, told) = offer(epoch(number), listening(&[address, taken]));
        assert!(rollout.offer(offer).is_none());
        assert!(told.reason().contains("in use"));
    }
    let (offer, told) = offer(epoch(10), listening(&[address]));
    let orders = rollout.offer(offer).expect("a free port");
    carry_out(&mut rollout);
    assert!(told.is_applied());
    let slots: Vec<_> = rollout.live.slots().map(|(slot, _)| slot).collect();
    assert_eq!(slots, [ListenerSlot(0)], "the first that is ever listened on");
    drop(orders);
}

#[test]
fn a_listener_may_move_between_one_address_and_all() {
    let mut rollout = rollout();
    let (free, one) = bound();
    drop(free);
    let all = SocketAddr::from(([0, 0, 0, 0], one.port()));
    let all_v6 = SocketAddr::from(([0_u16; 8], one.port()));
    let mut workers = Vec::new();
    for (number, address) in (6..).zip([one, all, one, all_v6, all]) {
        let (offer, told) = offer(epoch(number), listening(&[address]));
        let orders = rollout.offer(offer);
        if let Some(Outcome::Rejected { reason }) = told.outcome() {
            panic!("{address}: {reason}");
        }
        carry_out(&mut rollout);
        // The workers close the one before, which they hold until then.
        workers = vec![orders];
    }
    drop(workers);
}

#[test]
fn an_address_that_another_of_our_listeners_keeps_is_refused() {
    let mut rollout = rollout();
    let (free, one) = bound();
    drop(free);
    let all = SocketAddr::from(([0, 0, 0, 0], one.port()));
    let (first, _told) = offer(epoch(6), listening(&[one]));
    let _orders = rollout.offer(first);
    carry_out(&mut rollout);
    let (both, told) = offer(epoch(7), listening(&[one, all]));
    assert!(rollout.offer(both).is_none());
    assert!(told.reason().contains("in use"));
}
