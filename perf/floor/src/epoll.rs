//! The few epoll(7) calls that `splice` and the load client need.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
    time::Duration,
};

use crate::socket::check;

/// Events taken in one wait.
const EVENTS_MAX: usize = 512;

/// An epoll instance whose registrations are all edge-triggered, for both directions.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// Opens an instance.
    ///
    /// # Errors
    /// From epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1(2) takes no pointer.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just opened and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX] })
    }

    /// Watches `fd`; its events carry `token`. Closing the descriptor ends the watch.
    ///
    /// # Errors
    /// From epoll_ctl(2).
    pub fn add(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let interest = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        let epoll = self.fd.as_raw_fd();
        // SAFETY: the kernel reads one live epoll_event.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Waits, for ever or up to `timeout`, and puts the tokens of the ready descriptors in `ready`.
    ///
    /// # Errors
    /// From epoll_pwait2(2); an interrupted wait is an empty one.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<()> {
        ready.clear();
        ready.extend(self.wait_for_events(timeout)?.iter().map(|event| event.u64));
        Ok(())
    }

    /// As [`Epoll::wait`], with what happened to each of them.
    ///
    /// # Errors
    /// From epoll_pwait2(2); an interrupted wait is an empty one.
    pub fn wait_for_events(
        &mut self,
        timeout: Option<Duration>,
    ) -> io::Result<&[libc::epoll_event]> {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (events, count) = (self.events.as_mut_ptr(), EVENTS_MAX as i32);
        let epoll = self.fd.as_raw_fd();
        // SAFETY: `events` has room for `count` entries, the timeout is null or alive, no signal mask.
        let result = unsafe { libc::epoll_pwait2(epoll, events, count, timeout, ptr::null()) };
        match check(result) {
            Ok(count) => Ok(&self.events[..count as usize]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(error) => Err(error),
        }
    }
}
