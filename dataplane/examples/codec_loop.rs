//! Runs one path of the HTTP/1 codec in a loop, for an instruction counter to watch.
//!
//! `codec_loop SCENARIO ITERATIONS`, with SCENARIO one of `get`, `get-30-fields`, `response`,
//! `response-30-fields`, `chunked-16k`, `empty`. Under `perf stat -e instructions:u`, or
//! `valgrind --tool=callgrind` where the machine has no counters; the difference of two runs,
//! divided by the difference of their iterations, is the cost of one.

use std::hint::black_box;

use anyhow::{Context, bail};
use lateen_proxy::codec::body::BodyEncoding;
use lateen_proxy::codec::date::http_date;
use lateen_proxy::codec::http1::chunked::ChunkedDecoder;
use lateen_proxy::codec::http1::head::FieldScratch;
use lateen_proxy::codec::http1::request::parse_request;
use lateen_proxy::codec::http1::response::parse_response;
use lateen_proxy::codec::http1::write_request::{RequestForwarding, write_request};
use lateen_proxy::codec::http1::write_response::{ResponseForwarding, write_response};
use lateen_proxy::codec::message::{HeadLimits, Method, Persistence, Scheme, Version};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    headers_max: 128,
    target_bytes_max: 8 * 1024,
    trace_allowed: false,
};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().context("name a scenario")?;
    let iterations: u64 = arguments.next().context("say how many iterations")?.parse()?;
    let many: String =
        (0..26).map(|n| format!("X-Some-Field-{n:02}: {}\r\n", "v".repeat(55))).collect();
    let fields = "Host: 127.0.0.1:8080\r\nUser-Agent: wrk/4.1.0\r\nAccept: */*\r\n\
                  Accept-Encoding: identity\r\n";
    let answer = "Server: nginx\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                  Content-Type: text/plain\r\nContent-Length: 100\r\n";
    let line = "GET /index.html HTTP/1.1\r\n";
    match scenario.as_str() {
        "get" => requests(format!("{line}{fields}\r\n").as_bytes(), iterations),
        "get-30-fields" => requests(format!("{line}{fields}{many}\r\n").as_bytes(), iterations),
        "response" => responses(format!("HTTP/1.1 200 OK\r\n{answer}\r\n").as_bytes(), iterations),
        "response-30-fields" => {
            responses(format!("HTTP/1.1 200 OK\r\n{answer}{many}\r\n").as_bytes(), iterations)
        }
        "chunked-16k" => {
            let body = format!("4000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x4000));
            let mut out = Vec::with_capacity(32 * 1024);
            for _ in 0..iterations {
                out.clear();
                let mut decoder = ChunkedDecoder::new();
                let input = black_box(body.as_bytes());
                decoder.transcode(input, &mut out, BodyEncoding::Chunked)?;
                black_box(&out);
            }
            Ok(())
        }
        "empty" => Ok(()),
        other => bail!("no scenario is called {other}"),
    }
}

fn requests(bytes: &[u8], iterations: u64) -> anyhow::Result<()> {
    let mut out = Vec::with_capacity(16 * 1024);
    let forwarding = RequestForwarding {
        client_address: b"127.0.0.1",
        scheme: Scheme::Http,
        request_id: Some(b"0123456789abcdef0123456789abcdef"),
        authority_if_missing: b"127.0.0.1:8080",
        upgrade: true,
        edits: None,
    };
    for _ in 0..iterations {
        out.clear();
        request(black_box(bytes), black_box(&forwarding), &mut out)?;
        black_box(&out);
    }
    Ok(())
}

#[inline(never)]
fn request(
    bytes: &[u8],
    forwarding: &RequestForwarding<'_>,
    out: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let mut scratch = FieldScratch::new();
    let head = parse_request(bytes, &mut scratch, &LIMITS)?.context("a whole head")?;
    write_request(&head, forwarding, out);
    Ok(())
}

fn responses(bytes: &[u8], iterations: u64) -> anyhow::Result<()> {
    let mut out = Vec::with_capacity(16 * 1024);
    let date = http_date(784_111_777);
    let forwarding = ResponseForwarding {
        client_version: Version::Http11,
        request_method: Method::Get,
        persistence: Persistence::KeepAlive,
        date: &date,
        edits: None,
    };
    for _ in 0..iterations {
        out.clear();
        response(black_box(bytes), black_box(&forwarding), &mut out)?;
        black_box(&out);
    }
    Ok(())
}

#[inline(never)]
fn response(
    bytes: &[u8],
    forwarding: &ResponseForwarding<'_>,
    out: &mut Vec<u8>,
) -> anyhow::Result<()> {
    let mut scratch = FieldScratch::new();
    let head =
        parse_response(bytes, &mut scratch, Method::Get, &LIMITS)?.context("a whole head")?;
    write_response(&head, forwarding, out);
    Ok(())
}
