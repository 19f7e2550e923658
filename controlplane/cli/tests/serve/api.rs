//! The API itself, as any HTTP client sees it.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use lateen_control::api::messages::ErrorResponse;

use crate::support::{LONG, Place, mesh, mode_of};

/// Sends a request and returns the status and the body.
fn ask(place: &Place, request: &str) -> (u16, String) {
    let stream = UnixStream::connect(place.path("api.sock")).expect("it listens");
    stream.set_read_timeout(Some(LONG)).expect("it is a socket");
    answer(stream, request)
}

fn answer(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    // An answer may come before the end of what is too large.
    let _ = stream.write_all(request.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head ends");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn errors_are_json_with_a_status_that_fits() {
    let place = Place::new();
    let serve = place.serve(&[]);
    serve.apply(&mesh(9001));
    assert_eq!(mode_of(&place.path("api.sock")), 0o600);
    assert_eq!(mode_of(&place.path("state/store.db")), 0o600);
    assert_eq!(ask(&place, &get("/v1/status")).0, 200);
    for (request, status) in [
        (get("/"), 404),
        (get("/v1/apply"), 405),
        (get("/v1/history/99"), 404),
        (get("/v1/history/x"), 400),
        (get("/v1/history?limit=x"), 400),
        (get("/v1/diff?old=1"), 400),
        (get("/v1/diff?old=1&new=9"), 404),
        (get("/v1/objects?kind=pod"), 400),
        (post("/v1/apply", "{"), 400),
        (post("/v1/apply", r#"{"file": []}"#), 422),
        (post("/v1/apply", r#"{"files": []}"#), 400),
        (post("/v1/apply", r#"{"files": [{"name": "f", "text": "kind: x"}]}"#), 422),
        (post("/v1/apply", r#"{"how": {"atomic": true}}"#), 400),
        (post("/v1/apply", r#"{"how": {"wait_s": 99999}}"#), 400),
        (post("/v1/delete", r#"{"kind": "service", "name": "none"}"#), 404),
        (post("/v1/rollback", r#"{"revision": 99}"#), 404),
        (post("/v1/rollback", &format!("\"{}\"", "x".repeat(70_000))), 413),
    ] {
        let (said, body) = ask(&place, &request);
        assert_eq!(said, status, "{request}: {body}");
        let error: ErrorResponse = serde_json::from_str(&body).expect("it is an error");
        assert!(!error.error.is_empty(), "{request}");
    }
    let text = post("/v1/apply", "{}").replace("application/json", "text/plain");
    assert_eq!(ask(&place, &text).0, 415);
    assert_eq!(serve.status().control.store.latest, Some(1), "nothing of it changed anything");
}

#[test]
fn a_port_of_loopback_asks_for_the_token() {
    let place = Place::new();
    let token = place.write("token", "open-sesame\n");
    let refused = |mode: u32| {
        fs::set_permissions(&token, Permissions::from_mode(mode)).expect("it is this test's file");
        let arguments = ["--api", "127.0.0.1:0", "--api-token-file", "token"];
        place.lateen(&[&["serve", "--socket", "s", "--state", "state"][..], &arguments].concat())
    };
    let ran = refused(0o640);
    assert!(ran.code == 1 && ran.stderr.contains("(mode 640): `chmod 600` it"), "{ran:?}");
    fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("it is this test's file");
    let token = token.display().to_string();
    let serve = place.serve(&["--api", "127.0.0.1:0", "--api-token-file", &token]);
    let ran = serve.lateen_with(&["apply", "-f", "-", "--api-token-file", "token"], &mesh(9001));
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = serve.lateen(&["status"]);
    assert!(ran.code == 1 && ran.stderr.contains("asks for the token"), "{ran:?}");
    let connect = || TcpStream::connect(&serve.api).expect("it listens");
    let with = |token: &str| {
        get("/v1/status").replace("\r\n\r\n", &format!("\r\nauthorization: {token}\r\n\r\n"))
    };
    assert_eq!(answer(connect(), &get("/v1/status")).0, 401);
    for wrong in ["Bearer open-sesam", "Bearer open-sesame1", "Basic open-sesame", "Bearer "] {
        assert_eq!(answer(connect(), &with(wrong)).0, 401, "{wrong}");
    }
    assert_eq!(answer(connect(), &with("Bearer open-sesame")).0, 200);
    let ran = serve.lateen(&["history", "--api-token-file", "token"]);
    assert!(ran.stdout.contains("holder of the API token"), "{ran:?}");
    let ran = place.lateen(&["serve", "--socket", "s", "--state", "t", "--api", "0.0.0.0:0"]);
    assert!(ran.code == 2 && ran.stderr.contains("can be reached from elsewhere"), "{ran:?}");
}
