//! Every bound of the proxy, with its unit and its source.
//!
//! Before: nothing; after: `bootstrap` takes the defaults of its flags from here and checks what
//! the user gave against the outer bounds; the rooms read the bounds that are no flags. The
//! relations between them are asserted when this file is compiled. It never holds a value that
//! depends on the machine.
//!
//! "issue" in a source means the table of flags in the README, which states the contract.

use std::time::Duration;

use crate::codec::http1;

const KIB: usize = 1024;

// Times a client or an upstream is waited for. Each has a flag of the same name.

/// Until a request head is whole, counted from its first byte (or from accept). Source: issue;
/// slowloris defence.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Without progress while a body is read. Source: issue.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Without progress while bytes wait for a peer that does not read. Source: issue.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client connection between requests, or a tunnel in which neither side speaks. Source: issue.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// From `connect(2)` to an established connection. Source: issue.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Of a client's silence, or of a first line that may become a request's, before its upstream is
/// connected and whoever speaks first decides. Source: issue; Linkerd's 10 s stall server-first
/// protocols (linkerd2#5922).
pub const DETECT_TIMEOUT: Duration = Duration::from_millis(50);
/// Where there was no room for the connection that is to find out who speaks first, it is looked again after
/// this, and after twice as long each further time.
pub const EARLY_CONNECT_AGAIN: Duration = Duration::from_millis(50);
/// But no later than after this: many may be silent while a service is full, and each look costs all of them.
pub const EARLY_CONNECT_AGAIN_MAX: Duration = Duration::from_secs(1);
/// The longest time span that a flag takes; keeps deadlines in nanoseconds far from overflow.
pub const TIME_SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

// Heads and bodies. Each has a flag of the same name.

/// Bytes of a request or response head, its final empty line included; 431 beyond. Source: issue.
pub const HEAD_BYTES_MAX: usize = 64 * KIB;
/// The smallest `--head-bytes-max`: RFC 9112 §3 recommends request lines of at least 8,000 octets,
/// but a user with tiny heads may go down to what any client sends.
pub const HEAD_BYTES_MAX_LEAST: usize = KIB;
/// The greatest `--head-bytes-max`: a head is held in memory whole.
pub const HEAD_BYTES_MAX_MOST: usize = 1024 * KIB;
/// Header fields of one head; 431 beyond. Source: issue.
pub const HEADERS_MAX: usize = 128;
/// The greatest `--headers-max`: as many as the tokenizer's table on the stack holds.
pub const HEADERS_MAX_MOST: usize = http1::fields::FIELDS_MAX;
/// Bytes of a request target; 414 beyond. Source: issue; RFC 9112 §3 wants at least 8,000.
pub const TARGET_BYTES_MAX: usize = 8 * KIB;
/// Bytes of an `X-Request-Id` that is kept; a longer one is replaced. Source: issue.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Interim (1xx) responses passed on for one request; more is an upstream protocol error. No RFC
/// bounds them; real servers send one or two.
pub const INTERIM_RESPONSES_MAX: usize = 8;
/// Bytes of chunk extensions in one chunk line; 400 beyond. RFC 9112 §7.1.1 asks for a limit; no
/// known client sends any.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;
/// Bytes of a trailer section; 400 (request) or a broken-off response beyond.
pub const TRAILER_BYTES_MAX: usize = 8 * KIB;
/// Bytes of a request body that are discarded after an early final response. Source: issue.
pub const DISCARD_BYTES_MAX: usize = 64 * KIB;
/// Time for which they are discarded. Source: issue.
pub const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

// Moving bodies and streams.

/// Bytes of one receive buffer: the largest piece that a receive brings, and what of an upstream's
/// body may come with its head.
pub const RECEIVE_BUFFER_BYTES: usize = 16 * KIB;
/// Receive buffers of one worker at the most; memory is used by those that were received into.
pub const RECEIVE_BUFFERS_MAX: u16 = 2_048;
/// A body of known length moves by splice when at least so many bytes of it are still in the socket.
/// Source: measured, see perf/results: below it the pipe's two extra calls cost more than the copy.
pub const SPLICE_BYTES_MIN: u64 = 32 * 1024;
/// Bytes of one bulk read of what does not move by splice.
pub const COPY_BYTES_MAX: usize = 64 * KIB;
/// Bytes that a transfer copies before other tasks get their turn.
pub const COPY_BYTES_PER_TURN: u64 = 1024 * 1024;
/// Body bytes that are sent in one piece with their head, by copying them behind it.
pub const INLINE_BODY_BYTES_MAX: usize = 4 * KIB;
/// Full receive buffers in a row after which a tunnel takes to splicing.
pub const TUNNEL_FULL_READS: u32 = 4;
/// A spliced burst of fewer bytes takes the tunnel back to copying.
pub const TUNNEL_BURST_BYTES_MIN: u64 = 64 * 1024;
/// Bytes that a tunnel splices before it is accounted for.
pub const TUNNEL_SPLICE_BYTES: u64 = 16 * 1024 * 1024;
/// While one side is waited for, the other is watched for a reset from then on, where no receive is
/// armed that would tell sooner. Short waits are the rule and should cost nothing.
pub const PEER_WATCH_AFTER: Duration = Duration::from_millis(100);
/// Mirrored copies under way at a time, per worker; further ones are left out and counted.
pub const MIRRORS_MAX: usize = 256;
/// How long a body is waited for that mirrors are to get a copy of: the original must not be slowed. What is
/// not here by then is not copied.
pub const MIRROR_BODY_WAIT: Duration = Duration::from_millis(250);
/// Until a mirror has answered a copy; then its connection is closed.
pub const MIRROR_TIMEOUT: Duration = Duration::from_secs(10);
/// A request that is delayed on purpose looks this often whether a drain has begun, which ends its wait.
pub const FAULT_LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A body that is held back on purpose passes in pieces of as many bytes as may pass in this time.
pub const PACE_SLICE: Duration = Duration::from_millis(50);
/// Bytes under a limit that pass as one at the most: what a pipe holds.
pub const FLOW_PIECE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that wait for a limit look this often whether it is another one by now.
pub const FLOW_LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Endpoints that one request tries to connect to.
pub const CONNECT_TRIES_MAX: usize = 3;
/// Endpoints that are remembered as tried for one request: those of all its tries.
pub const TRIED_MAX: usize = 12;
/// Bytes of a request's body that are kept, and waited for, so that it can be sent again. Source:
/// FEATURES; Linkerd.
pub const RETRY_BODY_BYTES_MAX: u64 = 64 * 1024;
/// The longest `Retry-After` that is waited for. Source: the issue of traffic policies.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
/// Tries that a worker draws from a budget at a time.
pub const RETRIES_DRAWN: u32 = 8;
/// How long a worker leaves an empty budget alone.
pub const RETRY_BUDGET_LOOK: Duration = Duration::from_millis(10);
/// Requests of a route that must have been answered lately before one can be said to be slow.
pub const HEDGE_SAMPLES_MIN: f64 = 1_000.0;
/// How often it is looked how long requests of a route take.
pub const HEDGE_LOOK: Duration = Duration::from_secs(1);
/// Second requests that are paid for at once.
pub const HEDGE_BURST: u64 = 10;
/// How long what was drawn from a budget may be kept. Source: the budget's window.
pub const RETRY_LEASE: Duration = Duration::from_secs(10);
/// At a drain, connections idle for longer than this close at once; the others get as long to send
/// one more request, which is answered with `Connection: close`.
pub const DRAIN_IDLE_GRACE: Duration = Duration::from_secs(1);
/// While a drain waits for its clients it looks this often whether any is left.
pub const DRAIN_LOOK_AGAIN: Duration = Duration::from_millis(5);
/// While accepting fails, the log says so this often.
pub const ACCEPT_WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// After accepting failed for want of descriptors or memory, it is tried again.
pub const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(10);

/// Clients that are being told 503 at the cap at the same time; beyond, they are reset.
pub const REFUSALS_MAX: usize = 64;

// Connections and pools.

/// Share of the process's descriptors that client connections may take, in percent. Source: issue.
pub const CONNECTIONS_MAX_PERCENT: u64 = 90;
/// Descriptors that the process needs whatever its load: standard streams, admin, logs, libraries.
pub const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors that each worker needs beside its connections: ring, mailbox, listeners, a few
/// pipes.
pub const DESCRIPTORS_PER_WORKER: u64 = 8;
/// Descriptors counted on when the hard limit says "unlimited": the kernel's default `fs.nr_open`.
pub const DESCRIPTORS_UNLIMITED: u64 = 1 << 20;
/// The greatest `--connections-max`: descriptors are `int`s.
pub const DESCRIPTORS_MOST: usize = i32::MAX as usize;
/// Worker threads; more than any machine has today, so that a mistyped number is refused. Source: what
/// an answer to the control plane has room for.
pub const WORKERS_MAX: usize = lateen_snapshot::limits::WORKERS_MAX;
/// Listen addresses of one process.
pub const LISTENERS_MAX: usize = 64;
/// Endpoints of one `--upstream` list.
pub const ENDPOINTS_MAX: usize = 100_000;
/// Idle upstream connections of one upstream, in the whole process. Source: issue.
pub const POOL_IDLE_MAX: usize = 256;
/// Share of the process's descriptors that idle upstream connections may take, in percent; what one
/// upstream may have is allowed in any case. Clients need the most, and requests in flight some.
pub const POOL_DESCRIPTORS_PERCENT: u64 = 25;
/// Endpoints among whose idle connections the one to give up is chosen: as good as all of them with
/// high probability (Redis evicts so).
pub const POOL_LOOKED_AT_MAX: usize = 16;
/// Idle connections of one cluster that are closed in a turn: some tens of microseconds.
pub const POOL_CLOSED_PER_TURN: usize = 64;
/// After a connect failed for want of a descriptor and an idle connection was given up for it: a close
/// takes a turn or two.
pub const DESCRIPTOR_RETRY_AFTER: Duration = Duration::from_millis(1);
/// Idle connections past that number are kept for so long, so that those in use by turns are not
/// closed and opened again. At most as many as were in use at a time.
pub const POOL_SURPLUS_IDLE: Duration = Duration::from_secs(1);
/// After so many responses in a row that came in one piece with their head, an endpoint's
/// connections receive the next ones without asking each time. A large one is then read into buffers
/// before that can be stopped (512 KiB at most), which costs about as much as asking so often.
pub const SHORT_RESPONSES_MIN: u32 = 256;
/// The greatest `--pool-idle-max`.
pub const POOL_IDLE_MAX_MOST: usize = 1 << 20;
/// An idle pooled connection is closed after. Source: issue.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A pooled connection is not used again after. Source: issue.
pub const POOL_LIFETIME: Duration = Duration::from_secs(3600);

// Balancing.

/// First time for which an endpoint that refused is tried last. Source: issue.
pub const REFUSAL_PENALTY: Duration = Duration::from_secs(1);
/// It doubles with each refusal in a row, up to. Source: FEATURES, Defaults.
pub const REFUSAL_PENALTY_MAX: Duration = Duration::from_secs(30);
/// Endpoints looked at beyond the two choices before the whole list is scanned. With half of the
/// endpoints penalised the scan then comes once in 2^10 picks.
pub const EXTRA_PROBES_MAX: usize = 8;
/// Endpoints that are looked at one after the other once chance found none: of those in service, or of all.
/// Where so many in a row refuse, the one that may be asked again first is as good as what the rest could
/// have. Source: ours.
pub const SCAN_STEPS_MAX: usize = 1_024;
/// The same within a worker's aperture. Where so many in a row can't be had, any other endpoint is better
/// than a longer look. Source: ours.
pub const APERTURE_STEPS_MAX: u64 = 128;
/// Points of an endpoint of the weight 1 on a hash ring. Source: issue.
pub const RING_POINTS: u32 = 160;
/// Points on one hash ring. Source: issue; Envoy's `maximum_ring_size`.
pub const RING_POINTS_MAX: usize = 8 << 20;
/// Entries of Maglev's table for each endpoint, at least. Source: issue; the paper, §5.3.
pub const MAGLEV_PER_ENDPOINT: u64 = 100;
/// Entries of Maglev's smallest table: with 100 for each of 100 endpoints 2.4 % of all keys would move when
/// one goes. Source: Envoy's default `table_size`.
pub const MAGLEV_ENTRIES_LEAST: u64 = 65_537;
/// Entries of Maglev's table; a prime. Source: issue; Envoy's greatest `table_size`.
pub const MAGLEV_ENTRIES_MAX: u64 = 5_000_011;
/// Entries of a table that a request's key goes over before chance decides. With half of the endpoints
/// penalised that is once in 2^64 requests.
pub const KEY_STEPS_MAX: usize = 64;

/// Where fewer than so many percent of a cluster's endpoints are in service, those that are not get requests
/// too. Source: FEATURES, Defaults; Envoy's.
pub const PANIC_THRESHOLD_PERCENT: u8 = 50;
// Limits.

/// Connections to one cluster, in the whole process, unless a policy says otherwise. Source: FEATURES,
/// Defaults.
pub const BULKHEAD_CONNECTIONS_MAX: u32 = 1_024;
/// Requests and connections that wait for one of those. Likewise.
pub const BULKHEAD_PENDING_MAX: u32 = 1_024;
/// How long they wait. Source: Linkerd's failfast of outbound requests.
pub const BULKHEAD_QUEUE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a worker has of a cap and did not touch for so long goes back.
pub const BULKHEAD_UNUSED: Duration = Duration::from_secs(1);
/// A connection that is done with goes to who waits on its worker, unless somebody waits longer by that on
/// another one: a new connection costs more than a while of it.
pub const HAND_OVER_LEAD: Duration = Duration::from_millis(100);

/// How often a worker looks whether it can be told anew how many requests a service works on at a time.
pub const ADAPTIVE_LOOK: Duration = Duration::from_millis(10);

/// A worker whose turns take longer than that …
pub const LAG_TARGET: Duration = Duration::from_millis(5);
/// … for so long can't keep up. Source: issue.
pub const LAG_INTERVAL: Duration = Duration::from_millis(100);
/// It begins no more requests than end, but so many it may have under way in any case: a turn of them takes
/// no millisecond, so that it is not they what takes so long.
pub const LAG_REQUESTS_LEAST: usize = 64;
/// How long a request waits to begin, at the most.
pub const LAG_HOLD_MAX: Duration = Duration::from_secs(1);
/// How often a worker that accepts nobody for its lag looks whether it can again. It makes a turn, too, where
/// nothing else would.
pub const ACCEPT_LOOK_LAG: Duration = Duration::from_millis(10);
/// The same for want of memory or descriptors.
pub const ACCEPT_LOOK_PRESSURE: Duration = Duration::from_millis(100);
/// How often it is looked how much memory and how many descriptors are used, while there is traffic or little
/// is left.
pub const PRESSURE_LOOK: Duration = Duration::from_secs(1);
/// The smallest `--memory-max`: less than a process takes that does nothing.
pub const MEMORY_BYTES_MAX_LEAST: u64 = 4 * 1024 * 1024;

/// Keys of one limit whose leases, or refusals, a worker remembers; one of another key takes the place of
/// one of the same residue class. 56 bytes each.
pub const RATE_LEASES_MAX: usize = 1_024;
// Health of endpoints.

/// An endpoint whose success rate is less than so many points below the others' is as good as they are.
/// Source: issue.
pub const SUCCESS_RATE_GAP_POINTS: f64 = 5.0;
/// A bare connect to an ejected endpoint that refused is tried again after this, then after twice, … Source:
/// issue.
pub const REPROBE_AFTER: Duration = Duration::from_secs(1);
/// But no later than after. Source: issue.
pub const REPROBE_AFTER_MOST: Duration = Duration::from_secs(5);
/// Bytes of an answer to a check that are read: its status line begins with them.
pub const CHECK_ANSWER_BYTES: usize = 64;
/// Probes of endpoints under way at a time, in the process, of each kind: checks, and connects to those that
/// were ejected; others wait for one to end.
pub const PROBES_MAX: usize = 64;
/// Notices of workers that wait to be looked at; what is beyond them will be told again.
pub const NOTICES_MAX: usize = 4_096;

// Control plane.

/// From a Hello to the control plane's Welcome.
pub const CONTROL_WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// From the Welcome until a proxy that runs nothing says that it was given nothing.
pub const CONTROL_SNAPSHOT_PATIENCE: Duration = Duration::from_secs(2);
/// From a frame's first byte to its last.
pub const CONTROL_FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the control plane has taken an answer.
pub const CONTROL_SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// First wait before the control plane is connected to again; it doubles …
pub const CONTROL_BACKOFF_LEAST: Duration = Duration::from_millis(50);
/// … up to this.
pub const CONTROL_BACKOFF_MOST: Duration = Duration::from_secs(5);
/// Answers to the control plane that wait for it to take them.
pub const CONTROL_EVENTS_MAX: usize = 256;
/// Bytes of a proxy's name. Source: what a Hello may have.
pub const PROXY_NAME_BYTES_MAX: usize = lateen_snapshot::limits::PROXY_NAME_BYTES_MAX;

// Drain.

/// Accepting goes on that long after `/ready` turned 503. Source: issue.
pub const DRAIN_DELAY: Duration = Duration::ZERO;
/// Then what is in flight may take that long. Source: issue.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

// Watching.

/// A worker that does not come round for this long is reported. Source: issue.
pub const WORKER_STALL: Duration = Duration::from_secs(1);

// Access log.

/// Bytes of one access-log buffer. One write each: large enough to make the write cheap per
/// line. A longer line gets a buffer of its own.
pub const ACCESS_LOG_BUFFER_BYTES: usize = 32 * KIB;
/// Full buffers that wait for the disk, per worker; beyond, lines are dropped and counted.
pub const ACCESS_LOG_QUEUE_PER_WORKER: usize = 16;
/// A worker that goes idle hands its lines over at most this often, so that light load does not
/// wake the writer per request.
pub const ACCESS_LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(10);

// Admin.

/// Admin connections at a time; beyond, 503.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// Bytes of an admin request's head.
pub const ADMIN_HEAD_BYTES_MAX: usize = 8 * KIB;
/// Header fields of an admin request.
pub const ADMIN_HEADERS_MAX: usize = 64;
/// How long a start waits for addresses that are in use, and how often it tries. nginx tries five times,
/// half a second apart.
pub const BIND_PATIENCE: Duration = Duration::from_secs(2);
/// See [`BIND_PATIENCE`].
pub const BIND_AGAIN: Duration = Duration::from_millis(5);
/// Until an admin request's head is whole, and again until its answer is taken.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait for the client's FIN after the answer, so that unread bytes do not reset it away.
pub const ADMIN_LINGER: Duration = Duration::from_millis(500);
/// Stack of an admin connection's thread.
pub const ADMIN_STACK_BYTES: usize = 128 * KIB;

const _: () = {
    assert!(TRIED_MAX >= CONNECT_TRIES_MAX + lateen_snapshot::limits::RETRIES_MAX as usize);
    assert!(HEAD_BYTES_MAX_LEAST <= HEAD_BYTES_MAX && HEAD_BYTES_MAX <= HEAD_BYTES_MAX_MOST);
    assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX, "a target that is allowed must fit in a head");
    assert!(TARGET_BYTES_MAX >= 8000, "RFC 9112 section 3");
    assert!(TRAILER_BYTES_MAX <= HEAD_BYTES_MAX);
    assert!(CHUNK_EXTENSION_BYTES_MAX < TRAILER_BYTES_MAX);
    assert!(HEADERS_MAX <= HEADERS_MAX_MOST);
    assert!(REQUEST_ID_BYTES_MAX == crate::codec::message::REQUEST_ID_BYTES_MAX);
    assert!(CHUNK_EXTENSION_BYTES_MAX == http1::chunked::EXTENSION_BYTES_MAX as usize);
    assert!(TRAILER_BYTES_MAX == http1::chunked::TRAILER_BYTES_MAX);
    assert!(REQUEST_ID_BYTES_MAX < HEAD_BYTES_MAX_LEAST);
    assert!(CONNECTIONS_MAX_PERCENT > 0 && CONNECTIONS_MAX_PERCENT < 100);
    assert!(CONNECT_TIMEOUT.as_nanos() < HEADER_TIMEOUT.as_nanos());
    assert!(DETECT_TIMEOUT.as_nanos() < CONNECT_TIMEOUT.as_nanos());
    assert!(DISCARD_TIMEOUT.as_nanos() < BODY_TIMEOUT.as_nanos());
    assert!(POOL_IDLE_TIMEOUT.as_nanos() < POOL_LIFETIME.as_nanos());
    assert!(POOL_IDLE_MAX <= POOL_IDLE_MAX_MOST);
    assert!(POOL_LIFETIME.as_nanos() <= TIME_SPAN_MAX.as_nanos());
    assert!(TIME_SPAN_MAX.as_nanos() < (u64::MAX / 8) as u128, "deadlines are u64 nanoseconds");
    assert!(REFUSAL_PENALTY.as_nanos() <= REFUSAL_PENALTY_MAX.as_nanos());
    assert!(ENDPOINTS_MAX <= u32::MAX as usize, "an endpoint's index is a u32");
    assert!(DRAIN_DELAY.as_nanos() <= DRAIN_TIMEOUT.as_nanos());
};
