//! When clients' connections have lasted as long as they may.
//!
//! Before: `listener` let a client in, and its listener says how long it may stay. After: the answer that is
//! the last says so, and what is not HTTP is closed then. Few listeners say so, and an idle connection is to
//! stay small.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use lateen_ring::Instant;

use crate::accept::clients::ClientId;

/// The ends of those clients' connections that have one.
#[derive(Debug, Default)]
pub struct Endings {
    by_client: RefCell<HashMap<ClientId, Instant>>,
    /// Beside them, so that where there are none it costs a look at a number.
    count: Cell<usize>,
}

impl Endings {
    /// A client's connection may last until then.
    pub fn enter(&self, client: ClientId, ends: Instant) {
        let mut by_client = self.by_client.borrow_mut();
        by_client.insert(client, ends);
        self.count.set(by_client.len());
    }

    /// Until when a client's may last; `NEVER`: for ever.
    #[inline]
    pub fn of(&self, client: ClientId) -> Instant {
        match self.count.get() {
            0 => Instant::NEVER,
            _ => self.by_client.borrow().get(&client).copied().unwrap_or(Instant::NEVER),
        }
    }

    /// The client is gone.
    pub fn leave(&self, client: ClientId) {
        if self.count.get() == 0 {
            return;
        }
        let mut by_client = self.by_client.borrow_mut();
        by_client.remove(&client);
        if by_client.is_empty() {
            by_client.shrink_to_fit();
        }
        self.count.set(by_client.len());
    }
}
