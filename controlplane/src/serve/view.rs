//! What operators see of the control plane's own state. Values; the owner writes them, the API reads.

use std::path::PathBuf;

use lateen_snapshot::model::Epoch;
use serde::{Deserialize, Serialize};

use crate::language::diagnostic::Report;
use crate::serve::overrides::Override;
use crate::status::UnixMs;

/// The control plane's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Where the config comes from.
    pub source: SourceView,
    /// What is stored.
    pub store: StoreView,
    /// Which revision's intent proxies should run.
    pub live_revision: Option<u64>,
    /// Under which epoch it was published last.
    pub epoch: Option<Epoch>,
    /// Why what should run is not published, or is older than it should be.
    pub problem: Option<String>,
    /// Services that are declared by a DNS name.
    pub dns: Vec<DnsView>,
    /// What operators have ordered of what runs, the oldest first.
    #[serde(default)]
    pub overrides: Vec<OverrideView>,
}

/// An order that stands, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideView {
    /// The order.
    #[serde(flatten)]
    pub order: Override,
    /// How many proxies' configs it changes.
    pub proxies: usize,
    /// Why none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_none: Option<String>,
}

/// Where the config comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    /// The files of this folder; `None`: `lateen apply`.
    pub folder: Option<PathBuf>,
    /// Why what it says now is not accepted.
    pub rejection: Option<SourceRejection>,
}

/// What the source says now is not accepted; what was accepted last stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRejection {
    /// In one line.
    pub reason: String,
    /// All that is wrong.
    pub diagnostics: Vec<Report>,
    /// Since when.
    pub since: UnixMs,
}

/// What is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// See [`Epoch::store`].
    pub id: u64,
    /// The last accepted revision.
    pub latest: Option<u64>,
    /// The one that a rollback holds.
    pub pinned: Option<u64>,
    /// The damaged store that was found at the start.
    pub set_aside: Option<SetAside>,
}

/// A store that was damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Where it is now.
    pub to: PathBuf,
    /// How the damage showed.
    pub why: String,
}

/// A DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsView {
    /// The name.
    pub name: String,
    /// Its addresses, as used.
    pub addresses: Vec<std::net::IpAddr>,
    /// Why there are none that are newer.
    pub problem: Option<String>,
}
