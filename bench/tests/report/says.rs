//! What the page says, before it is a page.

use crate::synthetic::{self, Noise};
use lateen_bench::report::charts::Chart;
use lateen_bench::report::model::{Page, Point, Section, Table};
use lateen_bench::report::reading::Source;
use lateen_bench::results::{Profile, Results};

fn source(results: Results) -> Source {
    Source { file: "results.json".into(), results }
}

fn page(results: Results) -> Page {
    Page::of(&[source(results)], None)
}

fn section<'a>(page: &'a Page, heading: &str) -> &'a Section {
    page.sections.iter().find(|section| section.heading == heading).expect(heading)
}

/// Text, verdict and note of a cell.
fn cell<'a>(table: &'a Table, row: &str, column: &str) -> (&'a str, &'a str, &'a str) {
    let column = table.head.iter().position(|name| name == column).expect(column);
    let row = table.rows.iter().find(|line| line.name == row).expect(row);
    let cell = &row.cells[column - 1];
    (&cell.text, cell.verdict.unwrap_or(""), cell.note.as_deref().unwrap_or(""))
}

fn ratios(point: &Point) -> &Table {
    point.ratios.as_ref().expect("ratios")
}

#[test]
fn the_headline_is_made_of_the_data() {
    let page = page(synthetic::results(true));
    assert_eq!(page.title, "Lateen beside nginx, haproxy and envoy");
    assert_eq!(
        page.findings[0],
        "lateen 0.1.0 was measured beside nginx 1.22.1, haproxy 2.6.12 and envoy 1.40.0, in 7 \
         scenarios (bare and mesh) and up to 5 rounds on 2 CPUs of AMD EPYC 9B45."
    );
    assert_eq!(
        page.findings[1],
        "For the same work Lateen's process used, in instructions and by row, 0.67 to 1.42× those of \
         nginx-tuned (better in 6 and worse in 1 of 7), 0.58 to 1.21× those of haproxy-tuned (better in 6 \
         and worse in 1 of 7) and 0.19 to 0.39× those of envoy (better in 7 of 7)."
    );
    assert!((3..=5).contains(&page.findings.len()), "{:#?}", page.findings);
    let tiles: Vec<&str> = page.tiles.iter().map(|tile| tile.peer.as_str()).collect();
    assert_eq!(tiles, ["nginx-tuned", "haproxy-tuned", "envoy"]);
}

#[test]
fn throughput_of_a_client_bound_row_is_compared_with_nobody() {
    let page = page(synthetic::results(true));
    let bound = &section(&page, "http1-keepalive-64 · mesh").points[0];
    let (_, verdict, note) = cell(ratios(bound), "nginx", "throughput");
    assert_eq!((verdict, note), ("undecided", "client-bound"));
    assert_eq!(cell(ratios(bound), "nginx", "instructions / request").1, "better");
    assert_eq!(cell(&bound.figures, "nginx", "throughput").2, "client-bound");
    let busy = &section(&page, "http1-keepalive-64 · bare").points[0];
    assert_eq!(cell(ratios(busy), "nginx", "throughput").1, "better");
    assert!(busy.remarks.iter().all(|remark| !remark.starts_with("Client-bound")));
    assert!(ratios(busy).rows.iter().all(|row| row.name != "direct"), "no proxy is no rival");
    assert_eq!(
        cell(ratios(busy), "floor", "instructions / request").1,
        "",
        "the floor is no rival"
    );
}

#[test]
fn latency_is_undecided_beside_a_busy_client_or_at_other_rates() {
    let page = page(synthetic::results(true));
    let points = &section(&page, "http1-rate · bare").points;
    let p99 = |index: usize| cell(ratios(&points[index]), "envoy", "p99 latency");
    assert_eq!((p99(0).1, p99(0).2), ("better", ""));
    assert_eq!((p99(2).1, p99(2).2), ("undecided", "client 74 % busy"));
    assert_eq!((p99(3).1, p99(3).2), ("undecided", "rates differ"));
    for cost in ["instructions / request", "CPU time / request", "syscalls / request"] {
        let (_, verdict, note) = cell(ratios(&points[3]), "envoy", cost);
        assert_eq!((verdict, note), ("undecided", "rates differ"), "{cost}: batches differ too");
        assert_eq!(cell(ratios(&points[0]), "envoy", cost).1, "better");
    }
    let own = page.behind.worse.iter().filter(|item| item.place.ends_with("of its own"));
    assert_eq!(own.count(), 0, "nobody is behind at a rate that only one of two had");
    assert_eq!(cell(&points[0].figures, "nginx", "offered rate").0, "2,970/s");
    let mut few = synthetic::results(true);
    for sample in few.rows[3].entries.iter_mut().flat_map(|entry| &mut entry.samples) {
        let load = sample.load.as_mut().expect("a load");
        load.latency_us.as_mut().expect("latency").count = 2_000;
    }
    let page = self::page(few);
    let point = &section(&page, "http1-rate · bare").points[0];
    let of = |column: &str| cell(ratios(point), "envoy", column);
    assert_eq!((of("p99.9 latency").1, of("p99.9 latency").2), ("undecided", "too few answers"));
    assert_eq!(of("p99 latency").1, "better");
}

#[test]
fn shared_cores_leave_counts_to_compare_and_nothing_else() {
    let page = page(synthetic::results(true));
    let shared = section(&page, "http1-workers-2 · bare");
    assert_eq!(shared.caveats, ["shared-core, not comparable"]);
    let of = |column: &str| cell(ratios(&shared.points[0]), "nginx", column);
    assert_eq!(
        (of("CPU time / request").1, of("CPU time / request").2),
        ("undecided", "not comparable")
    );
    assert_eq!(of("instructions / request").1, "better");
}

#[test]
fn plots_are_of_the_kind_of_their_row() {
    let page = page(synthetic::results(true));
    let titles = |charts: &[Chart]| -> Vec<String> {
        let title = |chart: &Chart| match chart {
            Chart::Bars(bars) => bars.title.clone(),
            Chart::Lines(lines) => lines.title.clone(),
        };
        charts.iter().map(title).collect()
    };
    let of = |heading: &str| titles(&section(&page, heading).points[0].charts);
    assert_eq!(
        of("http1-keepalive-64 · bare"),
        ["Throughput", "Instructions / request", "CPU time / request"]
    );
    assert_eq!(of("http1-rate · bare")[0], "Latency by percentile");
    assert_eq!(
        titles(&section(&page, "http1-rate · bare").charts),
        ["Median latency against the offered rate", "99th percentile against the offered rate"]
    );
    assert_eq!(of("memory · bare"), ["Memory per idle connection, at 10,000", "Idle process"]);
    assert_eq!(of("change · mesh")[..2], ["Change to effect", "Failed requests"]);
    let Chart::Lines(lines) = &section(&page, "http1-rate · bare").points[0].charts[0] else {
        panic!("percentiles are lines")
    };
    let last = lines.lines[0].points.last().expect("points");
    assert_eq!((last.0, last.1.count), (4.0, 5), "up to 99.99 %, over all rounds");
    assert!(last.1.least < last.1.median && last.1.median < last.1.most);
}

#[test]
fn without_counters_cost_is_cpu_time_and_that_is_said() {
    let page = page(synthetic::results(false));
    assert!(page.findings[1].contains("in CPU µs"), "{}", page.findings[1]);
    assert_eq!(page.tiles[0].figure, "CPU time / request");
    let said = |start: &str| page.limits.iter().any(|limit| limit.starts_with(start));
    assert!(said(
        "Nothing about instructions or cycles: there were no hardware counters (perf_event_open"
    ));
    assert!(said("Nothing about a network"));
    assert!(said("Nothing about absolute capacity or scaling: 2 CPUs"));
    assert!(said("Client and upstream shared a core"));
    assert!(said("Whether these CPUs are siblings"));
    assert!(said("Nothing about absolute times: the machine is virtual (kvm)"));
    assert!(!said("The comparison was interrupted"));
    assert!(!said("Time here is a count"));
}

#[test]
fn limits_are_said_only_where_they_hold() {
    let mut results = synthetic::results(true);
    results.rows.truncate(1);
    let environment = &mut results.environment;
    environment.cpus = (0..16).collect();
    environment.smt = Some(false);
    environment.virtualisation = None;
    environment.placement.insert("upstream".into(), vec![2]);
    for sample in results.rows[0].entries.iter_mut().flat_map(|entry| &mut entry.samples) {
        sample.load.as_mut().expect("a load").url = "http://10.0.0.1/100".into();
    }
    results.rows[0].entries.retain(|entry| entry.peer != "floor");
    assert_eq!(
        page(results).limits,
        ["A ratio holds for these versions, these settings and this work, and for nothing else."]
    );
}

#[test]
fn where_lateen_is_behind_lists_every_loss_the_worst_first() {
    let page = page(synthetic::results(true));
    let worse = &page.behind.worse;
    assert_eq!(
        (worse[0].figure.as_str(), worse[0].peer.as_str(), worse[0].place.as_str()),
        ("memory per idle connection, at 10,000", "nginx", "memory · bare")
    );
    assert_eq!(worse[0].values, "0.90 KiB against 0.56 KiB");
    let lost = |figure: &str, peer: &str| {
        let place = "http1-new-connection · bare";
        worse.iter().any(|item| item.place == place && item.figure == figure && item.peer == peer)
    };
    assert!(lost("instructions / request", "nginx") && lost("CPU time / request", "haproxy-tuned"));
    assert!(!lost("instructions / request", "envoy"));
    assert!(
        worse.iter().all(|item| !["floor", "direct", "lateen-epoll"].contains(&item.peer.as_str()))
    );
    assert_eq!(page.behind.own[0].peer, "lateen-epoll");
    assert_eq!(page.behind.floor[0].place, "http1-new-connection · bare");
    assert_eq!(page.behind.unmeasured, ["linkerd2-proxy"]);
    assert!(page.behind.undecided.iter().all(|item| item.reason.is_some()));
    assert!(page.findings.last().expect("findings").contains("Furthest behind nginx"));
}

#[test]
fn a_cost_that_only_the_whole_core_shows_is_cross_checked() {
    let page = page(synthetic::results(true));
    let point = &section(&page, "http1-keepalive-64 · bare").points[0];
    assert!(
        point.remarks[0].starts_with("Cross-check: the proxy's whole core used another CPU time"),
        "{:?}",
        point.remarks
    );
    assert!(point.figures.head.contains(&"CPU time of the whole core / request".to_owned()));
}

#[test]
fn who_did_not_run_and_what_does_not_count_is_told() {
    let page = page(synthetic::results(true));
    assert_eq!(
        section(&page, "http1-keepalive-64 · bare").absent,
        ["nginx: 1 sample discarded: other programs used 31 % of the machine"]
    );
    let unknown = section(&page, "http4-quantum · mesh");
    assert_eq!(unknown.absent, ["lateen was not run: needs a later proxy"]);
    assert!(unknown.points.is_empty());
    let nginx = page.runs[0].peers.iter().find(|peer| peer.name == "nginx").expect("nginx");
    assert_eq!(nginx.version, "nginx/1.22.1, released 2022-10-19");
    assert_eq!(nginx.newer.as_deref(), Some("1.28 is the stable version"));
    let linkerd = page.runs[0].peers.last().expect("peers");
    assert_eq!(linkerd.not_run.as_deref(), Some("linkerd2-proxy is not installed"));
}

#[test]
fn a_change_beyond_the_noise_is_marked_and_no_other() {
    let mut old = synthetic::results(true);
    synthetic::scale_cost(&mut old.rows[0], "lateen", 0.9);
    synthetic::scale_cost(&mut old.rows[1], "lateen", 1.3);
    // A machine of half the speed, the same for all: no change of Lateen's.
    for sample in old.rows[3].entries.iter_mut().flat_map(|entry| &mut entry.samples) {
        let cost = sample.cost.iter_mut();
        cost.for_each(|cost| cost.cpu_us *= 2.0);
    }
    let of = |old: Results, now: Results| {
        Page::of(&[source(now)], Some(&source(old))).changes.expect("a baseline")
    };
    let change = of(old.clone(), synthetic::results(true));
    let marked = |moved: &[lateen_bench::report::baseline::Moved]| -> Vec<(String, String)> {
        moved.iter().map(|one| (one.place.clone(), one.figure.clone())).collect()
    };
    let regressions = marked(&change.regressions);
    let place = "http1-keepalive-64 · bare".to_owned();
    assert!(regressions.contains(&(place.clone(), "instructions / request".to_owned())));
    assert!(regressions.iter().all(|(at, _)| *at == place), "{regressions:?}");
    let improvements = marked(&change.improvements);
    let better =
        ("http1-keepalive-64 · mesh".to_owned(), "CPU time / request, over floor".to_owned());
    assert!(improvements.contains(&better), "{improvements:?}");
    assert!(improvements.iter().all(|(at, _)| *at == better.0), "{improvements:?}");
    assert_eq!(change.differences, Vec::<String>::new());
    let same = of(synthetic::results(true), synthetic::results(true));
    assert_eq!((same.regressions.len(), same.improvements.len()), (0, 0));
    let mut other = synthetic::results(true);
    other.environment.kernel = "Linux 6.1.0".into();
    other.rows.remove(0);
    let change = of(other, synthetic::results(true));
    assert_eq!(change.differences, ["kernel: Linux 6.1.0 before, Linux 6.18.1 now"]);
    assert_eq!(change.unmatched, ["http1-keepalive-64 · bare is new"]);
}

#[test]
fn lateen_alone_or_missing_is_no_comparison_and_said_so() {
    let mut alone = synthetic::results(true);
    alone.rows.iter_mut().for_each(|row| row.entries.retain(|entry| entry.peer == "lateen"));
    let page_alone = page(alone);
    assert_eq!(page_alone.title, "What Lateen costs");
    assert!(page_alone.behind.sentence().starts_with("No other proxy ran beside Lateen"));
    assert_eq!(page_alone.overview, Vec::new());
    let mut missing = synthetic::results(true);
    missing.rows.iter_mut().for_each(|row| row.entries.retain(|entry| entry.peer != "lateen"));
    let page_missing = page(missing);
    assert!(page_missing.behind.sentence().starts_with("Lateen has no sample in these results"));
    assert!(page_missing.tiles.is_empty());
    assert!(page_missing.sections[0].points[0].ratios.is_none());
    assert_eq!(page_missing.sections[0].points[0].charts.len(), 3);
}

#[test]
fn a_core_that_the_load_shared_decides_no_throughput() {
    let mut results = synthetic::results(true);
    results.environment.placement.insert("client".into(), vec![0]);
    let page = page(results);
    let point = &section(&page, "http1-keepalive-64 · bare").points[0];
    let (_, verdict, note) = cell(ratios(point), "nginx", "throughput");
    assert_eq!((verdict, note), ("undecided", "one core for all"));
    assert_eq!(cell(ratios(point), "nginx", "instructions / request").1, "better");
}

#[test]
fn a_peer_that_uses_nothing_is_not_lost_for_want_of_a_ratio() {
    let mut results = synthetic::results(true);
    results.rows.truncate(1);
    let nginx = results.rows[0].entries.iter_mut().filter(|entry| entry.peer == "nginx");
    for cost in nginx.flat_map(|entry| &mut entry.samples).filter_map(|one| one.cost.as_mut()) {
        (cost.voluntary_switches, cost.involuntary_switches) = (0.0, 0.0);
    }
    let page = page(results);
    let worst = &page.behind.worse[0];
    assert_eq!(
        (worst.peer.as_str(), worst.figure.as_str()),
        ("nginx", "context switches / request")
    );
    assert_eq!(worst.ratio, "");
}

#[test]
fn rounds_decide_only_together() {
    let mut few = synthetic::results(true);
    few.rows.truncate(1);
    for entry in &mut few.rows[0].entries {
        entry.samples.truncate(2);
    }
    let page = page(few);
    assert!(page.behind.worse.is_empty() && page.behind.better_count == 0);
    assert!(
        page.limits.iter().any(|limit| limit.starts_with("Nothing is decided by fewer than 3"))
    );
    let point = &page.sections[0].points[0];
    let (_, verdict, note) = cell(ratios(point), "envoy", "instructions / request");
    assert_eq!((verdict, note), ("undecided", "only 2 rounds"));
}

#[test]
fn several_files_keep_their_rows_apart() {
    let mut other = synthetic::results(true);
    let mut noise = Noise::new(9);
    other.rows = vec![synthetic::throughput("http1-keepalive-64", Profile::Bare, &mut noise, 0.98)];
    let page = Page::of(&[source(synthetic::results(true)), source(other)], None);
    assert_eq!(page.runs.len(), 2);
    assert_eq!(page.sections.last().expect("rows").heading, "http1-keepalive-64 · bare · run 2");
}

/// Of all samples of a peer at a point of the row of rates.
fn loads<'a>(
    results: &'a mut Results,
    peer: &'a str,
    point: &'a str,
) -> impl Iterator<Item = &'a mut lateen_bench::load::summary::LoadReport> {
    let entries = results.rows[3].entries.iter_mut().filter(move |entry| entry.peer == peer);
    let samples = entries.flat_map(|entry| &mut entry.samples);
    samples.filter(move |one| one.point == point).filter_map(|one| one.load.as_mut())
}

#[test]
fn who_does_not_carry_a_rate_is_told_and_compared_in_nothing_else() {
    let mut results = synthetic::results(true);
    let point = "75 % of the slowest";
    loads(&mut results, "lateen", point).for_each(|load| load.requests_per_s *= 0.9);
    loads(&mut results, "lateen", point).for_each(|load| load.late_sends = 40);
    loads(&mut results, "envoy", "25 % of the slowest").take(1).for_each(|load| load.unsent = 1);
    let page = page(results);
    let points = &section(&page, "http1-rate · bare").points;
    for column in ["instructions / request", "p99 latency"] {
        let (_, verdict, note) = cell(ratios(&points[2]), "nginx", column);
        assert_eq!((verdict, note), ("undecided", "lateen did not carry the rate"), "{column}");
        let (_, verdict, note) = cell(ratios(&points[0]), "envoy", column);
        assert_eq!((verdict, note), ("undecided", "envoy did not carry the rate"), "{column}");
    }
    assert_eq!(cell(ratios(&points[0]), "nginx", "p99 latency").1, "better");
    assert_eq!(
        cell(&points[2].figures, "lateen", "offered rate").2,
        "not carried in 5 of 5 rounds"
    );
    assert_eq!(cell(&points[2].figures, "lateen", "sent over 1 ms late").0, "40");
    assert_eq!(cell(&points[2].figures, "lateen", "share of the rate carried").0, "90 %");
    assert!(points[2].remarks.iter().any(|remark| remark.starts_with(
        "Rate not carried: lateen in 5 of 5 rounds (90 % at least). Its latency and its cost"
    )));
    let lost = |item: &&lateen_bench::report::behind::Item| {
        item.figure == "share of the rate carried" && item.peer == "nginx"
    };
    let item = page.behind.worse.iter().find(lost).expect("Lateen is behind");
    assert_eq!(item.values, "90 % against 100 %");
    assert!(!points[1].figures.head.iter().any(|name| name.starts_with("share of the rate")));
}

/// The same as an emulator would write it, where a nanosecond is an instruction.
fn emulated() -> Results {
    let mut results = synthetic::results(false);
    results.environment.instruction_clock = true;
    let samples = results.rows.iter_mut().flat_map(|row| &mut row.entries);
    for cost in samples.flat_map(|entry| &mut entry.samples).filter_map(|one| one.cost.as_mut()) {
        cost.instructions = Some(cost.cpu_us * 1e3);
    }
    results
}

#[test]
fn where_the_clock_counts_instructions_nothing_is_shown_as_a_time() {
    let page = page(emulated());
    assert!(page.findings[1].contains("used, in instructions"), "{}", page.findings[1]);
    assert!(page.tiles.iter().all(|tile| tile.figure == "instructions / request"));
    let is_time = |name: &String| {
        ["CPU", "throughput", "latency", "busy", "effect"].iter().any(|word| name.contains(word))
    };
    for section in &page.sections {
        for table in section.points.iter().flat_map(|one| one.ratios.iter().chain([&one.figures])) {
            assert_eq!(table.head.iter().find(|name| is_time(name)), None, "{}", section.heading);
        }
        let titles = section.points.iter().flat_map(|point| &point.charts).chain(&section.charts);
        for chart in titles {
            let Chart::Bars(bars) = chart else { panic!("a line of times") };
            assert!(!is_time(&bars.title.to_lowercase().replace("cpu", "CPU")), "{}", bars.title);
        }
    }
    let said = |start: &str| page.limits.iter().any(|limit| limit.starts_with(start));
    assert!(said("Time here is a count of instructions"));
    assert!(
        said("Nothing about cycles, or about which mode") && !said("Nothing about instructions")
    );
}

#[test]
fn instructions_of_the_core_are_cross_checked_but_not_where_connecting_was_taken_off() {
    let mut results = synthetic::results(true);
    for sample in results.rows[0].entries.iter_mut().flat_map(|entry| &mut entry.samples) {
        let cost = sample.cost.as_ref();
        let billed = cost.map(|cost| cost.instructions_user.zip(cost.instructions_kernel));
        let busy = sample.busy.as_mut().expect("busy");
        busy.proxy_cpu_instructions = billed.flatten().map(|(user, kernel)| (user + kernel) * 1.4);
    }
    let checks = |results: Results| {
        let page = page(results);
        let point = &section(&page, "http1-keepalive-64 · bare").points[0];
        let core = point.figures.head.iter().any(|name| name.contains("of the whole core"));
        let said = point.remarks.iter().filter(|remark| remark.starts_with("Cross-check"));
        (said.cloned().collect::<Vec<_>>(), core)
    };
    let (said, core) = checks(results.clone());
    assert!(said[0].contains("another number of instructions") && said[0].contains("1.40×"));
    assert!(said[1].contains("another CPU time") && core);
    results.command.extend(["--requests", "4000"].map(str::to_owned));
    assert_eq!(checks(results), (Vec::new(), false));
}

#[test]
fn a_version_without_a_day_says_so() {
    let mut results = synthetic::results(true);
    results.peers.iter_mut().for_each(|peer| peer.released = None);
    let page = page(results);
    let version = |name: &str| {
        let peer = page.runs[0].peers.iter().find(|peer| peer.name == name).expect(name);
        peer.version.as_str()
    };
    assert_eq!(version("nginx"), "nginx/1.22.1, release date not known");
    assert_eq!(version("lateen"), "lateen-proxy 0.1.0");
}

#[test]
fn how_it_was_measured_is_what_the_data_says() {
    let mut results = synthetic::results(true);
    let said = |results: &Results| page(results.clone()).method.join("\n");
    let text = said(&results);
    assert!(text.contains("The proxy had a CPU of its own"), "{text}");
    assert!(text.contains("; client and upstream shared another."), "{text}");
    assert!(text.contains("Discarded, for wrong or missing answers"), "{text}");
    assert!(text.contains(": 1 sample, which the rows list"), "{text}");
    assert!(!text.contains("all the same") && !text.contains("taken off"), "{text}");
    results.environment.placement.insert("client".into(), vec![0]);
    results.rows[0].caveats.push("nginx, round 2, x: kept although disturbed: others".into());
    results.rows[0].entries[2].samples[1].point = "2 workers".into();
    results.command.push("--requests=400".into());
    let text = said(&results);
    assert!(text.contains("The proxy shared its CPU with client or upstream"), "{text}");
    assert!(!text.contains("of its own"), "{text}");
    assert!(text.contains("one worker, and with two at the points"), "{text}");
    assert!(text.contains("counted all the same: 1 sample"), "{text}");
    assert!(text.contains("connecting costs was measured apart"), "{text}");
    results.rows.retain(|row| row.kind == lateen_bench::results::Kind::Memory);
    assert!(!said(&results).contains("Latency counts") && !said(&results).contains("Throughput"));
}
