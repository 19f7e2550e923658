//! The access log's line, and the buffer that a worker collects lines in.
//!
//! Before: a conductor finished a request (or a TCP connection). After: `access_log_writer`, on a
//! thread of its own, puts full buffers into the file. A worker never waits for the disk: when the
//! writer is behind, a buffer of lines is dropped and counted. No serialiser and no formatting
//! machinery: a line is written byte by byte by the code below.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use lateen_snapshot::model::Epoch;

use crate::codec::date::civil_from_days;
use crate::failure::ResponseFlag;
use crate::limits;
use crate::observe::json;
use crate::observe::metrics::Metrics;

/// One line. Text from peers comes as bytes, for none of it need be UTF-8; how such bytes are
/// written stands in [`json`]. The line's members come in the order of these fields.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// `time`: when the request's first byte came, in microseconds since the Unix epoch; written as
    /// RFC 3339 in UTC.
    pub time_us: u64,
    /// `request_id`; empty for a TCP connection.
    pub request_id: &'a [u8],
    /// `downstream`: the client's address.
    pub downstream: SocketAddr,
    /// `upstream`: the endpoint that answered, or was tried last; null when none was.
    pub upstream: Option<SocketAddr>,
    /// `method`; empty for a TCP connection, and when the request could not be parsed.
    pub method: &'a [u8],
    /// `authority`; empty as above.
    pub authority: &'a [u8],
    /// `path`, its query included; empty as above.
    pub path: &'a [u8],
    /// `version`: `HTTP/1.1`, `HTTP/1.0` or `TCP`.
    pub version: &'a str,
    /// `status` as sent to the client; 0 when none was.
    pub status: u16,
    /// `flags`: the response flag, or an empty string.
    pub flag: Option<ResponseFlag>,
    /// `request_bytes`: of the body, without chunk framing; all bytes for a TCP connection.
    pub request_bytes: u64,
    /// `response_bytes`: likewise.
    pub response_bytes: u64,
    /// `total_us`: first byte of the request to last byte of the response.
    pub total_us: u64,
    /// `upstream_us`: from the choice of an endpoint to the last byte of its response; null when
    /// none was chosen.
    pub upstream_us: Option<u64>,
    /// `processing_us`: the part of `total_us` that is the proxy's own.
    pub processing_us: u64,
    /// `retries`: further endpoints tried after the first.
    pub retries: u32,
    /// `epoch` of the config that served the request, as `X-Lateen-Epoch` says it.
    pub epoch: Epoch,
}

/// A buffer of whole lines on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The buffer whole; what lies beyond the lines is of no meaning.
    memory: Vec<u8>,
    /// Bytes of `memory` that are lines.
    used: usize,
    /// How many lines.
    pub(super) count: u64,
}

impl Lines {
    /// The lines' bytes, each with its newline.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[..self.used]
    }

    /// The buffer, to be used again; `None` when one long line made it larger than the others.
    pub(super) fn into_memory(self) -> Option<Vec<u8>> {
        (self.memory.len() == limits::ACCESS_LOG_BUFFER_BYTES).then_some(self.memory)
    }
}

/// The most bytes of a line beside the text of peers: about 300 of names and punctuation, eight
/// numbers and two addresses.
const LINE_OVERHEAD_BYTES: usize = 640;

/// One worker's lines, until they are many enough to hand over. Made by
/// [`AccessLog::buffer`](crate::observe::access_log_writer::AccessLog::buffer).
#[derive(Debug)]
pub struct AccessLogBuffer {
    lines: Lines,
    clock: ClockText,
    epoch: EpochText,
    /// `,"worker":N,"epoch":`, which is the same in every line, and its length.
    worker_member: ([u8; WORKER_MEMBER_BYTES], usize),
    /// When lines were last handed over by [`flush_when_idle`](Self::flush_when_idle).
    flushed_us: u64,
    to_writer: Sender<Lines>,
    recycled: Receiver<Vec<u8>>,
    metrics: Arc<Metrics>,
    worker: usize,
}

impl AccessLogBuffer {
    pub(super) fn new(
        worker: usize,
        to_writer: Sender<Lines>,
        recycled: Receiver<Vec<u8>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            lines: Lines::default(),
            clock: ClockText::default(),
            epoch: EpochText::of(Epoch::default()),
            worker_member: worker_member(worker),
            flushed_us: 0,
            to_writer,
            recycled,
            metrics,
            worker,
        }
    }

    /// Appends one line; hands the buffer over when the next does not fit. Never blocks; allocates
    /// only when no used buffer came back, or a line is longer than a buffer.
    pub fn record(&mut self, entry: &Entry<'_>) {
        let text = entry.request_id.len()
            + entry.method.len()
            + entry.authority.len()
            + entry.path.len()
            + entry.version.len();
        let line_max = LINE_OVERHEAD_BYTES + json::ESCAPED_BYTES_MAX * text;
        if self.lines.memory.len() - self.lines.used < line_max {
            self.make_room(line_max);
        }
        let mut out = json::Cursor::new(&mut self.lines.memory[self.lines.used..]);
        let before = out.left();
        write_request_members(&mut out, &mut self.clock, entry);
        write_outcome_members(&mut out, self.worker_member, &mut self.epoch, entry);
        debug_assert!(before - out.left() <= line_max);
        self.lines.used += before - out.left();
        self.lines.count += 1;
    }

    /// Begins a new buffer with room for `line_max` bytes.
    #[cold]
    fn make_room(&mut self, line_max: usize) {
        self.flush();
        if self.lines.memory.is_empty() {
            self.lines.memory = self.recycled.try_recv().unwrap_or_default();
        }
        let size = limits::ACCESS_LOG_BUFFER_BYTES.max(line_max);
        if self.lines.memory.len() < size {
            self.lines.memory = vec![0; size];
        }
    }

    /// Hands over what there is, or drops and counts it when the writer is behind. For the end of a
    /// worker; in between, use [`flush_when_idle`](Self::flush_when_idle).
    pub fn flush(&mut self) {
        if self.lines.count == 0 {
            return;
        }
        if let Err(refused) = self.to_writer.try_send(std::mem::take(&mut self.lines)) {
            self.lines = refused.into_inner();
            self.metrics.worker(self.worker).access_log_dropped.add(self.lines.count);
            self.lines.used = 0;
            self.lines.count = 0;
        }
    }

    /// To be called before the worker waits: hands the lines over, but at most once per
    /// [`ACCESS_LOG_FLUSH_INTERVAL`](limits::ACCESS_LOG_FLUSH_INTERVAL), since each time wakes the
    /// writer. `now_us` is any clock that does not run backwards, in microseconds.
    ///
    /// Returns when the worker should wake and call again, if lines stay behind; `None`: nothing is
    /// held, and the worker may sleep for good.
    pub fn flush_when_idle(&mut self, now_us: u64) -> Option<u64> {
        const INTERVAL_US: u64 = limits::ACCESS_LOG_FLUSH_INTERVAL.as_micros() as u64;
        if self.lines.count == 0 {
            return None;
        }
        let due_us = self.flushed_us + INTERVAL_US;
        if self.flushed_us != 0 && now_us < due_us {
            return Some(due_us);
        }
        self.flushed_us = now_us;
        self.flush();
        None
    }
}

const WORKER_MEMBER_BYTES: usize = 24;

fn worker_member(worker: usize) -> ([u8; WORKER_MEMBER_BYTES], usize) {
    debug_assert!(worker < limits::WORKERS_MAX);
    let mut text = [0; 2 * WORKER_MEMBER_BYTES];
    let mut out = json::Cursor::new(&mut text);
    out.put(b",\"worker\":");
    out.number(worker as u64);
    out.put(b",\"epoch\":");
    let used = 2 * WORKER_MEMBER_BYTES - out.left();
    (*text.first_chunk().expect("twice as long"), used)
}

/// Writes what was asked: `time` to `version`.
#[inline]
fn write_request_members(out: &mut json::Cursor<'_>, clock: &mut ClockText, entry: &Entry<'_>) {
    out.put(b"{\"time\":\"");
    clock.write(out, entry.time_us);
    out.put(b"\",\"request_id\":\"");
    out.text(entry.request_id);
    out.put(b"\",\"downstream\":\"");
    write_address(out, entry.downstream);
    match entry.upstream {
        Some(upstream) => {
            out.put(b"\",\"upstream\":\"");
            write_address(out, upstream);
            out.put(b"\",\"method\":\"");
        }
        None => out.put(b"\",\"upstream\":null,\"method\":\""),
    }
    out.text(entry.method);
    out.put(b"\",\"authority\":\"");
    out.text(entry.authority);
    out.put(b"\",\"path\":\"");
    out.text(entry.path);
    out.put(b"\",\"version\":\"");
    out.text(entry.version.as_bytes());
}

/// Writes what became of it: `status` to `epoch`.
#[inline]
fn write_outcome_members(
    out: &mut json::Cursor<'_>,
    worker_member: ([u8; WORKER_MEMBER_BYTES], usize),
    epoch: &mut EpochText,
    entry: &Entry<'_>,
) {
    out.put(b"\",\"status\":");
    out.number(u64::from(entry.status));
    match entry.flag {
        Some(flag) => {
            out.put(b",\"flags\":\"");
            out.put_slice(flag.as_str().as_bytes());
            out.put(b"\",\"request_bytes\":");
        }
        None => out.put(b",\"flags\":\"\",\"request_bytes\":"),
    }
    out.number(entry.request_bytes);
    out.put(b",\"response_bytes\":");
    out.number(entry.response_bytes);
    out.put(b",\"total_us\":");
    out.number(entry.total_us);
    match entry.upstream_us {
        Some(upstream_us) => {
            out.put(b",\"upstream_us\":");
            out.number(upstream_us);
            out.put(b",\"processing_us\":");
        }
        None => out.put(b",\"upstream_us\":null,\"processing_us\":"),
    }
    out.number(entry.processing_us);
    out.put(b",\"retries\":");
    out.number(u64::from(entry.retries));
    let (member, count) = worker_member;
    out.put_first(member, count);
    epoch.write(out, entry.epoch);
    out.put(b"}\n");
}

/// JSON text of the epoch that was written last, so that it is made once per snapshot.
#[derive(Debug)]
struct EpochText {
    of: Epoch,
    text: [u8; Self::BYTES_MAX],
    used: usize,
}

impl EpochText {
    /// Eight hexadecimal digits, a dash, twenty digits and two quotes, rounded up to whole words.
    const BYTES_MAX: usize = 32;

    fn of(epoch: Epoch) -> Self {
        let made = format!("\"{epoch}\"");
        let mut text = [0; Self::BYTES_MAX];
        text[..made.len()].copy_from_slice(made.as_bytes());
        Self { of: epoch, text, used: made.len() }
    }

    #[inline]
    fn write(&mut self, out: &mut json::Cursor<'_>, epoch: Epoch) {
        if self.of != epoch {
            *self = Self::of(epoch);
        }
        out.put_first(self.text, self.used);
    }
}

/// RFC 3339 text of the second that was written last, so that a date is worked out once a second.
#[derive(Debug, Default)]
struct ClockText {
    second: u64,
    /// `2026-01-31T23:59:59.`; empty before the first use.
    text: [u8; 20],
}

impl ClockText {
    #[inline]
    fn write(&mut self, out: &mut json::Cursor<'_>, time_us: u64) {
        let second = time_us / 1_000_000;
        if second != self.second || self.text[0] == 0 {
            self.second = second;
            self.text = second_text(second);
        }
        // Six digits: the first two of eight are zeros.
        let digits = json::eight_digits((time_us % 1_000_000) as u32) >> 16;
        out.put(&self.text);
        out.put_first((digits | json::ASCII_ZEROS).to_le_bytes(), 6);
        out.put(b"Z");
    }
}

/// `YYYY-MM-DDTHH:MM:SS.` of a Unix second, for years up to 9999 (RFC 3339 §5.6).
#[cold]
fn second_text(second: u64) -> [u8; 20] {
    let (days, of_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00.";
    write_digits(&mut text[0..4], year);
    write_digits(&mut text[5..7], month);
    write_digits(&mut text[8..10], day);
    write_digits(&mut text[11..13], of_day / 3_600);
    write_digits(&mut text[14..16], of_day / 60 % 60);
    write_digits(&mut text[17..19], of_day % 60);
    text
}

/// Fills `out` with the last digits of `number`, zeros in front.
fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Writes `192.0.2.1:80` or `[2001:db8::1]:80`, as `SocketAddr` displays.
#[inline]
fn write_address(out: &mut json::Cursor<'_>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            write_octets(out, [a, b, c]);
            write_last_octet(out, d);
            out.put(b":");
        }
        IpAddr::V6(ip) => {
            out.put(b"[");
            write_ipv6(out, ip);
            out.put(b"]:");
        }
    }
    out.number(u64::from(address.port()));
}

/// Each octet with the dot behind it.
#[inline]
fn write_octets(out: &mut json::Cursor<'_>, octets: [u8; 3]) {
    for octet in octets {
        out.put_first(OCTETS[usize::from(octet)], 1 + digit_count(octet));
    }
}

#[inline]
fn write_last_octet(out: &mut json::Cursor<'_>, octet: u8) {
    out.put_first(OCTETS[usize::from(octet)], digit_count(octet));
}

#[inline]
fn digit_count(octet: u8) -> usize {
    1 + usize::from(octet > 9) + usize::from(octet > 99)
}

/// Every octet in decimal digits, and a dot.
const OCTETS: [[u8; 4]; 256] = {
    let mut octets = [[b'.'; 4]; 256];
    let mut octet = 0;
    while octet < octets.len() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let mut from = if octet > 99 {
            0
        } else if octet > 9 {
            1
        } else {
            2
        };
        let mut to = 0;
        while from < digits.len() {
            octets[octet][to] = b'0' + digits[from] as u8;
            to += 1;
            from += 1;
        }
        octet += 1;
    }
    octets
};

/// RFC 5952: lower case, no leading zeros, the longest run of zeros (two at least, the first of
/// equals) as `::`, a mapped IPv4 address in dots.
fn write_ipv6(out: &mut json::Cursor<'_>, ip: Ipv6Addr) {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        let [a, b, c, d] = mapped.octets();
        out.put(b"::ffff:");
        write_octets(out, [a, b, c]);
        return write_last_octet(out, d);
    }
    let segments = ip.segments();
    let zeros = longest_zeros(&segments);
    if zeros.len() < 2 {
        return write_segments(out, &segments);
    }
    write_segments(out, &segments[..zeros.start]);
    out.put(b"::");
    write_segments(out, &segments[zeros.end..]);
}

fn longest_zeros(segments: &[u16; 8]) -> std::ops::Range<usize> {
    let mut longest = 0..0;
    let mut start = 0;
    for (index, segment) in segments.iter().enumerate() {
        if *segment != 0 {
            start = index + 1;
        } else if index + 1 - start > longest.len() {
            longest = start..index + 1;
        }
    }
    longest
}

fn write_segments(out: &mut json::Cursor<'_>, segments: &[u16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            out.put(b":");
        }
        let digits = [12, 8, 4, 0].map(|shift| DIGITS[usize::from(segment >> shift & 15)]);
        let leading_zeros = (segment.leading_zeros() as usize / 4).min(3);
        out.put_slice(&digits[leading_zeros..]);
    }
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
