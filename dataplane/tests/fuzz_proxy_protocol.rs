//! Fuzz target of the PROXY protocol's header.
//!
//! Of any input: nothing panics; bytes that trickle in get the verdict that they get at once; a header
//! is no longer than allowed; and what is accepted reads the same when it is written again. Random bytes
//! hardly ever begin a header, so each input is also read behind one of its starts, and as a script, where
//! a byte stands for a word of one.

use bolero::check;
use lateen_proxy::codec::proxy_protocol::{
    ProxyHeader, V1_BYTES_MAX, V2_PAYLOAD_BYTES_MAX, parse_proxy_header, put_proxy_header,
};
use lateen_snapshot::model::proxy_protocol::ProxyVersion;

const STARTS: [&[u8]; 4] = [
    b"PROXY TCP4 ",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0",
    b"\r\n\r\n\0\r\nQUIT\n",
];

const WORDS: [&[u8]; 16] = [
    b"PROXY ",
    b"TCP4 ",
    b"TCP6 ",
    b"UNKNOWN",
    b"192.0.2.1 ",
    b"2001:db8::1 ",
    b"::ffff:192.0.2.1 ",
    b"0 ",
    b"65535",
    b"65536",
    b" ",
    b"\r\n",
    b"\r",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
    b"\x20\0\0\0",
];

#[test]
fn proxy_header() {
    check!(name = "proxy_header").with_max_len(256).for_each(|input: &[u8]| {
        check_header(input);
        for start in STARTS {
            check_header(&[start, input].concat());
        }
        let spell = |byte: &u8| match WORDS.get(usize::from(*byte)) {
            Some(word) => word.to_vec(),
            None => vec![*byte],
        };
        check_header(&input.iter().flat_map(spell).collect::<Vec<u8>>());
    });
}

fn check_header(bytes: &[u8]) {
    let at_once = parse_proxy_header(bytes);
    let trickled = (0..=bytes.len())
        .map(|count| parse_proxy_header(&bytes[..count]))
        .find(|verdict| !matches!(verdict, Ok(None)));
    assert_eq!(trickled.unwrap_or(Ok(None)), at_once, "{}", bytes.escape_ascii());
    let Ok(Some(header)) = at_once else { return };
    assert!(header.consumed <= V1_BYTES_MAX.max(16 + V2_PAYLOAD_BYTES_MAX));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut out = Vec::new();
        put_proxy_header(version, header.ends, &mut out);
        let again = parse_proxy_header(&out).expect("a header").expect("a whole one");
        assert_eq!(again.consumed, out.len());
        // Addresses are written in the form of their own family.
        let mut twice = Vec::new();
        put_proxy_header(version, again.ends, &mut twice);
        assert_eq!(twice, out);
        assert_eq!(again.ends.is_some(), header.ends.is_some());
        let _: ProxyHeader = again;
    }
}
