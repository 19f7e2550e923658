//! How near the endpoints of a cluster are to a proxy: those that are equally near become a cluster of their
//! own, and each leads on to the next further one.
//!
//! Before: a proxy reaches a cluster whose policy says that requests stay near. After: its snapshot has up to
//! three in its place. So a proxy knows nothing of zones, only where to go while too few are in service.

use crate::compile::endpoints::MeshCluster;
use crate::language::kinds::proxy::Locality;

/// Source: Kubernetes' well-known labels.
pub(super) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
const REGION_LABEL: &str = "topology.kubernetes.io/region";

/// Positions of the endpoints that are equally near, the nearest first, and what is put behind the cluster's
/// name; none of them is empty.
pub(super) fn by_distance(
    of_mesh: &MeshCluster,
    proxy: &Locality,
) -> Vec<(&'static str, Vec<u32>)> {
    let mut near = vec![("@zone", Vec::new()), ("@region", Vec::new()), ("@elsewhere", Vec::new())];
    for (index, labels) in (0..).zip(&of_mesh.labels) {
        let is = |label: &str, wanted: &str| labels.get(label).is_some_and(|of| of == wanted);
        // Zones of different regions may share a name, where regions are said.
        let region = proxy.region.as_deref();
        let in_region = region.is_some_and(|region| is(REGION_LABEL, region));
        let is_elsewhere = region.is_some() && labels.contains_key(REGION_LABEL) && !in_region;
        let distance = match is(ZONE_LABEL, &proxy.zone) && !is_elsewhere {
            true => 0,
            false if in_region => 1,
            false => 2,
        };
        near[distance].1.push(index);
    }
    near.retain(|(_, endpoints)| !endpoints.is_empty());
    near
}
