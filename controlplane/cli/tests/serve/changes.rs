//! What is applied runs on every core of every connected proxy, or the command says that it does not.

use insta::assert_snapshot;
use lateen_control::api::messages::{ChangeResponse, Verdict};

use crate::fake_proxy::{Answer, FakeProxy, addresses};
use crate::support::{Place, mesh, proxy, service};

#[test]
fn apply_returns_when_every_connected_proxy_runs_it() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    let two = format!("{}---\n{}", mesh(9001), proxy("far", 15002));
    assert_snapshot!("applied", serve.apply(&two).said());
    let (first, snapshot) = edge.next();
    assert_eq!(addresses(&snapshot), ["127.0.0.1:9001"]);
    assert_snapshot!("status", serve.lateen(&["status"]).said());

    assert_snapshot!("applied-again", serve.apply(&two).said());
    edge.has_seen_all();
    serve.apply(&service("cart", 9002));
    let (second, snapshot) = edge.next();
    assert_eq!(addresses(&snapshot), ["127.0.0.1:9002"]);
    assert!(first.is_replaced_by(second) && first.store == second.store);
    assert_eq!(serve.stop(), 0);
    edge.ends();
}

#[test]
fn a_proxy_that_connects_later_gets_what_was_applied() {
    let place = Place::new();
    let serve = place.serve(&[]);
    assert_snapshot!("applied-without-proxies", serve.apply(&mesh(9001)).said());
    let edge = serve.connect("edge");
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9001"]);
}

#[test]
fn dry_run_and_if_revision_keep_what_is_there() {
    let place = Place::new();
    let serve = place.serve(&[]);
    assert_snapshot!(
        "dry-run",
        serve.lateen_with(&["apply", "-f", "-", "--dry-run"], &mesh(1)).said()
    );
    assert_eq!(serve.status().control.store.latest, None);
    let first = serve.lateen_with(&["apply", "-f", "-", "--if-revision", "0"], &mesh(9001));
    assert_eq!(first.code, 0, "{first:?}");
    let late = serve.lateen_with(&["apply", "-f", "-", "--if-revision", "0"], &mesh(9002));
    assert_snapshot!("conflict", late.said());
    let late =
        serve.lateen_with(&["apply", "-f", "-", "--if-revision", "0", "--dry-run"], &mesh(9002));
    assert_eq!(late.code, 1, "{late:?}");
    assert_eq!(serve.status().control.store.latest, Some(1));
}

#[test]
fn prune_and_delete_take_objects_out() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    serve.apply(&format!("{}---\n{}", mesh(9001), service("old", 9009)));
    edge.next();
    let pruned = serve.lateen_with(&["apply", "-f", "-", "--prune"], &mesh(9001));
    assert_snapshot!("pruned", pruned.said());
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9001"]);
    assert_snapshot!("deleted", serve.lateen(&["delete", "service/cart", "-m", "not sold"]).said());
    assert_eq!(addresses(&edge.next().1), Vec::<String>::new());
    assert_snapshot!("delete-nothing", serve.lateen(&["delete", "service/cart"]).said());
    assert_snapshot!("delete-no-kind", serve.lateen(&["delete", "pod/cart"]).said());
    let nothing = serve.lateen_with(&["apply", "-f", "-", "--prune"], "# nothing\n");
    assert_snapshot!("prune-to-nothing", nothing.said());
}

#[test]
fn who_does_not_wait_is_told_so() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let _silent = FakeProxy::with(&serve.socket(), "edge", |_, _| Answer::Silence);
    let ran = serve.lateen_with(&["apply", "-f", "-", "--wait", "0"], &mesh(9001));
    assert_snapshot!("not-waited", ran.said());
    let ran = serve.lateen_with(&["apply", "-f", "-", "--wait", "1"], &mesh(9002));
    assert_snapshot!("unfinished", ran.said());
}

#[test]
fn files_and_folders_are_read_whole() {
    let place = Place::new();
    let serve = place.serve(&[]);
    place.write("config/a.yaml", &service("a", 1));
    place.write(
        "config/b.json",
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}"#,
    );
    place.write("config/notes.txt", "not for us");
    let edge = place.write("edge.yaml", &proxy("edge", 15001));
    let edge = edge.display().to_string();
    let ran = serve.lateen(&["apply", "-f", "config", "-f", &edge, "--output", "json"]);
    let response: ChangeResponse = ran.json();
    assert_eq!((ran.code, response.verdict, response.changes.len()), (0, Verdict::Live, 3));
    place.write("empty/notes.txt", "");
    assert_snapshot!("empty-folder", serve.lateen(&["apply", "-f", "empty"]).said());
    assert_snapshot!("no-file", serve.lateen(&["apply", "-f", "nowhere.yaml"]).said());
}
