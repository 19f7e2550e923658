//! Tables of the `response` module: whole heads in, facts or an error out; each head is also fed
//! one byte at a time.

use super::*;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 512, headers_max: 4, target_bytes_max: 0, trace_allowed: false };

#[derive(Clone, Debug, PartialEq)]
struct Facts {
    consumed: usize,
    status: u16,
    framing: Framing,
    declared_length: Option<u64>,
    keep_alive: bool,
    upgrade: Option<Vec<u8>>,
    has_date: bool,
}

fn parse_whole(bytes: &[u8], method: Method) -> Result<Option<Facts>, ResponseError> {
    let mut scratch = FieldScratch::new();
    Ok(parse_response(bytes, &mut scratch, method, &LIMITS)?.map(|head| Facts {
        consumed: head.consumed,
        status: head.status,
        framing: head.framing,
        declared_length: head.declared_length,
        keep_alive: head.keep_alive,
        upgrade: head.upgrade.map(<[u8]>::to_vec),
        has_date: head.has_date,
    }))
}

fn parse_for(bytes: &[u8], method: Method) -> Result<Option<Facts>, ResponseError> {
    let whole = parse_whole(bytes, method);
    let trickled = (0..=bytes.len())
        .map(|end| parse_whole(&bytes[..end], method))
        .find(|verdict| *verdict != Ok(None))
        .unwrap_or(Ok(None));
    assert_eq!(whole, trickled, "whole and trickled: {:?}", String::from_utf8_lossy(bytes));
    whole
}

/// The facts of a response to GET.
fn parse(text: &str) -> Facts {
    parse_for(text.as_bytes(), Method::Get)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
        .unwrap_or_else(|| panic!("{text:?}: not whole"))
}

fn refusal(text: impl AsRef<[u8]>) -> ResponseError {
    let text = text.as_ref();
    parse_for(text, Method::Get).expect_err(&String::from_utf8_lossy(text))
}

#[test]
fn reads_the_facts_of_a_plain_response_and_leaves_what_follows() {
    let head = "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 3\r\n\r\n";
    let expected = Facts {
        consumed: head.len(),
        status: 200,
        framing: Framing::Length(3),
        declared_length: Some(3),
        keep_alive: true,
        upgrade: None,
        has_date: true,
    };
    assert_eq!(parse(&format!("{head}abc")), expected);
}

#[test]
fn framing_follows_rfc_9112_section_6_3() {
    for (head, framing, keep_alive) in [
        ("HTTP/1.1 200 OK\r\n", Framing::UntilClose, false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", Framing::Length(0), true),
        ("HTTP/1.1 204 No Content\r\n", Framing::None, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n", Framing::None, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n", Framing::None, false),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", Framing::None, true),
        ("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n", Framing::None, true),
        ("HTTP/1.1 100 Continue\r\n", Framing::None, true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n", Framing::Length(1), false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n",
            Framing::Length(1),
            true,
        ),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", Framing::UntilClose, false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n",
            Framing::Length(1),
            false,
        ),
    ] {
        let facts = parse(&format!("{head}\r\n"));
        assert_eq!((facts.framing, facts.keep_alive), (framing, keep_alive), "{head:?}");
    }
}

#[test]
fn a_response_to_head_has_no_body_but_may_say_its_length() {
    for (line, declared) in
        [("Content-Length: 9", Some(9)), ("Transfer-Encoding: chunked", None), ("X: y", None)]
    {
        let text = format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n");
        let facts = parse_for(text.as_bytes(), Method::Head).expect("valid").expect("whole");
        assert_eq!(facts.framing, Framing::None, "{line}");
        assert_eq!((facts.declared_length, facts.keep_alive), (declared, true), "{line}");
    }
}

#[test]
fn refuses_ambiguous_framing() {
    use FieldError::*;
    for (lines, error) in [
        ("Content-Length: 1\r\nTransfer-Encoding: chunked", LengthWithCoding),
        ("Content-Length: 1\r\nContent-Length: 1", ContentLengthRepeated),
        ("Content-Length: 1, 1", ContentLengthInvalid),
        ("Content-Length: -1", ContentLengthInvalid),
        ("Transfer-Encoding: gzip, chunked", CodingUnknown),
        ("Transfer-Encoding: chunked, gzip", CodingInvalid),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", CodingInvalid),
        ("Connection: content-length", NominationForbidden),
        ("Connection: a b", ConnectionInvalid),
        ("X: a\nY: b", BareLineFeed),
    ] {
        let refused = refusal(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n"));
        assert_eq!(refused, error.into(), "{lines:?}");
    }
}

#[test]
fn refuses_transfer_encoding_where_none_may_be() {
    for line in ["HTTP/1.0 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 100 Continue"] {
        let text = format!("{line}\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(refusal(text), FieldError::CodingForbidden.into(), "{line}");
    }
}

#[test]
fn refuses_status_lines_that_break_the_grammar() {
    for line in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1  200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        " HTTP/1.1 200 OK",
        "ICY 200 OK",
    ] {
        let error = refusal(format!("{line}\r\nContent-Length: 0\r\n\r\n"));
        assert!(matches!(error, ResponseError::Syntax(_)), "{line:?}: {error:?}");
    }
    assert_eq!(refusal("HTTP/1.1 099 Low\r\n\r\n"), ResponseError::Status);
    assert_eq!(refusal("HTTP/1.1 200 OK\n\r\n"), FieldError::BareLineFeed.into());
    assert_eq!(refusal("HTTP/1.1 200 OK\nX: y\r\n\r\n"), FieldError::BareLineFeed.into());
    assert_eq!(refusal("\r\nHTTP/1.1 200 OK\r\n\r\n"), ResponseError::Syntax("status line"));
}

#[test]
fn refuses_field_lines_that_break_the_grammar() {
    for line in ["X : a", "X: a\0", "X: a\rb", " folded", "X: a\r\n b", "X", ": a", "X: \u{7f}"] {
        let error = refusal(format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"));
        assert!(matches!(error, ResponseError::Syntax(_)), "{line:?}: {error:?}");
    }
}

#[test]
fn takes_phrases_that_are_missing_empty_or_not_ascii() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 caf\u{e9}", "HTTP/1.1 999 Odd"] {
        assert!(parse(&format!("{line}\r\nContent-Length: 0\r\n\r\n")).status >= 200, "{line}");
    }
}

#[test]
fn a_101_names_the_protocol_it_switches_to() {
    let facts =
        parse("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(facts.upgrade, Some(b"websocket".to_vec()));
    assert_eq!(facts.framing, Framing::None);
    for text in [
        "HTTP/1.1 101 S\r\n\r\n",
        "HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 S\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade:\r\n\r\n",
        "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n\r\n",
        "HTTP/1.0 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        assert_eq!(refusal(text), ResponseError::Upgrade, "{text:?}");
    }
    let advertised = "HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(parse(advertised).upgrade, None);
}

#[test]
fn request_fields_are_ordinary_in_a_response() {
    let text = "HTTP/1.1 200 OK\r\nHost: a\r\nHost: b/\r\nExpect: tea\r\n\r\n";
    assert_eq!(parse(text).status, 200);
}

#[test]
fn limits_hold_to_the_byte() {
    let head = |bytes: usize| {
        let start = "HTTP/1.1 200 OK\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    assert_eq!(parse(&head(512)).consumed, 512);
    assert_eq!(refusal(head(513)), ResponseError::HeadTooLarge);
    let lines = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert_eq!(parse(&lines(4)).status, 200);
    assert_eq!(refusal(lines(5)), ResponseError::HeadTooLarge);
    assert_eq!(refusal("H".repeat(512)), ResponseError::HeadTooLarge);
    assert_eq!(parse_for(b"HTTP/1.1 200 OK\r\nX: y", Method::Get), Ok(None));
}
