//! The access log's line, and the buffer that a worker collects lines in.
//!
//! Before: a conductor finished a request (or a TCP connection). After: `access_log_writer`, on a
//! thread of its own, puts full buffers into the file. A worker never waits for the disk: when the
//! writer is behind, a buffer of lines is dropped and counted. No serialiser and no formatting
//! machinery: a line is written byte by byte by the code below.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

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
    /// `epoch` of the config that served the request.
    pub epoch: u64,
}

/// A buffer of whole lines on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

/// One worker's lines, until they are many enough to hand over. Made by
/// [`AccessLog::buffer`](crate::observe::access_log_writer::AccessLog::buffer).
#[derive(Debug)]
pub struct AccessLogBuffer {
    lines: Lines,
    clock: ClockText,
    /// `,"worker":N,"epoch":`, which is the same in every line.
    worker_member: Vec<u8>,
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
        let mut worker_member = b",\"worker\":".to_vec();
        json::push_number(&mut worker_member, worker as u64);
        worker_member.extend_from_slice(b",\"epoch\":");
        Self {
            lines: Lines::default(),
            clock: ClockText::default(),
            worker_member,
            flushed_us: 0,
            to_writer,
            recycled,
            metrics,
            worker,
        }
    }

    /// Appends one line; hands the buffer over when it is full. Never blocks; allocates only when no
    /// used buffer came back.
    pub fn record(&mut self, entry: &Entry<'_>) {
        if self.lines.bytes.capacity() == 0 {
            self.lines.bytes = self
                .recycled
                .try_recv()
                .unwrap_or_else(|_| Vec::with_capacity(limits::ACCESS_LOG_BUFFER_BYTES));
        }
        let out = &mut self.lines.bytes;
        out.extend_from_slice(b"{\"time\":\"");
        self.clock.push(out, entry.time_us);
        out.extend_from_slice(b"\",\"request_id\":");
        json::push_string(out, entry.request_id);
        out.extend_from_slice(b",\"downstream\":\"");
        push_address(out, entry.downstream);
        match entry.upstream {
            Some(upstream) => {
                out.extend_from_slice(b"\",\"upstream\":\"");
                push_address(out, upstream);
                out.extend_from_slice(b"\",\"method\":");
            }
            None => out.extend_from_slice(b"\",\"upstream\":null,\"method\":"),
        }
        json::push_string(out, entry.method);
        out.extend_from_slice(b",\"authority\":");
        json::push_string(out, entry.authority);
        out.extend_from_slice(b",\"path\":");
        json::push_string(out, entry.path);
        out.extend_from_slice(b",\"version\":\"");
        out.extend_from_slice(entry.version.as_bytes());
        out.extend_from_slice(b"\",\"status\":");
        json::push_number(out, u64::from(entry.status));
        match entry.flag {
            Some(flag) => {
                out.extend_from_slice(b",\"flags\":\"");
                out.extend_from_slice(flag.as_str().as_bytes());
                out.extend_from_slice(b"\",\"request_bytes\":");
            }
            None => out.extend_from_slice(b",\"flags\":\"\",\"request_bytes\":"),
        }
        json::push_number(out, entry.request_bytes);
        out.extend_from_slice(b",\"response_bytes\":");
        json::push_number(out, entry.response_bytes);
        out.extend_from_slice(b",\"total_us\":");
        json::push_number(out, entry.total_us);
        match entry.upstream_us {
            Some(upstream_us) => {
                out.extend_from_slice(b",\"upstream_us\":");
                json::push_number(out, upstream_us);
                out.extend_from_slice(b",\"processing_us\":");
            }
            None => out.extend_from_slice(b",\"upstream_us\":null,\"processing_us\":"),
        }
        json::push_number(out, entry.processing_us);
        out.extend_from_slice(b",\"retries\":");
        json::push_number(out, u64::from(entry.retries));
        out.extend_from_slice(&self.worker_member);
        json::push_number(out, entry.epoch);
        out.extend_from_slice(b"}\n");
        self.lines.count += 1;
        if out.len() > limits::ACCESS_LOG_BUFFER_BYTES - limits::ACCESS_LOG_LINE_BYTES {
            self.flush();
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
            self.lines.bytes.clear();
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

/// RFC 3339 text of the second that was written last, so that a date is worked out once a second.
#[derive(Debug, Default)]
struct ClockText {
    second: u64,
    /// `2026-01-31T23:59:59.`; empty before the first use.
    text: [u8; 20],
}

impl ClockText {
    #[inline]
    fn push(&mut self, out: &mut Vec<u8>, time_us: u64) {
        let second = time_us / 1_000_000;
        if second != self.second || self.text[0] == 0 {
            self.second = second;
            self.text = second_text(second);
        }
        // Six digits: the first two of eight are zeros.
        let digits = json::decimal_digits((time_us % 1_000_000) as u32) >> 16;
        let fraction = (digits | json::ASCII_ZEROS).to_le_bytes();
        out.extend_from_slice(&self.text);
        json::push_first(out, fraction, 6);
        out.push(b'Z');
    }
}

/// `YYYY-MM-DDTHH:MM:SS.` of a Unix second, for years up to 9999 (RFC 3339 §5.6).
///
/// The calendar: E. G. Richards' and H. Hinnant's way, with years that begin in March, so that the
/// leap day is a year's last.
#[cold]
fn second_text(second: u64) -> [u8; 20] {
    let (days, of_day) = (second / 86_400, second % 86_400);
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
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

/// Appends `192.0.2.1:80` or `[2001:db8::1]:80`, as `SocketAddr` displays.
#[inline]
fn push_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => push_ipv4(out, ip),
        IpAddr::V6(ip) => {
            out.push(b'[');
            push_ipv6(out, ip);
            out.push(b']');
        }
    }
    out.push(b':');
    json::push_number(out, u64::from(address.port()));
}

fn push_ipv4(out: &mut Vec<u8>, ip: Ipv4Addr) {
    for octet in ip.octets() {
        let count = 2 + usize::from(octet > 9) + usize::from(octet > 99);
        json::push_first(out, OCTETS[usize::from(octet)], count);
    }
    // The last octet's dot.
    out.pop();
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
fn push_ipv6(out: &mut Vec<u8>, ip: Ipv6Addr) {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        push_ipv4(out, mapped);
        return;
    }
    let segments = ip.segments();
    let zeros = longest_zeros(&segments);
    let mut index = 0;
    while index < segments.len() {
        if zeros.len() >= 2 && index == zeros.start {
            out.extend_from_slice(b"::");
            index = zeros.end;
            continue;
        }
        if index > 0 && !(zeros.len() >= 2 && index == zeros.end) {
            out.push(b':');
        }
        push_segment(out, segments[index]);
        index += 1;
    }
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

fn push_segment(out: &mut Vec<u8>, segment: u16) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = [12, 8, 4, 0].map(|shift| DIGITS[usize::from(segment >> shift & 15)]);
    let leading = (segment.leading_zeros() as usize / 4).min(3);
    out.extend_from_slice(&digits[leading..]);
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
