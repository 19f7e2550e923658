//! What goes over the API, both ways. The CLI prints these with `--output json` as they are.

pub mod overrides;

use std::collections::BTreeMap;

use lateen_snapshot::model::Epoch;
use serde::{Deserialize, Serialize};

use crate::compile::in_force::{RouteInForce, Target};
use crate::language::diagnostic::Report;
use crate::serve::preview::ProxyChange;
use crate::serve::view::OverrideView;
use crate::serve::view::View;
use crate::status::{Outcome, Status};
use crate::store::diff::{Change, ChangeKind};
use crate::store::revision::{Key, Revision};

/// A file, read by whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileText {
    /// For messages.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// `POST /v1/apply`: put objects in the place of those with the same key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyRequest {
    /// They declare the objects.
    pub files: Vec<FileText>,
    /// They are all there are: the others go.
    pub prune: bool,
    /// How it is to be done.
    pub how: How,
}

/// `POST /v1/delete`: take one object out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// Its kind in any case, with its group after a dot where one is needed: `service.core`.
    pub kind: String,
    /// `default` unless given.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// How it is to be done.
    #[serde(default)]
    pub how: How,
}

/// How a change is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct How {
    /// Only if this is the latest revision (0: none yet).
    pub if_revision: Option<u64>,
    /// Check everything, change nothing.
    pub dry_run: bool,
    /// If a proxy refuses it, take it back everywhere.
    pub atomic: bool,
    /// Why, for the history.
    pub message: String,
    /// Wait so long for the proxies, in seconds; 0: not at all.
    pub wait_s: u64,
}

/// `POST /v1/diff`: what would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffRequest {
    /// They declare the objects.
    pub files: Vec<FileText>,
    /// They are all there are: the others go.
    pub prune: bool,
}

/// `POST /v1/rollback`: make an accepted revision live and pin it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Which.
    pub revision: u64,
    /// Wait so long for the proxies, in seconds; 0: not at all.
    #[serde(default)]
    pub wait_s: u64,
}

/// `POST /v1/resume`: let the latest revision be live again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResumeRequest {
    /// Wait so long for the proxies, in seconds; 0: not at all.
    pub wait_s: u64,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeResponse {
    /// In a word.
    pub verdict: Verdict,
    /// The latest revision now; 0: none.
    pub revision: u64,
    /// Whether this change made it.
    pub is_new: bool,
    /// Objects that changed, or would.
    pub changes: Vec<ObjectChange>,
    /// What is probably not what was meant.
    pub warnings: Vec<Report>,
    /// The revision that a rollback holds.
    pub pinned: Option<u64>,
    /// What proxies should run now.
    pub epoch: Option<Epoch>,
    /// What became of it at each proxy; empty if nobody waited.
    pub proxies: BTreeMap<String, Outcome>,
    /// Connected proxies that are not declared any more since: they keep what they run.
    #[serde(default)]
    pub orphans: Vec<String>,
    /// What came in its place, if a proxy refused it and all was to be taken back.
    pub undone: Option<Undone>,
}

/// What became of a change, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every core of every connected proxy runs it.
    Live,
    /// It would be accepted.
    DryRun,
    /// It is stored, and waits behind a pin.
    StoredNotLive,
    /// It is stored and published; nobody waited for the proxies.
    NotWaited,
    /// A proxy refused it.
    Rejected,
    /// A connected proxy has not said in time that it runs it.
    Unfinished,
}

impl Verdict {
    /// Whether what was asked for holds.
    pub const fn is_as_asked(self) -> bool {
        matches!(self, Self::Live | Self::DryRun | Self::NotWaited)
    }
}

/// An object, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// Which.
    #[serde(flatten)]
    pub key: Key,
    /// What became of it.
    pub change: ChangeKind,
}

/// What came in the place of a change that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undone {
    /// The content before it.
    Back {
        /// Under this number.
        revision: u64,
        /// Under this epoch.
        epoch: Option<Epoch>,
        /// What became of that at each proxy.
        proxies: BTreeMap<String, Outcome>,
    },
    /// Nothing: someone had changed something since, which was left alone.
    Overtaken,
    /// Nothing: it failed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The answer to [`DiffRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffResponse {
    /// Objects that would change.
    pub objects: Vec<Change>,
    /// Proxies that would get something else.
    pub proxies: Vec<ProxyChange>,
    /// What is probably not what was meant.
    pub warnings: Vec<Report>,
    /// The revision that a rollback holds: nothing of this would run before `resume`.
    pub pinned: Option<u64>,
}

/// `GET /v1/objects?kind=&namespace=&name=`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsResponse {
    /// Of which they are: the latest; 0: none.
    pub revision: u64,
    /// Those that match.
    pub objects: Vec<ObjectText>,
}

/// An object as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectText {
    /// What it is called.
    #[serde(flatten)]
    pub key: Key,
    /// What it says.
    pub text: String,
}

/// `GET /v1/policies?namespace=`: TrafficPolicies, and what they are attached to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoliciesResponse {
    /// The revision that is live; 0: none.
    pub revision: u64,
    /// By namespace and name.
    pub policies: Vec<Policy>,
}

/// A TrafficPolicy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Its namespace, and that of its targets.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is attached to.
    pub targets: Vec<Target>,
    /// What it says something about, such as `timeouts.request`.
    pub settings: Vec<String>,
}

/// `GET /v1/policies/in-force?route=&namespace=&rule=`: what policies come to on a route. `route` is a name,
/// with `httproute/` or `tcproute/` before it where both have that name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutePoliciesResponse {
    /// The revision that is live.
    pub revision: u64,
    /// What it comes to.
    #[serde(flatten)]
    pub route: RouteInForce,
    /// What operators have ordered of it: that counts instead of what is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideView>,
}

/// `GET /v1/history?limit=&before=`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryResponse {
    /// Newest first.
    pub revisions: Vec<Revision>,
    /// Whose intent runs.
    pub live: Option<u64>,
    /// The one that a rollback holds.
    pub pinned: Option<u64>,
}

/// `GET /v1/history/N`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionResponse {
    /// Who, when, why.
    pub revision: Revision,
    /// All objects of it.
    pub objects: Vec<ObjectText>,
}

/// `GET /v1/diff?old=&new=`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionsDiffResponse {
    /// From this revision …
    pub old: u64,
    /// … to that one.
    pub new: u64,
    /// Objects that differ.
    pub objects: Vec<Change>,
}

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusResponse {
    /// Of the control plane's program.
    pub version: String,
    /// Of its process.
    pub pid: u32,
    /// Its own state.
    #[serde(flatten)]
    pub control: View,
    /// Its proxies.
    #[serde(flatten)]
    pub proxies: Status,
}

/// What is answered, with a status of 400 or more, when nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorResponse {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// All that is wrong with what was declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Report>,
}
