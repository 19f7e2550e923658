//! Arguments that make no sense: exit code 2, and a message that says how to mend them.

use std::process::Command;

use super::programs::{ENGINES, bench};

fn refusal(arguments: &[&str]) -> String {
    let output = bench().args(arguments).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn a_load_that_makes_no_sense_is_refused_with_a_way_out() {
    let url = "http://127.0.0.1:1/";
    for (arguments, says) in [
        (&[][..], "URL"),
        (&["localhost:80"], "http://HOST"),
        (&["ftp://a/"], "http, https or tcp"),
        (&["http://no.such.host.invalid/"], "no.such.host.invalid"),
        (&["tcp://127.0.0.1"], "tcp://HOST:PORT"),
        (&[url, "-c", "0"], "1..=1000000"),
        (&[url, "-t", "0"], "1..=256"),
        (&[url, "-c", "2", "-t", "3"], "use -t 2 or less"),
        (&[url, "-d", "0s"], "more than zero"),
        (&[url, "-d", "5 parsecs"], "ms, s, m or h"),
        (&[url, "-n", "0"], "1.."),
        (&[url, "-n", "5", "-d", "5s"], "cannot be used with"),
        (&[url, "-R=-1"], "0.01"),
        (&[url, "-R", "0"], "0.01"),
        (&[url, "-X", "G T"], "GET"),
        (&[url, "-H", "no colon"], "Name: value"),
        (&[url, "-H", "Content-Length: 5"], "computed"),
        (&[url, "--body-bytes", "2G"], "1 GiB"),
        (&[url, "--body", "/no/such/file"], "/no/such/file"),
        (&[url, "--expect-status", "20"], "2xx"),
        (&[url, "--insecure"], "https://"),
        (&["https://127.0.0.1:1/", "--ca", "/no/such/file"], "/no/such/file"),
        (&["https://127.0.0.1:1/", "--ca", "/etc/hostname"], "certificate"),
        (&["tcp://127.0.0.1:1", "--body-bytes", "0"], "--no-keepalive"),
        (&["tcp://127.0.0.1:1", "-X", "GET"], "http://"),
        (&["tcp://127.0.0.1:1", "--expect-status", "200"], "use --expect-bytes"),
        (&[url, "--engine", "kqueue"], "epoll"),
        (&[url, "--timeout", "10us"], "1ms"),
        (&[url, "--json", "/no/such/folder/a"], "--json /no/such/folder/a"),
        (&[url, "--hdr", "/"], "--hdr /"),
    ] {
        let text = refusal(&[&["load"], arguments].concat());
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn an_upstream_that_makes_no_sense_is_refused_with_a_way_out() {
    let listen = ["--listen", "127.0.0.1:0"];
    for (arguments, says) in [
        (&["--listen", "nowhere"][..], "--listen"),
        (&["--error-rate", "1.5"], "from 0"),
        (&["--stall-every", "1s", "--stall-for", "1s"], "shorter"),
        (&["--tls-cert", "a.pem"], "--tls-key"),
        (&["--tls-cert", "/no/such/file", "--tls-key", "/no/such/file"], "/no/such/file"),
        (&["--close-every", "0"], "1.."),
        (&["--threads", "0"], "1..=256"),
        (&["--slots", "0", "--delay", "1ms"], "1..=1000000"),
        (&["--slots", "4"], "give --delay or --jitter"),
        (&["--protocol", "discard", "--slots", "4"], "--slots holds answers back"),
        (&["--protocol", "echo", "--error-rate", "0.5"], "--error-rate is for answers of HTTP"),
        (&["--protocol", "echo", "--close-every", "5"], "use --protocol http"),
        (&["--protocol", "echo", "--body-bytes", "100"], "--body-bytes is for"),
        (&["--protocol", "discard", "--body-bytes", "100"], "--body-bytes is for"),
        (&["--protocol", "discard", "--delay", "1ms"], "use --protocol echo"),
        (&["--protocol", "discard", "--jitter", "1ms"], "--jitter holds"),
        (&["--protocol", "discard", "--stall-every", "2s"], "--stall-every holds"),
    ] {
        let listen: &[&str] = if arguments[0] == "--listen" { &[] } else { &listen };
        let text = refusal(&[&["upstream"], listen, arguments].concat());
        assert!(text.contains(says), "{arguments:?}: {text}");
    }
}

#[test]
fn an_address_that_cannot_be_had_is_told_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound").to_string();
    for engine in ENGINES {
        for (address, says) in [(taken.as_str(), "in use"), ("192.0.2.1:80", "assign")] {
            let output = bench()
                .args(["upstream", "--listen", address, "--engine", engine])
                .output()
                .expect("it starts");
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert!(
                text.contains(&format!("--listen {address}: ")) && text.contains(says),
                "{text}"
            );
            assert_eq!((text.lines().count(), output.stdout.len()), (1, 0), "{text}");
        }
    }
}

#[test]
fn too_few_descriptors_are_told_before_anything_is_sent() {
    let script = format!(
        "ulimit -n 100; exec '{}' load http://127.0.0.1:1/ -c 200",
        env!("CARGO_BIN_EXE_lateen-bench")
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("use -c 36 or less") && text.contains("ulimit -Hn 264"), "{text}");
}

#[test]
fn the_help_teaches_with_examples() {
    for command in ["load", "upstream"] {
        let output = bench().args([command, "--help"]).output().expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success());
        assert!(text.matches(&format!("lateen-bench {command} ")).count() >= 5, "{text}");
    }
}
