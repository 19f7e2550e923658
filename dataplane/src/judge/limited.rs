//! Whether the limits of a route let a request through, and what the client is told of them.
//!
//! Before: the request's route, or its backend, has some. After: it is answered 429, or goes on.

use super::Head;
use super::own::{OwnReply, added_by_route, own_answer};
use crate::client::Connection;
use crate::codec::http1::rate_limit::{put_left, put_limit};
use crate::codec::http1::request::RequestHead;
use crate::decide::route::RequestView;
use crate::decide::route::plan::{LimitsIndex, RoutePlan};
use crate::failure::{Failure, Stage};
use crate::live::Live;

/// The answer to a request that is over a limit; `None`: it is let through, and what its answer says of the
/// limits stands in `told`.
#[inline(never)]
pub(super) fn limit_request(
    connection: &Connection,
    live: &Live,
    head: &RequestHead<'_>,
    view: &RequestView<'_>,
    plan: &RoutePlan,
    limits: LimitsIndex,
    told: &mut Vec<u8>,
) -> Option<Head> {
    let limits = live.limits(&connection.shard, limits);
    let peer = connection.limited_peer();
    let Some(limited) = limits.ask(&connection.shard, Some(view), peer) else {
        if limits.tells() {
            put_left(&limits.left(Some(view), peer), told);
        }
        return None;
    };
    let mut added = added_by_route(view, plan, Vec::new());
    put_limit(&limited, &mut added.lines);
    let reply = OwnReply { added, ..OwnReply::failed(Failure::rate_limited(Stage::Decide)) };
    Some(own_answer(connection, live, head, reply))
}
