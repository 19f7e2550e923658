//! Every bound of a snapshot and of its transport, with its unit and its source.
//!
//! Before: nothing; after: [`validate`](crate::validate) holds a snapshot against them, and
//! [`encoding`](crate::encoding), [`message`](crate::message) and [`frame`](crate::frame) hold bytes
//! against them. The relations between them are asserted when this file is compiled.
//!
//! Where a source names a type of the Gateway API, its OpenAPI schema has the bound; ours is never
//! below it, so that what Kubernetes accepted is not refused here for its size.

use std::time::Duration;

const KIB: usize = 1024;

// Lists.

/// Listeners of one proxy. Each costs every worker a socket; a Gateway has at most 64.
pub const LISTENERS_MAX: usize = 1_024;
/// Ranges of addresses from which a listener takes headers of the PROXY protocol; looked at one by one.
pub const PROXY_SOURCES_MAX: usize = 64;
/// Entries of one listener's `http`; one for each Gateway listener that shares its port.
pub const HOST_ROUTES_MAX: usize = 1_024;
/// Route tables; mostly one for each entry of a listener.
pub const ROUTE_TABLES_MAX: usize = 65_536;
/// Virtual hosts in all tables; a mesh service has one for each of its ports and one without.
pub const VIRTUAL_HOSTS_MAX: usize = 262_144;
/// Host patterns in all tables; a mesh service is called by four names.
pub const HOST_PATTERNS_MAX: usize = 1_048_576;
/// Rules in all tables.
pub const RULES_MAX: usize = 1_048_576;
/// Header conditions, and as many query conditions, of a rule. Source: HTTPRouteMatch, 16.
pub const MATCH_FIELDS_MAX: usize = 16;
/// Routes.
pub const ROUTES_MAX: usize = 262_144;
/// Backends of a route. Source: HTTPRouteRule and TCPRouteRule, 16.
pub const BACKENDS_MAX: usize = 16;
/// Mirrors of a route. Source: the filters of an HTTPRouteRule, 16.
pub const MIRRORS_MAX: usize = 16;
/// Header fields in each of `set`, `add` and `remove`. Source: HTTPHeaderFilter, 16; the rest is
/// room for what policies add.
pub const HEADER_EDITS_MAX: usize = 64;
/// Entries of each list of a CORS policy. Source: HTTPCORSFilter, 64.
pub const CORS_ENTRIES_MAX: usize = 64;
/// Clusters: the Service ports that one proxy reaches.
pub const CLUSTERS_MAX: usize = 65_536;
/// Endpoints of all clusters: ten times what the largest mesh known to us reaches from one proxy.
pub const ENDPOINTS_MAX: usize = 1_048_576;
/// What a request's key may be made of, in a cluster.
pub const HASH_KEYS_MAX: usize = 16;
/// Limits of a route's rate, of each kind: each is looked at for every request.
pub const RATE_LIMITS_MAX: usize = 8;
/// Regular expressions in all rules: each is compiled for its proxy and kept.
pub const REGEXES_MAX: usize = 4_096;

// Texts, in bytes.

/// A name of a listener, table, route or cluster: a kind, a namespace (63), a name (253) and a number.
pub const NAME_BYTES_MAX: usize = 512;
/// A host name without its port. Source: RFC 1035 §2.3.4, less the final dot and the length byte.
pub const HOST_BYTES_MAX: usize = 253;
/// One label of a host name. Source: RFC 1035 §2.3.4.
pub const LABEL_BYTES_MAX: usize = 63;
/// A path to match or to write. Source: HTTPPathMatch, 1,024.
pub const PATH_BYTES_MAX: usize = 1_024;
/// A method. Source: the longest registered one has 17 bytes.
pub const METHOD_BYTES_MAX: usize = 32;
/// A header field's or query parameter's name. Source: HTTPHeaderName, 256.
pub const FIELD_NAME_BYTES_MAX: usize = 256;
/// A cookie's name.
pub const COOKIE_NAME_BYTES_MAX: usize = 256;
/// A header field's or query parameter's value. Source: HTTPHeader, 4,096.
pub const FIELD_VALUE_BYTES_MAX: usize = 4_096;
/// What the edits of a route and one of its backends add to a head, as lines: with it and a proxy's
/// limits of a head that comes, every head that it writes is bounded. Source: as much as a whole head
/// may have; servers refuse far less. The one bound here below what the Gateway API's schema allows,
/// which has none of its own for the sum of 32 fields.
pub const EDITS_BYTES_MAX: usize = 64 * KIB;
/// A regular expression. Source: HTTPHeaderMatch, 4,096.
pub const REGEX_BYTES_MAX: usize = 4_096;
/// A compiled regular expression; a hundred times what a path pattern of usual length takes.
pub const REGEX_PROGRAM_BYTES_MAX: usize = 256 * KIB;
/// What matching one may keep beside it, for each thread that matches.
pub const REGEX_CACHE_BYTES_MAX: usize = 256 * KIB;
/// An origin of a CORS policy: a scheme, a host name and a port. Source: HTTPCORSFilter, 253.
pub const ORIGIN_BYTES_MAX: usize = 320;

/// What a limit of a rate counts under: a kind, a namespace (63), a name (253), a part of it (253) and a
/// label (63), and what stands between them.
pub const LIMIT_NAME_BYTES_MAX: usize = 2 * NAME_BYTES_MAX;

// Numbers.

/// Weight of one backend. Source: BackendRef, 1,000,000.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// The greatest weight of an endpoint: with more, the lightest would be called too rarely to be of use.
pub const ENDPOINT_WEIGHT_MAX: u32 = 1_000;
/// The greatest bound of a hashed cluster: an endpoint's load over the average, in percent.
pub const BOUND_PERCENT_MAX: u32 = 10_000;
/// Denominator of the share of a mirror or a fault. Source: none in the Gateway API's Fraction; a millionth is enough.
/// Units of a limited rate, and of its burst.
pub const RATE_UNITS_MAX: u64 = 1_000_000_000;
/// The same of bytes.
pub const RATE_BYTES_MAX: u64 = 1_000_000_000_000;
/// The smallest burst of bytes: what passes as one is no more than it, and a system call has its price.
pub const RATE_BYTES_BURST_LEAST: u64 = 1_024;
/// Values of a limit's key that are told apart: some 100 bytes each.
pub const RATE_KEYS_MAX: u32 = 1_000_000;
/// Proxies before this one whose `X-Forwarded-For` is believed.
pub const TRUSTED_HOPS_MAX: u8 = 16;
/// Cap of what one cluster may take of a proxy: a proxy has no more descriptors.
pub const CAP_MAX: u32 = 1_000_000;
/// Bytes of the body that a breaker answers with. Source: what a worker sends in one piece with a head.
pub const FALLBACK_BODY_BYTES_MAX: usize = 4 * KIB;
/// Ranges of statuses with which an endpoint says that it is well.
pub const CHECK_STATUSES_MAX: usize = 16;
/// The shortest time from one check of an endpoint to the next, in milliseconds: many proxies do it.
pub const CHECK_INTERVAL_MS_LEAST: u32 = 100;
/// The shortest time from one comparison of a cluster's endpoints to the next, in milliseconds: it looks at
/// all of them.
pub const EJECTION_INTERVAL_MS_LEAST: u32 = 100;
/// Failures in a row; more than anybody would wait for.
pub const CONSECUTIVE_MAX: u32 = 1_000;
/// Requests that must have been made before they are judged, and endpoints likewise.
pub const REQUEST_VOLUME_MAX: u32 = 1_000_000;
/// Thousandths of a standard deviation.
pub const STDEV_FACTOR_MAX: u32 = 10_000;
/// Denominator of a mirror's share. Source: none in the Gateway API's Fraction; a millionth is enough.
pub const DENOMINATOR_MAX: u32 = 1_000_000;
/// A time span, in milliseconds: 30 days.
pub const DURATION_MS_MAX: u32 = 30 * 24 * 3600 * 1000;
/// Tries of a request beyond the first; more only make an outage worse.
pub const RETRIES_MAX: u32 = 8;
/// Statuses after which a request is tried again.
pub const RETRY_STATUSES_MAX: usize = 32;
/// Fields of an answer after which a request is tried again.
pub const RETRY_FIELDS_MAX: usize = 8;
/// The percentiles of latency after which a second request may be sent.
pub const HEDGE_PERCENTILES: std::ops::RangeInclusive<u32> = 50..=99;
/// What retries may cost for each 100 requests; with more there is no budget to speak of.
pub const RETRY_PERCENT_MAX: u32 = 1_000;
/// What retries may cost each second besides.
pub const RETRIES_PER_SECOND_MAX: u32 = 1_000_000;
/// The greatest aggression of a slow start, in percent: with it a new endpoint has most of its share at once.
pub const AGGRESSION_PERCENT_MAX: u32 = 10_000;
/// A bandwidth, in bytes per second: 1 TiB/s, more than any link has.
pub const BYTES_PER_S_MAX: u64 = 1 << 40;
/// How long a preflight answer may be remembered, in seconds. Source: HTTPCORSFilter, int32.
pub const CORS_MAX_AGE_S_MAX: u32 = i32::MAX as u32;

// Encoding.

/// Bytes of an encoded snapshot, its header included.
pub const ENCODED_BYTES_MAX: usize = 256 * KIB * KIB;
/// Bytes of the values that decoding may make of them, without their texts: twice what the largest
/// lists take. Without it a byte of input could become a hundred of memory.
pub const DECODED_BYTES_MAX: usize = 1024 * KIB * KIB;

// Messages and frames.

/// Bytes of a frame's payload. A reader sets aside as much for each connection.
pub const FRAME_BYTES_MAX: usize = 64 * KIB;
/// Bytes of an encoded snapshot that travels inside its message; a larger one travels beside it.
pub const INLINE_BYTES_MAX: usize = FRAME_BYTES_MAX - KIB;
/// Bytes of a proxy's name. Source: `metadata.name`, 253.
pub const PROXY_NAME_BYTES_MAX: usize = 253;
/// Bytes of a program's version.
pub const PROGRAM_VERSION_BYTES_MAX: usize = 64;
/// Bytes of a reason; a longer one is cut by who writes it.
pub const REASON_BYTES_MAX: usize = 4 * KIB;
/// Workers of a proxy; more than any machine has cores.
pub const WORKERS_MAX: usize = 1_024;
/// From a frame's first byte to its last, unless the caller says otherwise: a peer on the same host
/// that takes longer does not work.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = {
    assert!(ROUTE_TABLES_MAX <= u32::MAX as usize, "RouteTableId is a u32");
    assert!(ROUTES_MAX <= u32::MAX as usize, "RouteId is a u32");
    assert!(CLUSTERS_MAX <= u32::MAX as usize, "ClusterId is a u32");
    assert!(ENDPOINTS_MAX <= u32::MAX as usize, "an endpoint's index is a u32");
    assert!(LISTENERS_MAX <= ROUTE_TABLES_MAX);
    assert!(VIRTUAL_HOSTS_MAX <= HOST_PATTERNS_MAX, "each has one at least");
    assert!(CLUSTERS_MAX <= VIRTUAL_HOSTS_MAX && CLUSTERS_MAX <= ROUTES_MAX);
    assert!(ROUTES_MAX <= RULES_MAX);
    assert!(63 + 253 + 253 + 63 + 16 <= LIMIT_NAME_BYTES_MAX, "a limit's name fits");
    assert!(BACKENDS_MAX as u64 * WEIGHT_MAX as u64 <= u32::MAX as u64, "weights add up in a u32");
    assert!(LABEL_BYTES_MAX < HOST_BYTES_MAX && HOST_BYTES_MAX < NAME_BYTES_MAX);
    assert!(HOST_BYTES_MAX + "://".len() + ":65535".len() < ORIGIN_BYTES_MAX);
    assert!(FIELD_NAME_BYTES_MAX + FIELD_VALUE_BYTES_MAX + ": \r\n".len() <= EDITS_BYTES_MAX);
    assert!(PATH_BYTES_MAX <= REGEX_BYTES_MAX);
    assert!(REGEX_BYTES_MAX < REGEX_PROGRAM_BYTES_MAX);
    assert!(INLINE_BYTES_MAX < FRAME_BYTES_MAX, "what surrounds it must fit too");
    assert!(REASON_BYTES_MAX + KIB <= FRAME_BYTES_MAX);
    assert!(WORKERS_MAX * 10 + KIB <= FRAME_BYTES_MAX, "two varints of up to five bytes for each");
    assert!(FRAME_BYTES_MAX < ENCODED_BYTES_MAX && ENCODED_BYTES_MAX <= DECODED_BYTES_MAX);
    assert!(ENCODED_BYTES_MAX <= u32::MAX as usize);
};
