//! The upstreams: each serves its connections as its traits and the cases say, and checks every
//! byte that the proxy sends.

use std::rc::Rc;
use std::time::Duration;

use lateen_ring::{Instant, Listener, Stream, spawn};

use crate::case::{AfterEarly, Arrival, Body, Case, Form, Mishap};
use crate::dice::{cuts, millis, percent, within};
use crate::oracle::Oracle;
use crate::pattern::Lane;
use crate::topology::{Speech, UpstreamTraits, Weather};
use crate::tunnel::{self, GREETING, Party, Side};
use crate::wire::{Bad, Delimited, Ended, Head, Inbox};

/// After which a proxy in fair weather has noticed what came to an idle connection of its pool, and
/// what it sent before has arrived.
const NOTICED_AFTER: Duration = Duration::from_millis(25);

/// Accepts until its task is ended.
pub(crate) async fn run(oracle: Rc<Oracle>, listener: Listener, traits: UpstreamTraits) {
    loop {
        let Ok(stream) = listener.accept().await else { continue };
        let connection = oracle.upstream_connections.get();
        oracle.upstream_connections.set(connection + 1);
        oracle.upstream_live.set(oracle.upstream_live.get() + 1);
        spawn(serve(oracle.clone(), stream, traits, connection));
    }
}

/// A connection of the proxy's.
struct Served {
    oracle: Rc<Oracle>,
    inbox: Inbox,
    traits: UpstreamTraits,
    connection: usize,
    /// Requests that were answered.
    answered: usize,
    /// It closes when the next request comes, as if it had timed out just now.
    dying: bool,
    /// Whom it answered last.
    last: Option<Rc<Case>>,
    /// When bytes were sent that nobody had asked for.
    unasked_at: Instant,
}

async fn serve(oracle: Rc<Oracle>, stream: Stream, traits: UpstreamTraits, connection: usize) {
    let inbox = Inbox::new(Rc::new(stream), oracle.topology.patience() * 2);
    let unasked_at = Instant::NEVER;
    let mut served = Served {
        oracle,
        inbox,
        traits,
        connection,
        answered: 0,
        dying: false,
        last: None,
        unasked_at,
    };
    let ended = served.serve().await;
    let Served { oracle, inbox, .. } = served;
    match ended {
        Err(Bad::Wrong(what)) => {
            oracle.fail(format!("upstream {} connection {connection} got {what}", traits.address));
        }
        Err(Bad::Ended(Ended::Stuck)) => {
            oracle.fail(format!("upstream {} was left waiting", traits.address));
        }
        Ok(()) | Err(Bad::Ended(_)) => {}
    }
    oracle.bytes_to_upstreams.set(oracle.bytes_to_upstreams.get() + inbox.total);
    oracle.upstream_live.set(oracle.upstream_live.get() - 1);
}

impl Served {
    async fn serve(&mut self) -> Result<(), Bad> {
        if self.oracle.topology.speech == Speech::ServerFirst {
            let _ = self.inbox.stream.send(GREETING).await;
        }
        loop {
            while self.inbox.unread().len() < 2 {
                self.inbox.more().await?;
            }
            if self.unasked_at != Instant::NEVER {
                self.judge_reuse()?;
            }
            if self.inbox.unread().starts_with(b"T0") && self.oracle.topology.speech != Speech::Http
            {
                return self.serve_tcp().await;
            }
            let head = self.inbox.head().await?;
            if !self.serve_request(&head).await? {
                return Ok(());
            }
        }
    }

    /// What comes on a connection long after the proxy was told more than it asked for?
    fn judge_reuse(&self) -> Result<(), Bad> {
        // While the last answer was on its way to a slow client, the connection was in no pool.
        let since = lateen_ring::now().since(self.unasked_at.max(self.concluded_at()));
        let slack =
            NOTICED_AFTER * if self.oracle.topology.weather == Weather::Stormy { 20 } else { 1 };
        if since > slack {
            return Err(Bad::Wrong(format!(
                "a request on a connection with unread bytes, {since:?} after them"
            )));
        }
        Ok(())
    }

    /// When the client had the last answer, as far as is known.
    fn concluded_at(&self) -> Instant {
        let case = self.last.as_ref();
        case.map_or(Instant::NEVER, |case| Instant::from_nanos(case.run.borrow().concluded_ns))
    }

    async fn serve_tcp(&mut self) -> Result<(), Bad> {
        while self.inbox.unread().len() < 8 {
            self.inbox.more().await?;
        }
        let line = String::from_utf8_lossy(&self.inbox.unread()[..8]).into_owned();
        let case = line[1..].trim_end().parse().ok().and_then(|id| self.case(id));
        let Some(case) = case else { return Err(Bad::Wrong(format!("the line {line:?}"))) };
        let Form::Tcp { up, down } = case.form else {
            return Err(Bad::Wrong(format!("{line:?} of no TCP client")));
        };
        self.inbox.consume(8);
        self.arrived(&case, true);
        let oracle = self.oracle.clone();
        let party = Party { oracle: &oracle, case: &case };
        let side = Side { sends: (Lane::Down, down), reads: (Lane::Up, up) };
        tunnel::exchange(&party, &mut self.inbox, side, 0).await
    }

    fn case(&self, id: usize) -> Option<Rc<Case>> {
        self.oracle.cases.get(id).cloned()
    }

    fn arrived(&self, case: &Case, whole: bool) {
        let (connection, earlier) = (self.connection, self.answered);
        self.oracle.arrives(case, Arrival { connection, earlier, whole, answered: false });
    }

    /// Serves one request. False if that was the connection's last.
    async fn serve_request(&mut self, head: &Head) -> Result<bool, Bad> {
        let oracle = self.oracle.clone();
        let mut line = head.first_line().split(' ');
        let (method, path) = (line.next().unwrap_or(""), line.next().unwrap_or(""));
        let id = path.strip_prefix("/r/").and_then(|id| id.split('/').next()?.parse().ok());
        let case = id.and_then(|id| self.case(id));
        if oracle.topology.speech == Speech::Mixed && head.field("Via").is_none() {
            oracle.trace(|| format!("{path} was taken for TCP"));
            oracle.taken_for_tcp(head.field("Host").and_then(case_of_host));
            return Ok(false);
        }
        let Some(case) = case else {
            return Err(Bad::Wrong(format!("the request {:?}", head.first_line())));
        };
        self.arrived(&case, false);
        if self.dying {
            oracle.count("pooled connections that died under a request");
            return Ok(false);
        }
        if let Err(what) = check_head(&case, method, head) {
            return Err(Bad::Wrong(format!("{what} in {:?} of {case:?}", head.text)));
        }
        if case.answer.early.is_none() {
            if case.answer.continues {
                oracle.count("100s");
                self.send_all(&case, b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await?;
            }
            self.read_body(&case).await?;
        }
        if let Form::Upgrade { up, down, .. } = case.form {
            return self.upgrade(&case, up, down).await;
        }
        let stays = self.answer(&case).await?;
        self.answered += 1;
        self.last = Some(case.clone());
        match case.answer.early {
            Some(AfterEarly::Closes) => {
                oracle.count("early answers, then closed");
                return Ok(false);
            }
            Some(AfterEarly::ReadsOn) => {
                oracle.count("early answers, then read on");
                self.read_body(&case).await?;
            }
            None => {}
        }
        Ok(stays)
    }

    async fn read_body(&mut self, case: &Case) -> Result<(), Bad> {
        let delimited = match case.body {
            Body::Length(bytes) => Delimited::Length(bytes),
            Body::Chunked(_) => Delimited::Chunked,
            Body::None | Body::UntilClose(_) => Delimited::Length(0),
        };
        let mut count = 0;
        let read = self.inbox.body(delimited, case.id, Lane::Request, &mut count).await;
        self.oracle.trace(|| format!("case {}: {count} body bytes arrive, {read:?}", case.id));
        read?;
        if count != case.body.bytes() {
            return Err(Bad::Wrong(format!("{count} body bytes of {case:?}")));
        }
        if let Some(arrival) = case.run.borrow_mut().arrivals.last_mut() {
            arrival.whole = true;
        }
        Ok(())
    }

    async fn upgrade(&mut self, case: &Rc<Case>, up: usize, down: usize) -> Result<bool, Bad> {
        let id = case.id;
        let mut head = format!(
            "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\nX-Answer: {id}\r\n\r\n"
        )
        .into_bytes();
        // The first tunnel bytes may come in one piece with the head.
        let with_head = if percent(50) { down.min(900) } else { 0 };
        crate::pattern::append(&mut head, id, Lane::Down, 0, with_head);
        self.send_all(case, head).await?;
        let oracle = self.oracle.clone();
        let party = Party { oracle: &oracle, case };
        let side = Side { sends: (Lane::Down, down), reads: (Lane::Up, up) };
        tunnel::exchange(&party, &mut self.inbox, side, with_head).await?;
        Ok(false)
    }

    /// Answers, or does what the mishap says. False if the connection ends with it.
    async fn answer(&mut self, case: &Case) -> Result<bool, Bad> {
        let oracle = self.oracle.clone();
        let last = self.traits.closes_after.is_some_and(|(most, _)| self.answered + 1 >= most);
        let mut bytes = case.answer_bytes();
        if percent(40) {
            lateen_ring::sleep(millis(0..=30)).await;
        }
        for _ in 0..case.answer.interim {
            oracle.count("103s");
            self.send_all(case, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec()).await?;
        }
        match case.mishap {
            Mishap::ResetAt(at) => {
                oracle.count("upstreams reset");
                self.send_all(case, bytes[..at].to_vec()).await?;
                self.inbox.stream.reset_on_close();
                return Ok(false);
            }
            Mishap::FinAt(at) => {
                oracle.count("upstreams cut their answer short");
                self.send_all(case, bytes[..at].to_vec()).await?;
                return Ok(false);
            }
            Mishap::StallAt(at) => {
                oracle.count("upstreams stalled");
                self.send_all(case, bytes[..at].to_vec()).await?;
                while self.inbox.more().await.is_ok() {}
                return Ok(false);
            }
            Mishap::Garbage => {
                oracle.count("upstreams sent garbage");
                self.send_all(case, b"\x15\x03\x01 what is this\r\n\r\n".to_vec()).await?;
                return Ok(false);
            }
            Mishap::UnaskedUpgrade => {
                oracle.count("unasked 101s");
                let head =
                    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
                self.send_all(case, head.to_vec()).await?;
                return Ok(false);
            }
            Mishap::BadChunk => {
                oracle.count("responses with a bad chunk");
                let at = bytes.len() - 5;
                bytes[at] = b'x';
                self.send_all(case, bytes).await?;
                return Ok(false);
            }
            Mishap::ManyInterim => {
                oracle.count("floods of interim responses");
                let many = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(12);
                self.send_all(case, many).await?;
                return Ok(false);
            }
            Mishap::BadLength => {
                oracle.count("responses of two lengths");
                let head = b"HTTP/1.1 200 Well\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx";
                self.send_all(case, head.to_vec()).await?;
                return Ok(false);
            }
            Mishap::None | Mishap::SilentClose | Mishap::Unasked(_) => {}
        }
        let ends = case.answer.close && matches!(case.answer.body, Body::UntilClose(_));
        if last && self.traits.closes_after.is_some_and(|(_, says)| says) && !case.answer.close {
            let line = bytes.windows(2).position(|two| two == b"\r\n").map_or(0, |at| at + 2);
            bytes.splice(line..line, *b"Connection: close\r\n");
        }
        self.send_all(case, bytes).await?;
        if let Mishap::Unasked(after) = case.mishap
            && !ends
            && !case.answer.close
            && !last
        {
            lateen_ring::sleep(Duration::from_millis(after as u64)).await;
            oracle.count("unasked bytes");
            self.send_all(case, b"and another thing\r\n\r\n".to_vec()).await?;
            self.unasked_at = lateen_ring::now();
        }
        let silent = case.mishap == Mishap::SilentClose || last;
        if silent && !case.answer.close {
            oracle.count("connections closed after an answer");
            let says = last && self.traits.closes_after.is_some_and(|(_, says)| says);
            self.dying = !says && percent(60);
        }
        Ok(self.dying || !(case.answer.close || silent))
    }

    async fn send_all(&self, case: &Case, bytes: Vec<u8>) -> Result<(), Bad> {
        if bytes.is_empty() {
            return Ok(());
        }
        if let Some(arrival) = case.run.borrow_mut().arrivals.last_mut() {
            arrival.answered = true;
        }
        let mut from = 0;
        let pieces = if percent(55) { 1 } else { within(2..=5) };
        for to in cuts(bytes.len(), pieces).into_iter().chain([bytes.len()]) {
            if from > 0 && percent(40) {
                lateen_ring::sleep(millis(0..=10)).await;
            }
            if self.inbox.stream.send(bytes[from..to].to_vec()).await.is_err() {
                return Err(Ended::Reset.into());
            }
            from = to;
        }
        Ok(())
    }
}

/// The case of `case7.test`.
fn case_of_host(host: &str) -> Option<usize> {
    host.strip_prefix("case")?.strip_suffix(".test")?.parse().ok()
}

/// What must and must not stand in a head that came through the proxy.
fn check_head(case: &Case, method: &str, head: &Head) -> Result<(), String> {
    let is = |name: &str, value: &str| head.field(name) == Some(value) && head.count(name) == 1;
    let version = if case.http10 { "1.0 lateen" } else { "1.1 lateen" };
    let forwarded_for = format!("192.0.2.{}, 10.0.0.1", case.id % 250);
    let upgrade = matches!(case.form, Form::Upgrade { .. });
    let framed = match case.body {
        Body::Length(bytes) => {
            is("Content-Length", &bytes.to_string()) && head.count("Transfer-Encoding") == 0
        }
        Body::Chunked(_) => is("Transfer-Encoding", "chunked") && head.count("Content-Length") == 0,
        _ => head.count("Transfer-Encoding") + head.count("Content-Length") == 0,
    };
    let rules = [
        ("another method", method == case.method),
        ("another version", head.first_line().ends_with(" HTTP/1.1")),
        ("another Host", is("Host", &format!("case{}.test", case.id))),
        ("another case", is("X-Case", &case.id.to_string())),
        ("a field that ends at the proxy", head.count("X-Hop") + head.count("Keep-Alive") == 0),
        ("Connection", head.count("Connection") == usize::from(upgrade)),
        ("another Upgrade", head.count("Upgrade") == usize::from(upgrade)),
        ("Expect", head.count("Expect") == usize::from(case.expects)),
        ("another Via", is("Via", version)),
        ("no X-Request-Id", head.field("X-Request-Id").is_some_and(|id| id.len() == 32)),
        ("another framing", framed),
        ("another X-Forwarded-For", is("X-Forwarded-For", &forwarded_for)),
        ("another X-Forwarded-Proto", is("X-Forwarded-Proto", "http")),
    ];
    match rules.iter().find(|(_, holds)| !holds) {
        Some((what, _)) => Err((*what).to_owned()),
        None => Ok(()),
    }
}
