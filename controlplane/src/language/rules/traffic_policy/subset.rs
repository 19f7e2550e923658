//! Rules of the subset of a TrafficPolicy.

use super::check_fits;
use crate::language::kinds::traffic_policy::TargetRef;
use crate::language::kinds::traffic_policy::subset::Subset;
use crate::language::rules::findings::Findings;

/// Of all names and values together: they are a part of the name of the cluster that is made of them.
const LABELS_BYTES_MAX: usize = 256;

pub(super) fn check(subset: &Subset, targets: &[TargetRef], findings: &mut Findings<'_>) {
    check_fits("subset", |kind| kind != "Service", targets, findings);
    let path = "spec.subset.labels";
    if subset.labels.is_empty() {
        let help = "such as `labels: {version: v2}`";
        findings.error_with_help(path, "a subset without labels is the whole", help);
    }
    let bytes: usize = subset.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > LABELS_BYTES_MAX {
        let message = format!("the labels have {bytes} bytes");
        findings.error_with_help(path, message, format!("at most {LABELS_BYTES_MAX}"));
    }
    let is_plain = |text: &str| !text.is_empty() && text.chars().all(|of| of.is_ascii_graphic());
    for (name, value) in &subset.labels {
        if !is_plain(name) || !is_plain(value) {
            let message = format!("`{name}: {value}` is no label");
            findings.error_with_help(path, message, "visible characters without spaces");
        }
    }
}
