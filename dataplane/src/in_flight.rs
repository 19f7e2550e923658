//! A request or tunnel that counts as load of its endpoint until it is dropped.

use std::net::SocketAddr;

use crate::cluster::Chosen;
use crate::plant::{self, Plant};

/// Counts as one in flight at the endpoint while it lives. It pins the endpoint and its cluster, not
/// the snapshot.
#[derive(Debug)]
pub struct InFlight {
    chosen: Chosen,
}

impl InFlight {
    /// Adds one to the endpoint's load.
    #[inline]
    pub fn new(chosen: Chosen) -> Self {
        chosen.endpoint().load.on_start();
        Self { chosen }
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
        }
    }
}
