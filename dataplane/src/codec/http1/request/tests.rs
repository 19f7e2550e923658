//! Tables of the `request` module: whole heads in, facts or a status out; each head is also fed
//! one byte at a time.

use super::*;

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 1024, headers_max: 8, target_bytes_max: 64, trace_allowed: false };

/// What a test looks at, without borrows.
#[derive(Clone, Debug, PartialEq)]
struct Facts {
    consumed: usize,
    method: Method,
    path: String,
    authority: Option<String>,
    framing: Framing,
    keep_alive: bool,
    expect_continue: bool,
    upgrade: Option<String>,
    max_forwards: Option<u64>,
    request_id: Option<String>,
}

fn parse_whole(bytes: &[u8], limits: &HeadLimits) -> Result<Option<Facts>, RequestError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut scratch = FieldScratch::new();
    Ok(parse_request(bytes, &mut scratch, limits)?.map(|head| Facts {
        consumed: head.consumed,
        method: head.method,
        path: text(head.path),
        authority: head.authority.map(text),
        framing: head.framing,
        keep_alive: head.keep_alive,
        expect_continue: head.expect_continue,
        upgrade: head.upgrade.map(text),
        max_forwards: head.max_forwards,
        request_id: head.request_id.map(text),
    }))
}

/// Parses the whole, and every prefix until there is a verdict: both must be the same.
fn parse_with(bytes: &[u8], limits: &HeadLimits) -> Result<Option<Facts>, RequestError> {
    let whole = parse_whole(bytes, limits);
    let trickled = (0..=bytes.len())
        .map(|end| parse_whole(&bytes[..end], limits))
        .find(|verdict| *verdict != Ok(None))
        .unwrap_or(Ok(None));
    assert_eq!(whole, trickled, "whole and trickled: {:?}", String::from_utf8_lossy(bytes));
    whole
}

fn parse(text: &str) -> Facts {
    parse_with(text.as_bytes(), &LIMITS)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
        .unwrap_or_else(|| panic!("{text:?}: not whole"))
}

fn refusal(text: impl AsRef<[u8]>) -> RequestError {
    let text = text.as_ref();
    parse_with(text, &LIMITS).expect_err(&String::from_utf8_lossy(text))
}

/// The refusal of a GET with these field lines beside a valid `Host`.
fn field_refusal(lines: &str) -> RequestError {
    refusal(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"))
}

/// The facts of a POST with these field lines beside a valid `Host`.
fn with_fields(lines: &str) -> Facts {
    parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"))
}

#[test]
fn reads_the_facts_of_a_plain_get_and_leaves_what_follows() {
    let head = "GET /a?b HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\n\r\n";
    let facts = parse(&format!("{head}GET /next"));
    let expected = Facts {
        consumed: head.len(),
        method: Method::Get,
        path: "/a?b".into(),
        authority: Some("a.example:80".into()),
        framing: Framing::None,
        keep_alive: true,
        expect_continue: false,
        upgrade: None,
        max_forwards: None,
        request_id: None,
    };
    assert_eq!(facts, expected);
}

#[test]
fn gives_all_fields_in_order_and_by_name() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX-A:  1 \r\nx-a: 2\r\nEmpty:\r\n\r\n";
    let mut scratch = FieldScratch::new();
    let head = parse_request(bytes, &mut scratch, &LIMITS).expect("valid").expect("whole");
    let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"Host", b"a"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Empty", b"")];
    assert_eq!(fields, expected);
    let values: Vec<_> = head.fields.values(b"X-a").collect();
    assert_eq!(values, [b"1", b"2"]);
    assert_eq!(head.fields.values(b"missing").next(), None);
}

#[test]
fn ignores_one_empty_line_before_the_request_line() {
    assert_eq!(parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").consumed, 29);
}

#[test]
fn refuses_more_than_one_empty_line_or_a_lone_line_end_at_the_start() {
    for start in ["\r\n\r\n", "\n", "\r", "\r\r\n", "\r\n\n", "\r\n\r"] {
        let error = refusal(format!("{start}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((error, error.status()), (RequestError::Start, 400), "{start:?}");
    }
}

#[test]
fn waits_for_the_rest_of_a_head() {
    for text in
        ["", "\r", "\r\n", "GET", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nA: b\r"]
    {
        assert_eq!(parse_with(text.as_bytes(), &LIMITS), Ok(None), "{text:?}");
    }
}

#[test]
fn refuses_content_length_that_is_no_plain_number() {
    for value in [
        "",
        "+1",
        "-1",
        "0x1",
        "1.0",
        "1 1",
        "1,1",
        "1, 2",
        "a",
        "1a",
        "\"1\"",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999",
        "1_0",
        "\u{661}",
    ] {
        let error = field_refusal(&format!("Content-Length: {value}"));
        assert_eq!(error, FieldError::ContentLengthInvalid.into(), "{value:?}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn reads_content_length_up_to_63_bits() {
    for (value, length) in [("0", 0), ("007", 7), (" 5\t", 5), ("9223372036854775807", 1 << 63)] {
        let length = if length == 1 << 63 { i64::MAX as u64 } else { length };
        let framing = with_fields(&format!("content-LENGTH:{value}")).framing;
        assert_eq!(framing, Framing::Length(length), "{value:?}");
    }
}

#[test]
fn refuses_repeated_content_length_even_when_equal() {
    for lines in
        ["Content-Length: 1\r\nContent-Length: 1", "Content-Length: 1\r\ncontent-length: 2"]
    {
        assert_eq!(field_refusal(lines), FieldError::ContentLengthRepeated.into());
    }
}

#[test]
fn refuses_content_length_with_transfer_encoding_in_either_order() {
    for lines in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
    ] {
        assert_eq!(field_refusal(lines), FieldError::LengthWithCoding.into());
    }
}

#[test]
fn reads_one_chunked_coding_in_any_case() {
    for value in ["chunked", "Chunked", "CHUNKED", " chunked\t"] {
        let facts = with_fields(&format!("Transfer-Encoding:{value}"));
        assert_eq!(facts.framing, Framing::Chunked, "{value:?}");
    }
}

#[test]
fn refuses_any_coding_but_one_final_chunked() {
    for value in [
        "",
        ",",
        ",chunked",
        "chunked,",
        "chunked, chunked",
        "chunked, gzip",
        "chunked;q=1",
        "\"chunked\"",
        "chun ked",
        "chunked identity",
        "gzip;x, chunked",
    ] {
        let error = field_refusal(&format!("Transfer-Encoding: {value}"));
        assert_eq!(error, FieldError::CodingInvalid.into(), "{value:?}");
        assert_eq!(error.status(), 400);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked";
    assert_eq!(field_refusal(twice), FieldError::CodingInvalid.into());
}

#[test]
fn answers_501_to_an_unknown_coding() {
    for value in ["gzip", "gzip, chunked", "identity", "xchunked", "chunkedx", "deflate,gzip"] {
        let error = field_refusal(&format!("Transfer-Encoding: {value}"));
        assert_eq!((error, error.status()), (FieldError::CodingUnknown.into(), 501), "{value}");
    }
}

#[test]
fn refuses_transfer_encoding_in_http_10() {
    let error = refusal("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!((error, error.status()), (FieldError::CodingForbidden.into(), 400));
}

#[test]
fn refuses_bare_lf_wherever_a_line_ends() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\nY: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
    ] {
        let error = refusal(text);
        assert_eq!((error, error.status()), (FieldError::BareLineFeed.into(), 400), "{text:?}");
    }
    assert_eq!(refusal("GET / HTTP/1.0\n\n"), FieldError::BareLineFeed.into());
    assert_eq!(refusal("GET / HTTP/1.0\n\r\n"), FieldError::BareLineFeed.into());
    assert_eq!(refusal("GET / HTTP/1.0\r\n\n"), FieldError::BareLineFeed.into());
}

#[test]
fn refuses_bytes_that_have_no_place_in_a_field_line() {
    for line in [
        "X: a\rb",
        "X: a\r\r\nY: b",
        "X: a\0b",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "X : a",
        "X\t: a",
        " X: a",
        "\tfolded",
        "X Y: a",
        "X",
        ": a",
        "X\u{e9}: a",
        "X(: a",
        "\0: a",
        "X: a\r\n b",
        "X: a\u{b}",
        "X: a\r\n\tb",
    ] {
        let error = field_refusal(line);
        assert!(matches!(error, RequestError::Syntax(_)), "{line:?}: {error:?}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn passes_obs_text_and_tabs_in_values() {
    assert_eq!(with_fields("X: caf\u{e9}\tb").framing, Framing::None);
}

#[test]
fn refuses_request_lines_that_break_the_grammar() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET\t/ HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /a\tb HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET / http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/1.10",
        "GET / HTTP/1.2",
        "GET / HTTP/01.1",
        "GET / HTTP/+1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP/a.b",
        "",
        "GET",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
    ] {
        let error = refusal(format!("{line}\r\nHost: a\r\n\r\n"));
        assert_eq!(error.status(), if line.is_empty() { 400 } else { error.status() });
        assert_eq!(error.status(), 400, "{line:?}: {error:?}");
    }
}

#[test]
fn answers_505_to_another_major_version() {
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"] {
        let error = refusal(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert_eq!((error, error.status()), (RequestError::VersionUnsupported, 505), "{version}");
    }
    assert_eq!(refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
}

#[test]
fn refuses_targets_that_are_invalid_for_the_method() {
    for line in
        ["GET *", "GET /a#b", "GET /\u{e9}", "GET a", "GET a:443", "OPTIONS **", "GET ftp://a/"]
    {
        let error = refusal(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((error, error.status()), (RequestError::Target, 400), "{line:?}");
    }
}

#[test]
fn absolute_form_wins_over_host() {
    let facts = parse("GET http://b.example:81/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(facts.authority.as_deref(), Some("b.example:81"));
    assert_eq!(facts.path, "/x");
    let pathless = parse("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((pathless.path.as_str(), pathless.authority.as_deref()), ("*", Some("b")));
    assert_eq!(refusal("GET http://b/ HTTP/1.1\r\n\r\n"), RequestError::HostMissing);
}

#[test]
fn options_asterisk_is_about_the_server() {
    assert_eq!(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
}

#[test]
fn host_is_required_in_http_11_and_optional_in_http_10() {
    let error = refusal("GET / HTTP/1.1\r\nAccept: a\r\n\r\n");
    assert_eq!((error, error.status()), (RequestError::HostMissing, 400));
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").authority, None);
    assert_eq!(parse("GET / HTTP/1.0\r\nHost: b\r\n\r\n").authority.as_deref(), Some("b"));
}

#[test]
fn refuses_repeated_or_invalid_hosts() {
    assert_eq!(field_refusal("Host: a"), FieldError::HostRepeated.into());
    for host in ["", "u@a", "a:b", "a:0", "a:70000", "a b", "a/", "a, b", "[::1"] {
        for version in ["1.0", "1.1"] {
            let error = refusal(format!("GET / HTTP/{version}\r\nHost: {host}\r\n\r\n"));
            assert_eq!((error, error.status()), (RequestError::HostInvalid, 400), "{host:?}");
        }
    }
}

#[test]
fn connect_and_trace_are_405_with_allow() {
    for line in ["CONNECT a:443", "TRACE /"] {
        let error = refusal(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(error.status(), 405, "{line}");
        assert_eq!(error.allow(), Some("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS"));
    }
    assert_eq!(RequestError::Start.allow(), None);
}

#[test]
fn trace_passes_where_it_is_allowed_and_has_no_body() {
    let limits = HeadLimits { trace_allowed: true, ..LIMITS };
    let trace = b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n";
    let facts = parse_with(trace, &limits).expect("valid").expect("whole");
    assert_eq!(facts.method, Method::Trace);
    let body = b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(parse_with(body, &limits), Err(RequestError::TraceBody));
    let connect = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let error = parse_with(connect, &limits).expect_err("never allowed");
    assert_eq!(error.allow(), Some("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE"));
}

#[test]
fn other_methods_pass_unless_they_are_endless() {
    assert_eq!(parse("PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n").method, Method::Other);
    let error = refusal(format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(65)));
    assert_eq!((error, error.status()), (RequestError::MethodTooLong, 501));
}

#[test]
fn limits_hold_to_the_byte() {
    let target =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes - 1));
    assert_eq!(parse(&target(64)).path.len(), 64);
    let error = refusal(target(65));
    assert_eq!((error, error.status()), (RequestError::TargetTooLong, 414));

    let head = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    assert_eq!(parse(&head(1024)).consumed, 1024);
    let error = refusal(head(1025));
    assert_eq!((error, error.status()), (RequestError::HeadTooLarge, 431));

    let lines =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert_eq!(parse(&lines(8)).framing, Framing::None);
    assert_eq!(refusal(lines(9)), RequestError::HeadTooLarge);
}

#[test]
fn an_endless_head_is_refused_as_soon_as_it_is_known() {
    assert_eq!(refusal(format!("GET /{}", "x".repeat(64))), RequestError::TargetTooLong);
    assert_eq!(refusal("x".repeat(1024)), RequestError::HeadTooLarge);
    let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1024));
    assert_eq!(refusal(endless), RequestError::HeadTooLarge);
    assert_eq!(parse_with("x".repeat(1023).as_bytes(), &LIMITS), Ok(None));
}

#[test]
fn a_wrong_line_is_refused_when_it_ends_not_when_the_head_does() {
    assert_eq!(refusal("GET / HTTP/1.1\r\nX : y\r\n").status(), 400);
    assert_eq!(refusal("GET / HTTP/2.0\r\n").status(), 505);
}

#[test]
fn keep_alive_is_the_default_of_http_11_only() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: , ,\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let facts = parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
        assert_eq!(facts.keep_alive, keep_alive, "{version} {connection:?}");
    }
}

#[test]
fn refuses_nominations_that_others_rely_on() {
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Host",
        "X-Request-Id",
        "Via",
        "Forwarded",
        "X-Real-IP",
        "Expect",
        "Max-Forwards",
        "Date",
    ] {
        let error = field_refusal(&format!("Connection: keep-alive, {name}"));
        assert_eq!(
            (error, error.status()),
            (FieldError::NominationForbidden.into(), 400),
            "{name}"
        );
    }
}

#[test]
fn refuses_connection_options_that_are_no_tokens_or_too_many() {
    for value in ["a b", "\"a\"", "a;b", "a=b", "\u{e9}"] {
        let error = field_refusal(&format!("Connection: {value}"));
        assert_eq!(error, FieldError::ConnectionInvalid.into(), "{value}");
    }
    let names = |count| format!("Connection: {}", vec!["x"; count].join(","));
    assert_eq!(with_fields(&names(NOMINATIONS)).framing, Framing::None);
    assert_eq!(field_refusal(&names(NOMINATIONS + 1)), FieldError::NominationsTooMany.into());
}

const NOMINATIONS: usize = crate::codec::http1::fields::NOMINATIONS_MAX;

#[test]
fn expects_100_continue_only_with_a_body_and_in_http_11() {
    for (version, lines, expected) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 1", true),
        ("1.1", "expect: 100-Continue\r\nTransfer-Encoding: chunked", true),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0", false),
        ("1.1", "Expect: 100-continue", false),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1", false),
        ("1.0", "Expect: tea\r\nContent-Length: 1", false),
    ] {
        let facts = parse(&format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n\r\n"));
        assert_eq!(facts.expect_continue, expected, "{version} {lines:?}");
    }
}

#[test]
fn answers_417_to_other_expectations() {
    for lines in
        ["Expect: tea", "Expect:", "Expect: 100-continue, tea", "Expect: 100-continue\r\nExpect: a"]
    {
        let error = field_refusal(lines);
        assert_eq!((error, error.status()), (RequestError::Expectation, 417), "{lines:?}");
    }
}

#[test]
fn an_upgrade_counts_when_connection_names_it_and_it_is_not_h2c_alone() {
    for (lines, upgrade) in [
        ("Connection: Upgrade\r\nUpgrade: websocket", Some("websocket")),
        ("Connection: keep-alive, upgrade\r\nUpgrade: h2c, websocket", Some("h2c, websocket")),
        ("Connection: upgrade\r\nUpgrade: a/1, b\r\nContent-Length: 0", Some("a/1, b")),
        ("Upgrade: websocket", None),
        ("Connection: upgrade", None),
        ("Connection: upgrade\r\nUpgrade: h2c", None),
        ("Connection: upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: x", None),
        ("Connection: upgrade\r\nUpgrade: h2c/1, h2c", None),
        ("Connection: upgrade\r\nUpgrade: ", None),
        ("Connection: upgrade\r\nUpgrade: web socket", None),
        ("Connection: upgrade\r\nUpgrade: a/", None),
        ("Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b", None),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1", None),
    ] {
        assert_eq!(with_fields(lines).upgrade.as_deref(), upgrade, "{lines:?}");
    }
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(parse(old).upgrade, None);
}

#[test]
fn max_forwards_counts_for_options_and_must_be_one_number() {
    let facts = |method: &str, lines: &str| {
        parse_with(format!("{method} / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes(), &LIMITS)
            .map(|facts| facts.expect("whole").max_forwards)
    };
    assert_eq!(facts("OPTIONS", "Max-Forwards: 0"), Ok(Some(0)));
    assert_eq!(facts("OPTIONS", "Max-Forwards: 10"), Ok(Some(10)));
    assert_eq!(facts("OPTIONS", "X: 10"), Ok(None));
    assert_eq!(facts("GET", "Max-Forwards: 0"), Ok(None));
    assert_eq!(facts("GET", "Max-Forwards: x"), Ok(None));
    for lines in ["Max-Forwards: x", "Max-Forwards: -1", "Max-Forwards: 1\r\nMax-Forwards: 1"] {
        assert_eq!(facts("OPTIONS", lines), Err(RequestError::MaxForwards), "{lines}");
    }
}

#[test]
fn keeps_one_valid_request_id() {
    assert_eq!(with_fields("X-Request-ID: abc-1").request_id.as_deref(), Some("abc-1"));
    let long = format!("X-Request-Id: {}", "x".repeat(129));
    for lines in ["X-Request-Id:", "X-Request-Id: a b", &long, "X-Request-Id: a\r\nX-Request-Id: b"]
    {
        assert_eq!(with_fields(lines).request_id, None, "{lines:?}");
    }
}

#[test]
fn parsing_again_is_worth_it_after_a_line_end_or_at_the_limit() {
    assert!(may_end_head(b"GET /\r\n", 5, &LIMITS));
    assert!(!may_end_head(b"GET /\r\nHo", 7, &LIMITS));
    assert!(may_end_head(&[b'x'; 1024], 1023, &LIMITS));
    assert!(!may_end_head(b"", 5, &LIMITS));
}
