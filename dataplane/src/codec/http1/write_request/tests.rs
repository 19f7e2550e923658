//! Tables of the `write_request` module: a client's whole head in, the upstream's whole head out.

use lateen_snapshot::model::{HeaderEdits, PathRewrite};

use super::*;
use crate::codec::http1::head::FieldScratch;
use crate::codec::http1::request::parse_request;
use crate::codec::message::HeadLimits;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    headers_max: 128,
    target_bytes_max: 8 * 1024,
    trace_allowed: true,
};

const FORWARDING: RequestForwarding<'static> = RequestForwarding {
    client_address: b"192.0.2.7",
    scheme: Scheme::Http,
    request_id: Some(b"made"),
    authority_if_missing: b"10.0.0.1:80",
    upgrade: true,
    edits: None,
};

/// What this hop adds to a request of HTTP/1.1 with no forwarding fields.
const ADDED: &str = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
                     X-Request-Id: made\r\nVia: 1.1 lateen\r\n\r\n";

fn rewrite_with(head: &str, forwarding: &RequestForwarding<'_>) -> String {
    let mut scratch = FieldScratch::new();
    let parsed = parse_request(head.as_bytes(), &mut scratch, &LIMITS);
    let mut out = b"earlier".to_vec();
    write_request(&parsed.expect("valid").expect("whole"), forwarding, &mut out);
    let out = String::from_utf8(out).expect("text in, text out");
    out.strip_prefix("earlier").expect("appends").to_owned()
}

fn rewrite(head: &str) -> String {
    rewrite_with(head, &FORWARDING)
}

#[test]
fn keeps_lines_as_they_came_and_adds_its_own() {
    assert_eq!(
        rewrite("GET /a?b HTTP/1.1\r\nHost: x:1\r\nUser-Agent:  wrk\r\nACCEPT: */*\r\n\r\nbody"),
        format!("GET /a?b HTTP/1.1\r\nHost: x:1\r\nUser-Agent:  wrk\r\nACCEPT: */*\r\n{ADDED}")
    );
}

#[test]
fn host_comes_first_wherever_it_stood() {
    assert_eq!(
        rewrite("GET / HTTP/1.1\r\nA: 1\r\nhost:  x \r\nB: 2\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nB: 2\r\n{ADDED}")
    );
}

#[test]
fn an_absolute_target_becomes_host_and_origin_form() {
    for (line, expected) in [
        ("GET http://b:8/p?q", "GET /p?q HTTP/1.1\r\nHost: b:8"),
        ("GET http://b", "GET / HTTP/1.1\r\nHost: b"),
        ("OPTIONS http://b", "OPTIONS * HTTP/1.1\r\nHost: b"),
        ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a"),
    ] {
        assert_eq!(
            rewrite(&format!("{line} HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n")),
            format!("{expected}\r\nX: y\r\n{ADDED}")
        );
    }
}

#[test]
fn http_10_is_forwarded_as_11_and_named_in_via() {
    let added = ADDED.replace("1.1 lateen", "1.0 lateen");
    assert_eq!(
        rewrite("GET / HTTP/1.0\r\nX: y\r\nConnection: keep-alive\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nX: y\r\n{added}")
    );
    assert_eq!(
        rewrite("GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{added}")
    );
}

#[test]
fn hop_by_hop_fields_end_here() {
    let lines = "Connection: keep-alive, X-Mine, x-absent\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
                 Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\
                 Proxy-Authorization: Basic x\r\nProxy-Authenticate: y\r\nTrailer: A\r\n\
                 x-mine: 1\r\nX-Mine: 2\r\n";
    assert_eq!(
        rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\n{lines}C: 2\r\n\r\n")),
        format!("GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\nC: 2\r\n{ADDED}")
    );
}

#[test]
fn fields_past_the_64th_end_here_too() {
    let kept = "X: y\r\n".repeat(70);
    assert_eq!(
        rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\n{kept}Connection: close\r\nZ: 1\r\n\r\n")),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{kept}Z: 1\r\n{ADDED}")
    );
}

#[test]
fn framing_is_written_anew() {
    for (line, expected) in [
        ("content-length:  7", "Content-Length: 7"),
        ("content-length: 007", "Content-Length: 7"),
        ("content-length: 00", "Content-Length: 0"),
        ("Content-Length: 7 ", "Content-Length: 7"),
        ("Content-Length:\t7", "Content-Length: 7"),
        ("Content-Length:7", "Content-Length: 7"),
        ("TRANSFER-ENCODING: Chunked", "Transfer-Encoding: chunked"),
    ] {
        assert_eq!(
            rewrite(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\nX: y\r\n\r\n")),
            format!("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n{expected}\r\n{ADDED}")
        );
    }
}

#[test]
fn a_length_that_reads_as_it_would_be_written_stays_where_it_is() {
    for line in ["Content-Length: 0", "content-length: 7", "CONTENT-LENGTH: 1234567890"] {
        assert_eq!(
            rewrite(&format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\nX: y\r\n\r\n")),
            format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\nX: y\r\n{ADDED}")
        );
    }
}

#[test]
fn trailer_is_announced_with_a_chunked_body_only() {
    assert_eq!(
        rewrite("POST / HTTP/1.1\r\nHost: a\r\nTrailer: D\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTrailer: D\r\nTransfer-Encoding: chunked\r\n{ADDED}"
        )
    );
    assert_eq!(
        rewrite("POST / HTTP/1.1\r\nHost: a\r\nTrailer: D\r\nContent-Length: 1\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{ADDED}")
    );
}

#[test]
fn forwarded_for_lines_become_one_with_the_client_at_its_end() {
    let out = rewrite(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nA: b\r\n\
         x-forwarded-for: \r\nX-FORWARDED-FOR: 2.2.2.2, 3.3.3.3\r\n\
         X-Forwarded-Proto: https\r\nx-forwarded-proto: evil\r\n\r\n",
    );
    let added = ADDED.replace("192.0.2.7", "1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7");
    assert_eq!(out, format!("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n{added}"));
}

#[test]
fn the_scheme_is_the_one_of_this_hop() {
    let forwarding = RequestForwarding { scheme: Scheme::Https, ..FORWARDING };
    let out = rewrite_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &forwarding);
    assert!(out.contains("\r\nX-Forwarded-Proto: https\r\n"), "{out}");
}

#[test]
fn a_valid_request_id_is_kept_and_others_are_replaced() {
    for (lines, id) in [
        ("X-Request-Id: mine", "mine"),
        ("X-Request-Id: not valid", "made"),
        ("X-Request-Id: a\r\nX-Request-Id: b", "made"),
        ("X: y", "made"),
    ] {
        let out = rewrite(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"));
        let ids: Vec<_> = out.lines().filter(|line| line.starts_with("X-Request-Id")).collect();
        assert_eq!(ids, [format!("X-Request-Id: {id}")], "{lines}");
    }
    let none = RequestForwarding { request_id: None, ..FORWARDING };
    assert!(!rewrite_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &none).contains("X-Request-Id"));
}

#[test]
fn earlier_via_and_forwarded_stay_before_ours() {
    assert_eq!(
        rewrite("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nForwarded: for=y\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nForwarded: for=y\r\n{ADDED}")
    );
}

#[test]
fn expect_is_forwarded_when_a_body_waits_for_it() {
    assert_eq!(
        rewrite("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n"),
        format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n{ADDED}"
        )
    );
    let none = rewrite("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(none, format!("PUT / HTTP/1.1\r\nHost: a\r\n{ADDED}"));
}

#[test]
fn max_forwards_goes_down_for_options_and_trace_only() {
    for (method, before, after) in [("OPTIONS", 10, 9), ("TRACE", 1, 0), ("GET", 5, 5)] {
        assert_eq!(
            rewrite(&format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {before}\r\n\r\n")),
            format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {after}\r\n{ADDED}")
        );
    }
}

#[test]
fn an_upgrade_goes_on_without_h2c_and_only_if_the_caller_wants() {
    let head = |value: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: {value}\r\nConnection: Upgrade\r\n\r\n")
    };
    for (value, expected) in
        [("websocket", "websocket"), ("h2c, websocket", "websocket"), ("a/1,H2C ,b", "a/1, b")]
    {
        let upgrade = format!("Connection: upgrade\r\nUpgrade: {expected}\r\n");
        let expected = format!("GET / HTTP/1.1\r\nHost: a\r\n{upgrade}{ADDED}");
        assert_eq!(rewrite(&head(value)), expected);
    }
    let plain = format!("GET / HTTP/1.1\r\nHost: a\r\n{ADDED}");
    assert_eq!(rewrite(&head("h2c")), plain);
    let unwanted = RequestForwarding { upgrade: false, ..FORWARDING };
    assert_eq!(rewrite_with(&head("websocket"), &unwanted), plain);
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> Edits {
    let remove = remove.iter().map(|name| (*name).to_owned()).collect();
    let edits = HeaderEdits { set: pairs(set), add: pairs(add), remove };
    Edits::compile(&[&edits], &[]).expect("valid").expect("something")
}

fn edited(head: &str, fields: Option<&Edits>, rewrite: Option<&Rewrite>, prefix: &str) -> String {
    let edits = RequestEdits { fields, rewrite, prefix_bytes: prefix.len() as u32 };
    rewrite_with(head, &RequestForwarding { edits: Some(edits), ..FORWARDING })
}

#[test]
fn edits_take_fields_away_in_any_case_and_append_theirs() {
    let edits = edits(&[("x-set", "new")], &[("x-add", "2")], &["x-gone"]);
    let lines = "X-Gone: 1\r\nA: 1\r\nx-SET: old\r\nX-Set: older\r\nX-Add: 1\r\nx-gone: 2\r\n";
    assert_eq!(
        edited(
            &format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}B: 2\r\n\r\n"),
            Some(&edits),
            None,
            ""
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nX-Add: 1\r\nB: 2\r\nx-set: new\r\nx-add: 2\r\n{ADDED}"
        )
    );
}

#[test]
fn edits_go_with_what_ends_at_this_hop_and_with_framing() {
    let edits = edits(&[], &[], &["x-gone"]);
    let lines = "Connection: close, x-mine\r\nX-Mine: 1\r\nX-Gone: 2\r\nContent-Length: 3\r\n";
    assert_eq!(
        edited(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), Some(&edits), None, ""),
        format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n{ADDED}")
    );
}

#[test]
fn a_new_path_keeps_host_and_query() {
    let prefix = PathRewrite::Prefix("/new".into());
    let full = PathRewrite::Full("/all".into());
    for (path, expected) in [(prefix, "/new/b?c=/old"), (full, "/all?c=/old")] {
        let rewrite = Rewrite { host: None, path: Some(path) };
        assert_eq!(
            edited(
                "GET /old/b?c=/old HTTP/1.1\r\nhost:  x:1\r\nA: 1\r\n\r\n",
                None,
                Some(&rewrite),
                "/old"
            ),
            format!("GET {expected} HTTP/1.1\r\nHost: x:1\r\nA: 1\r\n{ADDED}")
        );
    }
}

#[test]
fn a_new_host_leaves_the_one_that_came_in_x_forwarded_host() {
    let rewrite = Rewrite { host: Some("new.example".into()), path: None };
    let new = "HTTP/1.1\r\nHost: new.example\r\n";
    for (head, expected) in [
        (
            "GET /a?b HTTP/1.1\r\nHost: x:1\r\nA: 1\r\n\r\n",
            format!("GET /a?b {new}X-Forwarded-Host: x:1\r\nA: 1\r\n{ADDED}"),
        ),
        (
            "GET http://y/a HTTP/1.1\r\nHost: x\r\n\r\n",
            format!("GET /a {new}X-Forwarded-Host: y\r\n{ADDED}"),
        ),
        (
            "GET / HTTP/1.1\r\nX-Forwarded-Host: 1\r\nHost: x\r\nx-forwarded-HOST: 2, 3\r\n\r\n",
            format!("GET / {new}X-Forwarded-Host: 1, 2, 3, x\r\n{ADDED}"),
        ),
        ("GET / HTTP/1.0\r\nA: 1\r\n\r\n", {
            format!("GET / {new}A: 1\r\n{}", ADDED.replace("1.1 lateen", "1.0 lateen"))
        }),
    ] {
        assert_eq!(edited(head, None, Some(&rewrite), ""), expected);
    }
}

#[test]
fn config_has_the_last_word_on_x_forwarded_host() {
    let rewrite = Rewrite { host: Some("new.example".into()), path: None };
    let head = "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: 1\r\n\r\n";
    for (edits, expected) in [
        (edits(&[], &[], &["x-forwarded-host"]), ""),
        (edits(&[("x-forwarded-host", "z")], &[], &[]), "x-forwarded-host: z\r\n"),
    ] {
        assert_eq!(
            edited(head, Some(&edits), Some(&rewrite), ""),
            format!("GET / HTTP/1.1\r\nHost: new.example\r\n{expected}{ADDED}")
        );
    }
}
