//! The scrape: sums the workers' counters and writes them as OpenMetrics text.
//!
//! Before: `admin` was asked for `/metrics`. After: the client gets the text. Reads only, on the
//! admin's thread: no worker notices. The encoder appends `_total` to a counter's name and `_info`
//! to an info's, so the names below come without.

mod health;
mod overload;

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::bulkhead::total::Resource;
use crate::decide::retry::RetryReason;
use crate::failure::{Classification, ResponseFlag};
use crate::observe::metrics::bulkhead::Overflow;
use crate::observe::metrics::lasted::Lasted;
use crate::observe::metrics::rate_limit::{LimitOutcome, Limited};
use crate::observe::metrics::retry::{HedgeEnd, RetryDenied};
use crate::observe::metrics::{
    CloseReason, ConnectionSide, Metrics, PICK_METHODS, StatusClass, WorkerMetrics,
};
use crate::observe::process::ProcessFigures;

/// MIME type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All of `metrics` as text. Process figures that cannot be read are left out.
pub(super) fn encode(metrics: &Arc<Metrics>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(Arc::clone(metrics))));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry).expect("writing to a String does not fail");
    out
}

#[derive(Debug)]
struct Scrape(Arc<Metrics>);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut page = Page { encoder, metrics: &self.0 };
        page.requests()?;
        page.connections()?;
        page.pools_and_bytes()?;
        page.picks()?;
        page.mirrors()?;
        page.retries()?;
        page.sessions()?;
        page.faults()?;
        page.proxy_protocol()?;
        page.rate_limits()?;
        page.bulkheads()?;
        page.overload()?;
        page.health()?;
        page.breakers()?;
        page.control()?;
        page.engine_and_workers()?;
        page.process()
    }
}

struct Page<'e, 'm> {
    encoder: DescriptorEncoder<'e>,
    metrics: &'m Metrics,
}

impl Page<'_, '_> {
    fn requests(&mut self) -> Result<(), Error> {
        let request = self.sum(|worker| worker.request.value());
        self.counter("request", "Request heads read", request)?;

        let mut responses = Vec::new();
        for class in StatusClass::ALL {
            for classification in Classification::ALL {
                let count = self.sum(|worker| worker.response_count(class, classification));
                let labels =
                    [("status_class", class.as_str()), ("classification", classification.as_str())];
                responses.push((labels, count));
            }
        }
        self.counters("response", "Responses ended, by status and by whose failure", responses)?;

        let metrics = self.metrics;
        self.histogram(
            "response_latency_ms",
            "First byte of the request to last byte of the response, in milliseconds",
            1_000.0,
            metrics.workers().map(|worker| {
                let histogram = worker.response_latency();
                (histogram.bounds(), histogram.counts().to_vec(), histogram.sum())
            }),
        )?;

        let flags = ResponseFlag::ALL
            .map(|flag| ([("flag", flag.as_str())], self.sum(|worker| worker.flag_count(flag))));
        self.counters("response_flags", "Failures by response flag", flags)
    }

    fn connections(&mut self) -> Result<(), Error> {
        let open = ConnectionSide::ALL.map(|side| {
            let open: i64 =
                self.metrics.workers().map(|worker| worker.connections(side).open.value()).sum();
            ([("side", side.as_str())], open)
        });
        self.gauges("tcp_open_connections", "Connections open now", open)?;

        let opened = self.sum_sides(|worker, side| worker.connections(side).open_total.value());
        self.counter("tcp_open", "Connections opened, of both sides", opened)?;
        let closed = CloseReason::ALL.map(|reason| {
            let count = self.sum_sides(|worker, side| {
                worker.connections(side).close_total[reason as usize].value()
            });
            ([("errno", reason.as_str())], count)
        });
        self.counters("tcp_close", "Connections ended, of both sides, by errno", closed)?;
        let read = self.sum_sides(|worker, side| worker.connections(side).read_bytes.value());
        self.counter("tcp_read_bytes", "Bytes read from sockets, of both sides", read)?;
        let written = self.sum_sides(|worker, side| worker.connections(side).write_bytes.value());
        self.counter("tcp_write_bytes", "Bytes written to sockets, of both sides", written)
    }

    fn mirrors(&mut self) -> Result<(), Error> {
        let sent = self.sum(|worker| worker.mirror.value());
        self.counter("mirror", "Copies of requests sent to mirrors", sent)?;
        let skipped = self.sum(|worker| worker.mirror_skipped.value());
        self.counter("mirror_skipped", "Copies of requests that were not made", skipped)?;
        let failed = self.sum(|worker| worker.mirror_failed.value());
        self.counter("mirror_failed", "Copies of requests without an answer", failed)
    }

    fn sessions(&mut self) -> Result<(), Error> {
        let mut outcomes = WorkerMetrics::default().sessions.by_outcome();
        for (index, (_, count)) in outcomes.iter_mut().enumerate() {
            *count = self.sum(|worker| worker.sessions.by_outcome()[index].1);
        }
        let outcomes = outcomes.map(|(outcome, count)| ([("outcome", outcome)], count));
        self.counters("session", "Responses of routes that keep sessions", outcomes)
    }

    fn faults(&mut self) -> Result<(), Error> {
        let mut faults = WorkerMetrics::default().faults.by_type();
        for (index, (_, count)) in faults.iter_mut().enumerate() {
            *count = self.sum(|worker| worker.faults.by_type()[index].1);
        }
        let faults = faults.map(|(kind, count)| ([("type", kind)], count));
        self.counters("fault", "Requests that got a fault on purpose", faults)
    }

    fn proxy_protocol(&mut self) -> Result<(), Error> {
        let mut headers = WorkerMetrics::default().proxy_protocol.by_header();
        for (index, (_, count)) in headers.iter_mut().enumerate() {
            *count = self.sum(|worker| worker.proxy_protocol.by_header()[index].1);
        }
        let headers = headers.map(|(header, count)| ([("header", header)], count));
        self.counters("proxy_protocol", "Headers of the PROXY protocol, of both sides", headers)
    }

    fn rate_limits(&mut self) -> Result<(), Error> {
        let mut decided = Vec::new();
        for unit in Limited::ALL {
            for outcome in LimitOutcome::ALL {
                let count = self.sum(|worker| worker.rate_limit.decided(unit, outcome).value());
                let labels = [("unit", unit.as_str()), ("outcome", outcome.as_str())];
                decided.push((labels, count));
            }
        }
        self.counters("rate_limit", "What limits of rates decided", decided)?;
        let overflow = self.sum(|worker| worker.rate_limit.overflow.value());
        let help = "Loans of a limit to keys that share a bucket because too many are busy";
        self.counter("rate_limit_overflow", help, overflow)?;
        let delays = self.sum(|worker| worker.rate_limit.delays.value());
        self.counter("rate_limit_delay", "Waits of bytes for a limit of their rate", delays)
    }

    fn bulkheads(&mut self) -> Result<(), Error> {
        let queued = Resource::ALL.map(|of| {
            let count = self.sum(|worker| worker.bulkhead.queued(of).value());
            ([("resource", of.as_str())], count)
        });
        self.counters("bulkhead_queued", "Who had to wait for room", queued)?;
        let mut overflows = Vec::new();
        for of in Resource::ALL {
            for why in Overflow::ALL {
                let count = self.sum(|worker| worker.bulkhead.overflow(of, why).value());
                overflows.push(([("resource", of.as_str()), ("reason", why.as_str())], count));
            }
        }
        self.counters("bulkhead_overflow", "Who was turned away for want of room", overflows)?;
        let handed = self.sum(|worker| worker.bulkhead.handed_over.value());
        let help = "Connections that went from one request to another that waited";
        self.counter("bulkhead_handed_over", help, handed)?;
        let recalled = self.sum(|worker| worker.bulkhead.recalled.value());
        let help = "Idle connections closed because another worker needed one";
        self.counter("bulkhead_recalled", help, recalled)
    }

    fn picks(&mut self) -> Result<(), Error> {
        let picks = PICK_METHODS.into_iter().enumerate().map(|(index, method)| {
            ([("method", method)], self.sum(|worker| worker.endpoint_pick[index].value()))
        });
        let picks: Vec<_> = picks.collect();
        self.counters("endpoint_pick", "Choices of an endpoint, by how it was chosen", picks)?;
        let keyless = self.sum(|worker| worker.endpoint_pick_keyless.value());
        let help = "Choices by key for a request that had none";
        self.counter("endpoint_pick_keyless", help, keyless)?;
        let moved = self.sum(|worker| worker.endpoint_pick_moved.value());
        let help = "Choices by key of another endpoint than the key's own";
        self.counter("endpoint_pick_moved", help, moved)?;
        let panic = self.sum(|worker| worker.endpoint_pick_panic.value());
        let help = "Choices while too few endpoints were in service for that to count";
        self.counter("endpoint_pick_panic", help, panic)?;
        let slow = self.sum(|worker| worker.endpoint_pick_slow_start.value());
        let help = "Choices while an endpoint of the cluster was new";
        self.counter("endpoint_pick_slow_start", help, slow)?;
        let widened = self.sum(|worker| worker.endpoint_pick_aperture_widened.value());
        let help =
            "Choices from all of a cluster, as nothing in the worker's part of it could be had";
        self.counter("endpoint_pick_aperture_widened", help, widened)?;
        let further = self.sum(|worker| worker.endpoint_pick_failover.value());
        let help = "Requests that went further because too few nearer endpoints were in service";
        self.counter("endpoint_pick_failover", help, further)
    }

    fn retries(&mut self) -> Result<(), Error> {
        let made = RetryReason::ALL.map(|reason| {
            let count = self.sum(|worker| worker.retry.made[reason as usize].value());
            ([("reason", reason.as_str())], count)
        });
        self.counters("retry", "Tries beyond the first, by why", made.to_vec())?;
        let denied = RetryDenied::ALL.map(|why| {
            let count = self.sum(|worker| worker.retry.denied[why as usize].value());
            ([("why", why.as_str())], count)
        });
        self.counters("retry_denied", "Tries that were asked for and not made", denied.to_vec())?;
        let ended = HedgeEnd::ALL.map(|end| {
            let count = self.sum(|worker| worker.hedge.ended[end as usize].value());
            ([("end", end.as_str())], count)
        });
        self.counters("hedge", "Second requests beside slow ones", ended.to_vec())?;
        let denied = self.sum(|worker| worker.hedge.denied.value());
        self.counter("hedge_denied", "Slow requests without a second one", denied)?;
        let success = self.sum(|worker| worker.retry.success.value());
        let help = "Requests that were answered below 500 after more than one try";
        self.counter("retry_success", help, success)
    }

    fn pools_and_bytes(&mut self) -> Result<(), Error> {
        let lasted = Lasted::ALL.map(|of| {
            ([("of", of.as_str())], self.sum(|worker| worker.lasted[of as usize].value()))
        });
        let help = "Connections that were closed because they had lasted as long as they may";
        self.counters("connection_lasted", help, lasted)?;
        let hit = self.sum(|worker| worker.pool_hit.value());
        self.counter("pool_hit", "Requests that found a pooled connection", hit)?;
        let miss = self.sum(|worker| worker.pool_miss.value());
        self.counter("pool_miss", "Requests that had to connect", miss)?;
        let evicted = self.sum(|worker| worker.pool_evicted.value());
        self.counter("pool_evicted", "Pooled connections closed while idle", evicted)?;
        let spliced = self.sum(|worker| worker.bytes_spliced.value());
        self.counter("bytes_spliced", "Body and tunnel bytes moved by splice", spliced)?;
        let copied = self.sum(|worker| worker.bytes_copied.value());
        self.counter("bytes_copied", "Body and tunnel bytes moved by copying", copied)
    }

    fn control(&mut self) -> Result<(), Error> {
        let Some(control) = self.metrics.control_if_any() else { return Ok(()) };
        let none: [(&str, &str); 0] = [];
        let (connected, epoch) = (control.connected.value(), control.epoch.value());
        self.gauges(
            "control_connected",
            "Whether the control plane is connected",
            [(none, connected)],
        )?;
        self.gauges("config_epoch", "Number of the epoch that every worker runs", [(none, epoch)])?;
        if let store @ 1.. = control.store.value() as u32 {
            let label = format!("{store:08x}");
            self.info("config_store", "The store that numbers the epochs", &[("store", &*label)])?;
        }
        self.counter("config_applied", "Snapshots switched to", control.applied.value())?;
        self.counter("config_rejected", "Snapshots refused", control.rejected.value())
    }

    fn engine_and_workers(&mut self) -> Result<(), Error> {
        let metrics = self.metrics;
        if let Some(info) = metrics.engine() {
            let labels = [("engine", info.engine), ("reason", info.reason.as_str())];
            self.info("engine", "The I/O engine that runs, and why", &labels)?;
        }
        let enter = self.sum(|worker| worker.ring_enter.value());
        self.counter("ring_enter", "System calls to submit operations and wait", enter)?;
        let sqe = self.sum(|worker| worker.ring_sqe.value());
        self.counter("ring_sqe", "Operations submitted", sqe)?;
        let cqe = self.sum(|worker| worker.ring_cqe.value());
        self.counter("ring_cqe", "Completions taken", cqe)?;
        let free: i64 = metrics.workers().map(|worker| worker.ring_buffers_free.value()).sum();
        self.gauges("ring_buffers_free", "Provided buffers that are free", [([], free)])?;
        self.histogram(
            "worker_loop_us",
            "One turn of a worker's loop without its wait, in microseconds",
            1.0,
            metrics.workers().map(|worker| {
                let histogram = &worker.worker_loop;
                (histogram.bounds(), histogram.counts().to_vec(), histogram.sum())
            }),
        )?;

        let stalled: Vec<(String, u64)> = metrics
            .stalled()
            .enumerate()
            .map(|(worker, count)| (worker.to_string(), count))
            .collect();
        let stalled = stalled.iter().map(|(worker, count)| ([("worker", worker.as_str())], *count));
        self.counters("worker_stalled", "Times a worker was found blocked for a second", stalled)?;
        let panics = self.sum(|worker| worker.task_panics.value());
        self.counter("task_panics", "Tasks that panicked and were ended", panics)?;
        let dropped = self.sum(|worker| worker.access_log_dropped.value())
            + metrics.access_log_write_dropped.value();
        self.counter("access_log_dropped", "Access-log lines dropped", dropped)
    }

    fn process(&mut self) -> Result<(), Error> {
        let build =
            [("version", env!("CARGO_PKG_VERSION")), ("target_arch", std::env::consts::ARCH)];
        self.info("build", "What was built", &build)?;
        let start_s = self.metrics.start_time().as_secs_f64();
        self.gauge_f64("process_start_time_seconds", "Start, in Unix seconds", start_s)?;
        let figures = ProcessFigures::read();
        let mut cpu = self.encoder.encode_descriptor(
            "process_cpu_seconds",
            "User and system time of all threads",
            None,
            MetricType::Counter,
        )?;
        cpu.encode_counter::<[(&str, &str); 0], f64, u64>(&figures.cpu.as_secs_f64(), None)?;
        let optional = [
            ("process_resident_memory_bytes", "Resident memory", figures.resident_bytes),
            ("process_open_fds", "Open file descriptors", figures.open_descriptors),
            ("process_max_fds", "Limit of open file descriptors", figures.descriptors_max),
            ("process_threads", "Threads", figures.threads),
        ];
        for (name, help, value) in optional {
            if let Some(value) = value {
                self.gauges(name, help, [([], value as i64)])?;
            }
        }
        Ok(())
    }

    fn sum(&self, read: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.metrics.workers().map(read).sum()
    }

    fn sum_sides(&self, read: impl Fn(&WorkerMetrics, ConnectionSide) -> u64) -> u64 {
        self.sum(|worker| ConnectionSide::ALL.into_iter().map(|side| read(worker, side)).sum())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        self.counters(name, help, [([], value)])
    }

    fn counters<'l, const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); LABELS], u64)>,
    ) -> Result<(), Error> {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            if LABELS == 0 {
                metric.encode_counter::<[(&str, &str); 0], u64, u64>(&value, None)?;
            } else {
                metric
                    .encode_family(&labels)?
                    .encode_counter::<[(&str, &str); 0], u64, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauges<'l, const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = ([(&'l str, &'l str); LABELS], i64)>,
    ) -> Result<(), Error> {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            if LABELS == 0 {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn info(&mut self, name: &str, help: &str, labels: &impl EncodeLabelSet) -> Result<(), Error> {
        self.encoder.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    /// Sums the workers' histograms and writes them, bounds and sum divided by `divisor`.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        divisor: f64,
        workers: impl Iterator<Item = (&'static [u64], Vec<u64>, u64)>,
    ) -> Result<(), Error> {
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        let (mut total, mut observations) = (0, 0);
        for (bounds, counts, sum) in workers {
            let bounds = bounds.iter().map(|bound| *bound as f64 / divisor).chain([f64::INFINITY]);
            if buckets.is_empty() {
                buckets = bounds.map(|bound| (bound, 0)).collect();
            }
            observations += counts.iter().sum::<u64>();
            buckets.iter_mut().zip(counts).for_each(|(bucket, count)| bucket.1 += count);
            total += sum;
        }
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<[(&str, &str); 0]>(
                total as f64 / divisor,
                observations,
                &buckets,
                None,
            )
    }
}
