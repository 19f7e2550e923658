//! Limits of rates, in the words of the snapshot.

use lateen_snapshot::limits::{DURATION_MS_MAX, RATE_BYTES_BURST_LEAST};
use lateen_snapshot::model::rate_limit::{
    ByteDirection, ByteLimit, LimitKey, RateLimits, SourcePrefix,
};
use lateen_snapshot::model::{RoutePolicy, rate_limit};

use crate::language::kinds::traffic_policy::TargetRef;
use crate::language::kinds::traffic_policy::rate_limit::{
    RateLimit, RateLimitDirection, RateLimitHeaders, RateLimitKey, RateLimitKeyType,
};
use crate::language::text::duration_ms;

/// Per what time, unless told otherwise.
const PER_MS: u32 = 1_000;
/// Values of a key that are told apart, unless told otherwise: about a megabyte. Source: nginx's examples
/// of `limit_req_zone` have 10 MB, for some 160,000 addresses.
const KEYS_MAX: u32 = 10_000;
/// A client has an IPv6 network of that many bits (RFC 6177).
const V6_BITS: u8 = 64;

/// What a policy says; its limits have no place yet.
pub(super) fn rate_limits_of(written: &[RateLimit]) -> Option<Box<RateLimits>> {
    if written.is_empty() {
        return None;
    }
    let mut limits = RateLimits::default();
    for limit in written {
        // The language saw to it that one of the three is there.
        let counted = limit.requests.or(limit.connections).map(u64::from);
        let units = counted.or(limit.bytes).unwrap_or(1);
        let compiled = rate_limit::RateLimit {
            name: limit.name.clone(),
            label: limit.name.clone(),
            units,
            span_ms: limit
                .per
                .as_deref()
                .and_then(duration_ms)
                .map_or(PER_MS, |span_ms| span_ms.clamp(1, DURATION_MS_MAX.into()) as u32),
            burst: limit.burst.unwrap_or_else(|| match limit.bytes {
                Some(bytes) => bytes.max(RATE_BYTES_BURST_LEAST),
                None => units,
            }),
            key: limit.key.as_ref().map(key_of),
            keys_max: limit.max_keys.unwrap_or(KEYS_MAX),
            is_told: limit.headers == Some(RateLimitHeaders::Always),
            dry_run: limit.dry_run,
        };
        match (limit.requests, limit.connections) {
            (Some(_), _) => limits.requests.push(compiled),
            (None, Some(_)) => limits.connections.push(compiled),
            (None, None) => {
                let direction = match limit.direction {
                    Some(RateLimitDirection::Request) => ByteDirection::Request,
                    Some(RateLimitDirection::Response) => ByteDirection::Response,
                    Some(RateLimitDirection::Both) | None => ByteDirection::Both,
                };
                limits.bytes.push(ByteLimit { limit: compiled, direction });
            }
        }
    }
    Some(Box::new(limits))
}

fn key_of(key: &RateLimitKey) -> LimitKey {
    let name = || key.name.clone().unwrap_or_default();
    match key.r#type {
        RateLimitKeyType::Header => LimitKey::Header(name().to_ascii_lowercase()),
        RateLimitKeyType::Cookie => LimitKey::Cookie(name()),
        RateLimitKeyType::SourceAddress => LimitKey::SourceAddress(SourcePrefix {
            v4_bits: key.ipv4_prefix_length.unwrap_or(32),
            v6_bits: key.ipv6_prefix_length.unwrap_or(V6_BITS),
            trusted_hops: key.trusted_hops.unwrap_or(0),
        }),
    }
}

/// The limits of a policy that is attached to a target: they count by themselves there, whatever else the
/// policy is attached to, and wherever requests to the target come from.
pub(super) fn place_limits(policy: &mut RoutePolicy, namespace: &str, reference: &TargetRef) {
    let Some(limits) = &mut policy.rate_limits else { return };
    let TargetRef { kind, name, section_name, .. } = reference;
    let part = section_name.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
    let of_bytes = limits.bytes.iter_mut().map(|of| &mut of.limit);
    for limit in limits.requests.iter_mut().chain(&mut limits.connections).chain(of_bytes) {
        limit.name = format!("{kind}/{namespace}/{name}{part}/{}", limit.label);
    }
}

/// What of a policy's limits counts for bytes that are not HTTP.
pub(in crate::compile) fn of_connections(policy: &RoutePolicy) -> Option<Box<RateLimits>> {
    let RateLimits { connections, bytes, .. } = &**policy.rate_limits.as_ref()?;
    let is_any = !connections.is_empty() || !bytes.is_empty();
    is_any.then(|| {
        let (connections, bytes) = (connections.clone(), bytes.clone());
        Box::new(RateLimits { requests: Vec::new(), connections, bytes })
    })
}
