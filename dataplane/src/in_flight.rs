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

    /// It has answered by `then`: how long the client takes with the answer says nothing of the endpoint.
    #[inline]
    pub fn leave_out_since(&mut self, then: Instant) {
        let is_timed = self.began != Instant::NEVER && then != Instant::NEVER;
        if is_timed {
            self.began = self.began.plus_nanos(lateen_ring::now().since(then).as_nanos() as u64);
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lateen_snapshot::model::ClusterId;

    use super::*;
    use crate::decide::balance::EndpointIndex;
    use crate::testing::{clusters, on_worker};

    #[test]
    fn what_the_client_takes_is_none_of_the_endpoint_s_time() {
        on_worker(&[], async |mut worker| {
            let live = worker.switch(clusters(&[("a", &[1])]));
            let cluster = live.cluster(&worker.shard, ClusterId(0)).clone();
            let chosen = Chosen { cluster, index: EndpointIndex::new(0) };
            let mut in_flight = InFlight::new(chosen);
            lateen_ring::sleep(Duration::from_millis(30)).await;
            let answered = lateen_ring::now();
            lateen_ring::sleep(Duration::from_secs(60)).await;
            in_flight.leave_out_since(answered);
            let took = lateen_ring::now().since(in_flight.began);
            assert!((30..40).contains(&took.as_millis()), "{took:?}");
            in_flight.leave_untimed();
            in_flight.leave_out_since(answered);
            assert_eq!(in_flight.began, Instant::NEVER);
        });
    }
}
