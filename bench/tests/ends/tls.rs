//! TLS on both ends, against each other and against openssl and curl.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::programs::{Canned, ENGINES, Upstream, curl, load, run, start_on_free_port};

/// A certificate for a name, and its key, in files.
struct Files {
    _folder: tempfile::TempDir,
    certificate: String,
    key: String,
}

fn certificate_for(name: &str) -> Files {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: String| {
        let path = folder.path().join(file);
        fs::write(&path, text).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let certificate = write("certificate.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    Files { _folder: folder, certificate, key }
}

fn upstream_with(files: &Files, engine: &str) -> Upstream {
    Upstream::start(&[
        "--tls-cert",
        &files.certificate,
        "--tls-key",
        &files.key,
        "--engine",
        engine,
    ])
}

#[test]
fn a_certificate_that_is_trusted_serves() {
    for engine in ENGINES {
        let files = certificate_for("127.0.0.1");
        let upstream = upstream_with(&files, engine);
        for (path, bytes) in [("/", "100"), ("/300000", "300000")] {
            let url = format!("https://{}{path}", upstream.address());
            for trust in [&["--ca", files.certificate.as_str()][..], &["--insecure"]] {
                let common = ["-n", "100", "-c", "4", "--expect-bytes", bytes, "--engine", engine];
                let loaded = load(&[&[url.as_str()], trust, &common[..]].concat());
                assert_eq!(loaded.report.requests, 100, "{}", loaded.text);
                assert_eq!(loaded.report.connects, 4, "{}", loaded.text);
            }
        }
        let url = format!("https://{}/", upstream.address());
        let churn = ["-n", "20", "-c", "2", "--no-keepalive", "--insecure", "--engine", engine];
        let loaded = load(&[&[url.as_str()], &churn[..]].concat());
        assert_eq!((loaded.report.requests, loaded.report.connects), (20, 20), "{}", loaded.text);
        let upload = ["-n", "4", "-c", "2", "--body-bytes", "1M", "--insecure", "--engine", engine];
        let loaded = load(&[&[url.as_str()], &upload[..]].concat());
        assert_eq!(loaded.report.requests, 4, "{}", loaded.text);
        assert_eq!(upstream.stop(Signal::TERM).0, 424);
    }
}

#[test]
fn a_certificate_that_is_not_trusted_or_not_the_hosts_is_refused() {
    let files = certificate_for("other.example");
    let upstream = upstream_with(&files, "auto");
    let url = format!("https://{}/", upstream.address());
    for trust in [&[][..], &["--ca", files.certificate.as_str()]] {
        for engine in ENGINES {
            let common = ["-n", "2", "-c", "1", "--engine", engine];
            let loaded = load(&[&[url.as_str()], trust, &common[..]].concat());
            assert_eq!((loaded.code, loaded.count("tls")), (Some(1), 2), "{}", loaded.text);
            assert!(loaded.text.contains("certificate"), "{}", loaded.text);
        }
    }
    assert_eq!(upstream.stop(Signal::TERM).0, 0);
}

#[test]
fn a_server_without_tls_is_a_tls_error() {
    let server = Canned::serve(|mut stream| {
        let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        // Until the client has seen it.
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    for engine in ENGINES {
        let url = format!("https://{}/", server.address);
        let loaded = load(&[&url, "-n", "2", "-c", "1", "--insecure", "--engine", engine]);
        assert_eq!(loaded.count("tls"), 2, "{}", loaded.text);
    }
}

#[test]
fn openssl_and_curl_agree_with_the_upstream() {
    let files = certificate_for("localhost");
    let upstream = upstream_with(&files, "auto");
    let port = upstream.address().port();
    let url = format!("https://localhost:{port}/2000000");
    let resolve = format!("localhost:{port}:127.0.0.1");
    let arguments = ["--cacert", &files.certificate, "--resolve", &resolve, "-o", "/dev/null"];
    let counted = curl(&[&arguments[..], &["-w", "%{size_download}", &url]].concat());
    assert_eq!(counted, "2000000");
    let connect = format!("127.0.0.1:{port}");
    let text = run("openssl", &["s_client", "-connect", &connect, "-alpn", "http/1.1"]);
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    assert!(text.contains("TLSv1.3"), "{text}");
}

#[test]
fn openssl_as_a_server_is_understood() {
    let files = certificate_for("127.0.0.1");
    let (mut server, port) = start_on_free_port(|port| {
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-accept", &format!("127.0.0.1:{port}"), "-www", "-quiet"])
            .args(["-cert", &files.certificate, "-key", &files.key])
            .stderr(Stdio::null());
        command
    });
    let url = format!("https://127.0.0.1:{port}/");
    // Its pages end with the connection, and with a close_notify.
    let loaded = load(&[&url, "-n", "5", "-c", "1", "--ca", &files.certificate]);
    let _ = server.kill();
    let _ = server.wait();
    assert_eq!((loaded.report.requests, loaded.report.connects), (5, 5), "{}", loaded.text);
}
