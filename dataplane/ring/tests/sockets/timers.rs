//! Deadlines and sleeps as tasks use them; the wheel's own tests are beside it.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use lateen_ring::{
    Deadline, Elapsed, Instant, clock, mailbox, now, sleep, sleep_until, spawn, yield_now,
};

use crate::support::{on_all, on_each, pair, until};

const MS: Duration = Duration::from_millis(1);

#[test]
fn sleeps_end_in_the_order_of_their_deadlines_and_never_early() {
    on_all(async || {
        let order = Rc::new(RefCell::new(Vec::new()));
        let began = now();
        for index in [5_u32, 1, 4, 2, 3] {
            let order = order.clone();
            spawn(async move {
                sleep_until(began + 10 * MS * index).await;
                assert!(clock().since(began) >= 10 * MS * index);
                order.borrow_mut().push(index);
            });
        }
        until("all sleeps end", || order.borrow().len() == 5).await;
        assert_eq!(*order.borrow(), [1, 2, 3, 4, 5]);
        // One that has passed already is done at once, or in the next turn.
        sleep_until(began).await;
        sleep(Duration::ZERO).await;
    });
}

#[test]
fn a_guard_follows_its_deadline_wherever_it_is_moved() {
    on_all(async || {
        let deadline = Rc::new(Deadline::new());
        assert_eq!((deadline.at(), deadline.is_past()), (Instant::NEVER, false));
        assert_eq!(deadline.guard(async { 7 }).await, Ok(7));

        // Passed.
        deadline.set_after(2 * MS);
        assert_eq!(deadline.guard(pending::<()>()).await, Err(Elapsed));
        assert!(deadline.is_past());
        // A future that is done wins even over a deadline that has passed.
        assert_eq!(deadline.guard(async { 8 }).await, Ok(8));

        // Moved later and later while it is waited for, then let go.
        let moved = Rc::new(Cell::new(0));
        deadline.set_after(20 * MS);
        let (mover, counted) = (deadline.clone(), moved.clone());
        spawn(async move {
            for _ in 0..10 {
                yield_now().await;
                mover.set_after(20 * MS);
                counted.set(counted.get() + 1);
            }
        });
        let began = now();
        assert_eq!(deadline.guard(pending::<()>()).await, Err(Elapsed));
        assert_eq!(moved.get(), 10);
        assert!(clock().since(began) >= 20 * MS);

        // Moved from far away to nearby while it is waited for.
        deadline.set_after(Duration::from_secs(3_600));
        let mover = deadline.clone();
        spawn(async move { mover.set_after(2 * MS) });
        assert_eq!(deadline.guard(pending::<()>()).await, Err(Elapsed));

        // Cleared: what it guards has all the time it wants.
        deadline.set_after(MS);
        deadline.clear();
        assert_eq!(deadline.guard(sleep(10 * MS)).await, Ok(()));
    });
}

#[test]
fn a_guard_that_gives_up_a_receive_loses_nothing() {
    on_all(async || {
        use std::io::Write;
        let (stream, mut peer) = pair().await;
        let deadline = Deadline::new();
        deadline.set_after(2 * MS);
        assert!(deadline.guard(stream.recv()).await.is_err());
        peer.write_all(b"late").expect("connected");
        deadline.clear();
        let lease = deadline.guard(stream.recv()).await.expect("no deadline").expect("no reset");
        assert_eq!(&lease.expect("bytes")[..], b"late");
    });
}

#[test]
fn an_idle_worker_sleeps() {
    on_each(
        |config| config,
        |runtime| {
            let turns = Rc::new(Cell::new(0));
            let (counted, seen) = (turns.clone(), turns.clone());
            let test = async move {
                // Sockets that wait for their peers, a deadline far ahead and one that is cleared.
                let (stream, _peer) = pair().await;
                let (multishot, _other) = pair().await;
                multishot.set_multishot(true);
                stream.arm_recv();
                multishot.arm_recv();
                let far = Deadline::new();
                far.set_after(Duration::from_secs(3_600));
                sleep(5 * MS).await;
                let (sender, mut receiver) = mailbox(2);
                let thread = thread::spawn(move || {
                    sender.post(()).expect("empty");
                    thread::sleep(100 * MS);
                    sender.post(()).expect("room for two");
                });
                receiver.receive().await;
                let before = seen.get();
                receiver.receive().await;
                let idle_turns = seen.get() - before;
                // The second letter's, and what the first one's turn left to do.
                assert!(idle_turns <= 4, "{idle_turns} turns in an idle worker");
                thread.join().expect("it only posts");
            };
            runtime.block_on_with(test, None, |_| counted.set(counted.get() + 1));
        },
    );
}
