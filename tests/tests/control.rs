//! A proxy under a control plane: snapshots reach every worker as one, survive what becomes of the
//! control plane, and change nothing that is under way.

use lateen_tests::control::{Control, Mesh, Session, epoch};
use lateen_tests::http::{Response, exchange, read_response, read_response_head};
use lateen_tests::peer::{Ending, Peer};
use lateen_tests::proxy::{Engine, Launch};
use lateen_tests::upstream::{Upstream, free_address, ok, refusing};
use lateen_tests::wait::{PATIENCE, eventually};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

lateen_tests::on_both_engines!(
    a_published_snapshot_is_served_and_told_of,
    a_restart_begins_with_the_last_good_snapshot,
    a_last_good_snapshot_that_can_not_be_run_is_mended_by_the_control_plane,
    what_can_not_be_run_is_refused_and_the_old_stays,
    listeners_come_and_go_without_losing_a_request,
    a_listener_moves_between_one_address_and_all,
    an_endpoint_that_stays_keeps_its_connections,
    a_change_is_seen_by_all_workers_at_once,
    a_control_plane_that_misbehaves_changes_nothing_for_traffic,
    a_proxy_that_is_killed_comes_back_with_what_was_right,
    a_drain_takes_no_snapshot,
    what_outlives_its_config_is_logged_under_it,
);

const DEBUG: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-Lateen-Debug: 1\r\n\r\n";
const PLAIN: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn ask(address: SocketAddr, request: &str) -> Response {
    exchange(&mut Peer::connect(address), request)
}

fn a_published_snapshot_is_served_and_told_of(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let control = Control::new();
    let proxy = Launch::under(engine, &control).workers(2).start();
    let mut session = control.welcome();
    assert_eq!((session.hello().name.as_str(), session.hello().workers), ("test", 2));
    assert_eq!(session.hello().running, None);
    assert_eq!(proxy.ask_admin("/ready").status, 503, "there is nothing to serve yet");
    proxy.await_words(&["no snapshot for a proxy of this name yet", "name=test"]);

    let listen = free_address();
    let mesh = Mesh::forwarding(listen, &[upstream.address()]);
    assert_eq!(session.apply(1, &mesh.0).len(), 2, "each worker says how long it was kept");
    eventually("the proxy is ready", || (proxy.ask_admin("/ready").status == 200).then_some(()));
    let response = ask(listen, DEBUG);
    assert_eq!(response.status, 200);
    assert_eq!(response.head.value("x-lateen-epoch"), Some(epoch(1).to_string()));
    assert_eq!(ask(listen, PLAIN).head.value("x-lateen-epoch"), None, "nobody asked");
    assert!(proxy.access_log(2).iter().all(|line| line["epoch"] == epoch(1).to_string()));
    proxy.await_metric("config_epoch", &[], 1.0);
    proxy.await_metric("config_applied_total", &[], 1.0);
    proxy.await_metric("control_connected", &[], 1.0);
    let dump: serde_json::Value =
        serde_json::from_slice(&proxy.ask_admin("/config_dump").body).expect("JSON");
    assert_eq!(dump["epoch"], epoch(1).to_string());
    assert!(dump["snapshot"].to_string().contains(&listen.to_string()), "{dump}");
}

/// Applies the first snapshot that a proxy is given, and waits until it is kept.
fn apply_first(control: &Control, session: &mut Session, number: u64, mesh: &Mesh) {
    session.apply(number, &mesh.0);
    // It is on disk a moment after it was applied.
    let saved = control.state().join("snapshot");
    eventually("the snapshot is kept", || saved.exists().then_some(()));
}

fn a_restart_begins_with_the_last_good_snapshot(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let control = Control::new();
    let listen = free_address();
    let mut proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    apply_first(&control, &mut session, 7, &Mesh::forwarding(listen, &[upstream.address()]));

    // The control plane dies: nothing changes.
    drop(session);
    let launch = Launch::under(engine, &control);
    let left = control.leave();
    assert_eq!(ask(listen, PLAIN).status, 200);
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.exit_code(), 0);

    // Nor does it when the proxy starts again without one.
    let proxy = launch.start();
    assert_eq!(proxy.addresses(), [listen]);
    assert_eq!(proxy.ask_admin("/ready").status, 200);
    assert_eq!(ask(listen, DEBUG).head.value("x-lateen-epoch"), Some(epoch(7).to_string()));

    // When it is back, it hears what runs and says what is new.
    let control = left.come_back();
    let mut session = control.welcome();
    assert_eq!(session.hello().running, Some(epoch(7)));
    session.apply(8, &Mesh::forwarding(listen, &[upstream.address()]).0);
    assert_eq!(ask(listen, DEBUG).head.value("x-lateen-epoch"), Some(epoch(8).to_string()));
}

fn a_last_good_snapshot_that_can_not_be_run_is_mended_by_the_control_plane(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let control = Control::new();
    let listen = free_address();
    let mut proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    apply_first(&control, &mut session, 7, &Mesh::forwarding(listen, &[upstream.address()]));
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.exit_code(), 0);
    drop(session);

    let _taken = TcpListener::bind(listen).expect("the proxy has ended");
    let proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    assert_eq!(session.hello().running, None, "it asks for what it should run");
    assert_eq!(proxy.ask_admin("/ready").status, 503);
    proxy.await_words(&["can't be run", &listen.to_string()]);

    let elsewhere = free_address();
    session.apply(8, &Mesh::forwarding(elsewhere, &[upstream.address()]).0);
    assert_eq!(ask(elsewhere, DEBUG).head.value("x-lateen-epoch"), Some(epoch(8).to_string()));
    eventually("the proxy is ready", || (proxy.ask_admin("/ready").status == 200).then_some(()));
}

fn what_can_not_be_run_is_refused_and_the_old_stays(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let control = Control::new();
    let proxy = Launch::under(engine, &control).workers(2).start();
    let mut session = control.welcome();
    let listen = free_address();
    let good = Mesh::forwarding(listen, &[upstream.address()]);
    session.apply(5, &good.0);

    let (socket, taken) = refusing();
    let mut bad = good.clone();
    let table = bad.0.listeners[0].http[0].table;
    bad.http(taken, table);
    let reason = session.refused(6, &bad.0);
    assert!(reason.contains("listener-1") && reason.contains("in use"), "{reason}");
    let reason = session.refused(4, &good.0);
    assert!(reason.contains("newer"), "{reason}");
    assert_eq!(ask(listen, DEBUG).head.value("x-lateen-epoch"), Some(epoch(5).to_string()));
    proxy.await_metric("config_rejected_total", &[], 2.0);

    // The port can be had: the same is taken then.
    socket.set_reuse_address(true).expect("a TCP socket");
    session.apply(7, &bad.0);
    assert_eq!(ask(taken, PLAIN).status, 200);
}

fn listeners_come_and_go_without_losing_a_request(engine: Engine) {
    let (go, wait) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::answering(move |request| {
        if request.target() == "/slow" {
            arrive.send(()).expect("the test waits");
            wait.lock().expect("one at a time").recv().expect("the test goes on");
        }
        ok("x", 1)
    });
    let control = Control::new();
    let proxy = Launch::under(engine, &control).workers(2).start();
    let mut session = control.welcome();
    let (stays, goes) = (free_address(), free_address());
    let one = Mesh::forwarding(stays, &[upstream.address()]);
    let mut two = one.clone();
    two.http(goes, two.0.listeners[0].http[0].table);
    session.apply(1, &two.0);

    let mut idle = Peer::connect(goes);
    assert_eq!(exchange(&mut idle, PLAIN).status, 200);
    let mut kept = Peer::connect(stays);
    assert_eq!(exchange(&mut kept, PLAIN).status, 200);
    let mut busy = Peer::connect(goes);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    arrived.recv_timeout(PATIENCE).expect("the request is at the upstream");
    session.apply(2, &one.0);
    let refused = eventually("nobody listens any more", || TcpStream::connect(goes).err());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    // What was under way is finished, and is the last on its connection.
    go.send(()).expect("the upstream waits");
    let response = read_response(&mut busy, "GET");
    assert_eq!(response.status, 200);
    assert!(response.head.lists("connection", "close"), "{:?}", response.head);
    assert_eq!(busy.ending(), Ending::Closed);
    assert_eq!(idle.ending(), Ending::Closed);
    assert_eq!(exchange(&mut kept, PLAIN).status, 200, "the other listener's client is unmoved");

    // It comes back on the same address.
    session.apply(3, &two.0);
    assert_eq!(ask(goes, DEBUG).head.value("x-lateen-epoch"), Some(epoch(3).to_string()));
    drop(proxy);
}

fn a_listener_moves_between_one_address_and_all(engine: Engine) {
    let upstream = Upstream::fixed("x");
    for workers in [1, 2] {
        let control = Control::new();
        let _proxy = Launch::under(engine, &control).workers(workers).start();
        let mut session = control.welcome();
        let one = free_address();
        let all = SocketAddr::from(([0, 0, 0, 0], one.port()));
        for (number, address) in (1..).zip([one, all, one]) {
            session.apply(number, &Mesh::forwarding(address, &[upstream.address()]).0);
            let answered = ask(one, DEBUG).head.value("x-lateen-epoch");
            assert_eq!(answered, Some(epoch(number).to_string()), "on {address}");
        }
    }
}

fn an_endpoint_that_stays_keeps_its_connections(engine: Engine) {
    let (stays, comes) = (Upstream::fixed("x"), Upstream::fixed("x"));
    let control = Control::new();
    let _proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    let listen = free_address();
    session.apply(1, &Mesh::forwarding(listen, &[stays.address()]).0);
    let mut client = Peer::connect(listen);
    assert_eq!(exchange(&mut client, PLAIN).status, 200);
    assert_eq!(stays.connections(), 1);
    for (number, endpoints) in
        [(2, vec![comes.address(), stays.address()]), (3, vec![stays.address()])]
    {
        session.apply(number, &Mesh::forwarding(listen, &endpoints).0);
        for _ in 0..20 {
            assert_eq!(exchange(&mut client, PLAIN).status, 200);
        }
        assert_eq!(stays.connections(), 1, "its pooled connection outlives the change");
    }
}

/// Clients with connections to both workers ask in turn by which epoch they are answered, while the
/// config flips: none may ever see an older one than it has seen.
fn a_change_is_seen_by_all_workers_at_once(engine: Engine) {
    let upstreams = [Upstream::fixed("x"), Upstream::fixed("x")];
    let control = Control::new();
    let _proxy = Launch::under(engine, &control).workers(2).start();
    let mut session = control.welcome();
    let listen = free_address();
    let flips = [0, 1].map(|which: usize| Mesh::forwarding(listen, &[upstreams[which].address()]));
    session.apply(1, &flips[1].0);

    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (over, asked) = (over.clone(), asked.clone());
            thread::spawn(move || {
                let mut connections: Vec<Peer> = (0..6).map(|_| Peer::connect(listen)).collect();
                let mut newest = 0;
                while !over.load(Ordering::Acquire) {
                    for connection in &mut connections {
                        let response = exchange(connection, DEBUG);
                        assert_eq!(response.status, 200);
                        let epoch = response.head.value("x-lateen-epoch").expect("an epoch");
                        let number: u64 = epoch
                            .rsplit('-')
                            .next()
                            .and_then(|number| number.parse().ok())
                            .expect("a number");
                        assert!(number >= newest, "{number} after {newest}");
                        newest = number;
                        asked.fetch_add(1, Ordering::AcqRel);
                    }
                }
            })
        })
        .collect();
    // However late the clients begin, they see many changes.
    for number in 2.. {
        session.apply(number, &flips[number as usize % 2].0);
        if number >= 100 && asked.load(Ordering::Acquire) > 1_000 {
            break;
        }
    }
    over.store(true, Ordering::Release);
    for client in clients {
        client.join().expect("no client saw an old epoch or a failure");
    }
}

fn a_control_plane_that_misbehaves_changes_nothing_for_traffic(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let control = Control::new();
    let proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    let listen = free_address();
    session.apply(1, &Mesh::forwarding(listen, &[upstream.address()]).0);
    drop(session);

    // Garbage instead of a welcome; a welcome that is cut off; nothing at all, and then the end.
    let mut garbage = control.take();
    garbage.write_all(&[0xff; 4096]).expect("the proxy reads the first bytes");
    assert_eq!(ask(listen, PLAIN).status, 200);
    let mut cut_off = control.take();
    cut_off.write_all(&[9, 0, 0, 0, 65, 1]).expect("written");
    drop(cut_off);
    drop(control.take());
    assert_eq!(ask(listen, PLAIN).status, 200);

    // A flood of what it runs already, and of what is older.
    let mut session = control.welcome();
    let again = Mesh::forwarding(listen, &[upstream.address()]);
    for _ in 0..50 {
        session.publish(1, &again.0);
    }
    assert_eq!(ask(listen, PLAIN).status, 200);
    for _ in 0..50 {
        assert!(matches!(
            session.hear(),
            lateen_snapshot::message::ToControl::Applied { epoch: of, .. } if of == epoch(1)
        ));
    }
    session.apply(2, &again.0);
    proxy.await_words(&["the proxy keeps what it runs"]);
}

fn a_drain_takes_no_snapshot(engine: Engine) {
    let (go, wait) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::answering(move |_| {
        arrive.send(()).expect("the test waits");
        wait.lock().expect("one at a time").recv().expect("the test goes on");
        ok("x", 1)
    });
    let control = Control::new();
    let mut proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    let listen = free_address();
    let mesh = Mesh::forwarding(listen, &[upstream.address()]);
    session.apply(1, &mesh.0);
    let mut busy = Peer::connect(listen);
    busy.send(PLAIN);
    arrived.recv_timeout(PATIENCE).expect("the request is at the upstream");

    proxy.signal(rustix::process::Signal::TERM);
    eventually("the drain has begun", || (proxy.ask_admin("/ready").status == 503).then_some(()));
    // However many come, none is kept for a process that is ending.
    session.publish(2, &mesh.0);
    session.await_end();
    go.send(()).expect("the upstream waits");
    assert_eq!(read_response(&mut busy, "GET").status, 200);
    assert_eq!(proxy.exit_code(), 0);
}

/// An upgrade, a long response and a TCP tunnel, each begun under the first config and ended under
/// another one.
fn what_outlives_its_config_is_logged_under_it(engine: Engine) {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let http = Upstream::scripted(move |mut peer, _| {
        let head = peer.read_until(b"\r\n\r\n").expect("a head");
        if head.starts_with(b"GET /long") {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
            wait.lock().expect("one at a time").recv().expect("the test goes on");
            peer.send("cd");
        } else {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: t\r\n\r\n",
            );
        }
        peer.drain();
    });
    let tcp = Upstream::scripted(|mut peer, _| {
        peer.send("hi");
        peer.drain();
    });
    let control = Control::new();
    let proxy = Launch::under(engine, &control).start();
    let mut session = control.welcome();
    let (listen, listen_tcp) = (free_address(), free_address());
    let mut mesh = Mesh::forwarding(listen, &[http.address()]);
    let cluster = mesh.cluster("tcp", &[tcp.address()]);
    mesh.tcp(listen_tcp, cluster);
    session.apply(1, &mesh.0);

    let mut upgraded = Peer::connect(listen);
    upgraded.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: t\r\n\r\n");
    assert_eq!(read_response_head(&mut upgraded).expect("a head").0, 101);
    let mut long = Peer::connect(listen);
    long.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n");
    long.read_until(b"\r\n\r\nab").expect("the first half");
    let mut tunnel = Peer::connect(listen_tcp);
    assert_eq!(tunnel.read_exactly(2), b"hi");

    // Nothing of the first one is in the second.
    session.apply(2, &Mesh::forwarding(listen, &[]).0);
    go.send(()).expect("the upstream waits");
    assert_eq!(long.read_exactly(2), b"cd");
    drop((upgraded, tunnel, long));
    let lines = proxy.access_log(3);
    for (path, upstream) in [("/", http.address()), ("/long", http.address()), ("", tcp.address())]
    {
        let line = lines.iter().find(|line| line["path"] == path).expect("its line");
        assert_eq!(line["epoch"], epoch(1).to_string(), "{path:?}");
        assert_eq!(line["upstream"], upstream.to_string(), "{path:?}");
    }
}

/// Under load and while config changes: whatever the moment, what is on the disk is whole, and not older
/// than what was there before.
fn a_proxy_that_is_killed_comes_back_with_what_was_right(engine: Engine) {
    let upstreams = [Upstream::fixed("a"), Upstream::fixed("b")];
    let control = Control::new();
    let listen = free_address();
    let flips = [0, 1].map(|which: usize| Mesh::forwarding(listen, &[upstreams[which].address()]));
    let (mut published, mut known) = (0, 0);
    for round in 0..8 {
        let mut proxy = Launch::under(engine, &control).workers(2).start();
        let mut session = control.welcome();
        if let Some(running) = session.hello().running {
            let running = running.number;
            assert!((known..=published).contains(&running), "{known} <= {running} <= {published}");
            known = running;
            let response = ask(listen, DEBUG);
            assert_eq!(response.status, 200);
            assert_eq!(response.head.value("x-lateen-epoch"), Some(epoch(running).to_string()));
            // Even epochs lead to the first upstream.
            assert_eq!(response.body, [b"a", b"b"][running as usize % 2]);
        } else {
            assert_eq!(known, 0, "what was kept once is never lost");
        }
        let over = Arc::new(AtomicBool::new(false));
        let client = thread::spawn({
            let over = over.clone();
            move || {
                // Its connections end with the proxy; until then all answers are right.
                while !over.load(Ordering::Acquire) {
                    let Ok(mut stream) = TcpStream::connect(listen) else { continue };
                    let asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                    let mut answer = Vec::new();
                    if stream.write_all(asked).is_ok() && stream.read_to_end(&mut answer).is_ok() {
                        assert!(
                            answer.is_empty() || answer.starts_with(b"HTTP/1.1 200 "),
                            "{}",
                            String::from_utf8_lossy(&answer)
                        );
                    }
                }
            }
        });
        for _ in 0..=round {
            published += 1;
            session.apply(published, &flips[published as usize % 2].0);
        }
        // One more is under way when it dies.
        published += 1;
        session.publish(published, &flips[published as usize % 2].0);
        proxy.signal(rustix::process::Signal::KILL);
        assert!(proxy.exit_within(PATIENCE).is_some());
        over.store(true, Ordering::Release);
        client.join().expect("no client saw a wrong answer");
    }
    assert!(known > 0, "something was kept");
}
