//! Tables of the `fields` module.

use super::*;

#[test]
fn names_are_told_apart_in_any_case() {
    for (name, kind) in [
        ("TE", Kind::HopByHop),
        ("vIA", Kind::Via),
        ("Host", Kind::Host),
        ("hOST", Kind::Host),
        ("DATE", Kind::Date),
        ("Expect", Kind::Expect),
        ("Upgrade", Kind::Upgrade),
        ("Trailer", Kind::Trailer),
        ("Connection", Kind::Connection),
        ("Keep-Alive", Kind::HopByHop),
        ("Max-Forwards", Kind::MaxForwards),
        ("X-REQUEST-ID", Kind::RequestId),
        ("Content-Length", Kind::ContentLength),
        ("HTTP2-Settings", Kind::HopByHop),
        ("X-Forwarded-For", Kind::ForwardedFor),
        ("Proxy-Connection", Kind::HopByHop),
        ("Transfer-Encoding", Kind::TransferEncoding),
        ("X-Forwarded-Proto", Kind::ForwardedProto),
        ("Proxy-Authenticate", Kind::HopByHop),
        ("Proxy-Authorization", Kind::HopByHop),
        ("", Kind::Ordinary),
        ("Hos", Kind::Ordinary),
        ("Hosts", Kind::Ordinary),
        ("Content_Length", Kind::Ordinary),
        ("Content-Lengtg", Kind::Ordinary),
        ("User-Agent", Kind::Ordinary),
        ("x-forwarded-foo", Kind::Ordinary),
    ] {
        assert_eq!(classify(name.as_bytes()), kind, "{name}");
    }
}

#[test]
fn folding_case_equals_only_what_differs_in_case() {
    // Every byte against every byte of the names that `is` is asked about.
    for lower in *b"abcdefghijklmnopqrstuvwxyz0123456789-" {
        for byte in 0..=u8::MAX {
            let same = byte.eq_ignore_ascii_case(&lower);
            assert_eq!(is(&[byte], &[lower]), same, "{byte} {lower}");
        }
    }
}

#[test]
fn a_mask_gives_back_what_was_put_in() {
    let mut mask = FieldMask::default();
    assert_eq!(mask.iter(FIELDS_MAX).next(), None);
    for index in [255, 0, 63, 64, 130, 63] {
        mask.insert(index);
    }
    assert_eq!(mask.iter(FIELDS_MAX).collect::<Vec<_>>(), [0, 63, 64, 130, 255]);
}

#[test]
fn trailers_may_not_frame_route_or_authenticate() {
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Connection",
        "TE",
        "Trailer",
        "Upgrade",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "Via",
        "Content-Type",
        "Content-Encoding",
        "Range",
        "If-None-Match",
        "Max-Forwards",
        "Expect",
        "X-Request-Id",
        "Date",
        "WWW-Authenticate",
        "Proxy-Authorization",
        "Cache-Control",
    ] {
        assert!(is_forbidden_trailer(name.as_bytes()), "{name}");
    }
    for name in ["grpc-status", "Digest", "X-Checksum", "Server-Timing", "ETag", "i"] {
        assert!(!is_forbidden_trailer(name.as_bytes()), "{name}");
    }
}

#[test]
fn numbers_are_written_in_decimal() {
    for number in [0, 9, 10, 100, 65_536, u64::MAX] {
        let mut out = Vec::new();
        put_number(number, &mut out);
        assert_eq!(out, number.to_string().as_bytes());
    }
}

#[test]
fn list_items_lose_their_white_space_and_nothing_else() {
    let items: Vec<_> = list_items(b" a ,\tb\t,, c d").collect();
    assert_eq!(items, [b"a".as_slice(), b"b", b"", b"c d"]);
}
