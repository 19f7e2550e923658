//! Fuzz targets of the HTTP/1 codec: the request head, the response head, the chunked coding.
//!
//! Each checks three things of any input: nothing panics; bytes that trickle in get the verdict
//! that they get at once; what is accepted and written again reads the same to this parser and to
//! the small strict reader of `reference`, which shares no code with it. Plain `cargo test` runs
//! the committed corpus and about a second of random inputs; `BOLERO_RANDOM_TEST_TIME_MS` makes it
//! longer and `BOLERO_RANDOM_SEED` replays one.
//!
//! Random bytes hardly ever look like HTTP, so each input is read in two more ways: as a script,
//! where a byte stands for a word of a dictionary or for itself, and as a few small changes to a
//! valid message of the corpus.

#[path = "fuzz_http1/reference.rs"]
mod reference;

use std::path::PathBuf;

use bolero::check;
use lateen_proxy::codec::body::{BodyEncoding, Framing};
use lateen_proxy::codec::http1::chunked::{ChunkedDecoder, ChunkedError};
use lateen_proxy::codec::http1::edits::Edits;
use lateen_proxy::codec::http1::head::FieldScratch;
use lateen_proxy::codec::http1::request::{RequestError, RequestHead, parse_request};
use lateen_proxy::codec::http1::response::{ResponseError, parse_response};
use lateen_proxy::codec::http1::write_request::{RequestEdits, RequestForwarding, write_request};
use lateen_proxy::codec::http1::write_response::{ResponseForwarding, write_response};
use lateen_proxy::codec::message::{HeadLimits, Method, Persistence, Scheme, Version};
use lateen_snapshot::model::{HeaderEdits, PathRewrite, Rewrite};

/// Small, so that inputs reach every limit.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 400, headers_max: 8, target_bytes_max: 40, trace_allowed: true };
/// What a rewritten head is read with: room for what the proxy adds.
const WIDE_LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 4096, headers_max: 64, target_bytes_max: 400, ..LIMITS };

#[test]
fn request_head() {
    let seeds = valid_corpus("request_head");
    check!(name = "request_head").with_max_len(512).for_each(|input: &[u8]| {
        check_request(input);
        check_request(&spell(input, REQUEST_WORDS));
        check_request(&mutate(input, &seeds, REQUEST_WORDS));
    });
}

#[test]
fn response_head() {
    let seeds = valid_corpus("response_head");
    check!(name = "response_head").with_max_len(512).for_each(|input: &[u8]| {
        check_response(input);
        check_response(&spell(input, RESPONSE_WORDS));
        check_response(&mutate(input, &seeds, RESPONSE_WORDS));
    });
}

#[test]
fn chunked_body() {
    let seeds = valid_corpus("chunked_body");
    check!(name = "chunked_body").with_max_len(512).for_each(|input: &[u8]| {
        check_chunked(input);
        check_chunked(&spell(input, CHUNKED_WORDS));
        check_chunked(&mutate(input, &seeds, CHUNKED_WORDS));
    });
}

/// A file whose name begins with `valid` is accepted, with `hostile` refused, with `partial`
/// neither: so the corpus can't turn into noise unseen.
#[test]
fn the_corpus_gets_the_verdicts_that_its_names_say() {
    type Verdict = fn(&[u8]) -> Option<bool>;
    let targets: [(&str, Verdict); 3] = [
        ("request_head", accepts_request),
        ("response_head", accepts_response),
        ("chunked_body", accepts_chunked),
    ];
    let mut seen = 0;
    for (target, verdict) in targets {
        let folder: PathBuf =
            [env!("CARGO_MANIFEST_DIR"), "tests/__fuzz__", target, "corpus"].iter().collect();
        for file in std::fs::read_dir(&folder).expect("a committed corpus") {
            let path = file.expect("a readable folder").path();
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            let expected = match name.split('-').next() {
                Some("valid") => Some(true),
                Some("hostile") => Some(false),
                Some("partial") => None,
                _ => panic!("{name}: a corpus file is named after its verdict"),
            };
            let bytes = std::fs::read(&path).expect("a readable file");
            assert_eq!(verdict(&bytes), expected, "{target}/{name}");
            seen += 1;
        }
    }
    assert!(seen >= 60, "only {seen} files");
}

fn accepts_request(bytes: &[u8]) -> Option<bool> {
    match parse_request(bytes, &mut FieldScratch::new(), &WIDE_LIMITS) {
        Ok(Some(_)) => Some(true),
        Ok(None) => None,
        Err(_) => Some(false),
    }
}

fn accepts_response(bytes: &[u8]) -> Option<bool> {
    match parse_response(bytes, &mut FieldScratch::new(), Method::Get, &WIDE_LIMITS) {
        Ok(Some(_)) => Some(true),
        Ok(None) => None,
        Err(_) => Some(false),
    }
}

fn accepts_chunked(bytes: &[u8]) -> Option<bool> {
    match ChunkedDecoder::new().transcode(bytes, &mut Vec::new(), BodyEncoding::Plain) {
        Ok(progress) => progress.done.then_some(true),
        Err(_) => Some(false),
    }
}

fn spell(script: &[u8], words: &[&str]) -> Vec<u8> {
    let mut text = Vec::new();
    for &byte in script.iter().take(24) {
        match words.get(usize::from(byte) % (words.len() + 2)) {
            Some(word) => text.extend_from_slice(word.as_bytes()),
            None => text.push(byte),
        }
    }
    text
}

/// The valid messages of a target's corpus, in the order of their names.
fn valid_corpus(target: &str) -> Vec<Vec<u8>> {
    let folder: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests/__fuzz__", target, "corpus"].iter().collect();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a committed corpus")
        .map(|file| file.expect("a readable folder").path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"valid"))
        })
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

/// Changes a seed in one to three places: each change is a kind, a place and a value.
fn mutate(script: &[u8], seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    const BYTES: &[u8] = b"\r\n\0\t :;,-+0a\x7f\x80";
    let Some((&first, changes)) = script.split_first() else { return Vec::new() };
    let mut text = seeds[usize::from(first) % seeds.len()].clone();
    for change in changes.chunks_exact(3).take(1 + usize::from(first) % 3) {
        let at = usize::from(change[1]) * (text.len() + 1) / 256;
        let byte = BYTES[usize::from(change[2]) % BYTES.len()];
        let word = words[usize::from(change[2]) % words.len()];
        match change[0] % 4 {
            0 => drop(text.splice(at..at, word.bytes())),
            1 => drop(text.splice(at..(at + 1).min(text.len()), [byte])),
            2 => text.insert(at, byte),
            _ => drop(text.drain(at..(at + 1).min(text.len()))),
        }
    }
    text
}

/// The ends of the prefixes to try: all of a short input, and a sample of a long one.
fn prefix_ends(length: usize) -> impl Iterator<Item = usize> {
    let step = 1 + length / 200;
    (0..length).step_by(step).chain([length])
}

type RequestFacts = (usize, Method, Vec<u8>, Option<Vec<u8>>, Framing, bool);

fn request_facts(bytes: &[u8], limits: &HeadLimits) -> Result<Option<RequestFacts>, RequestError> {
    let mut scratch = FieldScratch::new();
    Ok(parse_request(bytes, &mut scratch, limits)?.map(|head| {
        let authority = head.authority.map(<[u8]>::to_vec);
        let path = head.path.to_vec();
        (head.consumed, head.method, path, authority, head.framing, head.upgrade.is_some())
    }))
}

fn check_request(bytes: &[u8]) {
    let whole = request_facts(bytes, &LIMITS);
    let trickled = prefix_ends(bytes.len())
        .map(|end| request_facts(&bytes[..end], &LIMITS))
        .find(|verdict| *verdict != Ok(None))
        .unwrap_or(Ok(None));
    assert_eq!(whole, trickled, "whole and trickled");
    let Ok(Some((consumed, method, path, authority, framing, _))) = whole else { return };

    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let read = reference::read_head(&bytes[start..]).expect("accepted, so valid");
    assert_eq!((read.bytes + start, read.framing), (consumed, framing), "before");

    let mut scratch = FieldScratch::new();
    let head = parse_request(bytes, &mut scratch, &LIMITS).expect("as before").expect("as before");
    if head.max_forwards == Some(0) {
        return;
    }
    let forwarding = RequestForwarding {
        client_address: b"192.0.2.1",
        scheme: Scheme::Http,
        request_id: Some(b"id"),
        authority_if_missing: b"upstream:80",
        upgrade: true,
        edits: None,
    };
    let mut out = Vec::new();
    write_request(&head, &forwarding, &mut out);

    let again = request_facts(&out, &WIDE_LIMITS).expect("valid again").expect("whole again");
    let authority = authority.or(Some(b"upstream:80".to_vec()));
    let expected = (out.len(), method, path, authority, framing, head.upgrade.is_some());
    assert_eq!(again, expected, "{:?}", String::from_utf8_lossy(&out));
    let read = reference::read_head(&out).expect("valid again");
    assert_eq!((read.bytes, read.framing), (out.len(), framing), "after");
    assert_eq!(read.names[0], "host", "Host comes first");
    for once in ["host", "x-forwarded-for", "x-forwarded-proto", "x-request-id"] {
        assert_eq!(read.count(once), 1, "{once}");
    }
    for gone in ["keep-alive", "te", "proxy-connection", "http2-settings", "proxy-authorization"] {
        assert_eq!(read.count(gone), 0, "{gone}");
    }
    assert_eq!(read.count("connection"), usize::from(head.upgrade.is_some()));
    assert_eq!(read.count("upgrade"), usize::from(head.upgrade.is_some()));
    check_edited_request(&head, &forwarding);
}

/// A new host, a new path and a field that is set: the rest reads as it did.
fn check_edited_request(head: &RequestHead<'_>, forwarding: &RequestForwarding<'_>) {
    let fields = HeaderEdits { set: vec![("x".into(), "edited".into())], ..HeaderEdits::default() };
    let fields = Edits::compile(&[&fields], &[]).expect("valid");
    let path = Some(PathRewrite::Prefix("/new".into()));
    let rewrite = Rewrite { host: Some("new.example".into()), path };
    let edits = RequestEdits {
        fields: fields.as_ref(),
        rewrite: Some(&rewrite),
        prefix_bytes: head.target.len() as u32 / 2,
    };
    let mut out = Vec::new();
    write_request(head, &RequestForwarding { edits: Some(edits), ..*forwarding }, &mut out);

    let again = request_facts(&out, &WIDE_LIMITS).expect("valid again").expect("whole again");
    let (consumed, method, path, authority, framing, upgrades) = again;
    assert_eq!((consumed, method, framing), (out.len(), head.method, head.framing));
    assert_eq!((authority, upgrades), (Some(b"new.example".to_vec()), head.upgrade.is_some()));
    assert!(path == b"*" || path.starts_with(b"/new"), "{:?}", String::from_utf8_lossy(&path));
    let read = reference::read_head(&out).expect("valid again");
    assert_eq!((read.count("host"), read.count("x")), (1, 1));
    assert_eq!(read.count("x-forwarded-host"), usize::from(head.authority.is_some()));
}

type ResponseFacts = (usize, u16, Framing, Option<u64>, bool);

fn response_facts(
    bytes: &[u8],
    method: Method,
    limits: &HeadLimits,
) -> Result<Option<ResponseFacts>, ResponseError> {
    let mut scratch = FieldScratch::new();
    Ok(parse_response(bytes, &mut scratch, method, limits)?.map(|head| {
        (head.consumed, head.status, head.framing, head.declared_length, head.keep_alive)
    }))
}

fn check_response(bytes: &[u8]) {
    for method in [Method::Get, Method::Head] {
        let whole = response_facts(bytes, method, &LIMITS);
        let trickled = prefix_ends(bytes.len())
            .map(|end| response_facts(&bytes[..end], method, &LIMITS))
            .find(|verdict| *verdict != Ok(None))
            .unwrap_or(Ok(None));
        assert_eq!(whole, trickled, "whole and trickled");
        let Ok(Some(facts)) = whole else { return };
        let read = reference::read_head(bytes).expect("accepted, so valid");
        assert_eq!(read.bytes, facts.0, "before");
        for version in [Version::Http10, Version::Http11] {
            check_rewritten_response(bytes, method, version);
        }
    }
}

fn check_rewritten_response(bytes: &[u8], method: Method, client_version: Version) {
    let mut scratch = FieldScratch::new();
    let head = parse_response(bytes, &mut scratch, method, &LIMITS);
    let head = head.expect("as before").expect("as before");
    let forwarding = ResponseForwarding {
        client_version,
        request_method: method,
        persistence: match head.status {
            101 => Persistence::Upgrade,
            _ => Persistence::KeepAlive,
        },
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        edits: None,
    };
    let mut out = Vec::new();
    let body = write_response(&head, &forwarding, &mut out);
    if head.is_interim() && client_version == Version::Http10 {
        assert_eq!(out, b"");
        return;
    }
    let (consumed, status, framing, ..) =
        response_facts(&out, method, &WIDE_LIMITS).expect("valid again").expect("whole again");
    let expected = match (head.framing, body.encoding) {
        (_, BodyEncoding::Chunked) => Framing::Chunked,
        (Framing::Chunked, BodyEncoding::Plain) => Framing::UntilClose,
        (framing, BodyEncoding::Plain) => framing,
    };
    assert_eq!((consumed, status, framing), (out.len(), head.status, expected));
    assert_eq!(body.ends_by_close, framing == Framing::UntilClose);
    let read = reference::read_head(&out).expect("valid again");
    assert_eq!(read.bytes, out.len(), "after");
    if matches!(framing, Framing::Chunked | Framing::Length(_)) {
        assert_eq!(read.framing, framing, "after");
    }
    let final_answer = usize::from(status >= 200);
    assert!(read.count("date") >= final_answer, "a final response has a date");
    for gone in ["keep-alive", "te", "proxy-connection", "proxy-authenticate"] {
        assert_eq!(read.count(gone), 0, "{gone}");
    }
}

/// Decodes in pieces; gives the data, what was consumed and whether the end came.
fn decode(
    bytes: &[u8],
    piece: usize,
    encoding: BodyEncoding,
) -> Result<(Vec<u8>, usize, bool), ChunkedError> {
    let mut decoder = ChunkedDecoder::new();
    let (mut out, mut consumed) = (Vec::new(), 0);
    for part in bytes.chunks(piece) {
        consumed += decoder.transcode(part, &mut out, encoding)?.consumed;
    }
    Ok((out, consumed, decoder.is_done()))
}

fn check_chunked(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1), BodyEncoding::Plain);
    for piece in [1, 3, 16] {
        assert_eq!(decode(bytes, piece, BodyEncoding::Plain), whole, "in pieces of {piece}");
    }
    let accepted = whole.ok().filter(|(.., done)| *done);
    let read = reference::read_chunked(bytes);
    if bytes.len() < 256 || accepted.is_some() {
        // Too short for any bound: what is valid must be accepted too.
        let accepted = accepted.clone().map(|(data, consumed, _)| (data, consumed));
        assert_eq!(accepted, read, "before");
    }
    let Some((data, ..)) = accepted else { return };
    for piece in [1, 5, bytes.len()] {
        let (out, _, done) = decode(bytes, piece, BodyEncoding::Chunked).expect("as before");
        assert!(done);
        let expected = Some((data.clone(), out.len()));
        assert_eq!(reference::read_chunked(&out), expected, "after, in pieces of {piece}");
        let again = decode(&out, out.len(), BodyEncoding::Plain);
        assert_eq!(again, Ok((data.clone(), out.len(), true)), "again, in pieces of {piece}");
    }
}

#[rustfmt::skip]
const REQUEST_WORDS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n", "\r\n", "\r\n\r\n", "\n", "\r", " ", ":", "\t", ",", "\0",
    "POST /x HTTP/1.1\r\n", "GET http://b:8/y HTTP/1.1\r\n", "OPTIONS * HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n", "TRACE / HTTP/1.1\r\n", "CONNECT a:1 HTTP/1.1\r\n", "HTTP/2.0", "GET ",
    "Host: a\r\n", "Host: b:80\r\n", "Content-Length: 5\r\n", "Content-Length:", " 7\r\n",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:", "chunked", "gzip", "identity",
    "Connection: close\r\n", "Connection: keep-alive, x\r\n", "Connection: upgrade\r\n",
    "Connection: ", "Upgrade: websocket, h2c\r\n", "Upgrade: h2c\r\n", "X: y\r\n", "x:\r\n",
    "Expect: 100-continue\r\n", "Max-Forwards: 3\r\n", "Max-Forwards: 0\r\n", "TE: trailers\r\n",
    "X-Forwarded-For: 1.1.1.1\r\n", "X-Forwarded-Proto: https\r\n", "X-Request-Id: q\r\n",
    "Keep-Alive: 5\r\n", "Proxy-Connection: x\r\n", "HTTP2-Settings: x\r\n", "Trailer: d\r\n",
    "Via: 1.1 z\r\n", "content-length", "transfer-encoding", " f\r\n", "Proxy-Authorization: q\r\n",
];

#[rustfmt::skip]
const RESPONSE_WORDS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 204 No Content\r\n", "HTTP/1.1 200\r\n",
    "HTTP/1.1 304 Not Modified\r\n", "HTTP/1.1 100 Continue\r\n", "HTTP/1.1 103 Early\r\n",
    "HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", "HTTP/1.1 ", "200", "099",
    "\r\n", "\r\n\r\n", "\n", "\r", " ", ":", "\t", ",", "\0", "Content-Length: 5\r\n",
    "Content-Length:", " 7\r\n", "Transfer-Encoding: chunked\r\n", "Transfer-Encoding:", "chunked",
    "Connection: close\r\n", "Connection: keep-alive\r\n", "Connection: upgrade\r\n", "X: y\r\n",
    "Upgrade: h2\r\n", "Date: x\r\n", "Trailer: d\r\n", "Keep-Alive: 5\r\n", " folded\r\n",
    "Proxy-Authenticate: x\r\n", "Connection: x, y\r\n", "Server: s\r\n", "Set-Cookie: a=b\r\n",
];

#[rustfmt::skip]
const CHUNKED_WORDS: &[&str] = &[
    "0\r\n\r\n", "0\r\n", "1\r\nx\r\n", "5\r\nhello\r\n", "a\r\n0123456789\r\n", "3;e=f\r\nabc\r\n",
    "00", "f", "ffffffff", "7fffffff", "10", ";", ";a=\"b\"", "\r\n", "\n", "\r", " ", "\t", "-", "0x",
    "A: b\r\n", "Host: x\r\n", "Content-Length: 1\r\n", ": ", "\r\n\r\n", "data", "\0", "+1",
];
