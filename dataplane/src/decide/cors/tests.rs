//! Tables of the `cors` module: whole answers out.

use super::*;
use crate::codec::http1::head::tests::OwnedFields;

fn cors(origins: &[&str], credentials: bool, lists: [&[&str]; 3]) -> Cors {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Cors {
        allow_origins: owned(origins),
        allow_credentials: credentials,
        allow_methods: owned(lists[0]),
        allow_headers: owned(lists[1]),
        expose_headers: owned(lists[2]),
        max_age_s: 5,
    }
}

fn fields(lines: &[(&str, &str)]) -> OwnedFields {
    OwnedFields::new(lines.iter().map(|(name, value)| (*name, value.as_bytes())))
}

fn preflight(policy: &Cors, lines: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    CorsPolicy::of(policy).preflight(fields(lines).view(), &mut out);
    String::from_utf8(out).expect("text")
}

fn response(policy: &Cors, lines: &[(&str, &str)]) -> String {
    let mut out = Vec::new();
    CorsPolicy::of(policy).response(fields(lines).view(), &mut out);
    String::from_utf8(out).expect("text")
}

const FROM_A: (&str, &str) = ("Origin", "https://a.example");
const ASKS_PUT: (&str, &str) = ("Access-Control-Request-Method", "PUT");
const ASKS_X: (&str, &str) = ("Access-Control-Request-Headers", "x-a,x-b");

#[test]
fn a_preflight_request_is_options_with_an_origin_and_a_method() {
    for (method, lines, expected) in [
        (&b"OPTIONS"[..], &[FROM_A, ASKS_PUT][..], true),
        (b"OPTIONS", &[("origin", "null"), ("access-control-request-method", "GET")], true),
        (b"OPTIONS", &[FROM_A], false),
        (b"OPTIONS", &[ASKS_PUT], false),
        (b"GET", &[FROM_A, ASKS_PUT], false),
        (b"OPTIONS", &[FROM_A, FROM_A, ASKS_PUT], false),
    ] {
        assert_eq!(is_preflight(method, fields(lines).view()), expected, "{lines:?}");
    }
}

#[test]
fn origins_match_by_scheme_host_and_port() {
    for (allowed, origin, matches) in [
        ("https://a.example", "https://a.example", true),
        ("https://a.example", "https://A.Example", true),
        ("https://a.example", "https://a.example:443", true),
        ("https://a.example", "https://a.example:8443", false),
        ("https://a.example", "http://a.example", false),
        ("https://a.example", "https://b.a.example", false),
        ("https://a.example", "https://xa.example", false),
        ("https://a.example", "https://a.example.evil", false),
        ("https://a.example", "https://a.example/", false),
        ("https://a.example", "a.example", false),
        ("https://a.example", "null", false),
        ("https://a.example", "", false),
        ("http://a.example:80", "http://a.example", true),
        ("http://a.example:8080", "http://a.example:8080", true),
        ("http://a.example:8080", "http://a.example", false),
        ("https://*.example", "https://a.example", true),
        ("https://*.example", "https://b.a.example", true),
        ("https://*.example", "https://B.A.EXAMPLE", true),
        ("https://*.example", "https://example", false),
        ("https://*.example", "https://.example", false),
        ("https://*.example", "https://aexample", false),
        ("https://*.example", "http://a.example", false),
        ("https://*.example", "https://a.example:1", false),
        ("https://*.example:1", "https://a.example:1", true),
        ("http://[::1]:8080", "http://[::1]:8080", true),
        ("http://[::1]", "http://[::1]:80", true),
    ] {
        let policy = cors(&["https://other.example", allowed], false, [&[], &[], &[]]);
        let expected = if matches {
            format!("Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n")
        } else {
            "Vary: Origin\r\n".to_owned()
        };
        assert_eq!(response(&policy, &[("Origin", origin)]), expected, "{allowed} {origin}");
    }
}

#[test]
fn a_response_says_what_does_not_hang_on_the_origin_to_everyone() {
    let open = cors(&["*"], false, [&["*"], &["*"], &["*"]]);
    let expected = "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n";
    assert_eq!(response(&open, &[FROM_A]), expected);
    assert_eq!(response(&open, &[]), expected);
    let named = cors(&["https://a.example"], false, [&[], &[], &["x-a", "x-b"]]);
    assert_eq!(
        response(&named, &[FROM_A]),
        "Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n\
         Access-Control-Expose-Headers: x-a, x-b\r\n"
    );
    assert_eq!(response(&named, &[]), "Vary: Origin\r\n");
    assert_eq!(response(&cors(&[], false, [&[], &[], &["x"]]), &[FROM_A]), "Vary: Origin\r\n");
}

#[test]
fn no_star_goes_with_credentials() {
    let policy = cors(&["*"], true, [&["*"], &["*"], &["*"]]);
    let shared = "Access-Control-Allow-Origin: https://a.example\r\n\
                  Access-Control-Allow-Credentials: true\r\nVary: Origin\r\n";
    assert_eq!(response(&policy, &[FROM_A]), shared);
    assert_eq!(response(&policy, &[]), "Vary: Origin\r\n");
    assert_eq!(
        preflight(&policy, &[FROM_A, ASKS_PUT, ASKS_X, ("access-control-request-headers", "x-c")]),
        format!(
            "{shared}Access-Control-Allow-Methods: PUT\r\n\
             Access-Control-Allow-Headers: x-a,x-b, x-c\r\nAccess-Control-Max-Age: 5\r\n"
        )
    );
    assert_eq!(
        preflight(&policy, &[FROM_A, ASKS_PUT]),
        format!("{shared}Access-Control-Allow-Methods: PUT\r\nAccess-Control-Max-Age: 5\r\n")
    );
}

#[test]
fn a_preflight_answer_has_what_config_allows_whatever_was_asked_for() {
    let listed = cors(&["https://*.example"], false, [&["GET", "PUT"], &["x-z"], &["x-a"]]);
    assert_eq!(
        preflight(&listed, &[FROM_A, ASKS_PUT, ASKS_X]),
        "Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n\
         Access-Control-Allow-Methods: GET, PUT\r\nAccess-Control-Allow-Headers: x-z\r\n\
         Access-Control-Max-Age: 5\r\n"
    );
    let open = cors(&["*"], false, [&["*"], &["*"], &[]]);
    assert_eq!(
        preflight(&open, &[FROM_A, ASKS_PUT, ASKS_X]),
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: *\r\n\
         Access-Control-Allow-Headers: *\r\nAccess-Control-Max-Age: 5\r\n"
    );
    let bare = cors(&["*"], false, [&[], &[], &[]]);
    assert_eq!(
        preflight(&bare, &[FROM_A, ASKS_PUT, ASKS_X]),
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Max-Age: 5\r\n"
    );
}

#[test]
fn a_preflight_request_of_another_origin_is_told_nothing() {
    let listed = cors(&["https://b.example"], true, [&["*"], &["*"], &["*"]]);
    assert_eq!(preflight(&listed, &[FROM_A, ASKS_PUT, ASKS_X]), "Vary: Origin\r\n");
}

#[test]
fn with_credentials_a_star_among_exposed_fields_stands_for_nothing() {
    for (credentials, exposed, expected) in [
        (false, &["*", "x-id"][..], Some("Access-Control-Expose-Headers: *\r\n")),
        (true, &["*", "x-id"], Some("Access-Control-Expose-Headers: x-id\r\n")),
        (true, &["*"], None),
    ] {
        let policy = cors(&["https://a.example"], credentials, [&[], &[], exposed]);
        let said = response(&policy, &[FROM_A]);
        let line = said.find("Access-Control-Expose-Headers").map(|at| &said[at..]);
        assert_eq!(line, expected, "{exposed:?}");
    }
}
