//! Tasks: panics, aborts, and tasks that never rest beside a busy listener.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use lateen_ring::{Stream, sleep, spawn, yield_now};

use crate::support::{a_while, listener, on_all, on_each, pair, until};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("planned: a destructor panics");
    }
}

/// A future that panics when it is dropped, although it never ends.
struct Armed {
    _bomb: Bomb,
}

impl Future for Armed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[test]
fn a_panic_ends_its_own_task_and_is_counted() {
    on_each(
        |config| config,
        |runtime| {
            let panics = Cell::new(0);
            let test = async {
                let (stream, mut peer) = pair().await;
                // One in a poll, holding a connection; one in a destructor after a clean end; one in
                // an abort; one whose payload panics in its turn.
                spawn(async move {
                    let _held = stream;
                    yield_now().await;
                    panic!("planned: a poll panics");
                });
                spawn(async {
                    let _bomb = Bomb;
                });
                spawn(Armed { _bomb: Bomb }).abort();
                spawn(async {
                    std::panic::panic_any(Bomb);
                });
                let survivor = Rc::new(Cell::new(0));
                let counted = survivor.clone();
                spawn(async move {
                    for _ in 0..100 {
                        yield_now().await;
                        counted.set(counted.get() + 1);
                    }
                });
                until("the other task goes on", || survivor.get() == 100).await;
                // The connection of the panicked task is closed.
                assert_eq!(peer.read(&mut [0; 8]).expect("a FIN"), 0);
                // One more turn, so that the report has them all.
                a_while().await;
            };
            runtime.block_on_with(test, None, |report| panics.set(report.task_panics));
            assert_eq!(panics.get(), 4);
        },
    );
}

#[test]
fn a_task_that_ends_while_it_is_queued_gives_its_slot_with_the_wake() {
    on_all(async || {
        // A task that wakes itself in its last poll leaves an entry in the run queue; the next user
        // of its slot must still get its first poll.
        spawn(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(())
        }));
        yield_now().await;
        let ran = Rc::new(Cell::new(0));
        for _ in 0..3 {
            let ran = ran.clone();
            spawn(async move { ran.set(ran.get() + 1) });
        }
        until("tasks in used slots run", || ran.get() == 3).await;

        // The same for one that is aborted between its wake and its poll.
        let waker = Rc::new(RefCell::new(None));
        let stored = waker.clone();
        let sleeper = spawn(poll_fn(move |cx| {
            *stored.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        }));
        until("the sleeper was polled", || waker.borrow().is_some()).await;
        waker.borrow_mut().take().expect("checked").wake();
        sleeper.abort();
        let counted = ran.clone();
        spawn(async move { counted.set(counted.get() + 1) });
        until("a task in an aborted one's slot runs", || ran.get() == 4).await;
    });
}

#[test]
fn an_aborted_task_is_dropped_at_once_even_by_itself() {
    on_all(async || {
        let (stream, mut peer) = pair().await;
        let handle = spawn(async move {
            let _held = stream;
            pending::<()>().await;
        });
        yield_now().await;
        handle.abort();
        handle.abort();
        assert_eq!(peer.read(&mut [0; 8]).expect("a FIN"), 0);

        let (stream, mut peer) = pair().await;
        let own = Rc::new(RefCell::new(None));
        let taken = own.clone();
        let handle = spawn(async move {
            let _held = stream;
            yield_now().await;
            let handle: lateen_ring::TaskHandle = taken.borrow_mut().take().expect("stored below");
            handle.abort();
            // The slot is free already; whoever takes it is not the one that is being polled.
            spawn(yield_now());
            pending::<()>().await;
        });
        *own.borrow_mut() = Some(handle);
        a_while().await;
        assert_eq!(peer.read(&mut [0; 8]).expect("a FIN"), 0);
    });
}

#[test]
fn an_abort_finds_its_own_runtime_and_outlives_it() {
    on_each(
        |config| config,
        |runtime| {
            let mut other = lateen_ring::Runtime::new(&lateen_ring::Config::default())
                .expect("a second runtime on this thread");
            let mine = runtime.block_on(async { spawn(pending()) });
            let others = other.block_on(async { spawn(pending()) });
            runtime.block_on(async { others.abort() });
            assert_eq!((runtime.held().tasks, other.held().tasks), (1, 0));
            mine.abort();
            assert_eq!(runtime.held().tasks, 0);
            let late = other.block_on(async { spawn(pending()) });
            drop(other);
            late.abort();
        },
    );
}

#[test]
fn tasks_that_never_rest_starve_neither_accepts_nor_receives_nor_timers() {
    const CLIENTS: usize = 100;
    on_all(async || {
        let (listener, address) = listener();
        // More of them than are polled in a turn.
        let restless: Vec<_> = (0..700)
            .map(|index| {
                spawn(async move {
                    loop {
                        if index % 2 == 0 {
                            yield_now().await;
                        } else {
                            // Ready at once, again and again, but for a wake in between.
                            poll_fn(|cx| {
                                cx.waker().wake_by_ref();
                                cx.waker().wake_by_ref();
                                Poll::<()>::Pending
                            })
                            .await;
                        }
                    }
                })
            })
            .collect();
        let clients = thread::spawn(move || {
            for _ in 0..CLIENTS {
                let mut client = TcpStream::connect(address).expect("listening");
                client.write_all(b"x").expect("accepted");
                client.read_exact(&mut [0; 1]).expect("echoed");
            }
        });
        let ticks = Rc::new(Cell::new(0));
        let ticked = ticks.clone();
        let ticker = spawn(async move {
            loop {
                sleep(Duration::from_millis(1)).await;
                ticked.set(ticked.get() + 1);
            }
        });
        for _ in 0..CLIENTS {
            let stream = listener.accept().await.expect("clients come");
            spawn(echo(stream));
        }
        until("all clients are done", || clients.is_finished()).await;
        clients.join().expect("every client was served");
        until("timers fire", || ticks.get() >= 3).await;
        for task in restless {
            task.abort();
        }
        ticker.abort();
    });
}

async fn echo(stream: Stream) {
    stream.set_multishot(true);
    while let Some(lease) = stream.recv().await.expect("the client behaves") {
        stream.send(lease).await.expect("the client reads");
    }
}

#[test]
fn dropping_a_runtime_ends_its_tasks_and_closes_what_they_held() {
    crate::support::alone(|| {
        for (_, config) in crate::support::variants() {
            let before = crate::support::descriptors();
            let mut runtime = lateen_ring::Runtime::new(&config).expect("available");
            let mut peers = Vec::new();
            runtime.block_on(async {
                for index in 0..20 {
                    let (stream, peer) = pair().await;
                    peers.push(peer);
                    spawn(async move {
                        stream.set_multishot(index % 2 == 0);
                        let _ = stream.recv().await;
                        // A send that never ends, for some of them.
                        let _ = stream.send(vec![0; 10_000_000]).await;
                    });
                }
                for peer in peers.iter_mut().take(10) {
                    peer.write_all(b"go").expect("accepted");
                }
                a_while().await;
            });
            drop(runtime);
            for mut peer in peers {
                let mut rest = Vec::new();
                // The end or a reset: the peer is not left hanging.
                let _ = peer.read_to_end(&mut rest);
            }
            assert_eq!(crate::support::descriptors(), before);
        }
    });
}
