//! `lateen get policies`, against a real control plane: what is in force on a route, and who says it.

use lateen_tests::binary;
use lateen_tests::tools::{Outcome, run};
use lateen_tests::wait::eventually;
use serde_json::Value as Json;
use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const MESH: &str = "\
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{name: http, port: 80}], endpoints: [{address: 127.0.0.1, port: 9}]}
---
apiVersion: lateen.dev/v1alpha1
kind: Service
metadata: {name: cart-v2, namespace: shop}
spec: {ports: [{name: http, port: 80}], endpoints: [{address: 127.0.0.1, port: 9}]}
---
apiVersion: lateen.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: cart, namespace: shop}
spec:
  targetRefs: [{group: lateen.dev, kind: Service, name: cart}]
  timeouts: {request: 10s}
  retry: {attempts: 1}
  loadBalancing: {type: RoundRobin}
---
apiVersion: lateen.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: payments, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: canary, sectionName: pay}]
  timeouts: {request: 2s}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: lateen, listeners: [{name: web, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: canary, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - name: pay
    matches: [{path: {value: /pay}}]
    backendRefs: [{name: cart, port: 80}]
  - backendRefs: [{name: cart, port: 80, weight: 9}, {name: cart-v2, port: 80}]
";

/// A control plane that has accepted [`MESH`].
struct Serving {
    control: Child,
    folder: TempDir,
}

impl Serving {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let control = Command::new(binary::lateen())
            .args(["serve", "--api"])
            .arg(format!("unix:{}", folder.path().join("api.sock").display()))
            .arg("--socket")
            .arg(folder.path().join("proxies.sock"))
            .arg("--state")
            .arg(folder.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the control plane starts");
        let serving = Self { control, folder };
        let socket = serving.folder.path().join("api.sock");
        eventually("the control plane's API", || UnixStream::connect(&socket).ok());
        serving.apply(MESH);
        serving
    }

    fn apply(&self, text: &str) {
        let file = self.folder.path().join("mesh.yaml");
        fs::write(&file, text).expect("there is room");
        self.lateen(&["apply", "-f", &file.display().to_string()]).expect_success();
    }

    fn lateen(&self, arguments: &[&str]) -> Outcome {
        let api = format!("unix:{}", self.folder.path().join("api.sock").display());
        run(Command::new(binary::lateen()).args(arguments).args(["--api", &api]))
    }

    fn policies(&self, arguments: &[&str]) -> Outcome {
        self.lateen(&[&["get", "policies"], arguments].concat())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself; the test says why then.
        let _ = self.control.kill();
        let _ = self.control.wait();
    }
}

/// A table's lines, with one space between words.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_is_in_force_on_a_route_is_shown_with_its_source() {
    let serving = Serving::start();
    let listed = serving.policies(&[]).expect_success();
    assert_eq!(
        lines(&listed),
        [
            "NAMESPACE NAME TARGET SETTINGS",
            "shop cart Service/cart loadBalancing.type, retry, timeouts.request",
            "shop payments HTTPRoute/canary (pay) timeouts.request",
        ]
    );

    let shown = serving.policies(&["--route", "canary", "-n", "shop"]).expect_success();
    let cart = "policy cart of the backend Service/shop/cart";
    assert_eq!(
        lines(&shown),
        [
            "HTTPRoute/shop/canary, revision 1",
            "",
            "rule 0 (pay), from Gateway/shop/edge/web",
            "SETTING VALUE STATE FOR SAID BY",
            "timeouts.request 2s in force all backends policy payments of the rule",
            &format!("timeouts.request 10s overridden all backends {cart}"),
            &format!("retry attempts: 1 in force all backends {cart}"),
            &format!("loadBalancing.type RoundRobin in force Service/shop/cart:80 {cart}"),
            "",
            "rule 1, from Gateway/shop/edge/web",
            "SETTING VALUE STATE FOR SAID BY",
            &format!("timeouts.request 10s does not count all backends {cart}"),
            &format!("retry attempts: 1 does not count all backends {cart}"),
            &format!("loadBalancing.type RoundRobin in force Service/shop/cart:80 {cart}"),
            "timeouts.request: a backend has no policy about it, so that a proxy's default counts for all; \
             say it in a TrafficPolicy of this route",
            "retry: the policies of the backends differ, and none of them counts; say it in a \
             TrafficPolicy of this route",
        ]
    );

    let json = ["--route", "httproute/canary", "-n", "shop", "--rule", "pay", "--output", "json"];
    let told: Json =
        serde_json::from_str(&serving.policies(&json).expect_success()).expect("it is JSON");
    assert_eq!(told["rules"].as_array().map(Vec::len), Some(1));
    let timeout = &told["rules"][0]["ways"][0]["settings"][0];
    assert_eq!(
        (&timeout["setting"], &timeout["value"]),
        (&"timeouts.request".into(), &"2s".into())
    );
    assert_eq!(timeout["said"][0]["level"], "rule-policy");
    assert_eq!(timeout["said"][0]["policy"], "payments");
    assert_eq!(timeout["said"][1]["level"], "backend-policy");
    assert_eq!(timeout["said"][1]["standing"], "overridden");

    // After a rollback what runs is told of, not what waits.
    serving.apply(&MESH.replace("request: 2s", "request: 3s"));
    let second = serving.policies(&["--route", "canary", "-n", "shop"]).expect_success();
    assert!(second.contains("revision 2") && second.contains("3s"), "{second}");
    serving.lateen(&["rollback", "1"]).expect_success();
    assert_eq!(serving.policies(&["--route", "canary", "-n", "shop"]).expect_success(), shown);
}

#[test]
fn what_is_in_force_on_a_service_is_shown_where_no_route_decides() {
    let serving = Serving::start();
    let shown = serving.policies(&["--route", "cart", "-n", "shop"]).expect_success();
    assert_eq!(
        lines(&shown),
        [
            "Service/shop/cart, revision 1",
            "",
            "port 80 (http)",
            "SETTING VALUE STATE SAID BY",
            "timeouts.request 10s in force policy cart of the service",
            "retry attempts: 1 in force policy cart of the service",
            "loadBalancing.type RoundRobin in force policy cart of the service",
        ]
    );

    let attached = "parentRefs: [{group: lateen.dev, kind: Service, name: cart}]";
    serving.apply(&MESH.replace("parentRefs: [{name: edge}]", attached));
    let shown = serving.policies(&["--route", "service/cart", "-n", "shop"]).expect_success();
    assert_eq!(
        lines(&shown),
        [
            "Service/shop/cart, revision 2",
            "",
            "port 80 (http)",
            "HTTPRoute/shop/canary counts instead: see `lateen get policies --route httproute/canary -n shop`",
        ]
    );

    // One of another namespace is for its own callers.
    let serving = Serving::start();
    serving.apply(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: theirs, namespace: far}\n\
         spec:\n  parentRefs: [{group: lateen.dev, kind: Service, name: cart, namespace: shop}]\n  \
         rules: [{timeouts: {request: 1s}}]\n",
    );
    let shown = serving.policies(&["--route", "service/cart", "-n", "shop"]).expect_success();
    let shown = lines(&shown);
    let instead = "HTTPRoute/far/theirs counts instead for callers of the namespace far: see `lateen get policies \
                   --route httproute/theirs -n far`";
    assert_eq!(shown[2..4], ["port 80 (http)", instead]);
    assert_eq!(shown[5], "timeouts.request 10s in force policy cart of the service");
}

#[test]
fn what_nothing_comes_by_holds_nobody_to_anything() {
    let serving = Serving::start();
    serving.apply(&MESH.replace("  parentRefs: [{name: edge}]\n", ""));
    let loose = serving.policies(&["--route", "canary", "-n", "shop", "--rule", "pay"]);
    let loose = lines(&loose.expect_success());
    assert_eq!(loose[2], "rule 0 (pay), attached to nothing");
    let own = "timeouts.request 2s would be in force all backends policy payments of the rule";
    assert_eq!(loose[4], own);
}

#[test]
fn what_is_not_there_is_refused_with_what_is_near() {
    let serving = Serving::start();
    for (arguments, says) in [
        (&["--route", "canari", "-n", "shop"][..], "did you mean canary?"),
        (&["--route", "canary"], "there is HTTPRoute/shop/canary: say `-n NAMESPACE`"),
        (&["--route", "canari"], "there is HTTPRoute/shop/canary: say `-n NAMESPACE`"),
        (&["--route", "tcproute/canary", "-n", "shop"], "there is no TCPRoute shop/canary"),
        (&["--route", "gateway/edge", "-n", "shop"], "tcproute/NAME or service/NAME"),
        (&["--route", "service/card", "-n", "shop"], "did you mean cart?"),
        (&["--route", "cart"], "there is Service/shop/cart: say `-n NAMESPACE`"),
        (&["--route", "service/cart"], "there is Service/shop/cart: say `-n NAMESPACE`"),
        (&["--route", "cart", "-n", "shop", "--rule", "81"], "its ports are 80 (http)"),
        (&["--route", "canary", "-n", "shop", "--rule", "pai"], "did you mean pay?"),
        (&["--route", "canary", "-n", "shop", "--rule", "2"], "its rules are 0 to 1; names: pay"),
    ] {
        let Outcome { code, stderr, .. } = serving.policies(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
    let Outcome { code, stderr, .. } = serving.lateen(&["get", "services", "--route", "canary"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("lateen get policies --route canary"), "{stderr}");
    assert_eq!(serving.policies(&["--rule", "pay"]).code, Some(2), "a rule of which route?");
}
