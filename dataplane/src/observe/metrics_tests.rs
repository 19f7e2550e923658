//! The scrape's text: names, labels, sums.

use super::*;
use crate::failure::{Refusal, Stage};

fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = lines.next()?.parse().ok();
    assert!(lines.next().is_none(), "{series} comes twice");
    value
}

#[test]
fn a_fresh_page_has_every_name_of_the_contract() {
    let metrics = Metrics::new(2);
    metrics.set_engine(EngineInfo { engine: "epoll", reason: "io_uring is \"forbidden\"".into() });
    let text = metrics.text();
    for series in [
        "request_total",
        "response_total{status_class=\"2xx\",classification=\"success\"}",
        "response_total{status_class=\"5xx\",classification=\"failure\"}",
        "response_total{status_class=\"none\",classification=\"success\"}",
        "response_latency_ms_bucket{le=\"1.0\"}",
        "response_latency_ms_bucket{le=\"50000.0\"}",
        "response_latency_ms_bucket{le=\"+Inf\"}",
        "response_latency_ms_count",
        "response_latency_ms_sum",
        "response_flags_total{flag=\"UF\"}",
        "response_flags_total{flag=\"DPE\"}",
        "tcp_open_connections{side=\"downstream\"}",
        "tcp_open_connections{side=\"upstream\"}",
        "tcp_open_total",
        "tcp_close_total{errno=\"none\"}",
        "tcp_close_total{errno=\"ECONNRESET\"}",
        "tcp_close_total{errno=\"other\"}",
        "tcp_read_bytes_total",
        "tcp_write_bytes_total",
        "endpoint_pick_total{method=\"least_request\"}",
        "endpoint_pick_total{method=\"maglev\"}",
        "endpoint_pick_keyless_total",
        "endpoint_pick_moved_total",
        "endpoint_pick_aperture_widened_total",
        "ejections_total{cause=\"latency\"}",
        "ejections_declined_total",
        "readmissions_total{by=\"connect\"}",
        "endpoints_ejected",
        "health_checks_total{result=\"pass\"}",
        "health_changes_total{to=\"unhealthy\"}",
        "endpoints_unhealthy",
        "breaker_transitions_total{to=\"half_open\"}",
        "endpoints_ordered_out",
        "breakers_open",
        "breakers_forced{to=\"open\"}",
        "breakers_forced{to=\"closed\"}",
        "breaker_rejected_total",
        "breaker_fallback_total{to=\"response\"}",
        "breaker_fallback_total{to=\"backend\"}",
        "breaker_probes_total",
        "connection_lasted_total{of=\"client\"}",
        "pool_hit_total",
        "pool_miss_total",
        "pool_evicted_total",
        "bytes_spliced_total",
        "bytes_copied_total",
        "ring_enter_total",
        "ring_sqe_total",
        "ring_cqe_total",
        "ring_buffers_free",
        "worker_loop_us_bucket{le=\"4.0\"}",
        "worker_loop_us_count",
        "worker_stalled_total{worker=\"0\"}",
        "worker_stalled_total{worker=\"1\"}",
        "task_panics_total",
        "access_log_dropped_total",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series} in\n{text}");
    }
    for series in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, series).is_some_and(|value| value > 0.0), "{series} in\n{text}");
    }
    assert!(
        text.contains("engine_info{engine=\"epoll\",reason=\"io_uring is \\\"forbidden\\\"\"} 1\n")
    );
    assert!(text.contains("build_info{version=\""));
    assert!(text.ends_with("# EOF\n"));
    assert!(!text.contains("_total_total") && !text.contains("_info_info"));
    assert_eq!(text.matches("response_latency_ms_bucket{").count(), 26);
}

#[test]
fn workers_are_summed() {
    let metrics = Metrics::new(3);
    for (index, worker) in metrics.workers().enumerate() {
        worker.request.add(index as u64 + 1);
        worker.ring_buffers_free.set(10);
        worker.access_log_dropped.increment();
        for side in ConnectionSide::ALL {
            worker.connections(side).on_open();
            worker.connections(side).read_bytes.add(5);
        }
        worker.connections(ConnectionSide::Upstream).on_close(CloseReason::ConnectionReset);
        worker
            .connections(ConnectionSide::Upstream)
            .on_connect_failed(CloseReason::ConnectionRefused);
    }
    metrics.access_log_write_dropped.add(4);
    metrics.record_stall(1);
    let text = metrics.text();
    for (series, expected) in [
        ("request_total", 6.0),
        ("ring_buffers_free", 30.0),
        ("access_log_dropped_total", 7.0),
        ("tcp_open_connections{side=\"downstream\"}", 3.0),
        ("tcp_open_connections{side=\"upstream\"}", 0.0),
        ("tcp_open_total", 6.0),
        ("tcp_close_total{errno=\"ECONNRESET\"}", 3.0),
        ("tcp_close_total{errno=\"ECONNREFUSED\"}", 3.0),
        ("tcp_read_bytes_total", 30.0),
        ("worker_stalled_total{worker=\"0\"}", 0.0),
        ("worker_stalled_total{worker=\"1\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

#[test]
fn a_response_counts_by_status_failure_and_latency() {
    let metrics = Metrics::new(1);
    let worker = metrics.worker(0);
    worker.record_response(200, None, 999);
    worker.record_response(500, None, 1_000);
    worker.record_response(200, Some(Failure::upstream_reset(Stage::ResponseBody, false)), 1_001);
    worker.record_response(400, Some(Failure::refused(Stage::RequestHead, Refusal::BadRequest)), 0);
    worker.record_response(0, Some(Failure::client_gone(Stage::ResponseHead)), 60_000_000);
    let text = metrics.text();
    for (series, expected) in [
        ("response_total{status_class=\"2xx\",classification=\"success\"}", 1.0),
        ("response_total{status_class=\"2xx\",classification=\"failure\"}", 1.0),
        ("response_total{status_class=\"5xx\",classification=\"failure\"}", 1.0),
        ("response_total{status_class=\"4xx\",classification=\"success\"}", 1.0),
        ("response_total{status_class=\"none\",classification=\"success\"}", 1.0),
        ("response_flags_total{flag=\"UR\"}", 1.0),
        ("response_flags_total{flag=\"DPE\"}", 1.0),
        ("response_flags_total{flag=\"DC\"}", 1.0),
        ("response_flags_total{flag=\"UF\"}", 0.0),
        ("response_latency_ms_bucket{le=\"1.0\"}", 3.0),
        ("response_latency_ms_bucket{le=\"2.0\"}", 4.0),
        ("response_latency_ms_bucket{le=\"50000.0\"}", 4.0),
        ("response_latency_ms_bucket{le=\"+Inf\"}", 5.0),
        ("response_latency_ms_sum", 60_003.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

#[test]
fn every_close_has_a_bounded_errno() {
    use rustix::io::Errno;
    for (errno, name) in [
        (Errno::CONNRESET, "ECONNRESET"),
        (Errno::CONNREFUSED, "ECONNREFUSED"),
        (Errno::TIMEDOUT, "ETIMEDOUT"),
        (Errno::PIPE, "EPIPE"),
        (Errno::MFILE, "EMFILE"),
        (Errno::NFILE, "EMFILE"),
        (Errno::INVAL, "other"),
    ] {
        assert_eq!(CloseReason::of_error(&errno.into()).as_str(), name);
    }
    let ours = io::Error::new(io::ErrorKind::TimedOut, "no progress");
    assert_eq!(CloseReason::of_error(&ours).as_str(), "ETIMEDOUT");
    for (index, reason) in CloseReason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, index);
    }
    for (index, class) in StatusClass::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, index);
    }
}

#[test]
fn blocks_of_two_workers_share_no_cache_line() {
    assert!(align_of::<CachePadded<WorkerMetrics>>() >= 64);
}
