//! What follows when something changes.

use std::fmt::Write;
use std::sync::Arc;

use lateen_control::compile::{resolve, resolve_after};
use lateen_control::limits::DIAGNOSTICS_MAX;
use lateen_control::resolver::Addresses;
use lateen_control::resolver::answers::{ADDRESSES_MAX, Known};
use lateen_snapshot::limits::{CLUSTERS_MAX, ENDPOINTS_MAX, REGEXES_MAX};

use crate::harness::{declared, mesh, snapshot};

fn service(name: &str, address: &str) -> String {
    format!(
        "---\napiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec: \
         {{ports: [{{port: 80}}], endpoints: [{{address: {address}, port: 80}}]}}\n"
    )
}

const PROXY: &str = "---
apiVersion: lateen.dev/v1alpha1
kind: Proxy
metadata: {name: p}
spec: {listeners: [{name: out, type: Outbound, port: 15002, protocol: HTTP}]}
";

#[test]
fn clusters_that_did_not_change_are_shared_with_the_mesh_before() {
    let before = mesh(&(service("a", "10.0.0.1") + &service("b", "10.0.0.2") + PROXY));
    let after = service("a", "10.0.0.1") + &service("b", "10.0.0.3") + PROXY;
    let after = resolve_after(&declared(&after), &before).expect("it is accepted");
    let none = Addresses::default();
    let (before, after) = (snapshot(&before, "p", &none), snapshot(&after, "p", &none));
    assert!(Arc::ptr_eq(&before.clusters[0], &after.clusters[0]));
    assert_ne!(before.clusters[1], after.clusters[1]);
}

#[test]
fn a_rule_that_has_a_name_keeps_it_when_others_come_before_it() {
    let names = |rules: &[&str]| {
        let rules = rules.iter().map(|rule| {
            let (name, path) = rule.split_once(' ').expect("a name and a path");
            let name = if name == "-" { String::new() } else { format!("name: \"{name}\", ") };
            let backend = "backendRefs: [{name: a, port: 80}], sessionPersistence: {}";
            format!("  - {{{name}matches: [{{path: {{value: {path}}}}}], {backend}}}\n")
        });
        let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\nspec:\n  \
                     parentRefs: [{group: lateen.dev, kind: Service, name: a}]\n  rules:\n";
        let text = service("a", "10.0.0.1") + PROXY + route + &rules.collect::<String>();
        let snapshot = snapshot(&mesh(&text), "p", &Addresses::default());
        let named = snapshot.routes.iter().map(|route| {
            let session = route.policy.session.as_ref().expect("each rule has one").name.clone();
            (route.name.replace("HTTPRoute/default/r/", ""), session)
        });
        named.collect::<std::collections::BTreeMap<String, String>>()
    };
    let before = names(&["pay /pay", "0 /zero", "- /rest"]);
    let after = names(&["new /new", "pay /pay", "0 /zero", "- /rest"]);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["1", "2", "pay"], "a number is no name");
    assert_eq!(after.keys().collect::<Vec<_>>(), ["2", "3", "new", "pay"]);
    assert_eq!(before["pay"], after["pay"], "and its sessions their cookie");
}

#[test]
fn an_answer_of_dns_changes_its_cluster_and_no_other() {
    let named = "---\napiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {name: db}\nspec: \
                 {ports: [{port: 80}], dns: {name: db.internal, port: 81}}\n";
    let mesh = mesh(&(service("a", "10.0.0.1") + named + PROXY));
    assert_eq!(mesh.dns_names().iter().map(|name| &**name).collect::<Vec<_>>(), ["db.internal"]);
    let mut addresses = Addresses::default();
    let before = snapshot(&mesh, "p", &addresses);
    assert_eq!(before.clusters[1].endpoints, []);
    let found = [[10, 0, 0, 9].into(), [10, 0, 0, 8].into()];
    let known = Known { addresses: Some(Arc::new(found)), problem: None };
    addresses.insert("db.internal".into(), known);
    let after = snapshot(&mesh, "p", &addresses);
    assert!(Arc::ptr_eq(&before.clusters[0], &after.clusters[0]));
    let endpoints = after.clusters[1].endpoints.iter();
    let endpoints: Vec<String> = endpoints.map(|endpoint| endpoint.address.to_string()).collect();
    assert_eq!(endpoints, ["10.0.0.8:81", "10.0.0.9:81"]);
}

/// More answers than a snapshot holds: each cluster has some, and the snapshot is whole.
#[test]
fn answers_of_dns_never_fill_a_snapshot_beyond_its_bound() {
    let count = ENDPOINTS_MAX / ADDRESSES_MAX + 100;
    let mut text = PROXY.to_owned();
    for n in 0..count {
        let service = format!(
            "---\napiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {{name: s{n}}}\nspec: \
             {{ports: [{{port: 80}}], dns: {{name: all.internal, port: 81}}}}\n"
        );
        text += &service;
    }
    let found = (0..ADDRESSES_MAX as u32).map(|n| std::net::Ipv4Addr::from(n + 1).into());
    let known = Known { addresses: Some(found.collect()), problem: None };
    let addresses = [(Arc::from("all.internal"), known)].into_iter().collect();
    let snapshot = snapshot(&mesh(&text), "p", &addresses);
    let endpoints = snapshot.clusters.iter().map(|cluster| cluster.endpoints.len());
    assert_eq!(endpoints.clone().min(), Some(ENDPOINTS_MAX / count));
    assert!(endpoints.sum::<usize>() <= ENDPOINTS_MAX);
}

#[test]
fn more_than_a_snapshot_holds_is_refused() {
    let mut ports = String::new();
    for port in 1..=64 {
        write!(ports, "{{name: p{port}, port: {port}}}, ").expect("it is a text");
    }
    let mut too_many_clusters = PROXY.to_owned();
    for n in 0..=CLUSTERS_MAX / 64 {
        let service = format!(
            "---\napiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {{name: s{n}}}\nspec: \
             {{ports: [{ports}], endpoints: []}}\n"
        );
        too_many_clusters += &service;
    }
    let mut too_many_regexes = PROXY.to_owned() + &service("a", "10.0.0.1");
    for n in 0..=REGEXES_MAX / 64 {
        let one = "{path: {type: RegularExpression, value: /a+}}, ".repeat(64);
        let route = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: \
             r{n}}}\nspec:\n  parentRefs: [{{group: lateen.dev, kind: Service, name: a}}]\n  rules: \
             [{{matches: [{one}], backendRefs: [{{name: a, port: 80}}]}}]\n"
        );
        too_many_regexes += &route;
    }
    for (text, expected) in [
        (too_many_clusters, "the Proxy `p` would have 65600 ports of services; at most 65536"),
        (too_many_regexes, "the Proxy `p` would have 4160 regular expressions; at most 4096"),
    ] {
        let found = resolve(&declared(&text)).expect_err("it is too much");
        assert!(found[0].message.starts_with(expected), "{}", found[0].message);
    }
}

#[test]
fn errors_beyond_the_bound_are_counted() {
    let mut text = String::new();
    for n in 0..DIAGNOSTICS_MAX + 7 {
        let route = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: \
             r{n}}}\nspec: {{parentRefs: [{{name: edge}}], rules: [{{}}]}}\n"
        );
        text += &route;
    }
    let found = resolve(&declared(&text)).expect_err("there is no Gateway");
    assert_eq!(found.len(), DIAGNOSTICS_MAX + 1);
    let last = &found[DIAGNOSTICS_MAX].message;
    assert_eq!(*last, format!("{} more are not shown", DIAGNOSTICS_MAX + 14));
}
