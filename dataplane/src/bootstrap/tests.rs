//! The command line: defaults, every flag, and every refusal with its line.

use std::path::PathBuf;
use std::time::Duration;

use lateen_snapshot::model::Protocol;

use super::config::{AccessLogTarget, EngineChoice};
use super::*;

fn host() -> Host {
    Host { cpus: vec![2, 3, 5, 7], usable_cpus: 3, descriptors_max: 1_000, memory_max: None }
}

const LEAST: [&str; 4] = ["--listen", "127.0.0.1:8080", "--upstream", "127.0.0.1:9000"];

fn parse_on(host: &Host, arguments: &[&str]) -> Result<Command, BootstrapError> {
    parse(["lateen-proxy"].iter().chain(arguments), host)
}

/// `quick` with the least flags and these.
fn quick(more: &[&str]) -> Result<Config, BootstrapError> {
    quick_on(&host(), more)
}

fn quick_on(host: &Host, more: &[&str]) -> Result<Config, BootstrapError> {
    let arguments: Vec<&str> = ["quick"].iter().chain(&LEAST).chain(more).copied().collect();
    parse_on(host, &arguments).map(|command| match command {
        Command::Quick(quick) => quick.config,
        other => panic!("{other:?} is not quick"),
    })
}

fn snapshot_of(more: &[&str]) -> Snapshot {
    let arguments: Vec<&str> = ["quick"].iter().chain(&LEAST).chain(more).copied().collect();
    match parse_on(&host(), &arguments) {
        Ok(Command::Quick(quick)) => quick.snapshot,
        other => panic!("{other:?} is not quick"),
    }
}

fn accepted(more: &[&str]) -> Config {
    quick(more).unwrap_or_else(|error| panic!("{more:?}: {error}"))
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = accepted(&[]);
    let second = Duration::from_secs;
    let snapshot = snapshot_of(&[]);
    assert_eq!(snapshot.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(snapshot.listeners[0].protocol, Protocol::Auto);
    assert_eq!(snapshot.clusters[0].endpoints[0].address.to_string(), "127.0.0.1:9000");
    assert_eq!(config.workers, 3, "the usable CPUs");
    assert!(config.pinned_cpus.is_empty(), "3 workers on a mask of 4");
    assert_eq!(config.engine, EngineChoice::Auto);
    assert!(config.engine_features.is_empty());
    assert_eq!(config.admin.to_string(), "127.0.0.1:0");
    assert_eq!(config.access_log, AccessLogTarget::Off);
    assert_eq!(config.timeouts.header, second(10));
    assert_eq!(config.timeouts.body, second(60));
    assert_eq!(config.timeouts.idle, second(300));
    assert_eq!(config.timeouts.connect, second(1));
    assert_eq!(config.timeouts.request, None);
    assert_eq!(config.timeouts.write, second(60));
    assert_eq!(config.timeouts.detect, Duration::from_millis(50));
    assert_eq!(config.sizes.head_bytes_max, 65_536);
    assert_eq!(config.sizes.headers_max, 128);
    assert_eq!(config.sizes.target_bytes_max, 8_192);
    assert_eq!(config.sizes.body_bytes_max, None);
    assert_eq!(config.connections_max, 900);
    assert_eq!(config.pool.total_max, 256, "more than a quarter of the descriptors");
    assert_eq!(config.pool.idle_max, 256);
    assert_eq!(config.pool.idle_timeout, second(60));
    assert_eq!(config.pool.lifetime, second(3_600));
    assert_eq!(config.drain.delay, second(0));
    assert_eq!(config.drain.timeout, second(30));
    assert!(!config.trace_method);
    assert_eq!(config.descriptors_max, 1_000);
}

#[test]
fn every_flag_reaches_the_config() {
    let config = accepted(&[
        "--listen",
        "[::1]:0",
        "--listen",
        "0.0.0.0:0",
        "--upstream",
        "10.0.0.1:80,[::1]:81",
        "--protocol",
        "http",
        "--workers",
        "2",
        "--pin",
        "on",
        "--engine",
        "uring",
        "--engine-features",
        "-multishot-recv,-buffer-ring",
        "--admin",
        "127.0.0.1:9901",
        "--access-log",
        "/tmp/log",
        "--header-timeout",
        "1s",
        "--body-timeout",
        "2s",
        "--idle-timeout",
        "3s",
        "--connect-timeout",
        "4s",
        "--request-timeout",
        "5s",
        "--write-timeout",
        "6s",
        "--detect-timeout",
        "7ms",
        "--head-bytes-max",
        "16KiB",
        "--headers-max",
        "64",
        "--target-bytes-max",
        "4KiB",
        "--body-bytes-max",
        "1MiB",
        "--connections-max",
        "100",
        "--pool-idle-max",
        "0",
        "--pool-idle-timeout",
        "8s",
        "--pool-lifetime",
        "9s",
        "--drain-delay",
        "10s",
        "--drain-timeout",
        "11s",
        "--trace-method",
    ]);
    let second = Duration::from_secs;
    let snapshot = snapshot_of(&[
        "--listen",
        "[::1]:0",
        "--listen",
        "0.0.0.0:0",
        "--upstream",
        "10.0.0.1:80,[::1]:81",
        "--protocol",
        "http",
    ]);
    assert_eq!(snapshot.listeners.len(), 3);
    assert_eq!(snapshot.clusters[0].endpoints.len(), 3);
    assert!(snapshot.listeners.iter().all(|listener| listener.protocol == Protocol::Http));
    assert_eq!((config.workers, config.pinned_cpus.as_slice()), (2, &[2, 3][..]));
    assert_eq!(config.engine, EngineChoice::Uring);
    assert_eq!(config.engine_features, ["-multishot-recv", "-buffer-ring"]);
    assert_eq!(config.admin.port(), 9901);
    assert_eq!(config.access_log, AccessLogTarget::File(PathBuf::from("/tmp/log")));
    let timeouts = config.timeouts;
    assert_eq!(
        [timeouts.header, timeouts.body, timeouts.idle, timeouts.connect, timeouts.write],
        [1, 2, 3, 4, 6].map(second)
    );
    assert_eq!(timeouts.request, Some(second(5)));
    assert_eq!(timeouts.detect, Duration::from_millis(7));
    assert_eq!(config.sizes.head_bytes_max, 16_384);
    assert_eq!(config.sizes.headers_max, 64);
    assert_eq!(config.sizes.target_bytes_max, 4_096);
    assert_eq!(config.sizes.body_bytes_max, Some(1 << 20));
    assert_eq!(config.connections_max, 100);
    assert_eq!(config.pool.idle_max, 0);
    assert_eq!([config.pool.idle_timeout, config.pool.lifetime], [8, 9].map(second));
    assert_eq!([config.drain.delay, config.drain.timeout], [10, 11].map(second));
    assert!(config.trace_method);
}

#[test]
fn workers_are_pinned_as_asked() {
    for (flags, pinned) in [
        (&["--workers", "4"][..], &[2, 3, 5, 7][..]),
        (&["--workers", "1"], &[]),
        (&["--workers", "4", "--pin", "off"], &[]),
        (&["--workers", "1", "--pin", "on"], &[2]),
        (&["--workers", "6", "--pin", "on"], &[2, 3, 5, 7, 2, 3]),
    ] {
        assert_eq!(accepted(flags).pinned_cpus, pinned, "{flags:?}");
    }
}

#[test]
fn what_stands_for_itself_is_taken() {
    assert_eq!(accepted(&["--access-log", "-"]).access_log, AccessLogTarget::Stdout);
    assert_eq!(accepted(&["--access-log", "off"]).access_log, AccessLogTarget::Off);
    assert_eq!(accepted(&["--request-timeout", "none"]).timeouts.request, None);
    assert_eq!(accepted(&["--body-bytes-max", "0"]).sizes.body_bytes_max, Some(0));
    accepted(&["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
}

#[test]
fn wrong_flags_are_usage_errors_of_one_line_that_names_flag_and_remedy() {
    for (flags, says) in [
        (&["--listen", "8080"][..], &["--listen", "8080", "127.0.0.1:8080"][..]),
        (&["--listen", "localhost:80"], &["--listen", "IP:PORT"]),
        (&["--listen", "127.0.0.1:8080"], &["--listen 127.0.0.1:8080", "twice"]),
        (&["--upstream", "127.0.0.1:0"], &["--upstream", "port 0"]),
        (&["--upstream", "127.0.0.1:9000"], &["--upstream 127.0.0.1:9000", "twice"]),
        (&["--upstream", "127.0.0.1:8080"], &["--upstream 127.0.0.1:8080", "circles"]),
        (&["--upstream", "127.0.0.1:1,,127.0.0.1:2"], &["--upstream"]),
        (&["--admin", "127.0.0.1:8080"], &["--admin 127.0.0.1:8080", "--listen"]),
        (&["--protocol", "h2"], &["--protocol", "auto, http, tcp"]),
        (&["--engine", "kqueue"], &["--engine", "auto, uring, epoll"]),
        (&["--pin", "yes"], &["--pin", "auto, on, off"]),
        (&["--workers", "0"], &["--workers", "from 1 to"]),
        (&["--workers", "5000"], &["--workers", "from 1 to"]),
        (&["--workers", "two"], &["--workers", "two", "whole number"]),
        (&["--access-log", ""], &["--access-log", "a value is required"]),
        (&["--header-timeout", "0s"], &["--header-timeout", "zero"]),
        (&["--body-timeout", "0"], &["--body-timeout", "zero"]),
        (&["--idle-timeout", "0ms"], &["--idle-timeout", "zero"]),
        (&["--connect-timeout", "0s"], &["--connect-timeout", "zero"]),
        (&["--request-timeout", "0s"], &["--request-timeout", "zero", "none"]),
        (&["--write-timeout", "0s"], &["--write-timeout", "zero"]),
        (&["--detect-timeout", "0s"], &["--detect-timeout", "zero"]),
        (&["--pool-idle-timeout", "0s"], &["--pool-idle-timeout", "zero"]),
        (&["--pool-lifetime", "0s"], &["--pool-lifetime", "zero"]),
        (&["--drain-timeout", "0s"], &["--drain-timeout", "zero"]),
        (&["--header-timeout", "none"], &["--header-timeout", "10s"]),
        (&["--header-timeout", "10"], &["--header-timeout", "unit"]),
        (&["--head-bytes-max", "100"], &["--head-bytes-max", "1KiB"]),
        (&["--head-bytes-max", "1GiB"], &["--head-bytes-max", "1MiB"]),
        (&["--head-bytes-max", "8KiB"], &["--target-bytes-max 8KiB", "--head-bytes-max 8KiB"]),
        (&["--target-bytes-max", "0"], &["--target-bytes-max", "zero"]),
        (&["--headers-max", "0"], &["--headers-max", "from 1 to"]),
        (&["--body-bytes-max", "lots"], &["--body-bytes-max", "none"]),
        (&["--connections-max", "2"], &["--connections-max 2", "at least 3"]),
        (&["--connections-max", "0"], &["--connections-max", "from 1 to"]),
        (&["--connections-max", "-1"], &["-1"]),
        (&["--pool-idle-max", "99999999"], &["--pool-idle-max", "from 0 to"]),
        (&["--heder-timeout", "1s"], &["--heder-timeout", "--header-timeout"]),
        (&["stray"], &["stray"]),
    ] {
        let error = quick(flags).expect_err(&format!("{flags:?} is wrong"));
        let line = error.to_string();
        assert_eq!(error.exit_code(), 2, "{flags:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{flags:?}: {line}");
        assert!(line.ends_with("see `lateen-proxy quick --help`"), "{flags:?}: {line}");
        for word in says {
            assert!(line.contains(word), "{flags:?}: {line:?} does not say {word:?}");
        }
    }
}

#[test]
fn listen_and_upstream_are_required() {
    for (arguments, missing) in [
        (&["quick"][..], &["--listen", "--upstream"][..]),
        (&["quick", "--listen", "127.0.0.1:1"], &["--upstream"]),
        (&["quick", "--upstream", "127.0.0.1:1"], &["--listen"]),
    ] {
        let error = parse_on(&host(), arguments).expect_err("a flag is missing");
        assert_eq!(error.exit_code(), 2);
        let line = error.to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(missing.iter().all(|flag| line.contains(flag)), "{line}");
    }
}

#[test]
fn no_command_or_a_wrong_one_says_which_there_are() {
    for arguments in [&[][..], &["qick"]] {
        let error = parse_on(&host(), arguments).expect_err("no such command");
        let line = error.to_string();
        assert_eq!((error.exit_code(), line.lines().count()), (2, 1), "{line}");
        assert!(line.contains("quick"), "{line}");
    }
}

#[test]
fn too_few_descriptors_is_the_hosts_fault() {
    let short = |descriptors_max| Host { descriptors_max, ..host() };
    let error = quick_on(&short(64 + 8 * 3 - 1), &[]).expect_err("one too few for 3 workers");
    assert_eq!(error.exit_code(), 1);
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1);
    assert!(line.contains("87 file descriptors") && line.contains("ulimit -Hn"), "{line}");
    assert_eq!(quick_on(&short(64 + 8 * 3), &[]).map(|config| config.connections_max), Ok(79));
    let error = quick(&["--connections-max", "1001"]).expect_err("more than descriptors");
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("1000 file descriptors"), "{error}");
}

#[test]
fn try_help_and_version_are_understood() {
    assert_eq!(parse_on(&host(), &["try"]), Ok(Command::Try));
    for (arguments, says) in [
        (&["--version"][..], env!("CARGO_PKG_VERSION")),
        (&["--help"], "quick"),
        (&["quick", "--help"], "[default: 64KiB]"),
        (&["try", "--help"], "ctrl-C"),
    ] {
        match parse_on(&host(), arguments) {
            Ok(Command::Print(text)) => assert!(text.contains(says), "{arguments:?}: {text}"),
            other => panic!("{arguments:?}: {other:?}"),
        }
    }
}

#[test]
fn help_shows_every_flag_with_its_default() {
    let Ok(Command::Print(help)) = parse_on(&host(), &["quick", "--help"]) else {
        panic!("--help prints");
    };
    for (flag, default) in [
        ("--header-timeout", "10s"),
        ("--body-timeout", "1m"),
        ("--idle-timeout", "5m"),
        ("--connect-timeout", "1s"),
        ("--request-timeout", "none"),
        ("--write-timeout", "1m"),
        ("--detect-timeout", "50ms"),
        ("--head-bytes-max", "64KiB"),
        ("--headers-max", "128"),
        ("--target-bytes-max", "8KiB"),
        ("--body-bytes-max", "none"),
        ("--connections-max", "90 % of the descriptors"),
        ("--pool-idle-max", "256"),
        ("--pool-idle-timeout", "1m"),
        ("--pool-lifetime", "1h"),
        ("--drain-delay", "0s"),
        ("--drain-timeout", "30s"),
        ("--access-log", "off"),
        ("--admin", "127.0.0.1:0"),
    ] {
        let about = help.split(&format!("      {flag} <")).nth(1).unwrap_or_else(|| {
            panic!("{flag} is not in {help}");
        });
        let about = about.split("\n      --").next().unwrap_or_default();
        assert!(about.contains(&format!("[default: {default}]")), "{flag}: {about}");
    }
}

#[test]
fn the_dump_is_json_with_units() {
    let config = accepted(&["--access-log", "/tmp/\"odd\"", "--body-bytes-max", "1MiB"]);
    let value: serde_json::Value = serde_json::from_str(&config.to_json()).expect("valid JSON");
    for (name, expected) in [
        ("workers", serde_json::json!(3)),
        ("engine", serde_json::json!("auto")),
        ("access_log", serde_json::json!("/tmp/\"odd\"")),
        ("header_timeout_ms", serde_json::json!(10_000)),
        ("detect_timeout_ms", serde_json::json!(50)),
        ("request_timeout_ms", serde_json::json!(null)),
        ("body_bytes_max", serde_json::json!(1 << 20)),
        ("connections_max", serde_json::json!(900)),
        ("pool_idle_total_max", serde_json::json!(256)),
        ("trace_method", serde_json::json!(false)),
    ] {
        assert_eq!(value[name], expected, "{name}");
    }
}
