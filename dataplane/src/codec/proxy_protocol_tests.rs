//! Whole headers in, addresses out; the same one byte at a time; and what is refused.

use super::*;

fn ends(source: &str, destination: &str) -> Option<Ends> {
    let address = |text: &str| text.parse().expect("an address");
    Some(Ends { source: address(source), destination: address(destination) })
}

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = V2_START.to_vec();
    bytes.extend([command, family]);
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn accepted() -> Vec<(Vec<u8>, Option<Ends>)> {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x01, 0xbb];
    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[32..].copy_from_slice(&[0, 1, 0, 2]);
    let with_fields = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    vec![
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n".to_vec(),
            ends("192.0.2.1:8080", "198.51.100.2:443"),
        ),
        (
            b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n".to_vec(),
            ends("[2001:db8::1]:1", "[::2]:65535"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN ffff::1 what ever\r\n".to_vec(), None),
        (v2(0x21, 0x11, &v4), ends("192.0.2.1:8080", "198.51.100.2:443")),
        (v2(0x21, 0x11, &with_fields), ends("192.0.2.1:8080", "198.51.100.2:443")),
        (v2(0x21, 0x21, &v6), ends("[::1]:1", "[::2]:2")),
        (v2(0x21, 0x31, &[7; 216]), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, &v4), None),
        (v2(0x20, 0x00, &[9; V2_PAYLOAD_BYTES_MAX]), None),
    ]
}

#[test]
fn headers_are_read_whole_and_byte_by_byte() {
    for (mut bytes, ends) in accepted() {
        let whole = bytes.len();
        for count in 0..whole {
            assert_eq!(parse_proxy_header(&bytes[..count]), Ok(None), "{count} of {bytes:?}");
        }
        let header = Ok(Some(ProxyHeader { consumed: whole, ends }));
        assert_eq!(parse_proxy_header(&bytes), header);
        bytes.extend(b"GET / HTTP/1.1\r\n");
        assert_eq!(parse_proxy_header(&bytes), header);
    }
}

#[test]
fn what_is_no_header_is_refused() {
    use ProxyHeaderError::{Invalid, Missing, TooLong};
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    let mut too_long = v2(0x21, 0x11, &[]);
    too_long[14..16].copy_from_slice(&(V2_PAYLOAD_BYTES_MAX as u16 + 1).to_be_bytes());
    let table: Vec<(Vec<u8>, ProxyHeaderError)> = vec![
        (b"GET / HTTP/1.1\r\n".to_vec(), Missing),
        (b"PROXZ".to_vec(), Missing),
        (b"proxy TCP4".to_vec(), Missing),
        (b"\r\n\r\nGET".to_vec(), Missing),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n".to_vec(), Invalid),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443 \r\n".to_vec(), Invalid),
        (b"PROXY TCP4 192.0.2.1  198.51.100.2 8080 443\r\n".to_vec(), Invalid),
        (b"PROXY TCP4 192.0.2.01 198.51.100.2 8080 443\r\n".to_vec(), Invalid),
        (b"PROXY TCP4 ::1 ::2 8080 443\r\n".to_vec(), Invalid),
        (b"PROXY TCP6 192.0.2.1 192.0.2.2 8080 443\r\n".to_vec(), Invalid),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 08080 443\r\n".to_vec(), Invalid),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 +80 443\r\n".to_vec(), Invalid),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n".to_vec(), Invalid),
        (b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n".to_vec(), Invalid),
        (b"PROXY \xff\r\n".to_vec(), Invalid),
        (b"PROXY \r\n".to_vec(), Invalid),
        (endless, TooLong),
        (v2(0x21, 0x11, &[1; 11]), Invalid),
        (v2(0x21, 0x21, &[1; 35]), Invalid),
        (v2(0x21, 0x12, &[1; 12]), Invalid),
        (v2(0x22, 0x11, &[1; 12]), Invalid),
        (v2(0x11, 0x11, &[1; 12]), Invalid),
        (v2(0x11, 0x11, &[])[..13].to_vec(), Invalid),
        (too_long, TooLong),
    ];
    for (bytes, error) in table {
        assert_eq!(parse_proxy_header(&bytes), Err(error), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_is_written_reads_the_same() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        for (source, destination) in
            [("192.0.2.1:1", "10.0.0.1:65535"), ("[2001:db8::1]:80", "[::1]:81")]
        {
            let mut out = Vec::new();
            let ends = ends(source, destination);
            put_proxy_header(version, ends, &mut out);
            let header = ProxyHeader { consumed: out.len(), ends };
            assert_eq!(parse_proxy_header(&out), Ok(Some(header)));
        }
        let mut out = Vec::new();
        put_proxy_header(version, None, &mut out);
        let header = ProxyHeader { consumed: out.len(), ends: None };
        assert_eq!(parse_proxy_header(&out), Ok(Some(header)));

        // Mapped addresses of one family are written as what they are; of two, as the wider.
        let mut out = Vec::new();
        put_proxy_header(version, ends("[::ffff:192.0.2.1]:1", "10.0.0.1:2"), &mut out);
        let read = parse_proxy_header(&out).expect("a header").expect("a whole one");
        assert_eq!(read.ends, ends("192.0.2.1:1", "10.0.0.1:2"));
        let mut out = Vec::new();
        put_proxy_header(version, ends("192.0.2.1:1", "[2001:db8::1]:2"), &mut out);
        let read = parse_proxy_header(&out).expect("a header").expect("a whole one");
        assert_eq!(read.ends, ends("[::ffff:192.0.2.1]:1", "[2001:db8::1]:2"));
    }
}

#[test]
fn the_longest_line_fits() {
    let mut out = Vec::new();
    let longest = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
    put_proxy_header(ProxyVersion::V1, ends(longest, longest), &mut out);
    assert!(out.len() <= V1_BYTES_MAX, "{}", out.len());
}
