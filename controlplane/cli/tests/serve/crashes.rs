//! What happens to a control plane harms neither what was accepted nor what runs.

use std::collections::BTreeSet;
use std::fs;

use insta::assert_snapshot;
use lateen_control::api::messages::HistoryResponse;
use lateen_control::status::ProxyState;

use crate::fake_proxy::addresses;
use crate::support::{Place, mesh, service};

#[test]
fn kill_9_loses_no_accepted_revision() {
    let place = Place::new();
    place.write("mesh.yaml", &mesh(9000));
    let mut accepted: BTreeSet<String> = BTreeSet::new();
    let mut epoch = None;
    for round in 0..8_u16 {
        let serve = place.serve(&[]);
        let edge = serve.connect("edge");
        for change in 0..=round % 3 {
            let message = format!("{round}.{change}");
            let text =
                format!("{}---\n{}", mesh(9000), service("cart", 9001 + round * 10 + change));
            let text = text.replacen(&service("cart", 9000), "", 1);
            place.write("change.yaml", text.trim_start_matches("---\n"));
            let ran = serve.lateen(&["apply", "-f", "change.yaml", "-m", &message]);
            assert_eq!(ran.code, 0, "{ran:?}");
            accepted.insert(message);
        }
        // One is under way when it dies: it may be stored or not, and says so or not.
        let message = format!("{round}.last");
        place.write("last.yaml", &service("cart", 9009 + round * 10));
        let arguments = ["apply", "-f", "last.yaml", "--wait", "0", "-m", &message];
        let mut last = serve.begin(&arguments);
        if round % 2 == 0 {
            // Later by a process start and an answer: sometimes before, sometimes after the store.
            serve.status();
        }
        serve.kill();
        if last.wait().expect("it ends").success() {
            accepted.insert(message);
        }
        edge.ends();

        let serve = place.serve(&[]);
        let history = serve.lateen(&["history", "--limit", "1000", "-o", "json"]);
        let history: HistoryResponse = history.json();
        let there: BTreeSet<String> =
            history.revisions.iter().map(|revision| revision.message.clone()).collect();
        let lost: Vec<_> = accepted.difference(&there).collect();
        assert_eq!(lost, Vec::<&String>::new(), "in round {round}");
        // The latest runs, under an epoch that is newer than all before.
        let edge = serve.connect("edge");
        let (now, _) = edge.next();
        assert!(epoch.is_none_or(|before: lateen_snapshot::model::Epoch| {
            before.store == now.store && before.is_replaced_by(now)
        }));
        epoch = Some(now);
    }
}

#[test]
fn a_damaged_store_is_set_aside_and_takes_nothing_from_proxies() {
    let place = Place::new();
    let serve = place.serve(&[]);
    serve.apply(&mesh(9001));
    serve.kill();
    // What is in its log could mend it.
    fs::remove_file(place.path("state/store.db-wal")).expect("it was killed");
    fs::write(place.path("state/store.db"), vec![b'x'; 8192]).expect("it is ours");

    let serve = place.serve(&[]);
    let edge = serve.connect("edge");
    let status = serve.status();
    assert!(status.control.store.set_aside.as_ref().expect("it was").to.exists());
    assert_eq!(status.control.epoch, None, "an empty store publishes nothing");
    assert_eq!(status.proxies.proxies[0].state, ProxyState::UnknownProxy);
    let said = serve.lateen(&["status"]).said();
    assert!(said.contains("the store was damaged at the start"), "{said}");
    edge.has_seen_all();
    serve.apply(&mesh(9002));
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:9002"], "the first that came");
}

#[test]
fn what_keeps_it_from_starting_is_named() {
    let place = Place::new();
    let serve = place.serve(&[]);
    let second = place.try_to_serve(&["--api", "unix:other.sock"]).err().expect("one is enough");
    assert!(second.contains("one control plane owns a store"), "{second}");
    drop(serve);
    place.write("control.sock.d/x", "");
    fs::remove_file(place.path("control.sock")).expect("it was killed");
    place.write("control.sock", "important");
    let wrong = place.try_to_serve(&[]).err().expect("it is no socket");
    assert!(wrong.contains("exists and is not a socket"), "{wrong}");
    fs::remove_file(place.path("control.sock")).expect("it is ours");
    fs::remove_file(place.path("api.sock")).expect("it was killed");
    place.write("api.sock", "important");
    let wrong = place.try_to_serve(&[]).err().expect("it is no socket");
    assert!(wrong.contains("choose another --api"), "{wrong}");
    assert_snapshot!(
        "port-without-token",
        place
            .lateen(&["serve", "--socket", "s", "--state", "state", "--api", "127.0.0.1:0",])
            .stderr
            .lines()
            .filter(|line| line.starts_with("error"))
            .collect::<String>()
    );
}
