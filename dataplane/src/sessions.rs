//! Keeps the requests of a session at one endpoint.
//!
//! Before: `judge` has found a route that keeps sessions. After: the backend and the endpoint that the
//! request's token names are wished for, and the balancer decides only where they can't be had; the response
//! brings a token where the client needs one.

use lateen_snapshot::model::ClusterId;

use crate::cluster::Cluster;
use crate::decide::balance::EndpointIndex;
use crate::decide::route::RequestView;
use crate::decide::route::plan::{Answer, BackendPlan, RoutePlan};
use crate::decide::session::{Token, brought};
use crate::exchange::AddedFields;
use crate::forward::response::Call;
use crate::live::Live;
use crate::shard::Shard;

/// A request of a route that keeps sessions.
#[derive(Clone, Copy, Debug)]
pub struct InSession {
    /// What it brought, if that counts.
    token: Option<Token>,
}

/// Where a session is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'l> {
    /// Position of the backend in the route.
    pub index: usize,
    /// The backend.
    pub backend: &'l BackendPlan,
    /// Its cluster, or one that stands in for it.
    pub cluster: ClusterId,
    /// The endpoint in that.
    pub endpoint: EndpointIndex,
}

/// Looks where a request's session is; `None` where its route keeps none. A backend keeps its sessions
/// when its weight is 0 (GEP-1619: "a persistent session takes priority over traffic split weights").
#[cold]
pub fn find_session<'l>(
    shard: &Shard,
    live: &Live,
    plan: &'l RoutePlan,
    view: &RequestView<'_>,
) -> Option<(InSession, Option<Place<'l>>)> {
    let session = plan.policy.session.as_deref()?;
    let brought = brought(session, &view.fields);
    let token = brought.and_then(|text| Token::read(text, session, shard.unix_s()));
    if brought.is_some() && token.is_none() {
        shard.metrics().sessions.invalid.increment();
    }
    let place = token.and_then(|token| {
        let Answer::Backends { backends, .. } = &plan.answer else { return None };
        backends.iter().enumerate().find_map(|(index, backend)| {
            live.stand_ins(backend.cluster?).find_map(|cluster| {
                let endpoint = live.cluster(shard, cluster).endpoint_of_mark(token.endpoint)?;
                Some(Place { index, backend, cluster, endpoint })
            })
        })
    });
    Some((InSession { token }, place))
}

/// The lines for a final response, with the one that brings the client its token; `None`: it needs none.
#[cold]
pub fn lines_with_token(
    call: &Call<'_>,
    live: &Live,
    in_session: InSession,
    added: &AddedFields,
) -> Option<Vec<u8>> {
    let shard = &call.connection.shard;
    let session = call.exchange.plan(live)?.policy.session.as_deref()?;
    let cluster: &Cluster = call.exchange.cluster(shard, live)?;
    let mark = cluster.mark_of(call.exchange.endpoint()?);
    let now_s = shard.unix_s();
    let counters = &shard.metrics().sessions;
    match in_session.token {
        None => counters.began.increment(),
        Some(token) if token.endpoint == mark => counters.kept.increment(),
        Some(_) => counters.moved.increment(),
    }
    let token = Token::after(in_session.token, mark, session, now_s)?;
    let mut lines = added.lines.clone();
    token.put_line(session, now_s, &mut lines);
    Some(lines)
}
