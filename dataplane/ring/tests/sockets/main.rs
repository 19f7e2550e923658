//! The engine over real sockets: every test runs on epoll, on io_uring, and on io_uring with single
//! kernel features switched off, and checks that nothing is left behind.

#![expect(clippy::print_stderr, reason = "a failing test names its variant and what it measured")]

mod support;
mod streams;
mod cancel;
mod starvation;
mod closing;
mod listeners;
mod splicing;
mod unix;
mod tasks;
mod foreign;
mod timers;
mod scale;
