//! Looking at policies: what they are attached to, and what they come to on a route.
//!
//! Before: [`routes`](crate::api::routes) knows that this is asked. After: facts, of the set that is live;
//! the command line makes a table of them.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::api::error::ApiError;
use crate::api::messages::{PoliciesResponse, Policy, RoutePoliciesResponse};
use crate::api::routes::{Answer, Api, wrong_query};
use crate::compile::in_force::settings::values_of;
use crate::compile::in_force::{Asked, NotTold, RouteInForce, Target, in_force};
use crate::language::kinds::traffic_policy::TargetRef;
use crate::language::object::{Declared, Object, ObjectKind};
use crate::serve::names::kinds_named;
use crate::serve::order::Order;
use crate::serve::overrides::Ordered;

/// Which policies are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PoliciesQuery {
    namespace: Option<String>,
}

/// All policies, or those of a namespace.
pub(super) async fn policies(
    State(api): State<Api>,
    query: Result<Query<PoliciesQuery>, QueryRejection>,
) -> Answer<PoliciesResponse> {
    let PoliciesQuery { namespace } = query.map_err(wrong_query)?.0;
    let (revision, content) = api.orders.ask(Order::Look).await?;
    let listing = spawn_blocking(move || {
        let all = content.declared.values();
        let of_namespace =
            |policy: &Policy| namespace.as_ref().is_none_or(|n| *n == policy.namespace);
        all.filter_map(|declared| policy_of(declared)).filter(of_namespace).collect()
    });
    let policies = listing.await.expect("listing does not panic");
    Ok(Json(PoliciesResponse { revision, policies }))
}

fn policy_of(declared: &Declared) -> Option<Policy> {
    let Object::TrafficPolicy(spec) = &declared.object else { return None };
    let namespace = declared.key.namespace.to_string();
    let target = |reference: &TargetRef| Target {
        kind: reference.kind.clone(),
        namespace: namespace.clone(),
        name: reference.name.clone(),
        section: reference.section_name.clone(),
    };
    Some(Policy {
        targets: spec.target_refs.iter().map(target).collect(),
        settings: values_of(spec).into_iter().map(|(name, _)| name).collect(),
        name: declared.key.name.to_string(),
        namespace,
    })
}

/// Which route is asked about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteQuery {
    route: String,
    namespace: Option<String>,
    rule: Option<String>,
}

/// What is in force on a route.
pub(super) async fn route_policies(
    State(api): State<Api>,
    query: Result<Query<RouteQuery>, QueryRejection>,
) -> Answer<RoutePoliciesResponse> {
    let RouteQuery { route, namespace, rule } = query.map_err(wrong_query)?.0;
    let (kind, name) = match route.split_once('/') {
        Some((kind, name)) => (Some(route_kind(kind)?), name.to_owned()),
        None => (None, route),
    };
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let asked = Asked { kind, namespace, name, rule };
    let (revision, content) = api.orders.ask(Order::Look).await?;
    let telling = spawn_blocking(move || in_force(&content.to_compile(), &asked));
    let route = telling.await.expect("what was compiled can be told of").map_err(not_told)?;
    let mut overrides = api.view.borrow().overrides.clone();
    overrides.retain(|of| is_about(&of.order.ordered, &route));
    Ok(Json(RoutePoliciesResponse { revision, route, overrides }))
}

/// Whether an order is about a route or a rule of it, or about an endpoint of one of its backends.
fn is_about(ordered: &Ordered, told: &RouteInForce) -> bool {
    match ordered {
        Ordered::Ejected { service, .. } => {
            let mut backends = told.rules.iter().flat_map(|rule| &rule.backends);
            backends.any(|port| service.means(port))
        }
        Ordered::Breaker { route, .. } => {
            (route.kind.as_str(), &route.namespace, &route.name)
                == (&*told.kind, &told.namespace, &told.name)
        }
    }
}

fn route_kind(written: &str) -> Result<String, ApiError> {
    match kinds_named(written)[..] {
        [kind @ (ObjectKind::HttpRoute | ObjectKind::TcpRoute)] => Ok(kind.name().to_owned()),
        [ObjectKind::Service | ObjectKind::CoreService, ..] => Ok("Service".to_owned()),
        _ => {
            let wrong = format!("`{written}` is no kind of route");
            let help = "write NAME, httproute/NAME, tcproute/NAME or service/NAME";
            Err(ApiError::new(StatusCode::BAD_REQUEST, wrong).with_help(help))
        }
    }
}

fn not_told(why: NotTold) -> ApiError {
    let (status, help) = match &why {
        NotTold::NoRoute { elsewhere, .. } => (
            StatusCode::NOT_FOUND,
            match &elsewhere[..] {
                [] => "`lateen get httproutes`, `lateen get tcproutes` and `lateen get services` list \
                       what there is"
                    .to_owned(),
                others => format!("there is {}: say `-n NAMESPACE`", others.join(", ")),
            },
        ),
        NotTold::Ambiguous(_) => {
            (StatusCode::CONFLICT, "write httproute/NAME or tcproute/NAME".to_owned())
        }
        NotTold::NoPort { ports, .. } => {
            (StatusCode::NOT_FOUND, format!("its ports are {}", ports.join(", ")))
        }
        NotTold::NoRule { names, count, .. } => {
            let named = match &names[..] {
                [] => "none of them has a name".to_owned(),
                names => format!("names: {}", names.join(", ")),
            };
            let help = match count {
                0 => "it has no rules".to_owned(),
                1 => format!("it has one rule, 0; {named}"),
                count => format!("its rules are 0 to {}; {named}", count - 1),
            };
            (StatusCode::NOT_FOUND, help)
        }
    };
    ApiError::new(status, why.to_string()).with_help(help)
}
