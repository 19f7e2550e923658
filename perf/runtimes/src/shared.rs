//! What the connections of one thread share: idle upstreams and spare buffers, both last in, first
//! out, so that what is taken is what was used last.

use std::{cell::RefCell, net::SocketAddr};

/// Idle upstream connections, and spare buffers, that are kept.
const KEPT_MAX: usize = 1024;

/// Shared by all connections of the thread; `S` is an upstream connection, `B` a buffer.
pub struct Shared<S, B = Vec<u8>> {
    /// Where requests go.
    pub upstream: SocketAddr,
    /// Long bodies are spliced.
    pub splice: bool,
    idle: RefCell<Vec<S>>,
    spare: RefCell<Vec<B>>,
}

impl<S, B> Shared<S, B> {
    /// Nothing is kept yet.
    pub fn new(upstream: SocketAddr, splice: bool) -> Self {
        let (idle, spare) = (RefCell::default(), RefCell::default());
        Self { upstream, splice, idle, spare }
    }

    /// The upstream connection that was used last.
    pub fn take_idle(&self) -> Option<S> {
        self.idle.borrow_mut().pop()
    }

    /// Keeps an upstream connection, or drops it when there are too many.
    pub fn keep_idle(&self, stream: S) {
        keep(&mut self.idle.borrow_mut(), stream);
    }

    /// A buffer that was used before, as it was left.
    pub fn take_buffer(&self) -> Option<B> {
        self.spare.borrow_mut().pop()
    }

    /// Keeps a buffer, or frees it when there are too many.
    pub fn keep_buffer(&self, buffer: B) {
        keep(&mut self.spare.borrow_mut(), buffer);
    }
}

fn keep<T>(kept: &mut Vec<T>, one: T) {
    if kept.len() < KEPT_MAX {
        kept.push(one);
    }
}
