//! A request or tunnel that counts as load of its endpoint until it is dropped.

use std::rc::Rc;

use crate::decide::balance::EndpointIndex;
use crate::plant::{self, Plant};
use crate::shard::Shard;

/// Counts as one in flight at the endpoint while it lives.
pub struct InFlight {
    shard: Rc<Shard>,
    endpoint: EndpointIndex,
}

impl InFlight {
    /// Adds one to the endpoint's load.
    #[inline]
    pub fn new(shard: &Rc<Shard>, endpoint: EndpointIndex) -> Self {
        shard.balancer.borrow_mut().on_start(endpoint);
        Self { shard: shard.clone(), endpoint }
    }

    /// The endpoint.
    #[inline]
    pub fn endpoint(&self) -> EndpointIndex {
        self.endpoint
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        if !plant::has(Plant::LoadKept) {
            self.shard.balancer.borrow_mut().on_end(self.endpoint);
        }
    }
}

impl std::fmt::Debug for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InFlight").field(&self.endpoint).finish()
    }
}
