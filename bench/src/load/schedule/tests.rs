//! The schedule in simulated time: no socket, no clock.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::plan::{Amount, Exchange, Plan};
use super::super::tally::Tally;
use super::{Schedule, Turn};
use crate::engine::Engine;

const MS: u64 = 1_000_000;
const START_NS: u64 = 5_000_000_000;

fn plan(amount: Amount, rate_per_s: Option<f64>, warmup: Duration, threads: u32) -> Plan {
    Plan {
        url: String::new(),
        engine: Engine::Epoll,
        address: ([127, 0, 0, 1], 1).into(),
        spreads_sources: false,
        tls: None,
        exchange: Exchange::Tcp { message: b"", answer_bytes: 0 },
        keep_alive: true,
        connections: 4,
        threads,
        warmup,
        staged: false,
        amount,
        rate_per_s,
        timeout: Duration::from_secs(10),
    }
}

/// All turns of a thread whose connections are always free.
fn all_turns(plan: &Plan, thread: u32) -> Vec<Turn> {
    let mut schedule = Schedule::new(plan, thread, START_NS);
    std::iter::from_fn(|| schedule.take(START_NS)).take(1_000_000).collect()
}

#[test]
fn an_open_loop_is_due_at_even_distances_over_all_threads() {
    let plan = plan(Amount::Time(Duration::from_secs(1)), Some(1000.0), Duration::ZERO, 3);
    let mut due: Vec<u64> =
        (0..3).flat_map(|thread| all_turns(&plan, thread)).map(|turn| turn.due_ns).collect();
    due.sort_unstable();
    assert_eq!(due.len(), 1000);
    for (index, due_ns) in due.iter().enumerate() {
        assert!(due_ns.abs_diff(START_NS + index as u64 * MS) <= 1, "turn {index} at {due_ns}");
    }
}

#[test]
fn a_warm_up_is_made_but_does_not_count() {
    let warmup = Duration::from_millis(100);
    let timed = plan(Amount::Time(Duration::from_secs(1)), Some(1000.0), warmup, 1);
    let turns = all_turns(&timed, 0);
    assert_eq!(turns.len(), 1100);
    assert_eq!(turns.iter().filter(|turn| turn.measured).count(), 1000);
    assert!(turns.iter().all(|turn| turn.measured == (turn.due_ns >= START_NS + 100 * MS)));

    let counted = plan(Amount::Requests(10), Some(1000.0), warmup, 1);
    assert_eq!(all_turns(&counted, 0).iter().filter(|turn| turn.measured).count(), 10);
}

#[test]
fn a_warm_up_alone_ends_with_it() {
    let plan = plan(Amount::Requests(10), Some(1000.0), Duration::from_millis(100), 1);
    let mut schedule = Schedule::warm_up(&plan, 0, START_NS);
    let turns: Vec<Turn> = std::iter::from_fn(|| schedule.take(START_NS)).collect();
    assert_eq!((turns.len(), turns.iter().any(|turn| turn.measured)), (100, false));
}

#[test]
fn a_number_of_requests_is_shared_out_whole() {
    for rate in [None, Some(10.0)] {
        let plan = plan(Amount::Requests(10), rate, Duration::ZERO, 4);
        let shares: Vec<usize> = (0..4).map(|thread| all_turns(&plan, thread).len()).collect();
        assert_eq!(shares, [3, 3, 2, 2]);
    }
}

#[test]
fn a_closed_loop_is_due_at_once_until_the_end() {
    let plan = plan(Amount::Time(Duration::from_secs(1)), None, Duration::ZERO, 1);
    let mut schedule = Schedule::new(&plan, 0, START_NS);
    for now_ns in [START_NS, START_NS + 7, START_NS + 999 * MS] {
        assert_eq!(schedule.take(now_ns), Some(Turn { due_ns: now_ns, measured: true }));
    }
    assert_eq!(schedule.take(START_NS + 1000 * MS), None);
    assert_eq!(schedule.unsent(), 0);
}

#[test]
fn what_was_due_and_not_taken_is_counted() {
    let plan = plan(Amount::Time(Duration::from_secs(1)), Some(1000.0), Duration::ZERO, 1);
    let mut schedule = Schedule::new(&plan, 0, START_NS);
    for _ in 0..400 {
        assert!(schedule.take(START_NS).is_some());
    }
    assert_eq!(schedule.take(START_NS + 1000 * MS), None, "the time is over");
    assert_eq!(schedule.unsent(), 600);

    let mut stopped = Schedule::new(&plan, 0, START_NS);
    for _ in 0..400 {
        assert!(stopped.take(START_NS).is_some());
    }
    stopped.stop(START_NS + 500 * MS);
    assert_eq!(stopped.take(START_NS + 500 * MS), None);
    assert_eq!(stopped.unsent(), 100);
}

#[test]
fn a_schedule_far_from_its_start_is_still_exact() {
    let plan = plan(Amount::Time(Duration::from_secs(86_400)), Some(1e6), Duration::ZERO, 1);
    let mut schedule = Schedule::new(&plan, 0, START_NS);
    let pace = schedule.pace.as_mut().expect("an open loop");
    pace.next = 86_399_999_999;
    let turn = schedule.take(START_NS).expect("the last turn");
    assert_eq!(turn.due_ns, START_NS + 86_399_999_999_000);
    assert_eq!(schedule.take(START_NS), None);
}

/// A server that answers in 1 ms, but holds everything that is there from 500 to 1,500 ms.
fn answered_at(sent_ns: u64) -> u64 {
    let (stall, over) = (START_NS + 500 * MS, START_NS + 1500 * MS);
    if (stall..over).contains(&sent_ns) { over + MS } else { sent_ns + MS }
}

/// Runs the plan's connections against that server: all latencies, and the late sends.
fn simulate(plan: &Plan) -> (Histogram<u64>, u64, u64) {
    let mut schedule = Schedule::new(plan, 0, START_NS);
    let mut free_at = vec![START_NS; plan.connections as usize];
    let mut latencies = Histogram::new_with_bounds(1, 10_000 * MS, 3).expect("bounds");
    let mut late = 0;
    loop {
        let connection = free_at.iter_mut().min().expect("connections");
        let Some(turn) = schedule.take(*connection) else { break };
        let sent_ns = turn.due_ns.max(*connection);
        let answered_ns = answered_at(sent_ns);
        late += u64::from(sent_ns > turn.due_ns);
        let from_ns = if plan.rate_per_s.is_some() { turn.due_ns } else { sent_ns };
        latencies.saturating_record(answered_ns - from_ns);
        *connection = answered_ns;
    }
    (latencies, late, schedule.unsent())
}

#[test]
fn a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one() {
    let amount = Amount::Time(Duration::from_secs(6));
    let (open, late, unsent) = simulate(&plan(amount, Some(1000.0), Duration::ZERO, 1));
    assert_eq!(open.len() + unsent, 6000, "every turn is sent or counted as unsent");
    assert!(open.value_at_quantile(0.999) > 990 * MS, "{}", open.value_at_quantile(0.999));
    assert!(open.value_at_quantile(0.9) > 500 * MS, "the queue behind the stall counts too");
    assert!(late > 900, "{late}");

    let (closed, late, unsent) = simulate(&plan(amount, None, Duration::ZERO, 1));
    assert_eq!((late, unsent), (0, 0));
    assert!(closed.value_at_quantile(0.999) < 2 * MS, "{}", closed.value_at_quantile(0.999));
    assert!(closed.max() > 1000 * MS, "four requests met it");
}

/// What four connections make of a rate that a server can't keep up with: it answers each request
/// after `service_ns`. What was sent and still counts, what was sent late, what was never sent.
fn overload(amount: Amount, rate_per_s: f64, service_ns: u64) -> (u64, Tally) {
    let plan = plan(amount, Some(rate_per_s), Duration::ZERO, 1);
    let mut schedule = Schedule::new(&plan, 0, START_NS);
    let mut free_at = vec![START_NS; plan.connections as usize];
    let (mut sent, mut tally) = (0, Tally::new());
    loop {
        let connection = free_at.iter_mut().min().expect("connections");
        let Some(turn) = schedule.take(*connection) else { break };
        let sent_ns = turn.due_ns.max(*connection);
        tally.sent_late(sent_ns - turn.due_ns);
        sent += 1;
        *connection = sent_ns + service_ns;
    }
    tally.unsent = schedule.unsent();
    (sent, tally)
}

#[test]
fn a_server_that_cannot_keep_up_shows_in_what_is_late_and_in_what_is_unsent() {
    // Four connections of 10 ms a request are 400 requests/s.
    let second = Amount::Time(Duration::from_secs(1));
    let (sent, tally) = overload(second, 1000.0, 10 * MS);
    assert_eq!((sent, tally.unsent), (400, 600));
    // The first of each connection are in time, or less than what counts as late.
    assert_eq!(tally.late_sends, 396);
    assert!((580 * MS..600 * MS).contains(&tally.late_max_ns), "{}", tally.late_max_ns);

    // A number of requests is sent to the end, ever later.
    let (sent, tally) = overload(Amount::Requests(1000), 1000.0, 10 * MS);
    assert_eq!((sent, tally.unsent, tally.late_sends), (1000, 0, 996));
    assert!(tally.late_max_ns > 1400 * MS, "{}", tally.late_max_ns);

    // And a server that does keep up shows in neither.
    let (sent, tally) = overload(second, 399.0, 10 * MS);
    assert_eq!((sent, tally.unsent, tally.late_sends), (399, 0, 0));
}
