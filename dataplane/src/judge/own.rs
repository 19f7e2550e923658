//! Answers of the proxy's own: what a route says without a backend, what a limit or a failure leaves to say, and
//! what the last hop answers.
//!
//! Before: `judge` has read a head and knows that no backend answers. After: the answer's bytes, for `request`
//! to send.

use std::net::IpAddr;

use lateen_ring::spare_vector;
use lateen_snapshot::model::Redirect;

use super::{Head, OwnAnswer};
use crate::client::Connection;
use crate::codec::body::Framing;
use crate::codec::http1::edits::Edits;
use crate::codec::http1::redirect::{Redirected, put_location};
use crate::codec::http1::reply::{LocalReply, write_local_reply, write_trace_reply};
use crate::codec::http1::request::{RequestHead, allowed_methods};
use crate::codec::http1::write_response::ResponseEdits;
use crate::codec::message::{Method, Scheme};
use crate::decide::cors::{CorsPolicy, PREFLIGHT_STATUS, is_preflight};
use crate::decide::route::plan::{Answer, RoutePlan};
use crate::decide::route::{Found, RequestView};
use crate::exchange::AddedFields;
use crate::failure::Failure;
use crate::live::Live;

/// The answer of a route that sends the client elsewhere, refuses it, or lets a page of another origin
/// ask for leave; `None`: a backend answers.
#[inline]
pub(super) fn answer_by_route(
    connection: &Connection,
    live: &Live,
    head: &RequestHead<'_>,
    view: &RequestView<'_>,
    found: Found,
    plan: &RoutePlan,
    told: &mut Vec<u8>,
) -> Option<Head> {
    if let Some(cors) = &plan.cors
        && is_preflight(view.method, view.fields)
    {
        return Some(answer_preflight(connection, live, head, view, cors));
    }
    let reply = match &plan.answer {
        Answer::Backends { .. } => return None,
        Answer::Status(status) => OwnReply::of(*status),
        Answer::Redirect(redirect) => {
            let location = location(connection, live, head, found, redirect);
            OwnReply { location: Some(location), ..OwnReply::of(redirect.status) }
        }
    };
    let (fields, added) =
        (plan.response_edits.as_deref(), added_by_route(view, plan, std::mem::take(told)));
    Some(own_answer(connection, live, head, OwnReply { fields, added, ..reply }))
}

#[cold]
fn answer_preflight(
    connection: &Connection,
    live: &Live,
    head: &RequestHead<'_>,
    view: &RequestView<'_>,
    cors: &CorsPolicy,
) -> Head {
    let mut added = AddedFields::default();
    cors.preflight(view.fields, &mut added.lines);
    let reply = OwnReply { added, ..OwnReply::of(PREFLIGHT_STATUS) };
    own_answer(connection, live, head, reply)
}

#[cold]
fn location(
    connection: &Connection,
    live: &Live,
    head: &RequestHead<'_>,
    found: Found,
    redirect: &Redirect,
) -> Vec<u8> {
    let listener_port = live.listener(connection.slot).map_or(80, |at| at.address.port());
    // Who names no host has reached this address.
    let reached = match head.authority {
        Some(_) => None,
        None => connection.stream.local_address().ok().and_then(|address| address.inet()),
    };
    let reached = reached.map(|address| match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    });
    let redirected = Redirected {
        scheme: Scheme::Http,
        authority: head.authority.or(reached.as_deref().map(str::as_bytes)).unwrap_or(b""),
        listener_port,
        target: head.path,
        prefix_bytes: found.prefix_bytes,
    };
    let mut location = Vec::new();
    put_location(redirect, &redirected, &mut location);
    location
}

/// What a response gets beside its route's edits: what CORS says, and what is `told` of limits.
pub(super) fn added_by_route(
    view: &RequestView<'_>,
    plan: &RoutePlan,
    told: Vec<u8>,
) -> AddedFields {
    let mut added = AddedFields { lines: told, ..AddedFields::default() };
    if let Some(cors) = &plan.cors {
        added.cut = CorsPolicy::RESPONSE_FIELDS;
        cors.response(view.fields, &mut added.lines);
    }
    added
}

/// Appends the line that says by which config a request is answered, for who asks.
pub fn put_epoch(live: &Live, lines: &mut Vec<u8>) {
    let epoch = live.loaded.epoch.to_string();
    for part in [&b"X-Lateen-Epoch: "[..], epoch.as_bytes(), b"\r\n"] {
        lines.extend_from_slice(part);
    }
}

/// What an answer of the proxy's own says.
#[derive(Default)]
pub(super) struct OwnReply<'a> {
    pub(super) status: u16,
    pub(super) failure: Option<Failure>,
    pub(super) location: Option<Vec<u8>>,
    pub(super) allow: Option<&'static str>,
    pub(super) fields: Option<&'a Edits>,
    pub(super) added: AddedFields,
}

impl OwnReply<'_> {
    pub(super) fn of(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn failed(failure: Failure) -> Self {
        let status = failure.outcome().status.unwrap_or(500);
        Self { failure: Some(failure), ..Self::of(status) }
    }
}

#[cold]
pub(super) fn own_answer(
    connection: &Connection,
    live: &Live,
    head: &RequestHead<'_>,
    own: OwnReply<'_>,
) -> Head {
    let OwnReply { status, failure, location, allow, fields, mut added } = own;
    if head.wants_epoch {
        put_epoch(live, &mut added.lines);
    }
    let keep_alive = goes_on_after(connection, head);
    let mut reply = spare_vector();
    let local = LocalReply {
        status,
        client_version: head.version,
        keep_alive,
        head_only: head.method == Method::Head,
        allow,
        retry_after_s: failure.and_then(Failure::retry_after_s),
        location: location.as_deref(),
        edits: Some(ResponseEdits { fields, cut: added.cut, lines: &added.lines }),
        date: &connection.shard.date(),
    };
    write_local_reply(&local, &mut reply);
    Head::Answer(OwnAnswer { reply, status, keep_alive, failure })
}

/// Whether the client's connection can carry another request after an answer to this head alone.
fn goes_on_after(connection: &Connection, head: &RequestHead<'_>) -> bool {
    let bodyless = matches!(head.framing, Framing::None | Framing::Length(0));
    head.keep_alive && bodyless && connection.may_go_on()
}

pub(super) fn answer_as_last_hop(
    connection: &Connection,
    live: &Live,
    head: &RequestHead<'_>,
) -> Head {
    let shard = &connection.shard;
    if head.method != Method::Trace {
        let allow = Some(allowed_methods(shard.config.trace_method));
        return own_answer(connection, live, head, OwnReply { allow, ..OwnReply::of(200) });
    }
    let keep_alive = goes_on_after(connection, head);
    let mut reply = spare_vector();
    write_trace_reply(head, keep_alive, &shard.date(), &mut reply);
    Head::Answer(OwnAnswer { reply, status: 200, keep_alive, failure: None })
}
