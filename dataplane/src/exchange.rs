//! What is known of one request while it is served, for its log line and its counters.
//!
//! Before: `request` makes one per request. After: [`Exchange::observe`] writes the line and counts;
//! where nobody lives to call it, [`CutWatch`] does.
//! Plain cells: the halves of an exchange (body up, response down) run at the same time and both
//! note what they did.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use lateen_ring::{Boxed, Instant, keep_vector, spare_vector};
use lateen_snapshot::model::breaker::Fallback;
use lateen_snapshot::model::overload::Priority;
use lateen_snapshot::model::{ClusterId, Epoch, RouteId};

use crate::breaker::Admitted;
use crate::bulkhead::RequestUnit;
use crate::client::Connection;
use crate::cluster::Cluster;
use crate::codec::body::{BodyProgress, Framing};
use crate::codec::message::{Method, Version};
use crate::decide::balance::{EndpointIndex, Wish};
use crate::decide::fault::Injected;
use crate::decide::route::plan::{Answer, BackendPlan, RoutePlan};
use crate::failure::{Failure, ResponseFlag, Stage};
use crate::fallback::ForFallback;
use crate::hedging::Hedge;
use crate::live::Live;
use crate::observe::access_log::Entry;
use crate::rate_limit::flow::{Flow, Flows};
use crate::sessions::InSession;
use crate::shard::Shard;
use crate::tries::Tries;

/// A request that is to be forwarded.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The version that the client speaks.
    pub version: Version,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the client wants to go on after it.
    pub keep_alive: bool,
    /// What few requests have.
    pub rare: Option<Boxed<Rare>>,
    /// Something of the response's head is to be changed.
    pub edits_response: bool,
    /// The head for the upstream, and the body if it is small and all there.
    pub message: Vec<u8>,
    /// What of the body is still to come.
    pub body: BodyProgress,
}

impl Request {
    /// The protocols that it offers to leave HTTP/1.1 for, if it does.
    pub fn upgrade(&self) -> Option<&[u8]> {
        self.rare.as_ref()?.upgrade.as_deref()
    }

    /// The head and body for mirrors, before the message is sent.
    pub fn for_mirrors(&self) -> &[u8] {
        let own = self.rare.as_ref().and_then(|rare| rare.for_mirrors.as_ref());
        own.unwrap_or(&self.message)
    }

    /// The tries that its route allows beyond the first, if it allows any.
    #[inline]
    pub fn tries(&self) -> Option<&Tries> {
        self.rare.as_ref()?.tries.as_ref()
    }

    /// Whether it may be sent again though an endpoint may have acted on it.
    pub fn repeats(&self) -> bool {
        self.tries().is_some_and(|tries| tries.repeats)
    }

    /// What limits the bytes of its body, if anything does.
    pub fn up_flow(&self) -> Option<&Flow> {
        self.rare.as_ref()?.flows.as_ref()?.up.as_ref()
    }

    /// Whether all of it is in memory still after a try.
    pub fn is_kept(&self) -> bool {
        !self.message.is_empty()
    }

    /// What is known before its head was read.
    pub fn unread() -> Self {
        Self {
            method: Method::Get,
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: false,
            rare: None,
            edits_response: false,
            message: Vec::new(),
            body: BodyProgress::new(Framing::None),
        }
    }
}

/// What is told of a request so far.
///
/// ```text
/// Unread ──head──▶ Asked ──101──▶ Counted ──▶ Whole
///    └───────────────┴──any other end───────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing: its head is not whole, so it is no request yet.
    Unread,
    /// Nothing, but it is a request.
    Asked,
    /// It is counted. The line waits for the end of its tunnel.
    Counted,
    /// It is counted and logged.
    Whole,
}

/// What few requests have.
#[derive(Debug)]
pub struct Rare {
    /// The protocols that it offers to leave HTTP/1.1 for, if it does.
    pub upgrade: Option<Box<[u8]>>,
    /// For its response.
    pub added: AddedFields,
    /// Which mirrors of its route get a copy: a bit for each.
    pub mirrored: u16,
    /// What mirrors get, if it is not what the backend gets.
    pub for_mirrors: Option<Vec<u8>>,
    /// Its body is waited for: mirrors get a copy, or it may be sent again.
    pub awaits_body: bool,
    /// When the caller waits no longer, as it says.
    pub deadline: Option<Instant>,
    /// Tries beyond the first; `None`: there are none by its route.
    pub tries: Option<Tries>,
    /// Second requests of its route.
    pub hedge: Option<Rc<Hedge>>,
    /// Where the head ends in the message, without what is said of a try.
    pub head_bytes: usize,
    /// How much is said of the try that was sent last.
    pub try_bytes: usize,
    /// What is made to go wrong with it.
    pub fault: Option<Injected>,
    /// Its session, if its route keeps some.
    pub session: Option<InSession>,
    /// What is another for the backend that its route falls back to.
    pub fallback: Option<Box<ForFallback>>,
    /// What limits the bytes of its body and of its response's.
    pub flows: Option<Flows>,
}

/// What a response gets beside its route's edits.
#[derive(Debug, Default)]
pub struct AddedFields {
    /// Fields of the upstream's that are left out, by lower-case name.
    pub cut: &'static [&'static str],
    /// Whole lines.
    pub lines: Vec<u8>,
}

/// The route that a request takes, and which of its backends answers.
#[derive(Clone, Copy, Debug)]
pub struct RouteUse {
    /// Of the snapshot that the request is pinned to.
    pub route: RouteId,
    /// Position among the route's backends, or [`FALLBACK`](Self::FALLBACK).
    pub backend: u16,
    /// The backend's cluster, or one that stands in for it.
    pub cluster: ClusterId,
}

impl RouteUse {
    /// None of the route's backends: the one that it falls back to. There are never so many.
    pub const FALLBACK: u16 = u16::MAX;

    /// Before the head was judged.
    const NONE: Self = Self { route: RouteId(u32::MAX), backend: 0, cluster: ClusterId(0) };
}

/// What a request knows of the snapshot that it runs on.
#[derive(Debug)]
enum Pinned {
    /// Its head was not judged yet.
    NotYet,
    /// It runs on this one.
    To(Rc<Live>),
    /// It needs it no longer.
    LetGo(Left),
}

/// What is told of a snapshot at the end of a request.
#[derive(Clone, Copy, Debug)]
struct Left {
    epoch: Epoch,
    upstream: Option<SocketAddr>,
}

/// The facts of one request.
#[derive(Debug)]
pub struct Exchange {
    /// When its first byte came.
    pub began: Instant,
    /// The method; GET until the head was read.
    pub method: Cell<Method>,
    /// The version that the client speaks.
    pub version: Cell<Version>,
    /// The status that the client was sent; 0 while there is none.
    pub status: Cell<u16>,
    /// Body bytes of the request that went up, without framing.
    pub request_bytes: Cell<u64>,
    /// Body bytes of the response that went down, without framing.
    pub response_bytes: Cell<u64>,
    /// When the request was sent.
    pub sent_at: Cell<Instant>,
    /// When the response's head came.
    pub answered_at: Cell<Instant>,
    /// When the upstream's part was over.
    pub upstream_done_at: Cell<Instant>,
    /// Tries beyond the first.
    pub retries: Cell<u32>,
    /// When all tries must be over.
    pub due: Cell<Instant>,
    /// How long one try may take, in milliseconds; 0: as long as all of them.
    pub each_ms: Cell<u32>,
    /// The upstream has sent at least a byte.
    pub heard_upstream: Cell<bool>,
    /// From when on the response is due: the request went up whole, or the upstream would not take
    /// the rest. `NEVER` while it is on its way.
    pub request_over_at: Cell<Instant>,
    /// The response was read up to its known end: what may lie behind it in the socket is unseen.
    pub read_by_count: Cell<bool>,
    /// The request's body was read to its end.
    pub request_whole: Cell<bool>,
    /// Only the close ends the response's body.
    pub ends_by_close: Cell<bool>,
    /// How the tunnel ended that a 101 made of it.
    pub tunnel_failure: Cell<Option<Failure>>,
    /// Its route; a placeholder until its head was judged.
    pub route: Cell<RouteUse>,
    /// What it says of the endpoint that it is for.
    pub wish: Cell<Option<Wish>>,
    /// What its log line says where nothing failed.
    pub mark: Cell<Option<ResponseFlag>>,
    /// The client asked by which config it is answered.
    pub wants_epoch: Cell<bool>,
    /// That its route's breaker let it through.
    pub breaker: RefCell<Option<Admitted>>,
    /// Its place among the requests that its cluster may have at a time.
    pub entered: RefCell<Option<RequestUnit>>,
    /// How important it is.
    pub priority: Cell<Priority>,
    /// Its route's breaker did not, and says what to answer.
    pub falls_back: Cell<bool>,
    endpoint: Cell<Option<EndpointIndex>>,
    pinned: RefCell<Pinned>,
    told: Cell<Told>,
    /// Inline: a box for each request costs more than these words.
    logged: RefCell<Option<Logged>>,
}

impl Exchange {
    /// A request whose first byte came at `began`.
    #[inline]
    pub fn begin(began: Instant) -> Self {
        Self {
            began,
            method: Cell::new(Method::Get),
            version: Cell::new(Version::Http11),
            status: Cell::new(0),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            sent_at: Cell::new(Instant::NEVER),
            answered_at: Cell::new(Instant::NEVER),
            upstream_done_at: Cell::new(Instant::NEVER),
            retries: Cell::new(0),
            due: Cell::new(Instant::NEVER),
            each_ms: Cell::new(0),
            heard_upstream: Cell::new(false),
            request_over_at: Cell::new(Instant::NEVER),
            read_by_count: Cell::new(false),
            request_whole: Cell::new(false),
            ends_by_close: Cell::new(false),
            tunnel_failure: Cell::new(None),
            route: Cell::new(RouteUse::NONE),
            wish: Cell::new(None),
            mark: Cell::new(None),
            wants_epoch: Cell::new(false),
            breaker: RefCell::new(None),
            entered: RefCell::new(None),
            priority: Cell::new(Priority::Default),
            falls_back: Cell::new(false),
            endpoint: Cell::new(None),
            pinned: RefCell::new(Pinned::NotYet),
            told: Cell::new(Told::Unread),
            logged: RefCell::new(None),
        }
    }

    /// When a try that begins now must be over.
    #[inline]
    pub fn try_until(&self) -> Instant {
        let due = self.due.get();
        match self.each_ms.get() {
            0 => due,
            each_ms => due.min(lateen_ring::now().plus_millis(each_ms.into())),
        }
    }

    /// The request runs on this snapshot; to be said once.
    #[inline]
    pub fn pin(&self, live: Rc<Live>) {
        *self.pinned.borrow_mut() = Pinned::To(live);
    }

    /// The snapshot that it runs on; `None` until its head was judged, and after
    /// [`let_go`](Self::let_go).
    #[inline]
    pub fn live(&self) -> Option<Rc<Live>> {
        match &*self.pinned.borrow() {
            Pinned::To(live) => Some(Rc::clone(live)),
            Pinned::NotYet | Pinned::LetGo(_) => None,
        }
    }

    /// Lets the snapshot go: nothing that is still to come of the request depends on it, and that may
    /// take for longer than many snapshots live. What the log line will say is kept.
    pub fn let_go(&self, shard: &Shard) {
        let Some(live) = self.live() else { return };
        let upstream = self.upstream_address(shard, &live);
        let left = Left { epoch: live.loaded.epoch, upstream };
        *self.pinned.borrow_mut() = Pinned::LetGo(left);
    }

    /// What happens to requests of its route; `None` until its head was judged. `live` is what it is
    /// pinned to.
    #[inline]
    pub fn plan<'l>(&self, live: &'l Live) -> Option<&'l RoutePlan> {
        let RouteUse { route, .. } = self.route.get();
        (route != RouteUse::NONE.route).then(|| live.loaded.tables.plan(route))
    }

    /// The backend that answers it; likewise, and where it is the one that the route falls back to.
    #[inline]
    pub fn backend<'l>(&self, live: &'l Live) -> Option<&'l BackendPlan> {
        let Answer::Backends { backends, .. } = &self.plan(live)?.answer else { return None };
        backends.get(usize::from(self.route.get().backend))
    }

    /// That backend's cluster, also of the one that the route falls back to. A part of the same service that
    /// stands in for it may answer instead.
    pub fn backend_cluster(&self, live: &Live) -> Option<ClusterId> {
        if self.route.get().backend != RouteUse::FALLBACK {
            return self.backend(live)?.cluster;
        }
        match self.plan(live)?.policy.circuit_breaker.as_ref()?.fallback {
            Some(Fallback::Backend(cluster)) => Some(cluster),
            _ => None,
        }
    }

    /// The cluster that answers it; likewise.
    #[inline]
    pub fn cluster<'l>(&self, shard: &Shard, live: &'l Live) -> Option<&'l Rc<Cluster>> {
        let RouteUse { route, cluster, .. } = self.route.get();
        (route != RouteUse::NONE.route).then(|| live.cluster(shard, cluster))
    }

    /// The request goes to `endpoint`.
    #[inline]
    pub fn chose(&self, endpoint: EndpointIndex) {
        self.endpoint.set(Some(endpoint));
    }

    /// It goes to another cluster, of whose endpoints none is chosen yet.
    pub fn chose_none(&self) {
        self.endpoint.set(None);
    }

    /// The endpoint that it went to last.
    #[inline]
    pub fn endpoint(&self) -> Option<EndpointIndex> {
        self.endpoint.get()
    }

    fn upstream_address(&self, shard: &Shard, live: &Live) -> Option<SocketAddr> {
        let endpoint = self.endpoint.get()?;
        self.cluster(shard, live)?.endpoint_specs().get(endpoint.as_usize()).map(|of| of.address)
    }

    /// Keeps what the log line will say of the head.
    pub fn keep_for_log(&self, logged: Logged) {
        *self.logged.borrow_mut() = Some(logged);
    }

    /// The head was read whole.
    #[inline]
    pub fn note_asked(&self) {
        self.told.set(Told::Asked);
    }

    /// A 101 went out. It is the response and counts as one; the line waits for its tunnel's end.
    pub fn count_upgrade(&self, connection: &Connection) {
        self.count(connection, None);
        self.told.set(Told::Counted);
    }

    /// Counts the exchange and logs it.
    pub fn observe(&self, connection: &Connection, failure: Option<Failure>) {
        let metrics = connection.shard.metrics();
        match (self.told.replace(Told::Whole), failure) {
            (Told::Counted, None) => {}
            // What came after the response is no response; the flag counts all the same.
            (Told::Counted, Some(failure)) => {
                metrics.record_failure(failure);
            }
            // No head was read and nothing answered, so there was no request; likewise.
            (Told::Unread, Some(failure)) if self.status.get() == 0 => {
                metrics.record_failure(failure);
            }
            (_, failure) => self.count(connection, failure),
        }
        if connection.shard.logs() {
            self.log(connection, failure);
        }
    }

    fn count(&self, connection: &Connection, failure: Option<Failure>) {
        let metrics = connection.shard.metrics();
        metrics.request.increment();
        let latency_us = lateen_ring::now().micros_since(self.began);
        metrics.record_response(self.status.get(), failure, latency_us);
    }

    fn log(&self, connection: &Connection, failure: Option<Failure>) {
        let shard = &connection.shard;
        let now = lateen_ring::clock();
        let total_us = micros(self.began, now);
        // Between the request's going out and the answer's coming in the proxy only waits.
        let waited_us = micros(self.sent_at.get(), self.answered_at.get().min(now));
        let upstream_us = self
            .endpoint
            .get()
            .map(|_| micros(self.sent_at.get(), self.upstream_done_at.get().min(now)));
        let left = match &*self.pinned.borrow() {
            Pinned::NotYet => Left { epoch: Epoch::default(), upstream: None },
            Pinned::To(live) => {
                Left { epoch: live.loaded.epoch, upstream: self.upstream_address(shard, live) }
            }
            Pinned::LetGo(left) => *left,
        };
        let logged = self.logged.borrow_mut().take();
        let parts = logged.as_ref().map_or(Parts::default(), Logged::parts);
        shard.log(
            self.began,
            Entry {
                time_us: 0,
                request_id: parts.request_id,
                downstream: connection.peer,
                upstream: left.upstream,
                method: parts.method,
                authority: parts.authority,
                path: parts.path,
                version: self.version.get().as_str(),
                status: self.status.get(),
                flag: failure.map(|failure| failure.outcome().flag).or(self.mark.get()),
                request_bytes: self.request_bytes.get(),
                response_bytes: self.response_bytes.get(),
                total_us,
                upstream_us,
                processing_us: total_us.saturating_sub(waited_us),
                retries: self.retries.get(),
                epoch: left.epoch,
            },
        );
        if let Some(logged) = logged {
            keep_vector(logged.text);
        }
    }
}

/// Tells of an exchange that nobody lives to observe: its task is aborted when a drain's grace is
/// over, or panics; and that a request of the worker is over. To be kept beside the exchange as long as that is
/// served.
pub struct CutWatch<'a> {
    /// Whose client.
    pub connection: &'a Connection,
    /// What to tell of.
    pub exchange: &'a Exchange,
}

impl Drop for CutWatch<'_> {
    #[inline]
    fn drop(&mut self) {
        self.connection.shard.lag.end();
        let stage = match self.exchange.told.get() {
            Told::Whole => return,
            Told::Unread => Stage::RequestHead,
            Told::Asked if self.exchange.status.get() == 0 => Stage::Request,
            Told::Asked => Stage::ResponseBody,
            Told::Counted => Stage::Tunnel,
        };
        self.exchange.observe(self.connection, Some(Failure::cut_off(stage)));
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    if from == Instant::NEVER { 0 } else { to.micros_since(from) }
}

/// What a log line says of a head (which is bounded far below 4 GiB), copied because the head's buffer is given back at once.
#[derive(Debug)]
pub struct Logged {
    text: Vec<u8>,
    authority_at: u32,
    path_at: u32,
    request_id_at: u32,
}

#[derive(Default)]
struct Parts<'a> {
    method: &'a [u8],
    authority: &'a [u8],
    path: &'a [u8],
    request_id: &'a [u8],
}

impl Logged {
    /// Copies the parts of a head.
    pub fn new(method: &[u8], authority: &[u8], path: &[u8], request_id: &[u8]) -> Self {
        let mut text = spare_vector();
        text.extend_from_slice(method);
        let authority_at = text.len() as u32;
        text.extend_from_slice(authority);
        let path_at = text.len() as u32;
        text.extend_from_slice(path);
        let request_id_at = text.len() as u32;
        text.extend_from_slice(request_id);
        Self { text, authority_at, path_at, request_id_at }
    }

    fn parts(&self) -> Parts<'_> {
        let [authority_at, path_at, request_id_at] =
            [self.authority_at, self.path_at, self.request_id_at].map(|at| at as usize);
        Parts {
            method: &self.text[..authority_at],
            authority: &self.text[authority_at..path_at],
            path: &self.text[path_at..request_id_at],
            request_id: &self.text[request_id_at..],
        }
    }
}
