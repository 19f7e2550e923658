//! What is tried again, and when.

use lateen_snapshot::model::retry::{RetriableField, RetryOn};

use super::*;
use crate::codec::http1::head::FieldScratch;
use crate::codec::http1::response::parse_response;
use crate::codec::message::HeadLimits;

fn usual() -> Retry {
    Retry {
        attempts: 2,
        on: RetryOn { connect_failure: true, reset_before_response: true, ..RetryOn::default() },
        statuses: vec![503],
        headers: Vec::new(),
        backoff_base_ms: 25,
        backoff_max_ms: 250,
        non_idempotent: false,
    }
}

/// What `look` makes of the fields of an answer with these lines.
fn with_fields<T>(lines: &str, look: impl FnOnce(Fields<'_>) -> T) -> T {
    let text = format!("HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n");
    let mut scratch = FieldScratch::new();
    let limits = HeadLimits {
        head_bytes_max: 4096,
        headers_max: 32,
        target_bytes_max: 1024,
        trace_allowed: false,
    };
    let head = parse_response(text.as_bytes(), &mut scratch, Method::Get, &limits);
    look(head.expect("it is valid").expect("it is whole").fields)
}

#[test]
fn only_a_connect_that_failed_is_repeated_for_a_method_that_may_have_acted() {
    let retry = usual();
    for (method, reason, wanted) in [
        (Method::Post, RetryReason::ConnectFailure, true),
        (Method::Post, RetryReason::Reset, false),
        (Method::Get, RetryReason::Reset, true),
        (Method::Delete, RetryReason::Reset, true),
        (Method::Get, RetryReason::PerTryTimeout, false),
    ] {
        assert_eq!(wants_after_failure(&retry, method, reason), wanted, "{method:?} {reason:?}");
    }
    let opted_in = Retry { non_idempotent: true, ..usual() };
    assert!(wants_after_failure(&opted_in, Method::Post, RetryReason::Reset));
}

#[test]
fn an_answer_is_judged_by_its_status_and_its_fields() {
    let by_field = Retry {
        statuses: vec![],
        headers: vec![
            RetriableField { name: "x-again".to_owned(), value: None },
            RetriableField { name: "x-state".to_owned(), value: Some("warming".to_owned()) },
        ],
        ..usual()
    };
    let judge = |retry: &Retry, status, lines: &str| {
        with_fields(lines, |fields| wants_after_answer(retry, Method::Get, status, fields))
    };
    assert_eq!(judge(&usual(), 503, ""), Some(RetryReason::Status));
    assert_eq!(judge(&usual(), 500, ""), None);
    assert_eq!(judge(&by_field, 503, ""), None);
    assert_eq!(judge(&by_field, 200, "X-Again: 1\r\n"), Some(RetryReason::Header));
    assert_eq!(judge(&by_field, 200, "x-state: warming\r\n"), Some(RetryReason::Header));
    assert_eq!(judge(&by_field, 200, "x-state: warm\r\n"), None);
    let on = |on| Retry { on, statuses: vec![], ..usual() };
    let server = on(RetryOn { server_error: true, ..RetryOn::default() });
    let gateway = on(RetryOn { gateway_error: true, ..RetryOn::default() });
    for (status, by_server, by_gateway) in [
        (499, false, false),
        (500, true, false),
        (502, true, true),
        (504, true, true),
        (505, true, false),
    ] {
        assert_eq!(judge(&server, status, "").is_some(), by_server, "{status}");
        assert_eq!(judge(&gateway, status, "").is_some(), by_gateway, "{status}");
    }
    with_fields("", |fields| {
        assert_eq!(wants_after_answer(&usual(), Method::Post, 503, fields), None);
    });
}

#[test]
fn the_wait_doubles_up_to_its_most_and_may_be_anything_below() {
    let retry = usual();
    for (made, most_ms) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (60, 250)] {
        let most = Duration::from_millis(most_ms);
        assert_eq!(backoff(&retry, made, 0), Duration::ZERO);
        let longest = backoff(&retry, made, u64::MAX);
        assert!(longest < most && longest > most - Duration::from_micros(1), "{made}: {longest:?}");
        assert_eq!(backoff(&retry, made, 1 << 63), most / 2, "{made}");
    }
}

#[test]
fn what_an_answer_asks_for_is_honoured_up_to_a_second() {
    // Sun, 06 Nov 1994 08:49:37 GMT
    let now_us = 784_111_777_000_000;
    for (lines, wait) in [
        ("", Some(Duration::ZERO)),
        ("Retry-After: 0\r\n", Some(Duration::ZERO)),
        ("retry-after: 1\r\n", Some(Duration::from_secs(1))),
        ("retry-after: 2\r\n", None),
        ("retry-after: 99999999999999999999999\r\n", None),
        ("retry-after: soon\r\n", None),
        ("retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(Duration::ZERO)),
        ("retry-after: Sun, 06 Nov 1994 08:49:38 GMT\r\n", Some(Duration::from_secs(1))),
        ("retry-after: Sun, 06 Nov 1994 08:49:39 GMT\r\n", None),
        ("retry-after: Sun, 06 Nov 1994 08:00:00 GMT\r\n", Some(Duration::ZERO)),
    ] {
        assert_eq!(with_fields(lines, |fields| wait_asked_for(fields, now_us)), wait, "{lines:?}");
    }
}
