//! The publisher with proxies that behave, over a real socket. Those that don't are in
//! `publisher_crowd.rs`.

mod fake_proxy;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fake_proxy::{Control, FakeProxy, LONG, STORE, epoch, hello, snapshot};
use lateen_control::publish::{Meant, Options, Publisher};
use lateen_control::status::{Outcome, ProxyState, Status};
use lateen_snapshot::frame::Frame;
use lateen_snapshot::limits::{ENCODED_BYTES_MAX, INLINE_BYTES_MAX};
use lateen_snapshot::message::{Hello, ToControl, WorkerSwitch};
use lateen_snapshot::model::{Cluster, Epoch, Snapshot};

fn options() -> Options {
    Options {
        hello_timeout: LONG,
        frame_timeout: LONG,
        answer_timeout: LONG,
        ..Options::new(STORE)
    }
}

fn meant(number: u64, was_connected: bool) -> Meant {
    Meant { epoch: epoch(number), was_connected }
}

fn wait_for_outcome(control: &Control, name: &str, number: u64) -> Outcome {
    let meant = BTreeMap::from([(name.to_owned(), meant(number, true))]);
    let mut outcomes = control.publisher.wait(&meant, Instant::now() + LONG);
    outcomes.remove(name).expect("each has an outcome")
}

#[test]
fn a_proxy_gets_what_it_should_run_and_status_shows_its_answer() {
    let control = Control::start(options());
    let wanted = snapshot(3);
    control.publisher.publish("cart", wanted.clone(), epoch(1));
    assert_eq!(control.proxy("cart").expect("known").state, ProxyState::Disconnected);

    let mut proxy = control.connect("cart");
    assert_eq!(proxy.next(), Some((epoch(1), (*wanted).clone())));
    let changing = control.proxy("cart").expect("known");
    assert_eq!((changing.state, changing.running), (ProxyState::Changing, None));

    proxy.apply(epoch(1));
    assert_eq!(wait_for_outcome(&control, "cart", 1), Outcome::Applied);
    let current = control.proxy("cart").expect("known");
    assert_eq!(current.state, ProxyState::Current);
    assert_eq!((current.wanted, current.running), (Some(epoch(1)), Some(epoch(1))));
    let connection = current.connection.expect("connected");
    assert_eq!(connection.pid, std::process::id());
    assert_eq!(connection.uid, rustix::process::geteuid().as_raw());
    assert_eq!((&*connection.program_version, connection.workers), ("1.2.3", 2));
    let applied = current.last_applied.expect("a change");
    assert_eq!(applied.epoch, epoch(1));
    assert_eq!(applied.workers[1], WorkerSwitch { prepare_us: 20, switch_us: 2 });

    let json = serde_json::to_string(&control.publisher.status()).expect("plain values");
    let read: Status = serde_json::from_str(&json).expect("what was written");
    assert_eq!(read, control.publisher.status());

    drop(proxy);
    let gone = control.wait_for("cart", |proxy| proxy.state == ProxyState::Disconnected);
    assert_eq!((gone.running, gone.connection), (Some(epoch(1)), None));
}

#[test]
fn a_name_that_nobody_knows_waits_for_its_object() {
    let control = Control::start(options());
    let mut proxy = control.connect("cart");
    assert_eq!(control.proxy("cart").expect("connected").state, ProxyState::UnknownProxy);
    control.publisher.publish("cart", snapshot(1), epoch(5));
    assert_eq!(proxy.next_epoch(), epoch(5));
    proxy.apply(epoch(5));
    assert_eq!(wait_for_outcome(&control, "cart", 5), Outcome::Applied);

    control.publisher.withdraw("cart");
    let unknown = control.proxy("cart").expect("connected");
    assert_eq!((unknown.state, unknown.running), (ProxyState::UnknownProxy, Some(epoch(5))));
    drop(proxy);
    fake_proxy::wait_until(|| control.proxy("cart").is_none());
}

#[test]
fn what_a_proxy_runs_already_is_not_sent_again() {
    let control = Control::start(options());
    control.publisher.publish("cart", snapshot(1), epoch(1));
    let running = |epoch| hello("cart").with(epoch);
    let mut proxy = FakeProxy::connect(&control.socket(), running(epoch(1))).expect("welcome");
    assert_eq!(control.proxy("cart").expect("known").state, ProxyState::Current);
    assert_eq!(wait_for_outcome(&control, "cart", 1), Outcome::Applied);
    control.publisher.publish("cart", snapshot(1), epoch(2));
    assert_eq!(proxy.next_epoch(), epoch(2));
    drop(proxy);
    control.wait_for("cart", |proxy| proxy.connection.is_none());
    // What comes from another store is replaced, however high its number.
    let foreign = running(Epoch { store: 1, number: 99 });
    let mut proxy = FakeProxy::connect(&control.socket(), foreign).expect("welcome");
    assert_eq!(proxy.next_epoch(), epoch(2));
}

trait With {
    fn with(self, running: Epoch) -> Self;
}

impl With for Hello {
    fn with(mut self, running: Epoch) -> Self {
        self.running = Some(running);
        self
    }
}

#[test]
fn while_a_proxy_changes_only_the_newest_waits_for_it() {
    let control = Control::start(options());
    let mut proxy = control.connect("cart");
    control.publisher.publish("cart", snapshot(1), epoch(1));
    assert_eq!(proxy.next_epoch(), epoch(1));
    for number in 2..=9 {
        control.publisher.publish("cart", snapshot(1), epoch(number));
    }
    // One that was overtaken on its way here.
    control.publisher.publish("cart", snapshot(1), epoch(4));
    proxy.apply(epoch(1));
    assert_eq!(proxy.next_epoch(), epoch(9));
    proxy.apply(epoch(9));
    // What came with the newer one counts.
    assert_eq!(wait_for_outcome(&control, "cart", 4), Outcome::Applied);
}

#[test]
fn a_rejection_is_shown_and_the_next_snapshot_is_sent() {
    let control = Control::start(options());
    let mut proxy = control.connect("cart");
    control.publisher.publish("cart", snapshot(1), epoch(1));
    let sent = proxy.next_epoch();
    proxy.apply(sent);
    control.publisher.publish("cart", snapshot(2), epoch(2));
    let sent = proxy.next_epoch();
    proxy.reject(sent, "port 80 is taken");
    let rejected = Outcome::Rejected { epoch: epoch(2), reason: "port 80 is taken".to_owned() };
    assert_eq!(wait_for_outcome(&control, "cart", 2), rejected);
    let status = control.proxy("cart").expect("known");
    assert_eq!((status.state, status.running), (ProxyState::Rejected, Some(epoch(1))));
    assert_eq!(status.last_rejection.expect("one").reason, "port 80 is taken");

    control.publisher.publish("cart", snapshot(1), epoch(3));
    let sent = proxy.next_epoch();
    proxy.apply(sent);
    assert_eq!(wait_for_outcome(&control, "cart", 3), Outcome::Applied);
    // Taking it back does not make the refused one accepted.
    assert_eq!(wait_for_outcome(&control, "cart", 2), rejected);
    assert_eq!(control.proxy("cart").expect("known").state, ProxyState::Current);
}

#[test]
fn a_second_live_connection_of_a_name_is_refused_and_named() {
    let control = Control::start(options());
    control.publisher.publish("cart", snapshot(1), epoch(1));
    let mut first = control.connect("cart");
    assert_eq!(first.next_epoch(), epoch(1));
    for count in 1..=3 {
        let refused = FakeProxy::connect(&control.socket(), hello("cart")).err().expect("refused");
        assert!(refused.contains("a proxy named cart is connected already"), "{refused}");
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        let second = control.proxy("cart").expect("known").second_connections.expect("noted");
        assert_eq!((second.count, second.held_by_pid), (count, std::process::id()));
        assert_eq!(second.last_pid, std::process::id());
    }
    first.apply(epoch(1));
    assert_eq!(wait_for_outcome(&control, "cart", 1), Outcome::Applied);
    // When it is gone, its successor is welcome at once.
    drop(first);
    control.connect("cart");
}

#[test]
fn who_may_not_be_a_proxy_is_refused_with_a_reason() {
    let control = Control::start(Options { trusted_uids: vec![], ..options() });
    let refused = FakeProxy::connect(&control.socket(), hello("cart")).err().expect("refused");
    assert!(refused.contains("may not run proxies"), "{refused}");
    let noted = control.publisher.status().refused.remove(0);
    assert_eq!((noted.name.as_deref(), noted.pid), (Some("cart"), std::process::id()));
    assert_eq!(noted.uid, rustix::process::geteuid().as_raw());
    assert_eq!((&noted.reason, noted.count), (&refused, 1));
    assert!(control.proxy("cart").is_none());

    let control = Control::start(options());
    let mut newer = hello("cart");
    newer.snapshot_versions = (7, 9);
    let refused = FakeProxy::connect(&control.socket(), newer).err().expect("refused");
    assert!(refused.contains("reads snapshots of versions 7 to 9"), "{refused}");
    let mut proxy = FakeProxy::open(&control.socket()).expect("listening");
    // A Hello of another protocol, whatever follows.
    proxy.send(&Frame { kind: 1, payload: vec![77, 1, 2, 3], descriptor: None });
    let said = format!("{:?}", proxy.hear());
    assert!(said.contains("the peer speaks protocol 77"), "{said}");
    assert_eq!(control.publisher.status().refused.len(), 2);
    assert!(control.proxy("cart").is_none());
}

#[test]
fn a_proxy_that_does_not_answer_is_shown_and_not_asked_again() {
    let control = Control::start(Options { answer_timeout: Duration::from_millis(1), ..options() });
    let mut proxy = control.connect("cart");
    control.publisher.publish("cart", snapshot(1), epoch(1));
    control.wait_for("cart", |proxy| proxy.state == ProxyState::NoAnswer);
    assert!(control.publisher.has_failed());
    assert_eq!(proxy.next_epoch(), epoch(1));
    control.publisher.publish("cart", snapshot(1), epoch(2));
    assert_eq!(proxy.next_epoch(), epoch(2));
    control.wait_for("cart", |proxy| proxy.state == ProxyState::NoAnswer);
    // Whoever waits for it waits to the end.
    let told = BTreeMap::from([("cart".to_owned(), meant(2, true))]);
    assert_eq!(control.publisher.wait(&told, Instant::now())["cart"], Outcome::Unanswered);
    // Late is better than never.
    proxy.apply(epoch(2));
    control.wait_for("cart", |proxy| proxy.state == ProxyState::Current);
    assert_eq!(wait_for_outcome(&control, "cart", 2), Outcome::Applied);
    assert!(!control.publisher.has_failed());
}

#[test]
fn waiting_ends_when_all_that_are_there_have_answered_or_it_is_time() {
    let control = Control::start(options());
    let names = ["applies", "rejects", "comes back", "dies", "never-there", "never-heard-of"];
    let mut proxies: Vec<_> = names[..4].iter().map(|name| control.connect(name)).collect();
    let mut told = BTreeMap::from([("never-heard-of".to_owned(), meant(1, false))]);
    for name in &names[..5] {
        let was_connected = control.publisher.publish(name, snapshot(1), epoch(1));
        assert_eq!(was_connected, *name != "never-there");
        told.insert((*name).to_owned(), meant(1, was_connected));
    }
    proxies.iter_mut().for_each(|proxy| assert!(proxy.next().is_some()));
    let soon = control.publisher.wait(&told, Instant::now());
    assert_eq!(soon["applies"], Outcome::Unanswered);
    assert_eq!(soon["never-there"], Outcome::Disconnected);

    // One that does not come back is waited for to the end.
    let back: BTreeMap<_, _> =
        told.clone().into_iter().filter(|(name, _)| name != "dies").collect();
    let outcomes = thread::scope(|scope| {
        let waiting = scope.spawn(|| control.publisher.wait(&back, Instant::now() + LONG));
        proxies[0].apply(epoch(1));
        proxies[1].reject(epoch(1), "no");
        proxies.truncate(2);
        for name in ["comes back", "dies"] {
            control.wait_for(name, |proxy| proxy.connection.is_none());
        }
        let mut again = control.connect("comes back");
        assert!(again.next().is_some());
        again.apply(epoch(1));
        waiting.join().expect("no panic")
    });
    let rejected = Outcome::Rejected { epoch: epoch(1), reason: "no".to_owned() };
    let expected = [
        ("applies", Outcome::Applied),
        ("comes back", Outcome::Applied),
        ("never-heard-of", Outcome::Disconnected),
        ("never-there", Outcome::Disconnected),
        ("rejects", rejected),
    ];
    assert_eq!(outcomes, expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
    assert_eq!(control.publisher.wait(&told, Instant::now())["dies"], Outcome::Left);
}

#[test]
fn an_answer_that_was_lost_with_a_connection_counts_on_the_next() {
    let control = Control::start(options());
    control.publisher.publish("cart", snapshot(1), epoch(1));
    drop(control.connect("cart"));
    control.wait_for("cart", |proxy| proxy.connection.is_none());
    let mut proxy = control.connect("cart");
    // Of before the connection broke; then the one that it is asked for here.
    proxy.apply(epoch(1));
    assert_eq!(wait_for_outcome(&control, "cart", 1), Outcome::Applied);
    // Unless the answer came before the snapshot was on its way, it came twice.
    control.publisher.publish("cart", snapshot(1), epoch(2));
    let mut sent = proxy.next_epoch();
    if sent == epoch(1) {
        proxy.apply(epoch(1));
        sent = proxy.next_epoch();
    }
    assert_eq!(sent, epoch(2));
    proxy.apply(epoch(2));
    assert_eq!(wait_for_outcome(&control, "cart", 2), Outcome::Applied);
}

#[test]
fn many_proxies_get_one_large_snapshot() {
    let control = Control::start(options());
    let large = snapshot(20_000);
    let names: Vec<String> = (0..20).map(|n| format!("cart-{n}")).collect();
    let mut proxies: Vec<_> = names.iter().map(|name| control.connect(name)).collect();
    for name in &names {
        assert!(control.publisher.publish(name, large.clone(), epoch(1)));
    }
    for proxy in &mut proxies {
        assert_eq!(proxy.next(), Some((epoch(1), (*large).clone())));
        proxy.apply(epoch(1));
    }
    let meant = names.iter().map(|name| (name.clone(), meant(1, true))).collect();
    let outcomes = control.publisher.wait(&meant, Instant::now() + LONG);
    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Applied), "{outcomes:?}");
    let encoded = lateen_snapshot::encoding::encode(epoch(1), &large, 1).expect("valid");
    assert!(encoded.bytes.len() > INLINE_BYTES_MAX, "it went beside the frame");
}

#[test]
fn a_snapshot_that_is_too_large_counts_as_rejected() {
    let control = Control::start(options());
    let mut proxy = control.connect("cart");
    let name = "x".repeat(ENCODED_BYTES_MAX);
    let cluster = Cluster { name, ..(*snapshot(1).clusters[0]).clone() };
    let huge = Snapshot { clusters: vec![Arc::new(cluster)], ..Snapshot::default() };
    control.publisher.publish("cart", Arc::new(huge), epoch(1));
    let Outcome::Rejected { reason, .. } = wait_for_outcome(&control, "cart", 1) else {
        panic!("not rejected")
    };
    assert!(reason.contains("are allowed"), "{reason}");
    control.publisher.publish("cart", snapshot(1), epoch(2));
    assert_eq!(proxy.next_epoch(), epoch(2));
}

#[test]
fn an_answer_of_fewer_workers_is_none() {
    let control = Control::start(options());
    let mut proxy = control.connect("cart");
    control.publisher.publish("cart", snapshot(1), epoch(1));
    assert_eq!(proxy.next_epoch(), epoch(1));
    let workers = vec![WorkerSwitch::default()];
    proxy.answer(ToControl::Applied { epoch: epoch(1), workers });
    assert!(proxy.next().is_none());
    control.wait_for_refusal("answers for 1 workers, its Hello said 2");
    let told = BTreeMap::from([("cart".to_owned(), meant(1, true))]);
    assert_eq!(control.publisher.wait(&told, Instant::now())["cart"], Outcome::Left);
}

#[test]
fn a_proxy_that_runs_a_later_epoch_of_the_same_store_is_told_of() {
    let control = Control::start(options());
    let ahead = control.publisher.ahead();
    control.publisher.publish("cart", snapshot(1), epoch(5));
    let connect = |name: &str, running: Epoch| {
        let hello = Hello { running: Some(running), ..hello(name) };
        FakeProxy::connect(&control.folder.path().join("control"), hello).expect("welcome")
    };
    let _earlier = connect("cart", epoch(4));
    let _other = connect("other", Epoch { store: STORE + 1, number: 900 });
    assert_eq!(*ahead.borrow(), 0);
    let _later = connect("later", epoch(8));
    assert_eq!(*ahead.borrow(), 8);
}

#[test]
fn proxies_outlive_a_control_plane_and_meet_the_next() {
    let Control { publisher, folder } = Control::start(options());
    let socket = folder.path().join("control");
    publisher.publish("cart", snapshot(1), epoch(1));
    let mut proxy = FakeProxy::connect(&socket, hello("cart")).expect("welcome");
    let sent = proxy.next_epoch();
    proxy.apply(sent);
    let error = Publisher::start(&socket, options()).err().expect("one at a time");
    assert!(error.to_string().contains("another control plane serves this socket"), "{error}");

    drop(publisher);
    assert!(proxy.next().is_none());
    assert!(!socket.exists());
    let publisher = Publisher::start(&socket, options()).expect("free");
    publisher.publish("cart", snapshot(1), epoch(1));
    let proxy = FakeProxy::connect(&socket, hello("cart").with(epoch(1))).expect("welcome");
    assert_eq!(publisher.status().proxies[0].state, ProxyState::Current);
    drop((publisher, proxy));
}
