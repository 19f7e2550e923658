//! Time for one thread: what it is, and waking when it has come.
//!
//! monoio's own timers round up to a millisecond, which is the size of what is measured here. This
//! clock waits on one `timerfd` per thread, which is exact to some 50 µs. It never cancels
//! anything: a sleep that is dropped leaves a waker behind, and waking it does no harm.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use monoio::net::TcpStream;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

const NS_PER_S: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds; about 25 ns of work, no system call.
#[inline]
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * NS_PER_S + now.tv_nsec.unsigned_abs()
}

/// A duration on the scale of [`now_ns`]; past 584 years the longest.
#[inline]
pub(crate) fn as_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The sleepers of one thread. Clones are handles to the same clock.
#[derive(Clone)]
pub(crate) struct Clock {
    inner: Rc<Inner>,
}

struct Inner {
    timer: OwnedFd,
    /// What the timer is set to; `u64::MAX` when it is not set.
    armed_ns: Cell<u64>,
    sleepers: RefCell<BinaryHeap<Reverse<Sleeper>>>,
}

struct Sleeper {
    until_ns: u64,
    waker: Waker,
}

impl Clock {
    /// Starts the thread's clock; call it on a running event loop.
    ///
    /// # Errors
    /// No descriptor left for the timer.
    pub(crate) fn start() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        // monoio waits on any descriptor that poll(2) takes, but takes it in as a socket only.
        let waited = TcpStream::from_std(std::net::TcpStream::from(timer.try_clone()?))?;
        let inner =
            Rc::new(Inner { timer, armed_ns: Cell::new(u64::MAX), sleepers: RefCell::default() });
        monoio::spawn(tick(inner.clone(), waited));
        Ok(Self { inner })
    }

    /// Waits until `until_ns` on the scale of [`now_ns`].
    pub(crate) fn sleep_until(&self, until_ns: u64) -> Sleep {
        Sleep { clock: self.clone(), until_ns, registered: false }
    }
}

async fn tick(inner: Rc<Inner>, waited: TcpStream) {
    let mut expirations = [0; 8];
    while waited.readable(false).await.is_ok() {
        // EAGAIN: set anew since; the next expiration wakes us again.
        let _ = rustix::io::read(&inner.timer, &mut expirations);
        inner.armed_ns.set(u64::MAX);
        inner.wake_due(now_ns());
    }
}

impl Inner {
    fn wake_due(&self, now_ns: u64) {
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(Reverse(first)) = sleepers.peek() {
            if first.until_ns > now_ns {
                self.arm(first.until_ns);
                break;
            }
            if let Some(Reverse(due)) = sleepers.pop() {
                due.waker.wake();
            }
        }
    }

    fn arm(&self, until_ns: u64) {
        if until_ns >= self.armed_ns.get() {
            return;
        }
        self.armed_ns.set(until_ns);
        // All zero would stop the timer.
        let until_ns = until_ns.max(1);
        let time = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: (until_ns / NS_PER_S).cast_signed(),
                tv_nsec: (until_ns % NS_PER_S).cast_signed(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &time)
            .expect("the timer is ours and the time is normal");
    }
}

/// The future of [`Clock::sleep_until`].
pub(crate) struct Sleep {
    clock: Clock,
    until_ns: u64,
    registered: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if now_ns() >= self.until_ns {
            return Poll::Ready(());
        }
        if !self.registered {
            self.registered = true;
            let inner = &self.clock.inner;
            let waker = context.waker().clone();
            let sleeper = Sleeper { until_ns: self.until_ns, waker };
            inner.sleepers.borrow_mut().push(Reverse(sleeper));
            inner.arm(self.until_ns);
        }
        Poll::Pending
    }
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.until_ns == other.until_ns
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.until_ns.cmp(&other.until_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EventLoop};

    #[test]
    fn wakes_in_the_order_of_the_times_and_never_early() {
        for engine in [Engine::IoUring, Engine::Epoll] {
            EventLoop::new(engine).expect("an event loop").run(async {
                let clock = Clock::start().expect("a timer");
                let begin_ns = now_ns();
                let order = Rc::new(RefCell::new(Vec::new()));
                let sleeps = [3, 1, 2].map(|ms| {
                    let (clock, order) = (clock.clone(), order.clone());
                    monoio::spawn(async move {
                        clock.sleep_until(begin_ns + ms * 1_000_000).await;
                        assert!(now_ns() >= begin_ns + ms * 1_000_000);
                        order.borrow_mut().push(ms);
                    })
                });
                for sleep in sleeps {
                    sleep.await;
                }
                assert_eq!(*order.borrow(), [1, 2, 3], "on {engine}");
            });
        }
    }

    #[test]
    fn a_time_in_the_past_is_no_wait() {
        EventLoop::new(Engine::Epoll).expect("an event loop").run(async {
            Clock::start().expect("a timer").sleep_until(0).await;
        });
    }
}
