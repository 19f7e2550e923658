//! Tables of the `reply` module: whole answers out.

use lateen_snapshot::model::HeaderEdits;

use super::*;
use crate::codec::http1::edits::Edits;
use crate::codec::http1::head::FieldScratch;
use crate::codec::http1::request::parse_request;
use crate::codec::message::HeadLimits;

const DATE: &[u8; DATE_BYTES] = b"Sun, 06 Nov 1994 08:49:37 GMT";

const REPLY: LocalReply<'static> = LocalReply {
    status: 503,
    client_version: Version::Http11,
    keep_alive: true,
    head_only: false,
    allow: None,
    retry_after_s: None,
    date: DATE,
    location: None,
    edits: None,
};

fn written(reply: &LocalReply<'_>) -> String {
    let mut out = Vec::new();
    write_local_reply(reply, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn the_body_is_the_reason_phrase_and_nothing_else() {
    assert_eq!(
        written(&REPLY),
        "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: 20\r\n\r\nService Unavailable\n"
    );
}

#[test]
fn extra_fields_and_close_are_written_when_asked_for() {
    let reply = LocalReply {
        status: 405,
        keep_alive: false,
        allow: Some("GET"),
        retry_after_s: Some(30),
        ..REPLY
    };
    assert_eq!(
        written(&reply),
        "HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         Content-Type: text/plain\r\nContent-Length: 19\r\nAllow: GET\r\nRetry-After: 30\r\n\
         Connection: close\r\n\r\nMethod Not Allowed\n"
    );
}

#[test]
fn a_reply_to_head_has_the_same_head_and_no_body() {
    let whole = written(&REPLY);
    let head = written(&LocalReply { head_only: true, ..REPLY });
    assert_eq!(whole, format!("{head}Service Unavailable\n"));
}

#[test]
fn the_length_of_a_body_is_known_from_the_whole() {
    let length = |reply: &LocalReply<'_>| body_bytes_of(written(reply).as_bytes());
    assert_eq!(length(&REPLY), "Service Unavailable\n".len());
    assert_eq!(length(&LocalReply { head_only: true, ..REPLY }), 0);
    assert_eq!(length(&LocalReply { status: 204, ..REPLY }), 0);
    let mut out = Vec::new();
    write_body_reply(&REPLY, "text/plain", b"two\r\n\r\nparts", &mut out);
    assert_eq!(body_bytes_of(&out), "two\r\n\r\nparts".len());
}

#[test]
fn http_10_is_told_when_the_connection_stays() {
    let reply = LocalReply { client_version: Version::Http10, ..REPLY };
    assert!(written(&reply).contains("\r\nConnection: keep-alive\r\n"));
}

#[test]
fn a_204_has_neither_content_nor_its_fields() {
    let out = written(&LocalReply { status: 204, ..REPLY });
    assert_eq!(out, "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n");
}

#[test]
fn trace_shows_the_request_without_its_secrets() {
    let limits = HeadLimits {
        head_bytes_max: 1024,
        headers_max: 8,
        target_bytes_max: 64,
        trace_allowed: true,
    };
    let bytes = b"TRACE /x HTTP/1.1\r\nHost: a\r\nCookie: s\r\nauthorization: t\r\nX:  y\r\n\
                  Max-Forwards: 0\r\n\r\n";
    let mut scratch = FieldScratch::new();
    let head = parse_request(bytes, &mut scratch, &limits).expect("valid").expect("whole");
    let mut out = Vec::new();
    write_trace_reply(&head, true, DATE, &mut out);
    let echo = "TRACE /x HTTP/1.1\r\nHost: a\r\nX: y\r\nMax-Forwards: 0\r\n\r\n";
    assert_eq!(
        String::from_utf8_lossy(&out),
        format!(
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Content-Type: message/http\r\nContent-Length: {}\r\n\r\n{echo}",
            echo.len()
        )
    );
}

#[test]
fn a_redirect_has_its_location_and_edits_change_what_is_the_proxys_own() {
    let edits = HeaderEdits {
        set: vec![("content-type".into(), "text/html".into())],
        add: vec![("x-a".into(), "1".into())],
        remove: vec!["date".into()],
    };
    let edits = Edits::compile(&[&edits], &[]).expect("valid");
    let edits = ResponseEdits { fields: edits.as_ref(), cut: &[], lines: b"Vary: Origin\r\n" };
    let location = Some(&b"https://a/b"[..]);
    let reply = LocalReply { status: 308, location, edits: Some(edits), ..REPLY };
    assert_eq!(
        written(&reply),
        "HTTP/1.1 308 Permanent Redirect\r\nContent-Length: 19\r\nLocation: https://a/b\r\n\
         content-type: text/html\r\nx-a: 1\r\nVary: Origin\r\n\r\nPermanent Redirect\n"
    );
}

#[test]
fn a_preflight_answer_has_its_fields_and_no_body() {
    let edits = ResponseEdits { lines: b"Vary: Origin\r\n", ..ResponseEdits::default() };
    let reply = LocalReply { status: 204, edits: Some(edits), ..REPLY };
    assert_eq!(
        written(&reply),
        "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nVary: Origin\r\n\r\n"
    );
}
