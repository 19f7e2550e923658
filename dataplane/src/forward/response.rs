//! The response on its way to the client.
//!
//! Before: `request` sent the request, or is still sending its body. After: the client has the
//! response whole, or both sides have left HTTP/1.1, or the side that failed is known. Interim
//! responses are passed on as they come.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use lateen_ring::{Chunk, Deadline, Instant, Lease, Moved, Started, Stream, spare_vector};

use crate::breaker;
use crate::client::Connection;
use crate::codec::body::{BodyEncoding, BodyError, BodyProgress, Framing};
use crate::codec::http1::request::may_end_head;
use crate::codec::http1::response::parse_response;
use crate::codec::http1::write_response::{
    ClientBody, ResponseEdits, ResponseForwarding, write_response,
};
use crate::codec::message::{Persistence, Version};
use crate::decide::fault::Pace;
use crate::exchange::{Exchange, Request};
use crate::failure::{Failure, Stage};
use crate::forward::held::{AtOnce, Held};
use crate::forward::received::Received;
use crate::forward::transfer::{
    BodyStop, Stopped, Timer, Way, finish_send, is_worth_splicing, one, send, transfer_body,
};
use crate::limits;
use crate::live::Live;
use crate::observe::metrics::CloseReason;
use crate::plant::{self, Plant};
use crate::sessions::lines_with_token;
use crate::tries::claim_after_answer;

/// What a response left behind.
#[derive(Debug)]
pub enum Responded {
    /// The client has all of it.
    Whole {
        /// Whether the client's connection goes on.
        keep_alive: bool,
        /// Whether the upstream's connection can carry another request.
        upstream_reusable: bool,
        /// Whether the request's body had gone up whole before the response was complete.
        request_whole: bool,
    },
    /// The answer asks for another try, which was claimed: the client hears nothing of it.
    Refused {
        /// How long to wait before.
        wait: Duration,
        /// Its status.
        status: u16,
        /// Whether the upstream's connection can carry another request.
        upstream_reusable: bool,
    },
    /// Nothing has come yet; it goes on after something was done about it.
    Hedge(HedgeNews),
    /// A 101 was passed on: what follows is no HTTP.
    Upgraded {
        /// What the upstream has said since.
        from_upstream: Received,
    },
}

/// A response head that was judged and rewritten.
struct Answer {
    /// For the client; empty if it is not to hear of it.
    head: Vec<u8>,
    status: u16,
    is_interim: bool,
    framing: Framing,
    upstream_keeps_alive: bool,
    body: ClientBody,
    /// Another try was claimed instead.
    again: Option<Duration>,
    /// It is a failure, and another answer may come.
    is_passed_over: bool,
}

/// The two sides of an exchange whose response is awaited. Lent as one: each future that has it
/// keeps one word, not six.
#[derive(Debug)]
pub struct Call<'a> {
    /// The client's side.
    pub connection: &'a Connection,
    /// What was asked.
    pub request: &'a Request,
    /// What is noted of it.
    pub exchange: &'a Exchange,
    /// Who answers.
    pub upstream: &'a Stream,
    /// Who watches the clock.
    pub deadline: &'a Deadline,
    /// The end of the whole.
    pub until: Cell<Instant>,
    /// Whether the request's body has gone up whole.
    pub body_sent: Cell<bool>,
    /// When a second request beside it is worth its cost; `NEVER`: its route sends none, or it is sent.
    pub hedge_at: Instant,
    /// Who else was asked.
    pub rival: Option<&'a dyn Rival>,
}

/// A second request.
pub trait Rival: std::fmt::Debug {
    /// Whether it is under way and something came.
    fn has_news(&self, cx: &mut Context<'_>) -> bool;
    /// Whether it is under way.
    fn is_under_way(&self) -> bool;
    /// The other one was answered well: it is broken off.
    fn lose(&self);
}

/// Why the wait for an answer is interrupted before the client has heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HedgeNews {
    /// It takes long enough that somebody else had better be asked too.
    Slow,
    /// Who else was asked answers first.
    RivalFirst,
    /// It failed with this status, and who else was asked may do better.
    BadAnswer(u16),
}

/// What came of a wait.
enum Next {
    /// Bytes, or the end of the upstream's stream.
    Bytes(Option<Lease>),
    Hedge(HedgeNews),
}

/// What came of reading an answer's head.
enum Heard {
    Answer(Answer),
    Hedge(HedgeNews),
}

impl Call<'_> {
    fn timer(&self) -> Timer<'_> {
        Timer { deadline: self.deadline, until: self.until.get() }
    }

    /// How fast the response's body may pass, if it is held back.
    fn held(&self) -> Option<Held<'_>> {
        let rare = self.request.rare.as_ref()?;
        let flow = rare.flows.as_ref().and_then(|flows| flows.down.as_ref());
        let rate = rare.fault.and_then(|fault| fault.bytes_per_s);
        let now_ns = || lateen_ring::now().as_nanos();
        let pace = rate.map(|rate| Pace::begin(rate, now_ns()));
        (flow.is_some() || pace.is_some()).then_some(Held { flow, pace, is_up: false })
    }
}

/// Passes the response to a request on.
///
/// # Errors
/// [`Failure`]: of the upstream, or the client's leaving.
pub async fn respond(call: &Call<'_>) -> Result<Responded, Failure> {
    let mut incoming = Received::default();

    // Heads: any number of interim ones, within reason, then the final one.
    let mut interim = 0;
    let mut answer = loop {
        let answer = match read_answer(call, &mut incoming).await? {
            Heard::Answer(answer) => answer,
            Heard::Hedge(news) => return Ok(Responded::Hedge(news)),
        };
        if !answer.is_interim {
            break answer;
        }
        interim += 1;
        if interim > limits::INTERIM_RESPONSES_MAX {
            return Err(Failure::upstream_protocol(Stage::ResponseHead));
        }
        if !answer.head.is_empty() {
            // Boxed, like all that few responses need.
            Box::pin(send_down(call, answer.head)).await?;
        }
    };

    // The final head goes out with what has come of the body.
    let mut body = BodyProgress::new(answer.framing);
    if let Some(wait) = answer.again {
        // A connection whose answer is all here can carry another request.
        let mut thrown_away = Vec::new();
        let taken = body.transcode(incoming.bytes(), &mut thrown_away, BodyEncoding::Plain);
        let is_whole =
            body.is_done() && taken.is_ok_and(|taken| taken.consumed == incoming.bytes().len());
        let upstream_reusable = is_whole && answer.upstream_keeps_alive;
        return Ok(Responded::Refused { wait, status: answer.status, upstream_reusable });
    }
    // Where more is to come, nothing of the snapshot is needed any more.
    if call.exchange.read_by_count.get() {
        call.exchange.let_go(&call.connection.shard);
    }
    let (started, invalid) = start_answer(call, &mut answer, &mut incoming, &mut body);
    let mut sent = Ok(());
    if started.done {
        call.connection.counts().write_bytes.add(started.bytes);
    } else {
        let Call { connection, .. } = call;
        let (timer, limit) = (call.timer(), connection.shard.config.timeouts.write);
        sent = finish_send(&connection.stream, connection.counts(), timer, limit, started).await;
    }
    if let Some(stop) = invalid {
        // What came before the fault is the client's; then the connection breaks off.
        return Err(body_failure(call.connection, stop));
    }
    sent.map_err(|stopped| client_stopped(call.connection, stopped))?;
    if answer.status == 101 {
        return Ok(Responded::Upgraded { from_upstream: incoming });
    }

    // The rest of the body.
    if !body.is_done() {
        call.exchange.read_by_count.set(true);
        call.exchange.let_go(&call.connection.shard);
        // Boxed: only a response that is larger than a buffer pays for it.
        let encoding = answer.body.encoding;
        Box::pin(pass_body_on(call, &mut incoming, &mut body, encoding)).await?;
    }
    let request_whole = call.body_sent.get() || plant::has(Plant::KeptAliveAfterEarlyAnswer);
    Ok(Responded::Whole {
        keep_alive: answer.body.keep_alive && request_whole,
        upstream_reusable: answer.upstream_keeps_alive && request_whole && incoming.is_empty(),
        request_whole,
    })
}

/// Starts sending the final head, and behind it what has come of the body; says so if that is no
/// body.
#[inline]
fn start_answer(
    call: &Call<'_>,
    answer: &mut Answer,
    incoming: &mut Received,
    body: &mut BodyProgress,
) -> (Started, Option<BodyStop>) {
    let Call { connection, exchange, .. } = call;
    exchange.status.set(answer.status);
    exchange.ends_by_close.set(answer.body.ends_by_close);
    let mut head = std::mem::take(&mut answer.head);
    let mut second = None;
    let mut invalid = None;
    let passed = &exchange.response_bytes;
    // What is held back has all of its body behind the head, unless as much as is here may pass at once.
    let allowed = match call.held() {
        _ if incoming.is_empty() || answer.status == 101 => None,
        None => Some(None),
        Some(held) => held.allow_at_once(incoming.bytes().len() as u64, passed).map(Some),
    };
    if let Some(allowed) = allowed {
        let copied =
            first_of_body(incoming, body, answer.body.encoding, &mut head, &mut second, passed);
        connection.shard.metrics().bytes_copied.add(passed.get());
        if let Some(AtOnce::Lent(flow)) = allowed {
            flow.pass_lent(passed.get());
        }
        invalid = copied.err();
    }
    // Nothing is under way to the client: every earlier send was waited for, or ended the exchange.
    let chunks = [Some(Chunk::Vector(head)), second, None];
    // The head of what is spliced goes with the first bytes of that, as one segment.
    let spliced = answer.body.encoding == BodyEncoding::Plain
        && incoming.is_empty()
        && body.remaining().is_some_and(is_worth_splicing);
    let started = if spliced {
        connection.stream.start_send_ahead(chunks)
    } else {
        connection.stream.start_send(chunks)
    };
    (started, invalid)
}

async fn pass_body_on(
    call: &Call<'_>,
    incoming: &mut Received,
    body: &mut BodyProgress,
    encoding: BodyEncoding,
) -> Result<(), Failure> {
    let Call { connection, exchange, upstream, .. } = call;
    let shard = &connection.shard;
    let moved = Moved::default();
    let held = call.held();
    // What is held back here takes its time by the route's word, not by the endpoint's doing.
    let timer = match held {
        Some(_) => Timer { until: exchange.due.get(), ..call.timer() },
        None => call.timer(),
    };
    let way = Way {
        source: upstream,
        source_counts: shard.upstream_counts(),
        sink: &connection.stream,
        sink_counts: connection.counts(),
        metrics: shard.metrics(),
        timer,
        read_limit: shard.config.timeouts.body,
        write_limit: shard.config.timeouts.write,
        moved: &moved,
        held,
    };
    let passed = &exchange.response_bytes;
    transfer_body(&way, incoming, body, encoding, passed, u64::MAX)
        .await
        .map_err(|stop| body_failure(connection, stop))
}

/// Sends to the client and waits until the kernel has taken all of it.
async fn send_down(call: &Call<'_>, bytes: Vec<u8>) -> Result<(), Failure> {
    let Call { connection, .. } = call;
    let limit = connection.shard.config.timeouts.write;
    send(&connection.stream, connection.counts(), call.timer(), limit, one(bytes))
        .await
        .map_err(|stopped| client_stopped(connection, stopped))
}

/// Reads until a response head is whole.
async fn read_answer(call: &Call<'_>, incoming: &mut Received) -> Result<Heard, Failure> {
    let head_limits = &call.connection.shard.head_limits;
    let mut seen = 0;
    loop {
        // The first bytes are a whole head more often than not: they are parsed unseen.
        let worth_it = seen == 0 || may_end_head(incoming.bytes(), seen, head_limits);
        if !incoming.is_empty() && worth_it {
            if let Some(answer) = judge_answer(call, incoming)? {
                if answer.is_passed_over {
                    return Ok(Heard::Hedge(HedgeNews::BadAnswer(answer.status)));
                }
                if let Some(rival) = call.rival {
                    rival.lose();
                }
                return Ok(Heard::Answer(answer));
            }
            seen = incoming.bytes().len();
            incoming.settle();
        }
        let lease = match next_bytes(call).await? {
            Next::Bytes(lease) => lease,
            Next::Hedge(news) => return Ok(Heard::Hedge(news)),
        };
        let heard = !incoming.is_empty() || lease.is_some();
        if heard {
            call.exchange.heard_upstream.set(true);
        }
        match lease {
            Some(lease) => {
                call.connection.shard.upstream_counts().read_bytes.add(lease.len() as u64);
                if lease.len() >= limits::RECEIVE_BUFFER_BYTES {
                    call.exchange.read_by_count.set(true);
                }
                if incoming.is_empty() {
                    call.exchange.answered_at.set(lateen_ring::now());
                    note_latency(call);
                }
                incoming.push(lease);
            }
            None => return Err(Failure::upstream_reset(Stage::ResponseHead, !heard)),
        }
    }
}

/// What a route that sends second requests wants to know.
#[inline]
fn note_latency(call: &Call<'_>) {
    let hedge = call.request.rare.as_ref().and_then(|rare| rare.hedge.as_ref());
    if let Some(hedge) = hedge {
        hedge.observe(lateen_ring::now().micros_since(call.exchange.sent_at.get()));
    }
}

/// Parses a head, and if it is whole, rewrites it for the client. No await: see `request`.
#[inline]
fn judge_answer(call: &Call<'_>, incoming: &mut Received) -> Result<Option<Answer>, Failure> {
    let Call { connection, request, exchange, body_sent, .. } = call;
    let shard = &connection.shard;
    let mut scratch = shard.scratch.borrow_mut();
    let invalid = Failure::upstream_protocol(Stage::ResponseHead);
    let parsed = parse_response(incoming.bytes(), &mut scratch, request.method, &shard.head_limits);
    let Some(head) = parsed.map_err(|_| invalid)? else { return Ok(None) };
    let upgrades = head.status == 101;
    if upgrades && !is_offered(request, head.upgrade) {
        return Err(invalid);
    }
    // A connection whose request is still coming when its answer is known can't carry another.
    let whole = body_sent.get() || plant::has(Plant::KeptAliveAfterEarlyAnswer);
    let is_passed_over =
        !head.is_interim() && head.status >= 500 && call.rival.is_some_and(Rival::is_under_way);
    let decides = !head.is_interim() && !is_passed_over;
    let may_try = decides && request.rare.as_ref().is_some_and(|rare| rare.tries.is_some());
    let again = match may_try {
        true => claim_after_answer(connection, exchange, request, head.status, head.fields),
        false => None,
    };
    if again.is_none() && decides {
        breaker::note_head(exchange, head.status);
    }
    let goes_on = request.keep_alive && whole && connection.may_go_on();
    let live = if request.edits_response { exchange.live() } else { None };
    let is_final = !head.is_interim();
    let with_token = live.as_deref().filter(|_| is_final).and_then(|live| {
        let rare = request.rare.as_ref()?;
        lines_with_token(call, live, rare.session?, &rare.added)
    });
    let forwarding = ResponseForwarding {
        client_version: request.version,
        request_method: request.method,
        persistence: match (upgrades, goes_on) {
            (true, _) => Persistence::Upgrade,
            (false, true) => Persistence::KeepAlive,
            (false, false) => Persistence::Close,
        },
        date: &shard.date(),
        edits: live.as_deref().map(|live| response_edits(call, live, with_token.as_deref())),
    };
    let is_interim = head.is_interim();
    let mut out = spare_vector();
    let body = if is_interim && request.version == Version::Http10 {
        ClientBody { encoding: BodyEncoding::Plain, keep_alive: true, ends_by_close: false }
    } else {
        write_response(&head, &forwarding, &mut out)
    };
    let answer = Answer {
        head: out,
        status: head.status,
        is_interim,
        framing: head.framing,
        upstream_keeps_alive: head.keep_alive,
        body,
        again,
        is_passed_over,
    };
    let consumed = head.consumed;
    incoming.consume(consumed);
    Ok(Some(answer))
}

/// What is changed of the response's head: by the backend and the route, and for this request.
#[cold]
fn response_edits<'a>(
    call: &'a Call<'_>,
    live: &'a Live,
    with_token: Option<&'a [u8]>,
) -> ResponseEdits<'a> {
    let exchange = call.exchange;
    let fields = match exchange.backend(live) {
        Some(backend) => backend.response_edits.as_deref(),
        // From where the route falls back to: what is said of one of its backends is not said of that.
        None => exchange.plan(live).and_then(|plan| plan.response_edits.as_deref()),
    };
    match &call.request.rare {
        Some(rare) => ResponseEdits {
            fields,
            cut: rare.added.cut,
            lines: with_token.unwrap_or(&rare.added.lines),
        },
        None => ResponseEdits { fields, ..ResponseEdits::default() },
    }
}

/// Whether a 101's protocol is one that the client offered (RFC 9110 §7.8).
fn is_offered(request: &Request, protocol: Option<&[u8]>) -> bool {
    let (Some(offered), Some(protocol)) = (request.upgrade(), protocol) else { return false };
    offered.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(protocol))
}

/// Puts what has come of the body behind the head: copied if it is little or must be encoded anew,
/// else as a chunk of its own.
fn first_of_body(
    incoming: &mut Received,
    body: &mut BodyProgress,
    encoding: BodyEncoding,
    head: &mut Vec<u8>,
    second: &mut Option<Chunk>,
    passed: &Cell<u64>,
) -> Result<(), BodyStop> {
    let here = incoming.bytes().len();
    if encoding == BodyEncoding::Plain
        && let Some(count) = body.take_plain(here as u64)
    {
        passed.set(count);
        let count = count as usize;
        if here > limits::INLINE_BODY_BYTES_MAX && count > 0 {
            *second = Some(incoming.take(count));
        } else {
            head.extend_from_slice(&incoming.bytes()[..count]);
            incoming.consume(count);
        }
        return Ok(());
    }
    let progress = body.transcode(incoming.bytes(), head, encoding).map_err(BodyStop::Invalid)?;
    incoming.consume(progress.consumed);
    passed.set(progress.body_bytes as u64);
    Ok(())
}

/// Waits for bytes of the response; `None` is the end of the upstream's stream. Meanwhile the client
/// is watched for a reset: at once where a receive is armed anyway, else after a while.
async fn next_bytes(call: &Call<'_>) -> Result<Next, Failure> {
    let limit = call.connection.shard.config.timeouts.body;
    let began = lateen_ring::now();
    let mut watching = call.body_sent.get() && call.connection.stream.is_receiving();
    // The client has said something or closed its direction: the receive has no more to tell.
    let mut heard_client = false;
    let look = began + limits::PEER_WATCH_AFTER;
    let (deadline, until) = (call.deadline, &call.until);
    let is_silent = !call.exchange.heard_upstream.get();
    let rival = call.rival.filter(|_| is_silent);
    let hedge_at = if is_silent { call.hedge_at } else { Instant::NEVER };
    let first = if watching { began + limit } else { look };
    deadline.set(first.min(until.get()).min(hedge_at));
    poll_fn(|cx| {
        let Call { connection, exchange, .. } = call;
        let client = &connection.stream;
        if let Poll::Ready(received) = call.upstream.poll_recv(cx) {
            return Poll::Ready(received.map(Next::Bytes).map_err(|_| {
                Failure::upstream_reset(Stage::ResponseHead, !exchange.heard_upstream.get())
            }));
        }
        if rival.is_some_and(|rival| rival.has_news(cx)) {
            return Poll::Ready(Ok(Next::Hedge(HedgeNews::RivalFirst)));
        }
        loop {
            if watching && client.poll_news(cx).is_ready() {
                if client.has_failed() {
                    connection.closes_for(CloseReason::ConnectionReset);
                    return Poll::Ready(Err(Failure::client_gone(Stage::ResponseHead)));
                }
                // A next request, or a FIN: the answer to this one is wanted all the same.
                watching = false;
                heard_client = true;
            }
            if deadline.poll_past(cx).is_pending() {
                return Poll::Pending;
            }
            let now = lateen_ring::now();
            // While the request is on its way the answer is not due.
            let over_at = exchange.request_over_at.get();
            let is_over = over_at != Instant::NEVER;
            let due = if is_over { over_at.max(began) + limit } else { Instant::NEVER };
            if now >= until.get() || now >= due {
                return Poll::Ready(Err(Failure::upstream_timeout(Stage::ResponseHead)));
            }
            if now >= hedge_at {
                return Poll::Ready(Ok(Next::Hedge(HedgeNews::Slow)));
            }
            // Until then whoever sends the body reads from the client, and notices its leaving.
            watching = is_over && !heard_client;
            let next = if is_over { due } else { now + limits::PEER_WATCH_AFTER };
            deadline.set(next.min(until.get()).min(hedge_at));
        }
    })
    .await
}

fn client_stopped(connection: &Connection, stopped: Stopped) -> Failure {
    connection.closes_for(match stopped {
        Stopped::TimedOut => CloseReason::TimedOut,
        Stopped::Broken(reason) => reason,
    });
    Failure::client_gone(Stage::ResponseBody)
}

fn body_failure(connection: &Connection, stop: BodyStop) -> Failure {
    match stop {
        BodyStop::Source(Stopped::TimedOut) => Failure::upstream_timeout(Stage::ResponseBody),
        BodyStop::Source(Stopped::Broken(_)) | BodyStop::Invalid(BodyError::Truncated) => {
            Failure::upstream_reset(Stage::ResponseBody, false)
        }
        BodyStop::Invalid(BodyError::Chunked(_)) | BodyStop::TooLong => {
            Failure::upstream_protocol(Stage::ResponseBody)
        }
        BodyStop::Sink(stopped) => client_stopped(connection, stopped),
        BodyStop::Held => Failure::deadline_passed(),
    }
}
