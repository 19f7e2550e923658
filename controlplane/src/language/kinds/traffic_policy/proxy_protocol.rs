//! `proxyProtocol` of a TrafficPolicy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The endpoints are told who the client is, by a header of the PROXY protocol at the start of each
/// connection. Such a connection serves one client alone: it is not kept for another request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentProxyProtocol {
    /// The version of the header: 1, a line of text, or 2, bytes.
    pub version: u8,
}
