//! A service that works on so many requests at a time and is asked for more, in simulated time: what workers
//! let through, and how long it takes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use lateen_ring::spawn;
use lateen_snapshot::model::ClusterId;
use lateen_snapshot::model::overload::{Concurrency, Overload};

use super::*;
use crate::failure::Cause;
use crate::testing::{clusters, on_worker};

const POLICY: Overload = Overload {
    queue_delay: QueueDelay { target_ms: 5, interval_ms: 100 },
    concurrency: Some(Concurrency { minimum: 2, maximum: 1_000 }),
};

/// Works on as many requests at a time as it has slots, each for as long; others wait in their order.
struct Service {
    free_at: RefCell<BinaryHeap<Reverse<Instant>>>,
    takes: Duration,
}

impl Service {
    fn new(slots: usize, takes: Duration) -> Rc<Self> {
        let free_at = (0..slots).map(|_| Reverse(Instant::default())).collect();
        Rc::new(Self { free_at: RefCell::new(free_at), takes })
    }

    /// When one that is sent now is answered.
    fn answers_at(&self) -> Instant {
        let mut free_at = self.free_at.borrow_mut();
        let Reverse(begins) = free_at.pop().expect("it has a slot");
        let ends = begins.max(lateen_ring::now()) + self.takes;
        free_at.push(Reverse(ends));
        ends
    }
}

/// What became of the requests of one priority that came after the first ten seconds.
#[derive(Default)]
struct Outcome {
    asked: usize,
    took: Vec<Duration>,
}

struct Load {
    workers: usize,
    slots: usize,
    takes: Duration,
    /// Of the capacity, in percent.
    percent: [u32; 3],
}

const PRIORITIES: [Priority; 3] = [Priority::Critical, Priority::Default, Priority::Sheddable];
const WARM_UP: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(10);

/// Offers that load in an open loop. By priority.
fn offer(load: Load) -> [Outcome; 3] {
    let outcomes: Rc<RefCell<[Outcome; 3]>> = Rc::default();
    let of_tasks = outcomes.clone();
    on_worker(&[], async move |mut worker| {
        let Load { workers, slots, takes, percent } = load;
        let live = worker.switch(clusters(&[("a", &[1])]));
        let first = live.cluster(&worker.shard, ClusterId(0)).bulkhead.clone();
        let caps = Caps { connections_max: 10_000, pending_max: 10_000, ..first.caps.get() };
        let bulkheads: Vec<Rc<Bulkhead>> = (0..workers)
            .map(|_| {
                let bulkhead = Bulkhead::new(&worker.shard, caps, first.totals.clone());
                bulkhead.set_overload("a", Some(&POLICY));
                bulkhead
            })
            .collect();
        let service = Service::new(slots, takes);
        let until = lateen_ring::now() + WARM_UP + MEASURED;
        let capacity_per_s = slots as f64 / takes.as_secs_f64();
        let mut due = percent.map(|_| 0.0);
        let mut came = 0;
        let began = lateen_ring::now();
        while lateen_ring::now() < until {
            let elapsed_s = lateen_ring::now().since(began).as_secs_f64();
            for (index, priority) in PRIORITIES.into_iter().enumerate() {
                let rate = capacity_per_s * f64::from(percent[index]) / 100.0;
                while due[index] < elapsed_s * rate {
                    due[index] += 1.0;
                    came += 1;
                    let is_measured = elapsed_s > WARM_UP.as_secs_f64();
                    let bulkhead = bulkheads[came % workers].clone();
                    let (service, outcomes) = (service.clone(), of_tasks.clone());
                    spawn(async move {
                        let took = request(&bulkhead, &service, priority).await;
                        if is_measured {
                            let outcome = &mut outcomes.borrow_mut()[index];
                            outcome.asked += 1;
                            outcome.took.extend(took);
                        }
                    });
                }
            }
            lateen_ring::sleep(Duration::from_millis(1)).await;
        }
        // Those under way.
        lateen_ring::sleep(Duration::from_secs(5)).await;
    });
    let mut outcomes = Rc::into_inner(outcomes).expect("all tasks are over").into_inner();
    outcomes.iter_mut().for_each(|outcome| outcome.took.sort_unstable());
    outcomes
}

async fn request(
    bulkhead: &Rc<Bulkhead>,
    service: &Service,
    priority: Priority,
) -> Option<Duration> {
    let came = lateen_ring::now();
    let entered = bulkhead.enter(priority, &Deadline::new(), Instant::NEVER).await;
    let unit: RequestUnit = entered.ok()?;
    let sent = lateen_ring::now();
    lateen_ring::sleep_until(service.answers_at()).await;
    let answered = lateen_ring::now();
    unit.observe(sent, Some(answered));
    Some(answered.since(came))
}

#[test]
fn at_three_times_what_a_service_can_do_it_does_that_and_in_time() {
    for (workers, slots, takes_ms) in [(1, 4, 50), (1, 16, 20), (2, 16, 20), (16, 16, 20)] {
        let takes = Duration::from_millis(takes_ms);
        let [_, outcome, _] = offer(Load { workers, slots, takes, percent: [0, 300, 0] });
        let what = format!("{workers} workers, {slots} slots of {takes:?}");
        let peak = slots as f64 * MEASURED.as_secs_f64() / takes.as_secs_f64();
        let answered = outcome.took.len() as f64;
        assert!(answered >= 0.9 * peak, "{what}: {answered} answered of {peak} possible");
        assert!(outcome.asked as f64 > 2.9 * peak, "{what}: {} asked", outcome.asked);
        let p99 = outcome.took[outcome.took.len() * 99 / 100];
        assert!(p99 <= 3 * takes, "{what}: 99 of 100 took up to {p99:?}");
    }
}

#[test]
fn below_what_it_can_do_all_are_answered() {
    let takes = Duration::from_millis(20);
    let [_, outcome, _] = offer(Load { workers: 2, slots: 16, takes, percent: [0, 70, 0] });
    assert_eq!(outcome.took.len(), outcome.asked);
    assert!(outcome.took.last().is_some_and(|longest| *longest <= 2 * takes));
}

#[test]
fn the_least_important_go_first_and_the_most_important_stay() {
    let takes = Duration::from_millis(20);
    let percent = [50, 100, 150];
    let outcomes = offer(Load { workers: 2, slots: 16, takes, percent });
    let shares = outcomes.map(|of| 100 * of.took.len() / of.asked);
    let [critical, default, sheddable] = shares;
    assert_eq!(critical, 100, "{shares:?}");
    assert!((30..=60).contains(&default), "{shares:?}");
    assert!(sheddable <= 20, "{shares:?}");
}

#[test]
fn what_is_known_outlives_a_snapshot_and_is_let_go_with_the_policy() {
    on_worker(&[], async |mut worker| {
        let live = worker.switch(clusters(&[("a", &[1])]));
        let bulkhead = live.cluster(&worker.shard, ClusterId(0)).bulkhead.clone();
        let limits = || worker.shard.counters().of_process().overload.limits();
        assert!(limits().is_empty() && !bulkhead.caps_requests());
        bulkhead.set_overload("a", Some(&POLICY));
        assert_eq!(limits(), [("a".to_owned(), 10)]);
        assert_eq!(bulkhead.terms(Resource::Request).cap, 10);
        let bounds = Concurrency { minimum: 3, maximum: 5 };
        let other = Overload { concurrency: Some(bounds), ..POLICY };
        bulkhead.set_caps(Caps { requests_max: Some(4), ..bulkhead.caps.get() });
        bulkhead.set_overload("a", Some(&other));
        assert_eq!(limits(), [("a".to_owned(), 5)]);
        assert_eq!(bulkhead.terms(Resource::Request).cap, 4, "that of the bulkhead holds too");
        bulkhead.set_overload("a", None);
        assert!(limits().is_empty());
        assert_eq!(bulkhead.terms(Resource::Request), Terms { cap: 4, delay: None });
    });
}

#[test]
fn who_waits_is_told_though_nobody_else_comes_and_nothing_comes_free() {
    on_worker(&[], async |mut worker| {
        let live = worker.switch(clusters(&[("a", &[1])]));
        let bulkhead = live.cluster(&worker.shard, ClusterId(0)).bulkhead.clone();
        bulkhead.set_caps(Caps {
            requests_max: Some(1),
            queue_timeout_ms: 10_000,
            ..bulkhead.caps.get()
        });
        bulkhead.set_overload("a", Some(&Overload { concurrency: None, ..POLICY }));
        let _hangs: RequestUnit = bulkhead.try_enter().expect("room");
        let waited: Rc<RefCell<Vec<(Priority, Duration, bool)>>> = Rc::default();
        for priority in PRIORITIES {
            let (bulkhead, waited) = (bulkhead.clone(), waited.clone());
            spawn(async move {
                let (began, deadline) = (lateen_ring::now(), Deadline::new());
                let entered: Result<RequestUnit, Failure> =
                    bulkhead.enter(priority, &deadline, Instant::NEVER).await;
                let is_overload = entered.is_err_and(|it| it.cause == Cause::Overloaded);
                waited.borrow_mut().push((priority, lateen_ring::now() - began, is_overload));
            });
        }
        lateen_ring::sleep(Duration::from_secs(20)).await;
        let mut waited = waited.take();
        waited.sort_by_key(|(priority, ..)| *priority as u8);
        let late = Duration::from_millis(300);
        for (priority, took, is_overload) in &waited {
            match priority {
                Priority::Critical => {
                    assert_eq!((took.as_secs(), *is_overload), (10, false));
                }
                _ => assert!(*took <= late && *is_overload, "{priority:?} waited for {took:?}"),
            }
        }
        assert_eq!(waited.len(), 3);
    });
}
