//! What goes over the API about operators' orders.

use std::collections::BTreeMap;

use lateen_snapshot::model::Epoch;
use serde::{Deserialize, Serialize};

use crate::api::messages::Verdict;
use crate::serve::overrides::names::{EndpointName, RouteName, ServiceName};
use crate::serve::view::OverrideView;
use crate::status::Outcome;

/// `POST /v1/overrides`: hold what runs to an order, or no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// Which.
    pub order: OrderText,
    /// For so many milliseconds; without it, until it is taken back.
    #[serde(default)]
    pub for_ms: Option<u64>,
    /// Why.
    #[serde(default)]
    pub message: String,
    /// Wait so long for the proxies, in seconds; 0: not at all.
    #[serde(default)]
    pub wait_s: u64,
}

/// Which order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OrderText {
    /// An endpoint gets no new requests.
    Eject {
        /// Whose.
        service: ServiceName,
        /// Which.
        endpoint: EndpointName,
        /// Also if it is the last one.
        #[serde(default)]
        force: bool,
    },
    /// It gets some again.
    Readmit {
        /// Whose.
        service: ServiceName,
        /// Which.
        endpoint: EndpointName,
    },
    /// The breaker of a route is open, closed, or decides by itself again.
    Breaker {
        /// Of which route.
        route: RouteName,
        /// Which of them.
        to: BreakerTo,
    },
}

/// What a breaker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerTo {
    /// Let nothing through.
    Open,
    /// Let everything through.
    Closed,
    /// Decide by itself.
    Auto,
}

/// The answer to [`OverrideRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideResponse {
    /// In a word.
    pub verdict: Verdict,
    /// The order that stands now; none if one was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OverrideView>,
    /// What proxies should run now.
    pub epoch: Option<Epoch>,
    /// What became of it at each proxy; empty if nobody waited.
    pub proxies: BTreeMap<String, Outcome>,
}

/// `GET /v1/overrides`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverridesResponse {
    /// Those that stand, the oldest first.
    pub overrides: Vec<OverrideView>,
}
