//! Other threads: wakes from afar, mailboxes, and the pulse that a watchdog watches.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use lateen_ring::{PostError, Pulse, Receiver, Runtime, Sender, mailbox, spawn, yield_now};
use rustix::event::{EventfdFlags, eventfd};

use crate::support::{alone, on_all, on_each, until, variants};

#[test]
fn a_waker_wakes_its_task_from_another_thread() {
    on_all(async || {
        for round in 0..50 {
            let flag = Arc::new(AtomicBool::new(false));
            let mut thread = None;
            poll_fn(|cx| {
                if flag.load(Ordering::Acquire) {
                    return Poll::Ready(());
                }
                let (waker, flag) = (cx.waker().clone(), flag.clone());
                thread.get_or_insert_with(|| {
                    thread::spawn(move || {
                        if round % 2 == 0 {
                            thread::yield_now();
                        }
                        flag.store(true, Ordering::Release);
                        waker.wake();
                    })
                });
                Poll::Pending
            })
            .await;
            thread.expect("started").join().expect("it only wakes");
        }
    });
}

#[test]
fn many_threads_wake_many_tasks_and_no_wake_is_lost() {
    const TASKS: usize = 50;
    const ROUNDS: usize = 100;
    on_all(async || {
        let (senders, receivers): (Vec<Sender<usize>>, Vec<Receiver<usize>>) =
            (0..TASKS).map(|_| mailbox(ROUNDS)).unzip();
        let got = Rc::new(Cell::new(0));
        for mut receiver in receivers {
            let got = got.clone();
            spawn(async move {
                let mut expected = 0;
                while let Some(letter) = receiver.receive().await {
                    assert_eq!(letter, expected);
                    expected += 1;
                    got.set(got.get() + 1);
                }
            });
        }
        let senders = Arc::new(senders);
        let threads: Vec<_> = (0..2)
            .map(|half| {
                let senders = senders.clone();
                thread::spawn(move || {
                    for round in 0..ROUNDS {
                        for sender in senders.iter().skip(half).step_by(2) {
                            sender.post(round).expect("the box holds all rounds");
                        }
                    }
                })
            })
            .collect();
        drop(senders);
        until("all letters arrive", || got.get() == TASKS * ROUNDS).await;
        for thread in threads {
            thread.join().expect("it only posts");
        }
    });
}

#[test]
fn a_mailbox_is_bounded_and_says_when_an_end_is_gone() {
    on_all(async || {
        let (sender, mut receiver) = mailbox(2);
        sender.post(1).expect("empty");
        sender.post(2).expect("room for one");
        assert_eq!(sender.post(3), Err(PostError::Full(3)));
        assert_eq!(receiver.receive().await, Some(1));
        sender.post(3).expect("room again");
        let second = sender.clone();
        drop(sender);
        assert_eq!(receiver.receive().await, Some(2));
        let dropper = thread::spawn(move || drop(second));
        assert_eq!(receiver.receive().await, Some(3));
        // The last sender goes while the receiver waits, or has gone already.
        assert_eq!(receiver.receive().await, None);
        dropper.join().expect("it only drops");

        let (sender, receiver) = mailbox(2);
        sender.post(1).expect("empty");
        drop(receiver);
        assert_eq!(sender.post(2), Err(PostError::Gone(2)));
    });
}

#[test]
fn a_wake_while_the_worker_is_busy_or_away_is_kept() {
    on_each(
        |config| config,
        |runtime| {
            let (sender, mut receiver) = mailbox(8);
            let got = Rc::new(Cell::new(0));
            let counted = got.clone();
            runtime.block_on(async move {
                spawn(async move {
                    while let Some(letter) = receiver.receive().await {
                        counted.set(counted.get() + letter);
                    }
                });
                yield_now().await;
            });
            // The worker is outside of its loop: the letter waits for the next call.
            thread::spawn(move || sender.post(7).expect("empty")).join().expect("it only posts");
            runtime.block_on(until("the letter of before", || got.get() == 7));
        },
    );
}

#[test]
fn a_waker_that_outlives_its_runtime_wakes_nobody() {
    alone(|| {
        for (_, config) in variants() {
            let stale: Rc<RefCell<Vec<Waker>>> = Rc::default();
            let mut runtime = Runtime::new(&config).expect("available");
            runtime.block_on(async {
                for _ in 0..10 {
                    let stale = stale.clone();
                    spawn(poll_fn(move |cx| {
                        stale.borrow_mut().push(cx.waker().clone());
                        Poll::Pending
                    }));
                }
                yield_now().await;
                poll_fn(|cx| {
                    stale.borrow_mut().push(cx.waker().clone());
                    Poll::Ready(())
                })
                .await;
            });
            drop(runtime);
            let wakers = stale.take();
            assert!(wakers.len() > 10);
            let here: Vec<_> = wakers.clone();
            for waker in here {
                waker.wake();
            }
            // The number goes to the next runtime, whose tasks are at worst polled for nothing.
            let mut next = Runtime::new(&config).expect("available");
            next.block_on(async {
                let polls = Rc::new(Cell::new(0));
                let counted = polls.clone();
                let task = spawn(poll_fn(move |_| {
                    counted.set(counted.get() + 1);
                    Poll::Pending
                }));
                let thread = thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
                thread.join().expect("it only wakes");
                until("the task was polled", || polls.get() > 0).await;
                task.abort();
            });
        }
    });
}

#[test]
fn a_pulse_shows_a_stalled_turn_and_calls_its_watcher() {
    on_each(
        |config| config,
        |runtime| {
            let call = eventfd(0, EventfdFlags::CLOEXEC).expect("a descriptor is left");
            let called = rustix::io::dup(&call).expect("a descriptor is left");
            let pulse = Arc::new(Pulse::new(call));
            assert_eq!(pulse.busy_since(), None);
            assert_eq!(pulse.busy_for(), Duration::ZERO);
            pulse.call_when_busy();
            let watched = pulse.clone();
            let (stall_seen, seen) = std::sync::mpsc::channel();
            let (waiting_seen, mut waits) = mailbox(1);
            let watcher = thread::spawn(move || {
                // Blocks until a turn begins: it asked to be called.
                let mut count = [0; 8];
                rustix::io::read(called.as_fd(), &mut count).expect("the worker calls");
                assert_eq!(u64::from_ne_bytes(count), 1);
                // The task below blocks until this thread has seen the stall grow.
                while watched.busy_for() < Duration::from_millis(20) {
                    thread::yield_now();
                }
                stall_seen.send(()).expect("the task waits for it");
                while watched.busy_since().is_some() {
                    thread::yield_now();
                }
                assert_eq!(watched.busy_for(), Duration::ZERO);
                waiting_seen.post(()).expect("the box is empty");
            });
            runtime.block_on_with(
                async {
                    // A blocked worker.
                    seen.recv().expect("the watcher sees it");
                    // A waiting one.
                    assert_eq!(waits.receive().await, Some(()));
                },
                Some(&pulse),
                |_| {},
            );
            watcher.join().expect("it saw both");
            assert_eq!(pulse.busy_since(), None, "a worker that left its loop is not stalled");
        },
    );
}
