//! What went wrong, in one small value, and what follows from it.
//!
//! Before: the rooms (`codec`, `decide`, `forward`) and the engine end in errors of their own,
//! which the conductors lift into a [`Failure`]. After: [`Failure::outcome`] is the one place that
//! says which status the client gets, which flag stands in the access log and in
//! `response_flags_total`, and how the response counts. It never does I/O, never allocates, and
//! never says anything of the inside to a client.

use lateen_snapshot::model::faults::AbortKind;

/// Where on the packet's way it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Accepting, admitting or detecting a client connection.
    Accept,
    /// Reading the request head.
    RequestHead,
    /// Choosing what to do with the request: caps, the balancer.
    Decide,
    /// Getting a connection to an endpoint.
    Connect,
    /// Moving the request, head or body, to the upstream.
    Request,
    /// Waiting for the response head, or reading it.
    ResponseHead,
    /// Moving the response body to the client.
    ResponseBody,
    /// Carrying bytes between both sides: TCP, or HTTP after an upgrade.
    Tunnel,
}

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The proxy's own: a cap, no route, or no endpoint to choose from.
    Local,
    /// The endpoint's, or the network's on the way to it.
    Upstream,
}

/// A request that is refused, by the status it is refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Refusal {
    /// 400: framing or syntax (RFC 9112 §2–7).
    BadRequest = 400,
    /// 405: CONNECT, or TRACE without `--trace-method`.
    MethodNotAllowed = 405,
    /// 408: the head or the body did not come in time (RFC 9110 §15.5.9).
    RequestTimeout = 408,
    /// 413: the body is longer than `--body-bytes-max`.
    ContentTooLarge = 413,
    /// 414: the target is longer than `--target-bytes-max`.
    UriTooLong = 414,
    /// 417: an expectation other than `100-continue`.
    ExpectationFailed = 417,
    /// 431: the head is longer than `--head-bytes-max` or has more fields than `--headers-max`.
    HeaderFieldsTooLarge = 431,
    /// 501: a transfer coding other than `chunked`.
    NotImplemented = 501,
    /// 505: another major version of HTTP.
    VersionNotSupported = 505,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::ContentTooLarge,
        Self::UriTooLong,
        Self::ExpectationFailed,
        Self::HeaderFieldsTooLarge,
        Self::NotImplemented,
        Self::VersionNotSupported,
    ];

    /// The refusal with this status; any status that is none of ours becomes
    /// [`Refusal::BadRequest`].
    pub fn from_status(status: u16) -> Self {
        Self::ALL.into_iter().find(|refusal| refusal.status() == status).unwrap_or(Self::BadRequest)
    }

    /// The HTTP status code.
    pub const fn status(self) -> u16 {
        self as u16
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The request is refused; always the client's doing.
    Refused(Refusal),
    /// The client closed or reset its connection, or stopped reading for `--write-timeout`.
    ClientGone,
    /// No route takes the request.
    NoRoute,
    /// The route's backend does not exist.
    NoCluster,
    /// Every endpoint was tried or there is none.
    NoHealthyUpstream,
    /// A cap on connections or requests was reached.
    Overflow,
    /// It was turned away so that others are answered in time.
    Overloaded,
    /// The limit of a rate was reached; the client's doing, although it is found out here.
    RateLimited,
    /// The endpoint refused the connection, or it did not come up within `--connect-timeout`.
    ConnectFailed,
    /// The endpoint closed or reset the connection before its message was whole.
    UpstreamReset,
    /// The endpoint's bytes break the protocol, an unasked 101 included.
    UpstreamProtocol,
    /// The endpoint made no progress in time, or `--request-timeout` ended.
    UpstreamTimeout,
    /// The caller's deadline had passed before anything was done.
    DeadlinePassed,
    /// A fault of its route answers it with this status.
    Injected(u16),
    /// A fault of its route resets the client's connection.
    InjectedReset,
    /// The connection has lasted as long as its route or its listener says.
    Lasted,
    /// The proxy broke it off itself: a drain's grace was over, or its task panicked.
    CutOff,
}

/// One failure of one request or connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where on the packet's way.
    pub stage: Stage,
    /// Whose doing.
    pub side: Side,
    /// What happened.
    pub cause: Cause,
    /// The endpoint has certainly not acted on the request, or the request may be repeated (RFC
    /// 9110 §9.2.2) and is still whole in memory. Whether a try is left is the conductor's to know.
    pub retryable: bool,
}

/// Envoy's response flags, as far as they exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResponseFlag {
    /// UF: upstream connection failure.
    UpstreamConnectionFailure,
    /// UH: no healthy upstream.
    NoHealthyUpstream,
    /// UR: upstream reset.
    UpstreamReset,
    /// UPE: upstream protocol error.
    UpstreamProtocolError,
    /// UT: upstream request timeout.
    UpstreamTimeout,
    /// DT: the client took too long; or a connection that is not HTTP lasted as long as it may, for which
    /// Envoy has these letters.
    DownstreamTimeout,
    /// UO: over a cap.
    Overflow,
    /// DPE: downstream protocol error.
    DownstreamProtocolError,
    /// DC: downstream connection termination.
    DownstreamGone,
    /// LR: local reset. Envoy marks what its own end cuts off with DC, as if the client had left,
    /// and tells it apart by `response_code_details`, which we have not; LR is its flag for a reset
    /// of its own making.
    LocalReset,
    /// NR: no route.
    NoRoute,
    /// NC: no cluster.
    NoCluster,
    /// URX: no try was left.
    RetryLimitExceeded,
    /// FI: ended by a fault on purpose.
    FaultInjected,
    /// DI: delayed by a fault on purpose. Beside a failure, which has the log line's place.
    DelayInjected,
    /// RL: over the limit of a rate.
    RateLimited,
    /// OM: turned away by overload control (Envoy's overload manager).
    Overloaded,
}

impl ResponseFlag {
    /// Every flag, at its [`index`](Self::index).
    pub const ALL: [Self; 17] = [
        Self::UpstreamConnectionFailure,
        Self::NoHealthyUpstream,
        Self::UpstreamReset,
        Self::UpstreamProtocolError,
        Self::UpstreamTimeout,
        Self::DownstreamTimeout,
        Self::Overflow,
        Self::DownstreamProtocolError,
        Self::DownstreamGone,
        Self::LocalReset,
        Self::NoRoute,
        Self::NoCluster,
        Self::RetryLimitExceeded,
        Self::FaultInjected,
        Self::DelayInjected,
        Self::RateLimited,
        Self::Overloaded,
    ];

    /// How many flags there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Dense index, 0 to [`COUNT`](Self::COUNT) − 1, for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The flag as it stands in the access log and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpstreamConnectionFailure => "UF",
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamReset => "UR",
            Self::UpstreamProtocolError => "UPE",
            Self::UpstreamTimeout => "UT",
            Self::DownstreamTimeout => "DT",
            Self::Overflow => "UO",
            Self::DownstreamProtocolError => "DPE",
            Self::DownstreamGone => "DC",
            Self::LocalReset => "LR",
            Self::NoRoute => "NR",
            Self::NoCluster => "NC",
            Self::RetryLimitExceeded => "URX",
            Self::FaultInjected => "FI",
            Self::DelayInjected => "DI",
            Self::RateLimited => "RL",
            Self::Overloaded => "OM",
        }
    }
}

/// How a response counts in `response_total{classification}`: Linkerd's rule, where only the
/// service's side can fail. A client's mistake and a client's leaving are not the service's
/// failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Classification {
    /// The service answered, whatever it answered below 500.
    Success,
    /// 5xx, or a response that broke off.
    Failure,
}

impl Classification {
    /// Every classification, at its [`index`](Self::index).
    pub const ALL: [Self; 2] = [Self::Success, Self::Failure];

    /// How many classifications there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Of a response that was delivered whole.
    pub const fn of_status(status: u16) -> Self {
        if status < 500 { Self::Success } else { Self::Failure }
    }

    /// Dense index, for arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Status to answer with while no byte of a response was sent; `None`: there is nobody left to
    /// answer. Once a response has begun, its own status stands and the connection is closed.
    pub status: Option<u16>,
    /// Flag of the access log and of `response_flags_total`.
    pub flag: ResponseFlag,
    /// How it counts, also when the response had begun with a good status.
    pub classification: Classification,
}

impl Failure {
    /// A refused request: at the head or in the body, the client's doing, not to be repeated.
    pub const fn refused(stage: Stage, refusal: Refusal) -> Self {
        Self { stage, side: Side::Downstream, cause: Cause::Refused(refusal), retryable: false }
    }

    /// Whether it says anything of the service: not where a client has left, where it is for the caller to say
    /// how long it waits, nor where the request never got further than here.
    pub const fn tells_of_service(self) -> bool {
        match (self.side, self.cause) {
            (Side::Downstream, _)
            | (_, Cause::DeadlinePassed | Cause::Overloaded | Cause::Overflow) => false,
            (_, Cause::UpstreamTimeout) => !matches!(self.stage, Stage::Decide),
            _ => true,
        }
    }

    /// The client left.
    pub const fn client_gone(stage: Stage) -> Self {
        Self { stage, side: Side::Downstream, cause: Cause::ClientGone, retryable: false }
    }

    /// A cap was reached.
    pub const fn overflow(stage: Stage) -> Self {
        Self { stage, side: Side::Local, cause: Cause::Overflow, retryable: false }
    }

    /// Others are answered in time instead.
    pub const fn overloaded(stage: Stage) -> Self {
        Self { stage, side: Side::Local, cause: Cause::Overloaded, retryable: false }
    }

    /// The limit of a rate was reached.
    pub const fn rate_limited(stage: Stage) -> Self {
        Self { stage, side: Side::Local, cause: Cause::RateLimited, retryable: false }
    }

    /// No host, or no rule of its host, takes the request.
    pub const fn no_route() -> Self {
        Self { stage: Stage::Decide, side: Side::Local, cause: Cause::NoRoute, retryable: false }
    }

    /// The backend that was chosen is a reference that leads nowhere.
    pub const fn no_cluster() -> Self {
        Self { stage: Stage::Decide, side: Side::Local, cause: Cause::NoCluster, retryable: false }
    }

    /// The balancer has nothing (more) to offer.
    pub const fn no_healthy_upstream() -> Self {
        Self {
            stage: Stage::Decide,
            side: Side::Local,
            cause: Cause::NoHealthyUpstream,
            retryable: false,
        }
    }

    /// A connect that failed or took too long: no byte was sent, so another endpoint may be tried.
    pub const fn connect_failed() -> Self {
        Self {
            stage: Stage::Connect,
            side: Side::Upstream,
            cause: Cause::ConnectFailed,
            retryable: true,
        }
    }

    /// The endpoint reset or closed too early. `retryable`: see the field.
    pub const fn upstream_reset(stage: Stage, retryable: bool) -> Self {
        Self { stage, side: Side::Upstream, cause: Cause::UpstreamReset, retryable }
    }

    /// The endpoint broke the protocol: it has seen the request, so never repeated.
    pub const fn upstream_protocol(stage: Stage) -> Self {
        Self { stage, side: Side::Upstream, cause: Cause::UpstreamProtocol, retryable: false }
    }

    /// The endpoint took too long: it may be working on the request, so never repeated.
    pub const fn upstream_timeout(stage: Stage) -> Self {
        Self { stage, side: Side::Upstream, cause: Cause::UpstreamTimeout, retryable: false }
    }

    /// The caller waits no longer: nothing was done.
    pub const fn deadline_passed() -> Self {
        Self {
            stage: Stage::Decide,
            side: Side::Local,
            cause: Cause::DeadlinePassed,
            retryable: false,
        }
    }

    /// A fault of its route ends it: never repeated.
    pub const fn injected(kind: AbortKind) -> Self {
        let cause = match kind {
            AbortKind::Status(status) => Cause::Injected(status),
            AbortKind::Reset => Cause::InjectedReset,
        };
        Self { stage: Stage::Decide, side: Side::Local, cause, retryable: false }
    }

    /// A tunnel has lasted as long as it may.
    pub const fn lasted() -> Self {
        Self { stage: Stage::Tunnel, side: Side::Local, cause: Cause::Lasted, retryable: false }
    }

    /// The proxy broke it off: the endpoint may be working on the request, so never repeated.
    pub const fn cut_off(stage: Stage) -> Self {
        Self { stage, side: Side::Local, cause: Cause::CutOff, retryable: false }
    }

    /// When the client may come again, in seconds, where it had better not do so at once.
    pub const fn retry_after_s(self) -> Option<u32> {
        match self.cause {
            Cause::Overflow | Cause::Overloaded => Some(1),
            _ => None,
        }
    }

    /// The one mapping from a failure to status, flag and classification.
    pub const fn outcome(self) -> Outcome {
        use ResponseFlag as Flag;
        let (status, flag) = match self.cause {
            Cause::Refused(Refusal::RequestTimeout) => (Some(408), Flag::DownstreamTimeout),
            Cause::Refused(refusal) => (Some(refusal.status()), Flag::DownstreamProtocolError),
            Cause::ClientGone => (None, Flag::DownstreamGone),
            Cause::NoRoute => (Some(404), Flag::NoRoute),
            Cause::NoCluster => (Some(500), Flag::NoCluster),
            Cause::NoHealthyUpstream => (Some(503), Flag::NoHealthyUpstream),
            Cause::Overflow => (Some(503), Flag::Overflow),
            Cause::Overloaded => (Some(503), Flag::Overloaded),
            Cause::RateLimited => (Some(429), Flag::RateLimited),
            Cause::ConnectFailed => (Some(503), Flag::UpstreamConnectionFailure),
            Cause::UpstreamReset => (Some(502), Flag::UpstreamReset),
            Cause::UpstreamProtocol => (Some(502), Flag::UpstreamProtocolError),
            Cause::UpstreamTimeout | Cause::DeadlinePassed => (Some(504), Flag::UpstreamTimeout),
            Cause::Injected(status) => (Some(status), Flag::FaultInjected),
            Cause::InjectedReset => (None, Flag::FaultInjected),
            Cause::Lasted => (None, Flag::DownstreamTimeout),
            Cause::CutOff => (None, Flag::LocalReset),
        };
        let classification = match (self.side, self.cause) {
            // Asked for what is not there, or for too much: the client's mistake, although it is
            // answered here.
            (Side::Downstream, _) | (_, Cause::NoRoute | Cause::RateLimited | Cause::Lasted) => {
                Classification::Success
            }
            (_, Cause::Injected(status)) => Classification::of_status(status),
            (Side::Local | Side::Upstream, _) => Classification::Failure,
        };
        Outcome { status, flag, classification }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_status_flag_and_classification() {
        let table = [
            (Failure::connect_failed(), Some(503), "UF", "failure"),
            (Failure::no_healthy_upstream(), Some(503), "UH", "failure"),
            (Failure::upstream_reset(Stage::ResponseHead, true), Some(502), "UR", "failure"),
            (Failure::upstream_protocol(Stage::ResponseHead), Some(502), "UPE", "failure"),
            (Failure::upstream_timeout(Stage::ResponseHead), Some(504), "UT", "failure"),
            (Failure::overflow(Stage::Accept), Some(503), "UO", "failure"),
            (Failure::overloaded(Stage::Decide), Some(503), "OM", "failure"),
            (Failure::deadline_passed(), Some(504), "UT", "failure"),
            (Failure::no_route(), Some(404), "NR", "success"),
            (Failure::rate_limited(Stage::Decide), Some(429), "RL", "success"),
            (Failure::no_cluster(), Some(500), "NC", "failure"),
            (Failure::client_gone(Stage::ResponseBody), None, "DC", "success"),
            (Failure::cut_off(Stage::Request), None, "LR", "failure"),
            (Failure::lasted(), None, "DT", "success"),
            (Failure::injected(AbortKind::Status(429)), Some(429), "FI", "success"),
            (Failure::injected(AbortKind::Status(503)), Some(503), "FI", "failure"),
            (Failure::injected(AbortKind::Reset), None, "FI", "failure"),
        ];
        for (failure, status, flag, classification) in table {
            let outcome = failure.outcome();
            assert_eq!(outcome.status, status, "{failure:?}");
            assert_eq!(outcome.flag.as_str(), flag, "{failure:?}");
            assert_eq!(outcome.classification.as_str(), classification, "{failure:?}");
        }
    }

    #[test]
    fn a_refused_request_keeps_its_status_and_is_dpe_save_for_408() {
        for (status, flag) in [
            (400, "DPE"),
            (405, "DPE"),
            (408, "DT"),
            (413, "DPE"),
            (414, "DPE"),
            (417, "DPE"),
            (431, "DPE"),
            (501, "DPE"),
            (505, "DPE"),
        ] {
            let refusal = Refusal::from_status(status);
            let outcome = Failure::refused(Stage::RequestHead, refusal).outcome();
            assert_eq!(outcome.status, Some(status));
            assert_eq!(outcome.flag.as_str(), flag, "{status}");
            assert_eq!(outcome.classification, Classification::Success, "{status}");
        }
        assert_eq!(Refusal::from_status(418), Refusal::BadRequest);
    }

    #[test]
    fn only_failures_that_left_the_endpoint_untouched_are_retryable_by_themselves() {
        assert!(Failure::connect_failed().retryable);
        assert!(!Failure::upstream_timeout(Stage::ResponseHead).retryable);
        assert!(!Failure::upstream_protocol(Stage::ResponseHead).retryable);
        assert!(!Failure::refused(Stage::RequestHead, Refusal::BadRequest).retryable);
        assert!(!Failure::upstream_reset(Stage::ResponseBody, false).retryable);
    }

    #[test]
    fn every_flag_is_explained_to_who_reads_a_log() {
        let readme = include_str!("../../deploy/examples/README.md");
        for flag in ResponseFlag::ALL {
            let row = format!("\n| `{}` | ", flag.as_str());
            assert_eq!(readme.matches(&row).count(), 1, "{flag:?}");
        }
    }

    #[test]
    fn what_never_reached_a_service_tells_nothing_of_it() {
        for told in [
            Failure::connect_failed(),
            Failure::upstream_timeout(Stage::ResponseHead),
            Failure::upstream_reset(Stage::ResponseBody, false),
        ] {
            assert!(told.tells_of_service(), "{told:?}");
        }
        for silent in [
            Failure::client_gone(Stage::ResponseBody),
            Failure::deadline_passed(),
            Failure::overloaded(Stage::Decide),
            Failure::overflow(Stage::Decide),
            Failure::upstream_timeout(Stage::Decide),
        ] {
            assert!(!silent.tells_of_service(), "{silent:?}");
        }
    }

    #[test]
    fn indexes_are_dense_and_in_order() {
        for (index, flag) in ResponseFlag::ALL.into_iter().enumerate() {
            assert_eq!(flag.index(), index);
        }
        for (index, classification) in Classification::ALL.into_iter().enumerate() {
            assert_eq!(classification.index(), index);
        }
    }

    #[test]
    fn a_failure_is_small() {
        assert!(size_of::<Failure>() <= 8);
    }
}
