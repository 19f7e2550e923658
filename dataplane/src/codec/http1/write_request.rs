//! The request head as the upstream gets it.
//!
//! Before it: `request` judged the client's head, and the conductor picked an upstream. After it:
//! `forward` sends the bytes, and keeps them while the request may be replayed. It never decides
//! whether to forward.

use lateen_snapshot::model::Rewrite;

use crate::codec::body::Framing;
use crate::codec::http1::edits::Edits;
use crate::codec::http1::fields::{
    FieldMask, Kind, copy_kept_lines, cut_kind, is, is_h2c, list_items, put_number,
};
use crate::codec::http1::head::{FieldLine, Fields};
use crate::codec::http1::request::RequestHead;
use crate::codec::http1::rewrite::put_target;
use crate::codec::message::{Scheme, Version};

/// What the proxy adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestForwarding<'a> {
    /// The client's IP address in text, without a port; appended to `X-Forwarded-For`.
    pub client_address: &'a [u8],
    /// How the client reached the proxy: `X-Forwarded-Proto`.
    pub scheme: Scheme,
    /// The id for a request that brought none that may be kept; valid by
    /// [`valid_request_id`](crate::codec::message::valid_request_id).
    pub request_id: Option<&'a [u8]>,
    /// `Host` for an HTTP/1.0 request that named no authority: the upstream's.
    pub authority_if_missing: &'a [u8],
    /// Whether to pass on the wish to upgrade, where [`RequestHead::upgrade`] has one.
    pub upgrade: bool,
    /// What the route changes; `None`: nothing.
    pub edits: Option<RequestEdits<'a>>,
}

/// What a route changes of a request. At least one of `fields` and `rewrite` is there, or it had
/// better be left out.
#[derive(Clone, Copy, Debug)]
pub struct RequestEdits<'a> {
    /// Header fields: what of the client's is left out, and what is appended behind them.
    pub fields: Option<&'a Edits>,
    /// The target and `Host`.
    pub rewrite: Option<&'a Rewrite>,
    /// See [`Found`](crate::decide::route::Found).
    pub prefix_bytes: u32,
}

/// Appends the head for the upstream: HTTP/1.1 whatever the client speaks, `Host` first, then the
/// client's own fields as they came without those that end at this hop, then what this hop says.
///
/// `Via` names the version that the request came in (RFC 9110 §7.6.3). `Max-Forwards` of OPTIONS
/// and TRACE goes down by one; a request with 0 must not come here.
///
/// A new `Host` leaves the one that came in `X-Forwarded-Host`, behind those that earlier hops wrote
/// there, as `X-Forwarded-For` is written: the service can still make links that lead its clients
/// back. (Envoy does so where `append_x_forwarded_host` is on.)
///
/// What is appended is bounded: by the head that came, the edits' limit
/// ([`EDITS_BYTES_MAX`](lateen_snapshot::limits::EDITS_BYTES_MAX)), a host and a path of config,
/// and the fixed text of this module. Cost: a few copies, and with edits a look at each field's name;
/// no allocation when `out` has room.
#[inline]
pub fn write_request(
    head: &RequestHead<'_>,
    forwarding: &RequestForwarding<'_>,
    out: &mut Vec<u8>,
) {
    debug_assert!(head.max_forwards != Some(0), "the proxy is the last hop and answers itself");
    let Fields { bytes, lines } = head.fields;
    let fields_end = bytes.len() - 2;
    out.reserve(bytes.len() + forwarding.client_address.len() + ADDED_BYTES_MAX);

    let line_starts = |index: usize| lines.get(index).map_or(fields_end, FieldLine::start);
    let mut cut = head.cut;
    let rewrite = forwarding.edits.as_ref().and_then(|edits| edits.rewrite);
    let kept_start = if let (Some(edits), Some(rewrite)) = (&forwarding.edits, rewrite) {
        write_rewritten_start(head, forwarding, edits, rewrite, &mut cut, out);
        line_starts(0)
    } else if head.host_is_first && head.version == Version::Http11 {
        // The usual request: its first two lines are already what the upstream should see.
        let end = line_starts(1);
        out.extend_from_slice(&bytes[..end]);
        end
    } else {
        write_request_line_and_host(head, forwarding, out);
        line_starts(0)
    };

    let fields = forwarding.edits.as_ref().and_then(|edits| edits.fields);
    if let Some(edits) = fields {
        edits.cut_lines(head.fields, &mut cut);
    }
    if let Some(hops) = head.max_forwards {
        cut_kind(head.fields, Kind::MaxForwards, &mut cut);
        out.extend_from_slice(b"Max-Forwards: ");
        put_number(hops.saturating_sub(1), out);
        out.extend_from_slice(b"\r\n");
    }
    if head.has_trailer && head.framing != Framing::Chunked {
        cut_kind(head.fields, Kind::Trailer, &mut cut);
    }
    copy_kept_lines(head.fields, &cut, kept_start, fields_end, out);
    if let Some(edits) = fields {
        out.extend_from_slice(edits.lines());
    }

    match head.framing {
        Framing::Length(_) if head.length_kept => {}
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            put_number(length, out);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::UntilClose => {}
    }
    if head.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    if let (Some(protocols), true) = (head.upgrade, forwarding.upgrade) {
        write_upgrade(protocols, out);
    }
    out.extend_from_slice(b"X-Forwarded-For: ");
    if head.has_forwarded_for {
        write_earlier_hops(head.fields, out);
    }
    out.extend_from_slice(forwarding.client_address);
    out.extend_from_slice(match forwarding.scheme {
        Scheme::Http => b"\r\nX-Forwarded-Proto: http\r\n".as_slice(),
        Scheme::Https => b"\r\nX-Forwarded-Proto: https\r\n",
    });
    if let Some(id) = head.request_id.or(forwarding.request_id) {
        out.extend_from_slice(b"X-Request-Id: ");
        out.extend_from_slice(id);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(match head.version {
        Version::Http11 => b"Via: 1.1 lateen\r\n\r\n",
        Version::Http10 => b"Via: 1.0 lateen\r\n\r\n",
    });
}

/// More than what the lines of this module take beside the client's own bytes and address: the
/// longest id, the longest Content-Length, and the fixed text.
const ADDED_BYTES_MAX: usize = 512;

fn write_request_line_and_host(
    head: &RequestHead<'_>,
    forwarding: &RequestForwarding<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(head.method_text);
    out.push(b' ');
    out.extend_from_slice(head.path);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(head.authority.unwrap_or(forwarding.authority_if_missing));
    out.extend_from_slice(b"\r\n");
}

/// Request line, `Host` and, if that is a new one, `X-Forwarded-Host`.
#[cold]
fn write_rewritten_start(
    head: &RequestHead<'_>,
    forwarding: &RequestForwarding<'_>,
    edits: &RequestEdits<'_>,
    rewrite: &Rewrite,
    cut: &mut FieldMask,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(head.method_text);
    out.push(b' ');
    put_target(head.path, rewrite.path.as_ref(), edits.prefix_bytes as usize, out);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    let came = head.authority.unwrap_or(forwarding.authority_if_missing);
    let Some(host) = &rewrite.host else {
        out.extend_from_slice(came);
        out.extend_from_slice(b"\r\n");
        return;
    };
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b"\r\n");
    // Set or removed by config, or a request that named no host: nothing to tell.
    if edits.fields.is_some_and(|fields| fields.cuts(FORWARDED_HOST)) || head.authority.is_none() {
        return;
    }
    out.extend_from_slice(b"X-Forwarded-Host: ");
    for (index, field) in head.fields.iter().enumerate() {
        if is(field.name, FORWARDED_HOST) {
            cut.insert(index);
            if !field.value.is_empty() {
                out.extend_from_slice(field.value);
                out.extend_from_slice(b", ");
            }
        }
    }
    out.extend_from_slice(came);
    out.extend_from_slice(b"\r\n");
}

const FORWARDED_HOST: &[u8; 16] = b"x-forwarded-host";

/// The addresses that earlier hops wrote, of all lines, each followed by a comma.
fn write_earlier_hops(fields: Fields<'_>, out: &mut Vec<u8>) {
    for line in fields.lines.iter().filter(|line| line.kind == Kind::ForwardedFor) {
        let addresses = line.value(fields.bytes);
        if !addresses.is_empty() {
            out.extend_from_slice(addresses);
            out.extend_from_slice(b", ");
        }
    }
}

/// The offered protocols without h2c; there is at least one.
fn write_upgrade(protocols: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
    for (index, protocol) in list_items(protocols).filter(|item| !is_h2c(item)).enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(protocol);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
