//! The demo's config, as files that one may read and edit.
//!
//! Before: a [`Plan`] whose apps run. After: `lateen serve` reads the folder, now and after each change.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use super::plan::{EDGE, NAMESPACE, Plan, Replica, SERVICE1, SERVICE1_V2, SERVICE2};

/// The file that the acts change.
pub(super) const ROUTE_FILE: &str = "route.yaml";

/// Writes all files.
pub(super) fn write_all(folder: &Path, plan: &Plan) -> io::Result<()> {
    fs::write(folder.join("gateway.yaml"), gateway(plan))?;
    fs::write(folder.join("services.yaml"), services(plan))?;
    fs::write(folder.join("proxies.yaml"), proxies(plan))?;
    write_route(folder, &Route::ALL_TO_V1.text())
}

/// Puts a new text in the place of the route's file, whole.
pub(super) fn write_route(folder: &Path, text: &str) -> io::Result<()> {
    // The folder's reader leaves alone what begins with a dot.
    let draft = folder.join(".route.yaml.draft");
    fs::write(&draft, text)?;
    fs::rename(draft, folder.join(ROUTE_FILE))
}

/// How requests are split over the two versions, in percent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    v1: u8,
    v2: u8,
}

impl Route {
    /// Before the canary.
    pub(super) const ALL_TO_V1: Self = Self { v1: 100, v2: 0 };
    /// The canary.
    pub(super) const CANARY: Self = Self { v1: 90, v2: 10 };

    /// Which share the second version should get.
    pub(super) fn share_of_v2(self) -> f64 {
        f64::from(self.v2) / 100.0
    }

    /// The lines that the acts change, as they stand in the file.
    pub(super) fn backends(self) -> [String; 2] {
        [(SERVICE1, self.v1), (SERVICE1_V2, self.v2)].map(|(service, weight)| {
            format!("    - {{name: {service}, port: 80, weight: {weight}}}")
        })
    }

    /// The file.
    pub(super) fn text(self) -> String {
        let [v1, v2] = self.backends();
        format!(
            "# Where requests from outside go. Change the weights, and watch.\n\
             apiVersion: gateway.networking.k8s.io/v1\n\
             kind: HTTPRoute\n\
             metadata: {{name: {SERVICE1}, namespace: {NAMESPACE}}}\n\
             spec:\n  \
               parentRefs:\n  \
               - {{name: {EDGE}}}\n  \
               rules:\n  \
               - backendRefs:\n\
             {v1}\n\
             {v2}\n"
        )
    }

    /// The file after a bad night: two mistakes, which are to be found both.
    pub(super) fn text_with_mistakes(self) -> String {
        self.text()
            .replace(&format!("weight: {}", self.v1), "wieght: 50")
            .replace(&format!("weight: {}", self.v2), "weight: fifty")
    }
}

fn gateway(plan: &Plan) -> String {
    let port = plan.edge;
    format!(
        "# The way in.\n\
         apiVersion: gateway.networking.k8s.io/v1\n\
         kind: Gateway\n\
         metadata: {{name: {EDGE}, namespace: {NAMESPACE}}}\n\
         spec:\n  \
           gatewayClassName: lateen\n  \
           listeners:\n  \
           - {{name: http, port: {port}, protocol: HTTP}}\n"
    )
}

fn services(plan: &Plan) -> String {
    let mut text = "# Who can be called. Endpoints are the sidecars of the replicas.\n".to_owned();
    for service in Plan::services() {
        let _ = write!(
            text,
            "---\n\
             apiVersion: lateen.dev/v1alpha1\n\
             kind: Service\n\
             metadata: {{name: {service}, namespace: {NAMESPACE}}}\n\
             spec:\n  \
               ports:\n  \
               - {{name: http, port: 80}}\n  \
               endpoints:\n"
        );
        for replica in plan.replicas.iter().filter(|replica| replica.service == service) {
            let _ = writeln!(text, "  - {{address: 127.0.0.1, port: {}}}", replica.inbound);
        }
    }
    text
}

fn proxies(plan: &Plan) -> String {
    let mut text = format!(
        "# The edge, and a sidecar beside each replica.\n\
         apiVersion: lateen.dev/v1alpha1\n\
         kind: Proxy\n\
         metadata: {{name: {EDGE}, namespace: {NAMESPACE}}}\n\
         spec:\n  \
           listeners:\n  \
           - {{name: http, type: Gateway, address: 127.0.0.1, gateway: {{name: {EDGE}}}}}\n"
    );
    for replica in &plan.replicas {
        let Replica { name, service, inbound, outbound, app } = replica;
        let _ = write!(
            text,
            "---\n\
             apiVersion: lateen.dev/v1alpha1\n\
             kind: Proxy\n\
             metadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
             spec:\n  \
               listeners:\n  \
               - name: inbound\n    \
                 type: Inbound\n    \
                 address: 127.0.0.1\n    \
                 port: {inbound}\n    \
                 protocol: HTTP\n    \
                 service: {service}\n    \
                 target: {{address: 127.0.0.1, port: {app}}}\n"
        );
        if let Some(outbound) = outbound {
            let _ = write!(
                text,
                "  - {{name: outbound, type: Outbound, port: {outbound}, protocol: HTTP}}\n  \
                   outbound:\n    \
                     services:\n    \
                     - {{name: {SERVICE2}}}\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mistakes_are_two_and_nothing_else_changes() {
        let (good, bad) = (Route::CANARY.text(), Route::CANARY.text_with_mistakes());
        let changed = good.lines().zip(bad.lines()).filter(|(good, bad)| good != bad).count();
        assert_eq!((changed, good.lines().count()), (2, bad.lines().count()), "{bad}");
    }
}
