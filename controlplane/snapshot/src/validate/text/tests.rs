//! Single values: what looks like one and is not.

use super::*;

#[test]
fn tells_hosts_from_what_only_looks_like_one() {
    let long_label = "a".repeat(64);
    let long_name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
    for (host, allowed) in [
        ("a", true),
        ("cart.shop.svc.cluster.local", true),
        ("my_service", true),
        ("10.0.0.1", true),
        ("x--y.example", true),
        ("", false),
        (".", false),
        ("a.", false),
        (".a", false),
        ("a..b", false),
        ("-a", false),
        ("a-", false),
        ("a.B", false),
        ("a:80", false),
        ("*.a", false),
        ("a b", false),
        ("münchen", false),
        ("[::1]", false),
        (long_label.as_str(), false),
        (&long_label[1..], true),
        (long_name.as_str(), false),
        (&long_name[1..], true),
    ] {
        assert_eq!(super::host("host", host).is_ok(), allowed, "{host:?}");
    }
}

#[test]
fn tells_origins_from_what_only_looks_like_one() {
    for (origin, allowed) in [
        ("*", true),
        ("https://example.com", true),
        ("https://*.example.com", true),
        ("http://localhost:3000", true),
        ("https://a:80", true),
        ("custom+app://a", true),
        ("null", false),
        ("https://", false),
        ("https://a:443", false),
        ("http://a:", false),
        ("http://a:0", false),
        ("http://a:080", false),
        ("http://a:+8", false),
        ("http://a:65536", false),
        ("http://a/", false),
        ("http://a.*.b", false),
        ("HTTP://a", false),
        ("https://A", false),
        ("1a://b", false),
    ] {
        assert_eq!(super::origin("origin", origin).is_ok(), allowed, "{origin:?}");
    }
}

#[test]
fn keeps_edits_off_the_fields_that_are_not_theirs() {
    for (name, allowed) in [
        ("x-a", true),
        ("authorization", true),
        ("x-forwarded-prefix", true),
        ("set-cookie", true),
        ("server", true),
        ("connection", false),
        ("transfer-encoding", false),
        ("keep-alive", false),
        ("upgrade", false),
        ("via", false),
        ("x-forwarded-for", false),
        ("x-forwarded-proto", false),
        ("x-request-id", false),
        ("", false),
        ("X-A", false),
        ("a:b", false),
        ("a b", false),
    ] {
        assert_eq!(editable_name("set", name).is_ok(), allowed, "{name:?}");
    }
    for (value, allowed) in [
        ("", true),
        ("a b", true),
        ("é", true),
        (" a", false),
        ("a\t", false),
        ("\0", false),
        ("\u{7f}", false),
    ] {
        assert_eq!(field_value("set", value).is_ok(), allowed, "{value:?}");
    }
}

#[test]
fn patterns_stand_for_the_whole_value() {
    for (pattern, text, matches) in [
        ("a|b", "a", true),
        ("a|b", "ab", false),
        ("a|b", "xb", false),
        ("(?m)^a$", "a\nb", false),
        ("(a)|(b)", "b", true),
        ("(?x) a # comment \n", "a", true),
        ("/v[0-9]+/.*", "/v1/x", true),
        (".*", "\n", false),
        ("", "", true),
        ("", "a", false),
    ] {
        let regex = compile_regex(pattern).expect("a pattern");
        assert_eq!(regex.is_match(text.as_bytes()), matches, "{pattern:?} on {text:?}");
    }
    for pattern in ["a)|(b", "(", "[a", "a\\", "*", "(?x) a # comment", "(?P<n>a)(?P<n>b)"] {
        assert!(compile_regex(pattern).is_err(), "{pattern:?}");
    }
}
