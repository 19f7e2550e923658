//! What is wrong is refused whole, by the control plane or by a proxy, and whoever asked hears why.

use insta::assert_snapshot;
use lateen_control::api::messages::ErrorResponse;
use lateen_control::status::ProxyState;

use crate::fake_proxy::{Answer, FakeProxy, addresses};
use crate::support::{Place, mesh, proxy, service};

#[test]
fn all_errors_come_back_at_once_and_nothing_changes() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    serve.apply(&mesh(9001));
    edge.next();
    let wrong = mesh(9002).replace("endpoints", "endpoint").replace("listeners", "listener");
    let ran = serve.lateen_with(&["apply", "-f", "-"], &wrong);
    assert_snapshot!("refused", ran.said());
    let ran = serve.lateen_with(&["apply", "-f", "-", "--output", "json"], &wrong);
    let response: ErrorResponse = ran.json();
    assert!(ran.code == 1 && response.diagnostics.len() >= 2, "{response:?}");
    edge.has_seen_all();
    assert_eq!(serve.status().control.store.latest, Some(1));
}

#[test]
fn a_proxys_refusal_is_told_to_whoever_caused_it() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = FakeProxy::with(&serve.socket(), "edge", |number, _| match number {
        1 => Answer::Reject("no memory for it"),
        _ => Answer::Apply,
    });
    serve.apply(&mesh(9001));
    let (running, _) = edge.next();
    let ran = serve.lateen_with(&["apply", "-f", "-"], &service("cart", 9002));
    assert_snapshot!("rejected", ran.said());
    edge.next();
    let status = serve.status();
    assert_eq!(status.proxies.proxies[0].state, ProxyState::Rejected);
    assert_eq!(status.proxies.proxies[0].running, Some(running));
    assert_snapshot!("status-rejected", serve.lateen(&["status"]).said());
    // What is mended is accepted as ever.
    serve.apply(&service("cart", 9003));
    assert_eq!(serve.status().proxies.proxies[0].state, ProxyState::Current);
}

#[test]
fn atomic_brings_the_old_content_back_to_all_as_a_new_epoch() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let fussy = FakeProxy::with(&serve.socket(), "fussy", |_, snapshot| {
        match addresses(snapshot).contains(&"127.0.0.1:9002".to_owned()) {
            true => Answer::Reject("not that port"),
            false => Answer::Apply,
        }
    });
    let edge = serve.connect("edge");
    serve.apply(&format!("{}---\n{}", mesh(9001), proxy("fussy", 15002)));
    let (first, before) = edge.next();
    fussy.next();
    let asked = ["apply", "-f", "-", "--atomic", "-m", "a try"];
    let ran = serve.lateen_with(&asked, &service("cart", 9002));
    assert_snapshot!("atomic", ran.said());
    let (second, tried) = edge.next();
    let (third, after) = edge.next();
    assert_eq!(addresses(&tried), ["127.0.0.1:9002"]);
    assert_eq!(after, before, "the old content");
    assert!(first.is_replaced_by(second) && second.is_replaced_by(third));
    let status = serve.wait_for(|status| {
        status.proxies.proxies.iter().all(|proxy| proxy.state == ProxyState::Current)
    });
    assert!(status.proxies.proxies.iter().all(|proxy| proxy.running == Some(third)));
    assert_snapshot!("atomic-history", serve.lateen(&["history"]).said());
    let ran = serve.lateen(&["apply", "-f", "x", "--atomic", "--wait", "0"]);
    assert_snapshot!("atomic-without-waiting", ran.said());
}

#[test]
fn nothing_to_talk_to_is_said_with_what_to_do() {
    let place = Place::new();
    assert_snapshot!("no-control-plane", place.lateen(&["status"]).said());
    let ran = place.lateen(&["status", "--api", "example.com:80"]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = place.lateen(&["delete", "cart"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}
