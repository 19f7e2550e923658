//! What happens to the requests of a route, in ready-made form.
//!
//! Before it: a route was found. After it: the codec writes heads by these edits, and the conductor
//! forwards to the backend, sends the client elsewhere, or refuses.

use lateen_snapshot::model::breaker::Fallback;
use lateen_snapshot::model::rate_limit::RateLimits;
use lateen_snapshot::model::{
    Action, ClusterId, HeaderEdits, Mirror, Redirect, Rewrite, Route, RoutePolicy,
};

use crate::codec::http1::edits::Edits;
use crate::decide::cors::CorsPolicy;
use crate::decide::route::BuildError;
use crate::decide::route::weights::Weights;

/// What happens to the requests of a route.
#[derive(Debug)]
pub struct RoutePlan {
    /// What answers them.
    pub answer: Answer,
    /// Changes to the target of what is forwarded.
    pub rewrite: Option<Box<Rewrite>>,
    /// Which other origins' pages may call.
    pub cors: Option<Box<CorsPolicy>>,
    /// Changes to answers of the proxy's own, and of the backend that it falls back to; those of one of
    /// its own backends are in that one's plan.
    pub response_edits: Option<Box<Edits>>,
    /// How they are treated.
    pub policy: RoutePolicy,
    /// How many are let through.
    pub rate_limits: Option<LimitsIndex>,
    /// Who gets a copy.
    pub mirrors: Box<[Mirror]>,
    /// The route's changes to the fields of copies, and of what goes to the backend that it falls back to.
    pub route_edits: Option<Box<Edits>>,
}

/// Position in [`RouteTables::limits`](crate::decide::route::RouteTables::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsIndex(u32);

impl LimitsIndex {
    /// The same as a number.
    #[inline]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// Puts the limits behind all others, if there are any.
    fn enter(limits: Option<&RateLimits>, all: &mut Vec<RateLimits>) -> Option<Self> {
        let limits =
            limits.filter(|limits| !limits.requests.is_empty() || !limits.bytes.is_empty())?;
        all.push(limits.clone());
        Some(Self((all.len() - 1) as u32))
    }
}

/// What answers the requests of a route.
#[derive(Debug)]
pub enum Answer {
    /// One of these.
    Backends {
        /// How to choose.
        weights: Weights,
        /// In the order of the snapshot.
        backends: Box<[BackendPlan]>,
    },
    /// The proxy, by sending the client elsewhere.
    Redirect(Box<Redirect>),
    /// The proxy, with this status.
    Status(u16),
}

/// A backend of a route.
#[derive(Debug)]
pub struct BackendPlan {
    /// Who answers; `None`: a 500.
    pub cluster: Option<ClusterId>,
    /// The route's changes to the request's fields, then the backend's.
    pub request_edits: Option<Box<Edits>>,
    /// Some of those are the backend's, which are for no mirror.
    pub edits_requests: bool,
    /// The backend's changes to the response's fields, then the route's.
    pub response_edits: Option<Box<Edits>>,
    /// How many requests are let through to it; `None` also where the route says so itself.
    pub rate_limits: Option<LimitsIndex>,
}

impl RoutePlan {
    /// Puts its limits behind those in `limits`.
    pub(super) fn build(
        route: &Route,
        clusters: usize,
        limits: &mut Vec<RateLimits>,
    ) -> Result<Self, BuildError> {
        let rate_limits = LimitsIndex::enter(route.policy.rate_limits.as_deref(), limits);
        let place = || format!("route {:?}", route.name);
        // What the CORS policy says of a response is its alone.
        let reserved = if route.cors.is_some() { CorsPolicy::RESPONSE_FIELDS } else { &[] };
        let compile = |chain: &[_], reserved: &[&str]| {
            Edits::compile(chain, reserved)
                .map(|edits| edits.map(Box::new))
                .map_err(|cause| BuildError::Edit { place: place(), cause })
        };
        let answer = match &route.action {
            Action::Forward(backends) => {
                let weights = Weights::of(backends.iter().map(|backend| backend.weight))
                    .ok_or_else(|| BuildError::Weights { place: place() })?;
                let mut plans = Vec::with_capacity(backends.len());
                for backend in backends {
                    if let Some(ClusterId(index)) = backend.cluster
                        && index as usize >= clusters
                    {
                        return Err(BuildError::Dangling {
                            place: place(),
                            kind: "cluster",
                            index,
                        });
                    }
                    plans.push(BackendPlan {
                        cluster: backend.cluster,
                        request_edits: compile(
                            &[&route.request_headers, &backend.request_headers],
                            &[],
                        )?,
                        edits_requests: backend.request_headers != HeaderEdits::default(),
                        response_edits: compile(
                            &[&backend.response_headers, &route.response_headers],
                            reserved,
                        )?,
                        rate_limits: match &route.policy.rate_limits {
                            Some(_) => None,
                            None => LimitsIndex::enter(backend.rate_limits.as_deref(), limits),
                        },
                    });
                }
                Answer::Backends { weights, backends: plans.into() }
            }
            Action::Redirect(redirect) => Answer::Redirect(redirect.clone()),
            Action::Respond(status) => Answer::Status(*status),
        };
        let falls_back_to =
            route.policy.circuit_breaker.as_ref().and_then(|of| match of.fallback {
                Some(Fallback::Backend(cluster)) => Some(cluster),
                Some(Fallback::Response(_)) | None => None,
            });
        if let Some(ClusterId(index)) = falls_back_to
            && index as usize >= clusters
        {
            return Err(BuildError::Dangling { place: place(), kind: "cluster", index });
        }
        let route_edits = match route.mirrors.is_empty() && falls_back_to.is_none() {
            true => None,
            false => compile(&[&route.request_headers], &[])?,
        };
        Ok(Self {
            answer,
            route_edits,
            rewrite: route.rewrite.clone(),
            cors: route.cors.as_ref().map(|cors| Box::new(CorsPolicy::of(cors))),
            response_edits: compile(&[&route.response_headers], reserved)?,
            policy: route.policy.clone(),
            rate_limits,
            mirrors: route.mirrors.clone().into(),
        })
    }

    /// One of the backends by weight, and its position; `None`: the route does not forward.
    #[inline]
    pub fn choose(&self, random: u64) -> Option<(usize, &BackendPlan)> {
        match &self.answer {
            Answer::Backends { weights, backends } => {
                let index = weights.choose(random);
                Some((index, &backends[index]))
            }
            Answer::Redirect(_) | Answer::Status(_) => None,
        }
    }
}
