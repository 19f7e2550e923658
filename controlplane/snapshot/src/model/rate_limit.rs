//! How often something may happen.

use serde::{Deserialize, Serialize};

/// The limits of a route or a backend. Each of them must admit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimits {
    /// Of requests; those of a route of bytes have none.
    pub requests: Vec<RateLimit>,
    /// Of new connections that are not HTTP.
    pub connections: Vec<RateLimit>,
    /// Of the bytes of bodies, and of connections that are not HTTP. What is over one waits.
    pub bytes: Vec<ByteLimit>,
}

/// A limit of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteLimit {
    /// How many.
    pub limit: RateLimit,
    /// Which of them count.
    pub direction: ByteDirection,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ByteDirection {
    /// From the client.
    Request,
    /// To the client.
    Response,
    /// Both ways, counted together.
    Both,
}

/// So many in a span of time, and so many at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// What it counts under: limits of the same name are one, wherever they stand and whatever the
    /// snapshot. Such as `Service/shop/cart/per-client` (kind, namespace, name and perhaps a part of what
    /// it is attached to, and its own name).
    pub name: String,
    /// What clients are told of it: its own name, a label of letters, digits and hyphens.
    pub label: String,
    /// So many …
    pub units: u64,
    /// … in that many milliseconds; more than 0, as both others.
    pub span_ms: u32,
    /// So many at once after a pause.
    pub burst: u64,
    /// Each value of this part of a request is counted by itself; `None`: all together.
    pub key: Option<LimitKey>,
    /// So many values of the key are told apart at the most; more than 0.
    pub keys_max: u32,
    /// Answers to requests that it lets through tell how much is left of it.
    pub is_told: bool,
    /// What is over it is counted and passes.
    pub dry_run: bool,
}

/// A part of a request that a limit is counted by. Requests without it are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitKey {
    /// The value of this header field, the first if there are several. Lower case.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The client's address.
    SourceAddress(SourcePrefix),
}

/// Which addresses are one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourcePrefix {
    /// Leading bits of an IPv4 address that tell clients apart; at most 32.
    pub v4_bits: u8,
    /// The same of an IPv6 address; at most 128.
    pub v6_bits: u8,
    /// The client is that many addresses from the right end of `X-Forwarded-For`: each proxy between it
    /// and here, whose word counts, has put one there. 0, or fewer addresses: who is connected.
    pub trusted_hops: u8,
}
