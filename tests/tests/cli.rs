//! The command line: what is refused and how, what is printed, and that the README tells the truth.

use lateen_tests::binary;
use lateen_tests::http::{exchange, get};
use lateen_tests::peer::Peer;
use lateen_tests::proxy::{Engine, Launch, Proxy, lines_of, proxy_without_io_uring};
use lateen_tests::tidy::markdown;
use lateen_tests::tools::{Outcome, run};
use lateen_tests::upstream::Upstream;
use lateen_tests::wait::PATIENCE;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

lateen_tests::on_both_engines!(
    listens_on_ipv6_and_on_several_addresses,
    spreads_requests_over_several_upstreams,
    the_engine_in_use_is_told,
);

/// Runs the proxy to its end, which must come soon.
fn proxy(arguments: &[&str]) -> Outcome {
    run(Command::new("timeout").arg("60").arg(binary::proxy()).args(arguments))
}

/// `quick` with what it needs, and these flags.
fn quick(arguments: &[&str]) -> Outcome {
    let needed = ["quick", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9"];
    proxy(&[&needed, arguments].concat())
}

fn assert_refused(outcome: &Outcome, code: i32, mentions: &str, what: &str) {
    let Outcome { stderr, stdout, .. } = outcome;
    assert_eq!(outcome.code, Some(code), "{what}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{what}: one line, not: {stderr}");
    assert!(stderr.contains(mentions), "{what}: {mentions:?} is not in: {stderr}");
    assert!(!stdout.contains("listening"), "{what}: {stdout}");
}

#[test]
fn usage_mistakes_are_one_line_and_code_2() {
    for (arguments, mentions) in [
        (["--no-such-flag", "1"], "--no-such-flag"),
        (["--protocol", "gopher"], "gopher"),
        (["--engine", "kqueue"], "kqueue"),
        (["--workers", "0"], "--workers"),
        (["--workers", "two"], "two"),
        (["--listen", "127.0.0.1"], "127.0.0.1"),
        (["--listen", "localhost:80"], "localhost:80"),
        (["--admin", "nowhere"], "nowhere"),
        (["--connect-timeout", "0s"], "--connect-timeout"),
        (["--header-timeout", "10 parsecs"], "--header-timeout"),
        (["--head-bytes-max", "many"], "--head-bytes-max"),
        (["--target-bytes-max", "1GiB"], "--target-bytes-max"),
        (["--connections-max", "0"], "--connections-max"),
        (["--pin", "maybe"], "maybe"),
    ] {
        assert_refused(&quick(&arguments), 2, mentions, &format!("{arguments:?}"));
    }
    for (arguments, mentions) in [
        (vec!["quick"], "--"),
        (vec!["quick", "--listen", "127.0.0.1:0"], "--upstream"),
        (vec!["quick", "--upstream", "127.0.0.1:9"], "--listen"),
        (vec!["quick", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:0"], "--upstream"),
        (vec!["quick", "--listen", "127.0.0.1:0", "--upstream", ""], "--upstream"),
        (vec!["sail"], "sail"),
    ] {
        assert_refused(&proxy(&arguments), 2, mentions, &format!("{arguments:?}"));
    }
}

#[test]
fn what_the_system_refuses_is_one_line_and_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
    let address = taken.local_addr().expect("a bound socket has an address").to_string();
    let outcome = proxy(&["quick", "--listen", &address, "--upstream", "127.0.0.1:9"]);
    assert_refused(&outcome, 1, &address, "port in use");
    assert_refused(&quick(&["--admin", &address]), 1, &address, "admin port in use");
    let log = "/nowhere/access.log";
    assert_refused(
        &quick(&["--access-log", log]),
        1,
        log,
        "access log in a folder that is not there",
    );
    // An address of a documentation network (RFC 5737) belongs to no interface.
    let outcome = proxy(&["quick", "--listen", "192.0.2.1:0", "--upstream", "127.0.0.1:9"]);
    assert_refused(&outcome, 1, "192.0.2.1", "foreign address");

    let program = binary::proxy().display();
    let limited = format!(
        "ulimit -n 40 && exec timeout 60 {program} quick --listen 127.0.0.1:0 --upstream 127.0.0.1:9"
    );
    let outcome = run(Command::new("sh").args(["-c", &limited]));
    assert_refused(&outcome, 1, "40", "too few descriptors");
}

#[test]
fn a_port_is_not_shared_with_another_proxy() {
    let upstream = Upstream::fixed("x");
    let first = Proxy::start(Engine::Epoll, &[upstream.address()]);
    let address = first.address().to_string();
    let outcome = proxy(&["quick", "--listen", &address, "--upstream", "127.0.0.1:9"]);
    assert_refused(&outcome, 1, &address, "port of another proxy");
}

#[test]
fn version_and_help_are_printed() {
    let version = proxy(&["--version"]).expect_success();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for command in [vec!["--help"], vec!["quick", "--help"]] {
        assert!(proxy(&command).expect_success().contains("quick"));
    }
}

#[test]
fn the_readme_lists_the_flags_that_exist() {
    let help = proxy(&["quick", "--help"]).expect_success();
    let readme = std::fs::read_to_string(binary::repository().join("README.md")).expect("a README");
    assert_eq!(markdown::check_flags(&readme, &help), Vec::<String>::new());
}

#[test]
fn try_without_a_terminal_ends_well_by_itself() {
    let began = Instant::now();
    let outcome = proxy(&["try"]);
    let said = outcome.expect_success();
    assert!(said.contains("curl "), "a line to go on with: {said}");
    assert!(said.contains("200"), "what happened: {said}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn the_access_log_can_go_to_stdout() {
    let upstream = Upstream::fixed("x");
    let mut child = Command::new(binary::proxy())
        .args(["quick", "--listen", "127.0.0.1:0", "--access-log", "-", "--upstream"])
        .arg(upstream.address().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the proxy's binary runs");
    let lines = lines_of(child.stdout.take().expect("stdout is piped"));
    let next = || lines.recv_timeout(PATIENCE).expect("a line on stdout");
    let address = std::iter::from_fn(|| Some(next()))
        .find_map(|line| line.strip_prefix("listening ").map(str::to_owned))
        .expect("it says where it listens");
    assert_eq!(get(address.parse().expect("an address"), "/logged").status, 200);
    let logged = std::iter::from_fn(|| Some(next())).find(|line| line.starts_with('{'));
    let logged: serde_json::Value =
        serde_json::from_str(&logged.expect("a line of the log")).expect("JSON");
    child.kill().expect("it still runs");
    child.wait().expect("it is our child");
    assert_eq!(logged["path"], "/logged");
}

/// The way of kernels 5.15 to 6.1, on this one.
#[test]
fn an_older_kernels_features_are_enough() {
    let upstream = Upstream::answering(|request| {
        lateen_tests::upstream::ok(&request.body, request.body.len())
    });
    let off = "-multishot-recv,-multishot-accept,-buffer-ring,-defer-taskrun";
    let proxy =
        Launch::new(Engine::Uring, &[upstream.address()]).with("--engine-features", off).start();
    let mut client = Peer::connect(proxy.address());
    let body = "x".repeat(300_000);
    let length = body.len();
    for _ in 0..3 {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        assert_eq!(exchange(&mut client, &request).body.len(), length);
    }
    for _ in 0..50 {
        assert_eq!(get(proxy.address(), "/").status, 200);
    }
}

/// As under the default seccomp profile of Docker and containerd.
#[test]
fn where_io_uring_is_forbidden_epoll_takes_over_and_says_why() {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(Engine::Auto, &[upstream.address()]).forbidding_io_uring().start();
    assert_eq!(get(proxy.address(), "/").status, 200);
    // What runs, and why.
    proxy.await_words(&["epoll", "io_uring"]);
    let metrics = proxy.metrics();
    let info = metrics.all("engine_info").find(|sample| sample.value == 1.0).expect("engine_info");
    assert_eq!(info.labels["engine"], "epoll");
    assert!(!info.labels["reason"].is_empty(), "{info:?}");
}

#[test]
fn where_io_uring_is_forbidden_it_cannot_be_forced() {
    let quick =
        ["quick", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9", "--engine", "uring"];
    let forbidding = proxy_without_io_uring();
    let mut command = Command::new("timeout");
    command.arg("60").arg(forbidding.get_program()).args(forbidding.get_args()).args(quick);
    let outcome = run(&mut command);
    assert_refused(&outcome, 1, "--engine", "io_uring is forbidden");
}

fn listens_on_ipv6_and_on_several_addresses(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Launch::new(engine, &[upstream.address()])
        .listening("[::1]:0")
        .listening("127.0.0.1:0")
        .start();
    assert!(proxy.addresses().iter().any(|address| address.is_ipv6()), "{:?}", proxy.addresses());
    for &address in proxy.addresses() {
        assert_eq!(get(address, "/").status, 200, "{address}");
        let forwarded = upstream.request().head.value("x-forwarded-for");
        assert_eq!(forwarded, Some(address.ip().to_string()));
    }
}

fn spreads_requests_over_several_upstreams(engine: Engine) {
    let upstreams = [0; 3].map(|_| Upstream::fixed("x"));
    let addresses: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let proxy = Proxy::start(engine, &addresses);
    for _ in 0..60 {
        assert_eq!(get(proxy.address(), "/").status, 200);
    }
    let counts: Vec<usize> =
        upstreams.iter().map(|upstream| upstream.requests_so_far().len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 60);
    // Each is chosen 20 times on average; one that is never chosen in 60 tries is left out.
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
}

fn the_engine_in_use_is_told(engine: Engine) {
    let upstream = Upstream::fixed("x");
    let proxy = Proxy::start(engine, &[upstream.address()]);
    proxy.await_words(&[engine.name()]);
    let metrics = proxy.metrics();
    let told = metrics.all("engine_info").any(|sample| {
        sample.value == 1.0 && sample.labels.get("engine").is_some_and(|name| name == engine.name())
    });
    assert!(told, "{metrics:?}");
}
