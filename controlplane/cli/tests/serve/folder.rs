//! The files of a folder as the source.

use std::fs;

use insta::assert_snapshot;

use crate::fake_proxy::addresses;
use crate::support::{Place, mesh, service};

#[test]
fn files_are_the_config_and_what_is_wrong_changes_nothing() {
    let place = Place::new();
    place.write("config/mesh.yaml", &mesh(9001));
    let config = place.path("config").display().to_string();
    let serve = place.serve(&["--config", &config]);
    let edge = serve.connect("edge");
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9001"]);

    place.write("config/mesh.yaml", &mesh(9002));
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9002"]);

    place.write("config/more.yaml", &service("more", 9003).replace("ports:", "port:"));
    let status = serve.wait_for(|status| status.control.source.rejection.is_some());
    assert_eq!(status.control.live_revision, Some(2), "the last good one");
    assert_snapshot!("folder-status-refused", serve.lateen(&["status"]).said());
    edge.has_seen_all();

    place.write("config/more.yaml", &service("more", 9003));
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9002", "127.0.0.1:9003"]);
    serve.wait_for(|status| status.control.source.rejection.is_none());

    let ran = serve.lateen_with(&["apply", "-f", "-"], &service("more", 9004));
    assert_snapshot!("folder-apply", ran.said());
    assert_snapshot!("folder-delete", serve.lateen(&["delete", "service/more"]).said());
    assert_snapshot!("folder-history", serve.lateen(&["history"]).said());
    assert_snapshot!(
        "folder-diff",
        serve.lateen_with(&["diff", "-f", "-"], &service("more", 9004)).said()
    );
}

#[test]
fn a_restart_is_no_step_back_and_a_folder_that_is_gone_takes_nothing_away() {
    let place = Place::new();
    place.write("config/mesh.yaml", &mesh(9001));
    let config = place.path("config").display().to_string();
    let serve = place.serve(&["--config", &config]);
    let edge = serve.connect("edge");
    edge.next();
    serve.kill();
    // Changed while nobody looked: the first that is published is the new one.
    place.write("config/mesh.yaml", &mesh(9002));
    let serve = place.serve(&["--config", &config]);
    let edge = serve.connect("edge");
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9002"]);
    serve.kill();
    fs::rename(place.path("config"), place.path("moved")).expect("it is ours");
    let serve = place.serve(&["--config", &config]);
    let edge = serve.connect("edge");
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9002"], "what was accepted last");
    assert_snapshot!("folder-gone", serve.lateen(&["status"]).said());
    fs::rename(place.path("moved"), place.path("config")).expect("it is ours");
    serve.wait_for(|status| status.control.source.rejection.is_none());
}

#[test]
fn a_rollback_holds_against_the_folder() {
    let place = Place::new();
    place.write("config/mesh.yaml", &mesh(9001));
    let config = place.path("config").display().to_string();
    let serve = place.serve(&["--config", &config]);
    let edge = serve.connect("edge");
    edge.next();
    place.write("config/mesh.yaml", &mesh(9002));
    edge.next();
    assert_eq!(serve.lateen(&["rollback", "1"]).code, 0);
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9001"]);
    place.write("config/mesh.yaml", &mesh(9003));
    serve.wait_for(|status| status.control.store.latest == Some(3));
    edge.has_seen_all();
    assert_eq!(serve.lateen(&["resume"]).code, 0);
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9003"]);
}
