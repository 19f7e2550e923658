//! What the clusters of a worker that are parts of one service have together: its caps and its budget.
//!
//! Before: a worker uses a cluster for the first time. After: the cluster keeps its share of them, and they
//! are gone when the last part is. A service that is in one piece has them for itself.

use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use lateen_snapshot::model::Cluster;
use lateen_snapshot::model::retry::RetryBudget;

use crate::bulkhead::{Bulkhead, caps_of};
use crate::decide::retry::budget::BudgetLease;
use crate::loaded::Loaded;
use crate::shard::Shard;
use crate::totals::{RequestCount, ServiceTotals};

/// What one worker knows of the tries beyond the first of a service.
pub(super) struct Retries {
    totals: Arc<ServiceTotals>,
    requests: Arc<RequestCount>,
    lease: BudgetLease,
}

impl Retries {
    #[inline]
    pub(super) fn note_request(&self) {
        self.requests.increment();
    }

    /// Pays for one more try, by the terms of one of its clusters.
    pub(super) fn pay(&self, spec: &Cluster, now_ns: u64) -> bool {
        let terms = terms_of(spec);
        self.lease.pay(now_ns, |wanted| self.totals.retries.draw(terms, wanted, now_ns))
    }
}

fn terms_of(spec: &Cluster) -> RetryBudget {
    spec.policy.retry_budget.unwrap_or_default()
}

/// Of each service that the worker uses.
#[derive(Default)]
pub(super) struct Shares(HashMap<Box<str>, (Weak<Bulkhead>, Weak<Retries>)>);

impl Shares {
    /// Those of the service that a cluster is, or is a part of.
    pub(super) fn of(
        &mut self,
        shard: &Shard,
        loaded: &Loaded,
        spec: &Cluster,
    ) -> (Rc<Bulkhead>, Rc<Retries>) {
        let service = spec.policy.part_of.as_deref().unwrap_or(&spec.name);
        let known = self.0.get(service);
        let known = known.and_then(|(caps, retries)| caps.upgrade().zip(retries.upgrade()));
        known.unwrap_or_else(|| {
            let totals = loaded.totals.of_service(service);
            let bulkhead = Bulkhead::new(shard, caps_of(&spec.policy), Arc::clone(&totals));
            bulkhead.follow(spec);
            let now_ns = lateen_ring::now().as_nanos();
            let requests = totals.retries.join(terms_of(spec), now_ns);
            let retries = Rc::new(Retries { totals, requests, lease: BudgetLease::default() });
            if self.0.len() == self.0.capacity() {
                self.0.retain(|_, (caps, _)| caps.strong_count() > 0);
            }
            let weak = (Rc::downgrade(&bulkhead), Rc::downgrade(&retries));
            self.0.insert(service.into(), weak);
            (bulkhead, retries)
        })
    }
}
