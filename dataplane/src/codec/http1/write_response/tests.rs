//! Tables of the `write_response` module: an upstream's whole head in, the client's whole head
//! out.

use lateen_snapshot::model::HeaderEdits;

use super::*;
use crate::codec::http1::head::FieldScratch;
use crate::codec::http1::response::parse_response;
use crate::codec::message::HeadLimits;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    headers_max: 128,
    target_bytes_max: 0,
    trace_allowed: false,
};

const FORWARDING: ResponseForwarding<'static> = ResponseForwarding {
    client_version: Version::Http11,
    request_method: Method::Get,
    persistence: Persistence::KeepAlive,
    date: b"Sun, 06 Nov 1994 08:49:37 GMT",
    edits: None,
};

const HTTP_10: ResponseForwarding<'static> =
    ResponseForwarding { client_version: Version::Http10, ..FORWARDING };

const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
const VIA: &str = "Via: 1.1 lateen\r\n\r\n";

fn rewrite(head: &str, forwarding: &ResponseForwarding<'_>) -> (String, ClientBody) {
    let mut scratch = FieldScratch::new();
    let parsed = parse_response(head.as_bytes(), &mut scratch, forwarding.request_method, &LIMITS);
    let mut out = b"earlier".to_vec();
    let body = write_response(&parsed.expect("valid").expect("whole"), forwarding, &mut out);
    let out = String::from_utf8(out).expect("text in, text out");
    (out.strip_prefix("earlier").expect("appends").to_owned(), body)
}

const PLAIN: ClientBody =
    ClientBody { encoding: BodyEncoding::Plain, keep_alive: true, ends_by_close: false };
const CHUNKED: ClientBody = ClientBody { encoding: BodyEncoding::Chunked, ..PLAIN };
const BY_CLOSE: ClientBody = ClientBody { keep_alive: false, ends_by_close: true, ..PLAIN };

#[test]
fn keeps_lines_as_they_came_and_adds_its_own() {
    let (out, body) = rewrite(
        "HTTP/1.1 200 Fine\r\nServer:  x\r\ncontent-length: 03\r\nETag: \"y\"\r\n\r\nabc",
        &FORWARDING,
    );
    let expected = format!(
        "HTTP/1.1 200 Fine\r\nServer:  x\r\nETag: \"y\"\r\nContent-Length: 3\r\n{DATE}{VIA}"
    );
    assert_eq!((out, body), (expected, PLAIN));
}

#[test]
fn date_is_kept_where_it_came() {
    let head = "HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n";
    let (out, _) = rewrite(&format!("{head}\r\n"), &FORWARDING);
    assert_eq!(out, format!("{head}{VIA}"));
}

#[test]
fn hop_by_hop_fields_end_here() {
    let (out, _) = rewrite(
        "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: keep-alive, x-mine\r\nKeep-Alive: 5\r\nX-Mine: 2\r\n\
         Upgrade: h2,h2c\r\nProxy-Authenticate: y\r\nB: 3\r\nContent-Length: 0\r\n\r\n",
        &FORWARDING,
    );
    assert_eq!(out, format!("HTTP/1.1 200 OK\r\nA: 1\r\nB: 3\r\nContent-Length: 0\r\n{DATE}{VIA}"));
}

#[test]
fn unmeasured_bodies_are_chunked_for_http_11_and_end_by_close_for_http_10() {
    for line in ["Transfer-Encoding: chunked\r\n", ""] {
        let head = format!("HTTP/1.1 200 OK\r\n{line}\r\n");
        let (out, body) = rewrite(&head, &FORWARDING);
        let expected = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{DATE}{VIA}");
        assert_eq!((out, body), (expected, CHUNKED), "{line:?}");
        let (out, body) = rewrite(&head, &HTTP_10);
        let expected = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{DATE}{VIA}");
        assert_eq!((out, body), (expected, BY_CLOSE), "{line:?}");
    }
}

#[test]
fn persistence_is_said_where_it_is_not_the_default() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n";
    let close = ResponseForwarding { persistence: Persistence::Close, ..FORWARDING };
    let close_10 = ResponseForwarding { persistence: Persistence::Close, ..HTTP_10 };
    for (forwarding, line, keep_alive) in [
        (&FORWARDING, "", true),
        (&close, "Connection: close\r\n", false),
        (&HTTP_10, "Connection: keep-alive\r\n", true),
        (&close_10, "Connection: close\r\n", false),
    ] {
        let (out, body) = rewrite(head, forwarding);
        assert_eq!(out, format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{line}{DATE}{VIA}"));
        assert_eq!(body, ClientBody { keep_alive, ..PLAIN });
    }
}

#[test]
fn length_is_told_for_head_and_304_and_not_for_204() {
    let head_request = ResponseForwarding { request_method: Method::Head, ..FORWARDING };
    for (status, forwarding, line) in [
        ("200 OK", &head_request, "Content-Length: 5\r\n"),
        ("304 Not Modified", &FORWARDING, "Content-Length: 5\r\n"),
        ("204 No Content", &FORWARDING, ""),
        ("204 No Content", &head_request, ""),
    ] {
        let (out, body) =
            rewrite(&format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n"), forwarding);
        assert_eq!(out, format!("HTTP/1.1 {status}\r\n{line}{DATE}{VIA}"));
        assert_eq!(body, PLAIN);
    }
    let (out, _) = rewrite("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &head_request);
    assert_eq!(out, format!("HTTP/1.1 200 OK\r\n{DATE}{VIA}"));
}

#[test]
fn interim_responses_pass_to_http_11_and_never_to_http_10() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: y\r\n\r\n";
    let (out, _) = rewrite(early, &FORWARDING);
    assert_eq!(out, format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n{VIA}"));
    let (out, _) = rewrite("HTTP/1.1 100 Continue\r\n\r\n", &FORWARDING);
    assert_eq!(out, format!("HTTP/1.1 100 Continue\r\n{VIA}"));
    assert_eq!(rewrite(early, &HTTP_10).0, "");
}

#[test]
fn a_101_carries_its_protocol() {
    let upgrade = ResponseForwarding { persistence: Persistence::Upgrade, ..FORWARDING };
    let (out, body) = rewrite(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: x\r\n\r\n",
        &upgrade,
    );
    assert_eq!(
        out,
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\
             Connection: upgrade\r\nUpgrade: websocket\r\n{VIA}"
        )
    );
    assert!(!body.keep_alive && !body.ends_by_close);
}

#[test]
fn the_status_line_is_ours_with_the_upstreams_phrase() {
    let via_10 = "Via: 1.0 lateen\r\n\r\n";
    for (line, expected, via) in [
        ("HTTP/1.0 404 Gone Fishing", "HTTP/1.1 404 Gone Fishing", via_10),
        ("HTTP/1.0 200", "HTTP/1.1 200 ", via_10),
        ("HTTP/1.1 200", "HTTP/1.1 200 ", VIA),
        ("HTTP/1.1 200 ", "HTTP/1.1 200 ", VIA),
        ("HTTP/1.1 200 \u{e9}", "HTTP/1.1 200 \u{e9}", VIA),
    ] {
        let (out, _) = rewrite(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), &FORWARDING);
        assert_eq!(out, format!("{expected}\r\nContent-Length: 0\r\n{DATE}{via}"), "{line:?}");
    }
}

#[test]
fn trailer_is_announced_with_a_chunked_body_only() {
    let head = "HTTP/1.1 200 OK\r\nTrailer: D\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(rewrite(head, &FORWARDING).0.contains("\r\nTrailer: D\r\n"));
    assert!(!rewrite(head, &HTTP_10).0.contains("Trailer"));
}

fn edited(head: &str, edits: &HeaderEdits, lines: &[u8], client: ResponseForwarding<'_>) -> String {
    let fields = Edits::compile(&[edits], &[]).expect("valid");
    let cut = &["access-control-allow-origin"];
    let edits = ResponseEdits { fields: fields.as_ref(), cut, lines };
    rewrite(head, &ResponseForwarding { edits: Some(edits), ..client }).0
}

fn set(name: &str, value: &str) -> HeaderEdits {
    HeaderEdits { set: vec![(name.to_owned(), value.to_owned())], ..HeaderEdits::default() }
}

#[test]
fn edits_take_fields_away_and_append_theirs_and_the_callers_lines() {
    let lines =
        "Access-Control-ALLOW-Origin: *\r\nServer: x\r\nX-Set: old\r\nContent-Length: 3\r\n";
    for version in ["1.0", "1.1"] {
        assert_eq!(
            edited(
                &format!("HTTP/{version} 200 OK\r\n{lines}\r\n"),
                &set("x-set", "new"),
                b"Vary: Origin\r\n",
                FORWARDING
            ),
            format!(
                "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nx-set: new\r\n\
                 Vary: Origin\r\n{DATE}Via: {version} lateen\r\n\r\n"
            )
        );
    }
}

#[test]
fn config_has_the_last_word_on_date() {
    let removed = HeaderEdits { remove: vec!["date".into()], ..HeaderEdits::default() };
    for lines in ["", "Date: then\r\n"] {
        let head = format!("HTTP/1.1 204 No Content\r\n{lines}\r\n");
        assert_eq!(
            edited(&head, &removed, b"", FORWARDING),
            format!("HTTP/1.1 204 No Content\r\n{VIA}")
        );
        assert_eq!(
            edited(&head, &set("date", "now"), b"", FORWARDING),
            format!("HTTP/1.1 204 No Content\r\ndate: now\r\n{VIA}")
        );
    }
}

#[test]
fn interim_responses_pass_unedited_and_a_101_does_not() {
    let head = "HTTP/1.1 103 Early Hints\r\nX-Set: old\r\n\r\n";
    assert_eq!(
        edited(head, &set("x-set", "new"), b"X: y\r\n", FORWARDING),
        format!("HTTP/1.1 103 Early Hints\r\nX-Set: old\r\n{VIA}")
    );
    let upgrade = ResponseForwarding { persistence: Persistence::Upgrade, ..FORWARDING };
    let head = "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\nX-Set: old\r\n\r\n";
    assert_eq!(
        edited(head, &set("x-set", "new"), b"", upgrade),
        format!(
            "HTTP/1.1 101 Switching\r\nx-set: new\r\nConnection: upgrade\r\nUpgrade: x\r\n{VIA}"
        )
    );
}
