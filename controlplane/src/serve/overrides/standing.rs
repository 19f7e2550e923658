//! Which orders are about the same, and which would still hold what one asks to have back.
//!
//! Before: somebody orders, or takes an order back. After: [`Overrides`] knows what goes, and whether what was
//! asked for would come of it: who is told "readmitted" counts on requests. A port and a rule have two names, a
//! number and a word, and orders are compared by the one that snapshots have. Cost: some look-ups by key for
//! each order. Pure.

use crate::serve::intent::Content;
use crate::serve::overrides::lookup::{clusters_of, routes_of};
use crate::serve::overrides::names::{EndpointName, ServiceName};
use crate::serve::overrides::{Ordered, Overrides};
use crate::serve::plan::Plan;

/// The same with its port or rule as snapshots call it, if there is such a one: `shop/cart:80` for
/// `shop/cart:http`, `HTTPRoute/shop/cart/pay` for `…/1`.
pub fn canonical(ordered: &Ordered, content: &Content) -> Ordered {
    let mut canonical = ordered.clone();
    let (part, found) = match &mut canonical {
        Ordered::Ejected { service, .. } => {
            let found = clusters_of(content, service);
            (&mut service.port, found)
        }
        Ordered::Breaker { route, .. } => {
            let found = routes_of(content, route);
            (&mut route.part, found)
        }
    };
    if part.is_some()
        && let Ok([one]) = found.as_deref()
        && let Some(name) = one.rsplit([':', '/']).next()
    {
        *part = Some(name.to_owned());
    }
    canonical
}

/// What still holds something that an order is taken back of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The orders.
    pub orders: Vec<Ordered>,
    /// The least that is about all of that: to take it back frees what was asked for.
    pub all: Ordered,
}

/// Which of the orders that are `left` hold something of `about` all the same: about more than that, or about a
/// part of it and more.
pub fn still_held(left: &Overrides, about: &Ordered, plan: &Plan) -> Option<Held> {
    let about = canonical(about, &plan.content);
    let all_left = left.iter().map(|order| (order, canonical(&order.ordered, &plan.content)));
    let holding = all_left.filter(|(_, left)| left.covers(&about) || is_shared(left, &about, plan));
    let (orders, canonical): (Vec<Ordered>, Vec<Ordered>) =
        holding.map(|(order, canonical)| (order.ordered.clone(), canonical)).unzip();
    let all = canonical.iter().fold(about, |all, more| both(&all, more));
    (!orders.is_empty()).then_some(Held { orders, all })
}

/// Whether both are about an endpoint that is there, though neither is a part of the other: one is about all
/// ports of a service, the other about all of an address. Of breakers one is always a part.
fn is_shared(a: &Ordered, b: &Ordered, plan: &Plan) -> bool {
    let (
        Ordered::Ejected { service, endpoint },
        Ordered::Ejected { service: of_service, endpoint: of_endpoint },
    ) = (a, b)
    else {
        return false;
    };
    let least = ServiceName {
        port: service.port.clone().or_else(|| of_service.port.clone()),
        ..service.clone()
    };
    if !service.covers(&least) || !of_service.covers(&least) {
        return false;
    }
    let Ok(clusters) = clusters_of(&plan.content, &least) else { return false };
    let known = plan.endpoints_of(&clusters);
    known.iter().any(|at| endpoint.means(*at) && of_endpoint.means(*at))
}

/// The least that covers two of one service and address, or of one route.
fn both(a: &Ordered, b: &Ordered) -> Ordered {
    let mut both = a.clone();
    match (&mut both, b) {
        (
            Ordered::Ejected { service, endpoint },
            Ordered::Ejected { service: of_service, endpoint: of_endpoint },
        ) => {
            if service.port != of_service.port {
                service.port = None;
            }
            if endpoint.port != of_endpoint.port {
                *endpoint = EndpointName { port: None, ..*endpoint };
            }
        }
        (Ordered::Breaker { route, .. }, Ordered::Breaker { route: of_route, .. }) => {
            route.part = route.part.take().filter(|part| Some(part) == of_route.part.as_ref());
        }
        _ => {}
    }
    both
}
