//! A rollback holds a revision's intent; endpoints flow past it; what is accepted meanwhile waits.

use insta::assert_snapshot;

use crate::fake_proxy::addresses;
use crate::support::{Place, mesh, proxy, service};

#[test]
fn a_rollback_pins_and_later_revisions_wait_for_resume() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    serve.apply(&mesh(9001));
    serve.apply(&service("cart", 9002));
    edge.next();
    let (second, _) = edge.next();
    assert_snapshot!("rollback", serve.lateen(&["rollback", "1"]).said());
    let (third, snapshot) = edge.next();
    assert_eq!(addresses(&snapshot), ["127.0.0.1:9001"]);
    assert!(second.is_replaced_by(third));

    let third = service("cart", 9003);
    let ran = serve.lateen_with(&["apply", "-f", "-"], &third);
    assert_snapshot!("stored-not-live", ran.said());
    // The same again is no more live than before.
    let ran = serve.lateen_with(&["apply", "-f", "-"], &third);
    assert_snapshot!("stored-not-live-again", ran.said());
    assert_snapshot!("pinned-status", serve.lateen(&["status"]).said());
    assert_snapshot!("pinned-history", serve.lateen(&["history"]).said());
    edge.has_seen_all();

    // The pin outlives the process.
    serve.kill();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9001"]);
    assert_snapshot!("resume", serve.lateen(&["resume"]).said());
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9003"]);
    assert_snapshot!("no-such-revision", serve.lateen(&["rollback", "99"]).said());
}

#[test]
fn endpoints_flow_under_a_pin() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    let core = "apiVersion: v1\nkind: Service\nmetadata: {name: cart}\n\
                spec: {ports: [{name: http, port: 80, appProtocol: http}]}\n";
    let slice = |address: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: cart-1, labels: {{kubernetes.io/service-name: cart}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 8080}}]\n\
             endpoints: [{{addresses: [{address}]}}]\n"
        )
    };
    serve.apply(&format!("{core}---\n{}---\n{}", slice("10.0.0.1"), proxy("edge", 15001)));
    assert_eq!(addresses(&edge.next().1), ["10.0.0.1:8080"]);
    serve.apply(&service("other", 9001));
    edge.next();
    assert_eq!(serve.lateen(&["rollback", "1"]).code, 0);
    assert_eq!(addresses(&edge.next().1), ["10.0.0.1:8080"]);
    // Endpoints alone are live, though the intent is pinned …
    assert_snapshot!("endpoints-flow", serve.apply(&slice("10.0.0.2")).said());
    assert_eq!(addresses(&edge.next().1), ["10.0.0.2:8080"]);
    // … and with intent beside them, they are, and it waits.
    let both = format!("{}---\n{}", slice("10.0.0.3"), service("third", 9003));
    assert_eq!(serve.lateen_with(&["apply", "-f", "-"], &both).code, 1);
    assert_eq!(addresses(&edge.next().1), ["10.0.0.3:8080"]);
    // A service that came later, and its endpoints, wait too; they hold up nothing.
    let later = format!("{core}---\n{}", slice("10.0.0.9")).replace("cart", "later");
    assert_eq!(serve.lateen_with(&["apply", "-f", "-"], &later).code, 1);
    assert_eq!(serve.lateen(&["rollback", "1"]).code, 0);
    assert_eq!(addresses(&edge.next().1), ["10.0.0.3:8080"]);
    assert_eq!(serve.lateen(&["resume"]).code, 0);
    let all = ["10.0.0.3:8080", "10.0.0.9:8080", "127.0.0.1:9001", "127.0.0.1:9003"];
    assert_eq!(addresses(&edge.next().1), all);
}
