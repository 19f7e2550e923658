//! Services that are declared by a DNS name.

use crate::fake_dns::FakeDns;
use crate::fake_proxy::addresses;
use crate::support::{Place, proxy};

const BY_NAME: &str = "apiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {name: cart}\nspec:\n  \
                       ports: [{name: http, port: 80}]\n  dns: {name: cart.example, port: 9001}\n";

#[test]
fn addresses_flow_and_outlive_a_dns_that_is_down() {
    let place = Place::new();
    let dns = FakeDns::start(Some([127, 0, 0, 7]));
    let server = dns.address.to_string();
    let serve = place.serve(&["--dns-server", &server]);
    let edge = serve.connect("edge");
    serve.apply(&format!("{BY_NAME}---\n{}", proxy("edge", 15001)));
    let (_, snapshot) = edge.next();
    assert_eq!(addresses(&snapshot), ["127.0.0.7:9001"], "not before DNS has answered");

    // What the first answer said is known to the next run, whatever DNS says then.
    serve.kill();
    dns.say(None);
    let serve = place.serve(&["--dns-server", &server]);
    let edge = serve.connect("edge");
    let (first, snapshot) = edge.next();
    assert_eq!(addresses(&snapshot), ["127.0.0.7:9001"]);

    // A new answer is a new epoch of the same revision, under a pin too.
    assert_eq!(serve.lateen(&["rollback", "1"]).code, 0);
    edge.next();
    dns.say(Some([127, 0, 0, 8]));
    let (second, snapshot) = edge.next();
    assert_eq!(addresses(&snapshot), ["127.0.0.8:9001"]);
    assert!(first.is_replaced_by(second));
    assert_eq!(serve.status().control.store.latest, Some(1));

    // Down: nothing is taken away, not even by a control plane that has just started.
    dns.say(None);
    serve.wait_for(|status| status.control.dns.iter().any(|dns| dns.problem.is_some()));
    edge.has_seen_all();
    serve.kill();
    let serve = place.serve(&["--dns-server", &server]);
    let edge = serve.connect("edge");
    assert_eq!(addresses(&edge.next().1), ["127.0.0.8:9001"]);
    dns.say(Some([127, 0, 0, 9]));
    assert_eq!(addresses(&edge.next().1), ["127.0.0.9:9001"]);
}
