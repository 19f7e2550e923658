//! What is there, what was there, and what would change.

use insta::assert_snapshot;
use lateen_control::api::messages::{
    DiffResponse, HistoryResponse, ObjectsResponse, RevisionResponse, RevisionsDiffResponse,
};

use crate::support::{Place, mesh, service};

#[test]
fn objects_revisions_and_differences_are_shown() {
    let place = Place::new();
    let serve = place.serve(&[]);
    assert_snapshot!("get-nothing", serve.lateen(&["get"]).said());
    assert_snapshot!("history-nothing", serve.lateen(&["history"]).said());
    assert_snapshot!("status-nothing", serve.lateen(&["status"]).said());
    let commented = format!("# What people buy.\n{}", mesh(9001));
    serve.apply(&commented);
    let ran = serve
        .lateen_with(&["apply", "-f", "-", "-m", "a new port\n\nand why"], &service("cart", 9002));
    assert_eq!(ran.code, 0, "{ran:?}");

    assert_snapshot!("get", serve.lateen(&["get"]).said());
    assert_snapshot!("get-kind", serve.lateen(&["get", "proxies", "-n", "default"]).said());
    assert_snapshot!("get-object", serve.lateen(&["get", "service/cart"]).said());
    assert_snapshot!("get-no-object", serve.lateen(&["get", "service/none"]).said());
    assert_snapshot!("get-no-kind", serve.lateen(&["get", "pods"]).said());
    assert_snapshot!("history", serve.lateen(&["history"]).said());
    assert_snapshot!("show", serve.lateen(&["show", "1"]).said());
    assert_snapshot!("diff-revisions", serve.lateen(&["diff", "1", "2"]).said());
    assert_snapshot!("diff-same", serve.lateen(&["diff", "2", "2"]).said());

    let more = format!("{}---\n{}", service("cart", 9003), service("new", 9004));
    assert_snapshot!("diff-files", serve.lateen_with(&["diff", "-f", "-"], &more).said());
    let same = service("cart", 9002);
    assert_snapshot!("diff-files-same", serve.lateen_with(&["diff", "-f", "-"], &same).said());
    assert_eq!(serve.status().control.store.latest, Some(2), "looking changes nothing");

    serve.lateen(&["get", "--output", "json"]).json::<ObjectsResponse>();
    serve.lateen(&["history", "-o", "json"]).json::<HistoryResponse>();
    serve.lateen(&["show", "1", "-o", "json"]).json::<RevisionResponse>();
    serve.lateen(&["diff", "1", "2", "-o", "json"]).json::<RevisionsDiffResponse>();
    let ran = serve.lateen_with(&["diff", "-f", "-", "-o", "json"], &more);
    assert_eq!(ran.json::<DiffResponse>().objects.len(), 2);

    // What it shows of an object is a file that declares it.
    let shown = serve.lateen(&["get", "service/cart"]).stdout;
    assert!(serve.apply(&shown).stdout.starts_with("nothing changed"));
    let page = serve.lateen(&["history", "--before", "2", "--limit", "5", "-o", "json"]);
    assert_eq!(page.json::<HistoryResponse>().revisions[0].number, 1);
}

#[test]
fn diff_takes_files_or_two_revisions() {
    let place = Place::new();
    for wrong in [&["diff"][..], &["diff", "1"], &["diff", "1", "2", "-f", "x"]] {
        let ran = place.lateen(wrong);
        assert_eq!(ran.code, 2, "{wrong:?}: {ran:?}");
    }
}
