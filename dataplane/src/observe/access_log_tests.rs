//! The line's bytes, and when lines are handed over or dropped.

use std::net::Ipv4Addr;
use std::str::from_utf8;

use crossbeam_channel::bounded;
use proptest::prelude::*;

use super::*;

fn entry() -> Entry<'static> {
    Entry {
        time_us: 1_790_000_000_000_042,
        request_id: b"0123456789abcdef0123456789abcdef",
        downstream: "127.0.0.1:54321".parse().expect("an address"),
        upstream: Some("10.1.2.3:80".parse().expect("an address")),
        method: b"GET",
        authority: b"shop.example:8080",
        path: b"/cart?item=7",
        version: "HTTP/1.1",
        status: 200,
        flag: None,
        request_bytes: 0,
        response_bytes: 100,
        total_us: 1_234,
        upstream_us: Some(1_200),
        processing_us: 34,
        retries: 0,
        epoch: Epoch::default(),
    }
}

/// A buffer with the writer's ends of its channels, with room for `queue` buffers.
fn buffer(queue: usize) -> (AccessLogBuffer, Receiver<Lines>, Sender<Vec<u8>>, Arc<Metrics>) {
    let metrics = Metrics::new(4);
    let (to_writer, from_worker) = bounded(queue);
    let (recycle, recycled) = bounded(queue);
    let buffer = AccessLogBuffer::new(3, to_writer, recycled, Arc::clone(&metrics));
    (buffer, from_worker, recycle, metrics)
}

fn written(write: impl FnOnce(&mut json::Cursor<'_>)) -> String {
    let mut memory = [b'#'; 100];
    let mut cursor = json::Cursor::new(&mut memory);
    write(&mut cursor);
    let used = 100 - cursor.left();
    from_utf8(&memory[..used]).expect("ASCII").to_owned()
}

fn line(entry: &Entry<'_>) -> String {
    let (mut buffer, from_worker, _recycle, _metrics) = buffer(1);
    buffer.record(entry);
    buffer.flush();
    let lines = from_worker.recv().expect("one buffer");
    String::from_utf8(lines.bytes().to_vec()).expect("lines are UTF-8")
}

#[test]
fn a_line_has_every_member_in_order() {
    assert_eq!(
        line(&entry()),
        concat!(
            r#"{"time":"2026-09-21T14:13:20.000042Z","#,
            r#""request_id":"0123456789abcdef0123456789abcdef","downstream":"127.0.0.1:54321","#,
            r#""upstream":"10.1.2.3:80","method":"GET","authority":"shop.example:8080","#,
            r#""path":"/cart?item=7","version":"HTTP/1.1","status":200,"flags":"","#,
            r#""request_bytes":0,"response_bytes":100,"total_us":1234,"upstream_us":1200,"#,
            r#""processing_us":34,"retries":0,"worker":3,"epoch":"0"}"#,
            "\n"
        )
    );
}

#[test]
fn what_is_absent_is_null_and_a_failure_shows_its_flag() {
    let absent = Entry {
        upstream: None,
        upstream_us: None,
        flag: Some(ResponseFlag::NoHealthyUpstream),
        status: 503,
        retries: 2,
        epoch: Epoch { store: 7, number: 17 },
        downstream: "[2001:db8::1]:9".parse().expect("an address"),
        ..entry()
    };
    assert_eq!(
        line(&absent),
        concat!(
            r#"{"time":"2026-09-21T14:13:20.000042Z","#,
            r#""request_id":"0123456789abcdef0123456789abcdef","downstream":"[2001:db8::1]:9","#,
            r#""upstream":null,"method":"GET","authority":"shop.example:8080","#,
            r#""path":"/cart?item=7","version":"HTTP/1.1","status":503,"flags":"UH","#,
            r#""request_bytes":0,"response_bytes":100,"total_us":1234,"upstream_us":null,"#,
            r#""processing_us":34,"retries":2,"worker":3,"epoch":"00000007-17"}"#,
            "\n"
        )
    );
}

#[test]
fn seconds_are_dated_in_utc() {
    for (second, text) in [
        (0, "1970-01-01T00:00:00."),
        (951_782_399, "2000-02-28T23:59:59."),
        (951_782_400, "2000-02-29T00:00:00."),
        (951_868_800, "2000-03-01T00:00:00."),
        (1_709_164_800, "2024-02-29T00:00:00."),
        (1_767_225_599, "2025-12-31T23:59:59."),
        (1_767_225_600, "2026-01-01T00:00:00."),
        (4_107_542_400, "2100-03-01T00:00:00."),
        (253_402_300_799, "9999-12-31T23:59:59."),
    ] {
        assert_eq!(from_utf8(&second_text(second)), Ok(text));
    }
}

#[test]
fn the_cached_second_follows_the_time_both_ways() {
    let mut clock = ClockText::default();
    for (time_us, text) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (999_999, "1970-01-01T00:00:00.999999Z"),
        (1_000_000, "1970-01-01T00:00:01.000000Z"),
        (1_500_001, "1970-01-01T00:00:01.500001Z"),
        (86_400_000_000, "1970-01-02T00:00:00.000000Z"),
        (5, "1970-01-01T00:00:00.000005Z"),
    ] {
        let written = written(|out| clock.write(out, time_us));
        assert_eq!(written, text);
    }
}

#[test]
fn a_full_buffer_is_handed_over_by_itself_and_in_whole_lines() {
    let (mut buffer, from_worker, _recycle, _metrics) = buffer(4);
    let mut recorded = 0;
    while from_worker.is_empty() {
        buffer.record(&entry());
        recorded += 1;
    }
    recorded -= 1;
    let lines = from_worker.recv().expect("one is there");
    assert_eq!(lines.count, recorded);
    let bytes = lines.bytes();
    assert!(bytes.len() > limits::ACCESS_LOG_BUFFER_BYTES - 2 * 1024, "{}", bytes.len());
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, recorded);
    assert_eq!(bytes.last(), Some(&b'\n'));
    assert_eq!(buffer.lines.count, 1, "the line that found no room begins the next buffer");
}

#[test]
fn lines_are_dropped_and_counted_when_the_writer_is_behind() {
    let (mut buffer, from_worker, _recycle, metrics) = buffer(1);
    buffer.record(&entry());
    buffer.flush();
    for _ in 0..3 {
        buffer.record(&entry());
    }
    buffer.flush();
    assert_eq!(metrics.worker(3).access_log_dropped.value(), 3);
    assert_eq!(from_worker.recv().expect("the first is kept").count, 1);
    buffer.record(&entry());
    buffer.flush();
    assert_eq!(from_worker.recv().expect("there is room again").count, 1);
    assert_eq!(metrics.worker(3).access_log_dropped.value(), 3);
}

#[test]
fn a_used_buffer_is_used_again() {
    let (mut buffer, from_worker, recycle, _metrics) = buffer(1);
    let used = vec![b'#'; limits::ACCESS_LOG_BUFFER_BYTES];
    let address = used.as_ptr();
    recycle.send(used).expect("the worker's end is open");
    buffer.record(&entry());
    buffer.flush();
    let lines = from_worker.recv().expect("one buffer");
    assert_eq!(lines.bytes().as_ptr(), address);
    assert!(!lines.bytes().contains(&b'#'), "nothing of its earlier use is sent");
    assert_eq!(lines.into_memory().map(|memory| memory.as_ptr()), Some(address));
}

#[test]
fn the_longest_members_fit_the_measure() {
    let longest: SocketAddr =
        "[1111:2222:3333:4444:5555:6666:7777:8888]:65535".parse().expect("an address");
    let text = line(&Entry {
        time_us: 253_402_300_799_999_999,
        request_id: b"",
        downstream: longest,
        upstream: Some(longest),
        method: b"",
        authority: b"",
        path: b"",
        version: "",
        status: u16::MAX,
        flag: Some(ResponseFlag::DownstreamProtocolError),
        request_bytes: u64::MAX,
        response_bytes: u64::MAX,
        total_us: u64::MAX,
        upstream_us: Some(u64::MAX),
        processing_us: u64::MAX,
        retries: u32::MAX,
        epoch: Epoch { store: u64::MAX, number: u64::MAX },
    });
    // A store may touch up to 32 bytes more than it keeps.
    assert!(text.len() + 32 < LINE_OVERHEAD_BYTES, "{}", text.len());
}

#[test]
fn going_idle_hands_lines_over_at_most_once_per_interval() {
    let interval_us = limits::ACCESS_LOG_FLUSH_INTERVAL.as_micros() as u64;
    let (mut buffer, from_worker, _recycle, _metrics) = buffer(8);
    assert_eq!(buffer.flush_when_idle(1_000), None, "nothing is held");
    buffer.record(&entry());
    assert_eq!(buffer.flush_when_idle(1_000), None, "the first lines go at once");
    assert_eq!(from_worker.len(), 1);
    buffer.record(&entry());
    assert_eq!(buffer.flush_when_idle(1_001), Some(1_000 + interval_us));
    assert_eq!(buffer.flush_when_idle(999 + interval_us), Some(1_000 + interval_us));
    assert_eq!(from_worker.len(), 1, "held back");
    assert_eq!(buffer.flush_when_idle(1_000 + interval_us), None);
    assert_eq!(from_worker.len(), 2);
}

#[test]
fn one_very_long_line_stays_whole() {
    let path = vec![b'\x01'; 64 * 1024];
    let (mut buffer, from_worker, _recycle, _metrics) = buffer(4);
    buffer.record(&entry());
    buffer.record(&Entry { path: &path, ..entry() });
    buffer.record(&entry());
    buffer.flush();
    assert_eq!([0; 3].map(|_| from_worker.recv().map(|lines| lines.count)), [Ok(1); 3]);
    let text = line(&Entry { path: &path, ..entry() });
    let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    assert_eq!(value["path"].as_str().map(str::len), Some(path.len()));
}

proptest! {
    #[test]
    fn any_bytes_of_a_peer_leave_one_line_of_valid_json(
        method: Vec<u8>, authority: Vec<u8>, path: Vec<u8>, request_id: Vec<u8>,
        status: u16, numbers: [u64; 4], time_us in 0_u64..250_000_000_000_000_000,
    ) {
        let text = line(&Entry {
            method: &method, authority: &authority, path: &path, request_id: &request_id,
            status, time_us, request_bytes: numbers[0], response_bytes: numbers[1],
            total_us: numbers[2],
            epoch: Epoch { store: 1, number: numbers[3] }, ..entry()
        });
        prop_assert_eq!(text.find('\n'), Some(text.len() - 1));
        let value: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        prop_assert_eq!(value["status"].as_u64(), Some(u64::from(status)));
        prop_assert_eq!(value["request_bytes"].as_u64(), Some(numbers[0]));
        prop_assert_eq!(value["response_bytes"].as_u64(), Some(numbers[1]));
        prop_assert_eq!(value["total_us"].as_u64(), Some(numbers[2]));
        let epoch = format!("00000001-{}", numbers[3]);
        prop_assert_eq!(value["epoch"].as_str(), Some(epoch.as_str()));
        prop_assert_eq!(value.as_object().map(|members| members.len()), Some(18));
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_does(
        segments in prop::array::uniform8(prop_oneof![3 => Just(0_u16), 1 => any::<u16>()]),
        v4: u32, port: u16,
    ) {
        let mapped = Ipv4Addr::from_bits(v4).to_ipv6_mapped();
        let v6 = Ipv6Addr::from(segments);
        for ip in [IpAddr::V4(Ipv4Addr::from_bits(v4)), IpAddr::V6(v6), IpAddr::V6(mapped)] {
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(written(|out| write_address(out, address)), address.to_string());
        }
    }
}
