//! One case: a request or a tunnel, what its upstream will do with it, and what goes wrong with it.
//!
//! A case knows the bytes that its client sends and what may come back. Its id is in its path, in
//! its fields and in every byte of its bodies, so that nobody mistakes it for another.

use std::cell::RefCell;

use crate::dice::{body_bytes, one_of, percent, within};
use crate::malformed::Malformed;

/// How a body is framed, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(usize),
    Chunked(usize),
    /// Of responses only: the close ends it.
    UntilClose(usize),
}

impl Body {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::Length(bytes) | Self::Chunked(bytes) | Self::UntilClose(bytes) => bytes,
        }
    }
}

/// What kind of case it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Exchange,
    /// A request that must be refused, and never reach an upstream.
    Refused(Malformed),
    /// A request to leave HTTP; `early`: the client's first tunnel bytes follow its head at once.
    Upgrade {
        up: usize,
        down: usize,
        early: bool,
    },
    /// A TCP connection of a client that speaks first.
    Tcp {
        up: usize,
        down: usize,
    },
}

/// What the upstream answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Body,
    /// 103s before the final response.
    pub(crate) interim: usize,
    /// A 100 before the request's body is read.
    pub(crate) continues: bool,
    /// The answer comes before the request's body was read; then it is read, or not.
    pub(crate) early: Option<AfterEarly>,
    /// `Connection: close`, and it does.
    pub(crate) close: bool,
    /// Nominates a field that ends at the proxy.
    pub(crate) nominates: bool,
    /// Speaks HTTP/1.0.
    pub(crate) http10: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterEarly {
    ReadsOn,
    Closes,
}

/// What the upstream does wrong. Offsets are of the response's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    None,
    ResetAt(usize),
    FinAt(usize),
    StallAt(usize),
    Garbage,
    UnaskedUpgrade,
    BadChunk,
    ManyInterim,
    BadLength,
    /// Closes after a good answer without having said so.
    SilentClose,
    /// Says more than the answer, after so many milliseconds.
    Unasked(usize),
}

/// What the client does wrong. Offsets are of the request's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Stops sending for longer than the proxy waits.
    StallAt(usize),
    ResetAt(usize),
    CloseAt(usize),
    /// Sends a FIN in the middle.
    FinAt(usize),
    /// Resets so many microseconds after it sent everything.
    ResetAfter(usize),
    BadChunk,
    /// Reads nothing for longer than the proxy waits.
    NeverReads,
}

/// A case and what became of it.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: usize,
    pub(crate) method: &'static str,
    pub(crate) http10: bool,
    /// The client wants no further request on the connection.
    pub(crate) close: bool,
    pub(crate) expects: bool,
    /// Fields that end at the proxy: `Connection` nominates one.
    pub(crate) nominates: bool,
    pub(crate) body: Body,
    pub(crate) form: Form,
    pub(crate) answer: Answer,
    pub(crate) mishap: Mishap,
    pub(crate) flaw: Flaw,
    pub(crate) run: RefCell<Run>,
}

/// What became of a case.
#[derive(Debug)]
pub(crate) struct Run {
    /// When its first byte was sent, in virtual nanoseconds.
    pub(crate) began_ns: u64,
    pub(crate) whole: bool,
    /// The client got its 101, or is a TCP client.
    pub(crate) switched: bool,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) outcome: Option<Outcome>,
    /// When the client had it, in virtual nanoseconds; never if it has not.
    pub(crate) concluded_ns: u64,
}

impl Run {
    fn new() -> Self {
        Self {
            began_ns: 0,
            whole: false,
            switched: false,
            arrivals: Vec::new(),
            outcome: None,
            concluded_ns: u64::MAX,
        }
    }
}

/// A case's coming to an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) connection: usize,
    /// Requests that the connection carried before.
    pub(crate) earlier: usize,
    pub(crate) whole: bool,
    /// The upstream began to answer.
    pub(crate) answered: bool,
}

/// What the client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The upstream's answer, byte for byte; or the tunnel, both ways.
    Answered,
    /// The proxy's own answer.
    Reply(u16),
    /// The connection ended, and the client can tell that something is missing.
    Broken(&'static str),
    /// The connection ended in order before any byte of an answer.
    Unanswered,
}

impl Case {
    /// Draws a case of a request. `reliable`: neither side does anything wrong with it.
    pub(crate) fn draw(id: usize, reliable: bool, last: bool) -> Self {
        let method = one_of(&["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE"]);
        let http10 = percent(12);
        let body = match method {
            "POST" | "PUT" if http10 || percent(60) => Body::Length(body_bytes()),
            "POST" | "PUT" => Body::Chunked(body_bytes()),
            _ => Body::None,
        };
        let expects = body.bytes() > 0 && !http10 && percent(15);
        let mut case = Self {
            id,
            method,
            http10,
            close: (http10 && percent(70)) || percent(8),
            expects,
            nominates: percent(15),
            body,
            form: Form::Exchange,
            answer: draw_answer(method, body, expects),
            mishap: Mishap::None,
            flaw: Flaw::None,
            run: RefCell::new(Run::new()),
        };
        if last && !reliable && percent(22) {
            case = case.refused();
        } else if last && percent(14) {
            case = case.upgrade();
        } else {
            if !reliable && percent(30) {
                case.mishap = case.draw_mishap();
            }
            if !reliable && last && percent(35) {
                case.flaw = case.draw_flaw();
            }
        }
        case
    }

    /// Draws a TCP connection.
    pub(crate) fn tcp(id: usize, reliable: bool) -> Self {
        let mut case = Self::draw(id, true, false);
        let (up, down) = (body_bytes(), body_bytes());
        case.form = Form::Tcp { up, down };
        case.body = Body::None;
        case.expects = false;
        case.answer.early = None;
        if !reliable && percent(30) {
            case.mishap = one_of(&[Mishap::ResetAt(down / 2), Mishap::StallAt(down / 2)]);
        }
        if !reliable && percent(30) {
            let at = within(0..=up);
            case.flaw = one_of(&[Flaw::ResetAt(at), Flaw::ResetAfter(500), Flaw::StallAt(at)]);
        }
        case
    }

    fn refused(mut self) -> Self {
        self.form = Form::Refused(one_of(&Malformed::ALL));
        self.body = Body::None;
        self.expects = false;
        self
    }

    fn upgrade(mut self) -> Self {
        self.method = "GET";
        self.body = Body::None;
        self.http10 = false;
        self.close = false;
        self.expects = false;
        self.form = Form::Upgrade { up: body_bytes(), down: body_bytes(), early: percent(40) };
        self.answer = draw_answer("GET", Body::None, false);
        self.answer.status = 101;
        self
    }

    fn draw_mishap(&self) -> Mishap {
        let length = self.answer_bytes().len();
        let body = matches!(self.answer.body, Body::UntilClose(_));
        let at = within(0..=length - 1);
        if self.answer_is_chunked() && percent(20) {
            return Mishap::BadChunk;
        }
        match within(0..=12) {
            0..=2 => Mishap::ResetAt(at),
            3 if !body => Mishap::FinAt(at),
            4 => Mishap::StallAt(at),
            5 => Mishap::Garbage,
            6 => Mishap::UnaskedUpgrade,
            8 => Mishap::ManyInterim,
            9 => Mishap::BadLength,
            10 | 11 => Mishap::SilentClose,
            _ => Mishap::Unasked(within(0..=20)),
        }
    }

    fn draw_flaw(&self) -> Flaw {
        let length = self.request_bytes().len();
        let at = within(0..=length - 1);
        if matches!(self.body, Body::Chunked(1..)) && percent(30) {
            return Flaw::BadChunk;
        }
        match within(0..=9) {
            0 | 1 => Flaw::StallAt(at.max(1)),
            2 | 3 => Flaw::ResetAt(at),
            4 => Flaw::CloseAt(at),
            5 => Flaw::FinAt(at),
            6 | 7 => Flaw::ResetAfter(within(0..=8_000)),
            _ => Flaw::NeverReads,
        }
    }

    /// Whether the answer comes with a body of its own.
    pub(crate) fn has_answer_body(&self) -> bool {
        self.method != "HEAD" && !matches!(self.answer.status, 204 | 304)
    }

    pub(crate) fn answer_is_chunked(&self) -> bool {
        self.has_answer_body() && matches!(self.answer.body, Body::Chunked(1..))
    }

    /// Whether only the close ends the body that the client gets.
    pub(crate) fn ends_by_close(&self) -> bool {
        self.http10
            && self.has_answer_body()
            && matches!(self.answer.body, Body::Chunked(_) | Body::UntilClose(_))
    }

    /// Whether the client's connection must end after the answer.
    pub(crate) fn ends_connection(&self) -> bool {
        self.close || self.ends_by_close()
    }

    pub(crate) fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }
}

fn draw_answer(method: &str, body: Body, expects: bool) -> Answer {
    let http10 = percent(8);
    let bytes = body_bytes();
    let framed = match within(0..=9) {
        0..=5 => Body::Length(bytes),
        6 | 7 if !http10 => Body::Chunked(bytes),
        8 => Body::UntilClose(bytes),
        _ => Body::Length(bytes),
    };
    let bodyless = method == "HEAD";
    // An upstream that answers at length, or until it closes, can't read on meanwhile.
    let brief = framed.bytes() < 2_000 && !matches!(framed, Body::UntilClose(_));
    let early = body.bytes() > 0 && brief && percent(18);
    let continues = expects && !early && percent(70);
    let after = if percent(60) { AfterEarly::ReadsOn } else { AfterEarly::Closes };
    Answer {
        status: one_of(&[200, 200, 200, 200, 201, 404, 503, 204, 304]),
        body: if bodyless && matches!(framed, Body::UntilClose(_)) { Body::None } else { framed },
        interim: if !http10 && percent(10) { within(1..=3) } else { 0 },
        continues,
        early: early.then_some(after),
        close: percent(12) || matches!(framed, Body::UntilClose(_)),
        nominates: !http10 && percent(12),
        http10,
    }
}
