//! A server that stalls for a second: the open loop shows it, the closed loop hides it.

use super::programs::{ENGINES, Upstream, load};

const STALL_US: f64 = 1e6;

#[test]
fn a_stall_shows_in_the_open_loop_and_hides_in_the_closed_one() {
    for engine in ENGINES {
        let upstream = Upstream::start(&["--stall-every", "2s", "--stall-for", "1s"]);
        let url = upstream.url("/");
        // 4 s hold at least one whole stall, wherever they begin.
        let common = [url.as_str(), "-c", "4", "-d", "4s", "--engine", engine];
        let open = load(&[&common[..], &["-R", "250"]].concat());
        let latency = open.report.latency_us.as_ref().expect("answers");
        assert!(latency.p99_9 > 0.8 * STALL_US, "{}", open.text);
        assert!(latency.p90 > 0.1 * STALL_US, "the queue behind it counts too: {}", open.text);
        assert!(open.report.late_sends > 100 && open.report.late_max_us > 0.5 * STALL_US);
        assert_eq!(open.over() + open.report.unsent, 1000, "{}", open.text);

        let closed = load(&common);
        let latency = closed.report.latency_us.as_ref().expect("answers");
        assert!(latency.p99 < 0.2 * STALL_US, "{}", closed.text);
        assert!(latency.max > 0.5 * STALL_US, "{}", closed.text);
        assert_eq!(closed.report.late_sends, 0);
    }
}
