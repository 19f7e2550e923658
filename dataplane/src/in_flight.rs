//! A request or tunnel that counts as load of its endpoint until it is dropped.

use std::net::SocketAddr;

use lateen_ring::Instant;

use crate::cluster::Chosen;
use crate::plant::{self, Plant};

/// Counts as one in flight at the endpoint while it lives. It pins the endpoint and its cluster, not
/// the snapshot.
#[derive(Debug)]
pub struct InFlight {
    chosen: Chosen,
    /// `NEVER`: how long it takes says nothing of the endpoint.
    began: Instant,
}

impl InFlight {
    /// Adds one to the endpoint's load.
    #[inline]
    pub fn new(chosen: Chosen) -> Self {
        chosen.endpoint().load.on_start();
        chosen.cluster.balancer().on_start();
        Self { chosen, began: lateen_ring::now() }
    }

    /// How long it takes says nothing of how fast the endpoint answers: it refused, or will be joined to
    /// a client for as long as both like.
    pub fn leave_untimed(&mut self) {
        self.began = Instant::NEVER;
    }

    /// The endpoint.
    #[inline]
    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// Where it is.
    #[inline]
    pub fn address(&self) -> SocketAddr {
        self.chosen.address()
    }
}

impl Drop for InFlight {
    #[inline]
    fn drop(&mut self) {
        if !plant::has(Plant::LoadKept) {
            self.chosen.endpoint().load.on_end();
            self.chosen.cluster.balancer().on_end(self.chosen.index, || {
                let now = lateen_ring::now();
                let began = self.began;
                (began != Instant::NEVER)
                    .then(|| (now.since(began).as_nanos() as u64, now.as_nanos()))
            });
        }
    }
}
