//! Subsets of services, by the labels of their endpoints: each is a cluster of its own, beside that of the
//! port that it is a part of.
//!
//! Before: routes are compiled, and point to the clusters of ports. After: those whose policy selects a
//! subset point to clusters that have no other endpoints. So a proxy knows nothing of labels, and whatever
//! holds for a cluster (how it is balanced, its limits, who is in service) holds for a subset on its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lateen_snapshot::model::{Action, Cluster, ClusterId};

use crate::compile::endpoints::MeshCluster;
use crate::compile::findings::Findings;
use crate::compile::http_rules::HttpRoute;
use crate::compile::policy::Settings;
use crate::compile::tcp_rules::TcpRule;
use crate::language::object::Declared;

/// Which endpoints of its backends a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Subset {
    /// They have all of these.
    pub(super) labels: BTreeMap<String, String>,
    /// Where there is none, all of them.
    pub(super) falls_back: bool,
}

/// The clusters of the mesh, which become more.
pub(super) struct Subsets<'a> {
    pub(super) clusters: &'a mut Vec<MeshCluster>,
    /// Beside them.
    pub(super) settings: &'a mut Vec<Settings>,
    /// As they were in the mesh before this one.
    pub(super) before: &'a HashMap<String, Arc<Cluster>>,
    pub(super) ids: HashMap<(ClusterId, Subset), ClusterId>,
}

impl Subsets<'_> {
    /// Leads routes that are for subsets there.
    pub(super) fn lead(
        &mut self,
        http: &mut [HttpRoute<'_>],
        tcp: &mut [TcpRule<'_>],
        findings: &mut Findings,
    ) {
        for route in http {
            for (index, rule) in route.rules.iter_mut().enumerate() {
                let (Some(subset), Action::Forward(backends)) =
                    (&rule.subset, &mut rule.route.action)
                else {
                    continue;
                };
                let path = format!("spec.rules[{index}].backendRefs");
                for id in backends.iter_mut().filter_map(|backend| backend.cluster.as_mut()) {
                    *id = self.part_of(*id, subset, route.declared, &path, findings);
                }
            }
        }
        for rule in tcp {
            let Some(subset) = &rule.subset else { continue };
            let path = "spec.rules[0].backendRefs";
            for id in rule.route.backends.iter_mut().filter_map(|of| of.cluster.as_mut()) {
                *id = self.part_of(*id, subset, rule.declared, path, findings);
            }
        }
    }

    fn part_of(
        &mut self,
        whole: ClusterId,
        subset: &Subset,
        route: &Declared,
        path: &str,
        findings: &mut Findings,
    ) -> ClusterId {
        let of_mesh = &self.clusters[whole.0 as usize];
        let found = with_labels(of_mesh, &subset.labels);
        if found.is_empty() {
            let message =
                format!("no endpoint of {} has {}", of_mesh.cluster.name, show(&subset.labels));
            let help = match subset.falls_back {
                true => "by `fallback: Any` all of them get its requests",
                false => "its requests are answered 503; `fallback: Any` would give them to all",
            };
            findings.warn(route, path, message, help);
            if subset.falls_back {
                return whole;
            }
        }
        if let Some(id) = self.ids.get(&(whole, subset.clone())) {
            return *id;
        }
        let part = cut(&of_mesh.cluster, &found, &format!("?{}", show(&subset.labels)));
        let labels = found.iter().map(|&index| of_mesh.labels[index as usize].clone()).collect();
        let part = match self.before.get(&part.name) {
            Some(same) if **same == part => Arc::clone(same),
            _ => Arc::new(part),
        };
        let settings = self.settings[whole.0 as usize].clone();
        self.settings.push(settings);
        self.clusters.push(MeshCluster { cluster: part, dns: None, labels });
        let id = ClusterId(self.clusters.len() as u32 - 1);
        self.ids.insert((whole, subset.clone()), id);
        id
    }
}

/// Positions of the endpoints that have all of these labels.
fn with_labels(of_mesh: &MeshCluster, wanted: &BTreeMap<String, String>) -> Vec<u32> {
    let has_all = |labels: &BTreeMap<String, String>| {
        wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    let found = of_mesh.labels.iter().zip(0..).filter(|(labels, _)| has_all(labels));
    found.map(|(_, index)| index).collect()
}

/// The cluster with these endpoints only, called by its name with something behind it.
pub(super) fn cut(whole: &Cluster, found: &[u32], suffix: &str) -> Cluster {
    let weights: Vec<u32> = match whole.weights.as_slice() {
        [] => Vec::new(),
        weights => found.iter().map(|&index| weights[index as usize]).collect(),
    };
    let mut policy = whole.policy.clone();
    policy.part_of.get_or_insert_with(|| whole.name.as_str().into());
    let is_terminating = |index: &u32| whole.policy.terminating.binary_search(index).is_ok();
    let terminating = found.iter().zip(0..).filter(|(index, _)| is_terminating(index));
    policy.terminating = terminating.map(|(_, at)| at).collect();
    Cluster {
        name: format!("{}{suffix}", whole.name),
        endpoints: found.iter().map(|&index| whole.endpoints[index as usize]).collect(),
        weights: if weights.iter().all(|weight| *weight == 1) { Vec::new() } else { weights },
        policy,
        ..whole.clone()
    }
}

fn show(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}
