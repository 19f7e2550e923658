//! How often something may happen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many requests, connections or bytes are let through, over all workers of a proxy. A request that is
/// over it is answered 429 with `Retry-After`, a connection is reset, and bytes wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Its name, which clients are told; unique in the policy.
    pub name: String,
    /// So many requests in the time `per`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// So many new connections in the time `per`, of those that are not HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// So many bytes in the time `per`: of the bodies of requests and responses, or of what passes a
    /// connection that is not HTTP. What is over it waits, and is never refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Which `bytes`; both ways unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<RateLimitDirection>,
    /// In this time; `1s` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// So many at once, after a pause; as many as in the time `per` unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Counts each value of this part of a request by itself; without it all are counted together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<RateLimitKey>,
    /// So many values of the key are told apart; 10,000 unless told otherwise. Who comes when that many
    /// are busy shares one count with the others that are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u32>,
    /// Which answers to `requests` say in `RateLimit` and `RateLimit-Policy` how much is left; those that
    /// refuse unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<RateLimitHeaders>,
    /// Only counts what is over it, and lets it through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateLimitDirection {
    /// From the client: bodies of requests.
    Request,
    /// To the client: bodies of responses.
    Response,
    /// Both ways, counted together.
    Both,
}

/// Which answers tell of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateLimitHeaders {
    /// Those to requests that are over it, or over another limit beside it.
    OnRefusal,
    /// All. A client can keep to it before it is refused.
    Always,
}

/// A part of a request that is counted by. Requests without it are counted together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimitKey {
    /// What kind of part it is.
    pub r#type: RateLimitKeyType,
    /// Its name, for a header field or a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Leading bits of an IPv4 address that tell clients apart; 32, the whole address, unless told
    /// otherwise. Only for `SourceAddress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4_prefix_length: Option<u8>,
    /// The same of an IPv6 address; 64, which is what one client has, unless told otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_prefix_length: Option<u8>,
    /// How many proxies before this one are trusted to have put the address of who called them into
    /// `X-Forwarded-For`: the client is that many from its right end. None unless told otherwise: the
    /// client is who is connected. Only for `SourceAddress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_hops: Option<u8>,
}

/// A kind of part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateLimitKeyType {
    /// The value of a header field; of several fields of that name, the first.
    Header,
    /// The value of a cookie.
    Cookie,
    /// The client's address, or the network that it is in. The only one that a connection has.
    SourceAddress,
}
