//! The clients: each runs its sessions one after another, sends requests in random pieces and
//! checks every byte that comes back.
//!
//! A session has two tasks: one that sends and one that reads, as a client must that pipelines. An
//! honest client whose connection closed in order takes what it had not begun to send to a new one.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::{Address, Stream, TaskHandle, spawn};

use crate::case::{Case, Flaw, Form, Mishap, Outcome};
use crate::dice::{cuts, millis, percent, within};
use crate::oracle::Oracle;
use crate::reading::{check_head, read_final, wrong};
use crate::topology::{Session, SessionEnd, Speech};
use crate::tunnel;
use crate::wire::{Bad, Ended, Head, Inbox, Signal};

/// How long a client waits for a 100 before it sends its body all the same.
const CONTINUE_PATIENCE: Duration = Duration::from_millis(40);

/// Runs one client to its end.
pub(crate) async fn run(oracle: Rc<Oracle>, proxy: SocketAddr, sessions: Vec<Session>) {
    for session in sessions {
        lateen_ring::sleep(millis(0..=15)).await;
        let mut session = session;
        loop {
            let rest = run_session(&oracle, proxy, session).await;
            if rest.is_empty() {
                break;
            }
            oracle.count("requests taken to another connection");
            session = oracle.topology.session(rest);
        }
    }
}

/// What the two tasks of a session share.
struct Shared {
    oracle: Rc<Oracle>,
    stream: Rc<Stream>,
    session: Session,
    /// Answers that were read whole.
    answers: Signal,
    /// Cases, by 1 + their place, that were told to continue.
    continued: Signal,
    /// Requests that were sent whole.
    sent: Signal,
    /// The sender closes the connection under the reader's hands.
    gone: Rc<Signal>,
}

/// Runs a session; returns the cases of which nothing was sent.
async fn run_session(oracle: &Rc<Oracle>, proxy: SocketAddr, session: Session) -> Vec<Rc<Case>> {
    let cases = session.cases.clone();
    let Ok(stream) = Stream::connect(&Address::from(proxy)).await else {
        oracle.count("clients that were not let in");
        // Where nobody serves, the reset may come before the client knows that it was let in.
        let served = oracle.topology.upstreams.iter().all(|one| one.listens && !one.black_hole);
        if oracle.drained_ns.get().is_none() && oracle.is_fair() && served {
            oracle.fail("a client was refused".to_owned());
        }
        return Vec::new();
    };
    oracle.trace(|| {
        let ids: Vec<usize> = cases.iter().map(|case| case.id).collect();
        let from = stream.local_address().map_or(String::new(), |address| address.to_string());
        format!("session of {ids:?} from {from}, pipelined {}", session.pipelined)
    });
    let stream = Rc::new(stream);
    let mut inbox = Inbox::new(stream.clone(), oracle.topology.patience());
    inbox.pace = session.pace;
    let shared = Rc::new(Shared {
        oracle: oracle.clone(),
        stream,
        session,
        answers: Signal::default(),
        continued: Signal::default(),
        sent: Signal::default(),
        gone: inbox.gone.clone(),
    });
    if let [case] = &cases[..]
        && let Form::Tcp { up, down } = case.form
    {
        tunnel::run_client(oracle, case, &mut inbox, up, down).await;
        return Vec::new();
    }
    let sender: TaskHandle = spawn(send_session(shared.clone()));
    read_session(&shared, &mut inbox).await;
    sender.abort();
    cases.into_iter().filter(|case| case.run.borrow().began_ns == 0).collect()
}

/// The sending half; nobody waits for it once it is over.
async fn send_session(shared: Rc<Shared>) {
    send_cases(&shared).await;
    shared.sent.raise(usize::MAX);
}

async fn send_cases(shared: &Shared) {
    let Session { cases, pipelined, silence, pause, end, .. } = &shared.session;
    if !silence.is_zero() {
        shared.oracle.count("clients silent at first");
        lateen_ring::sleep(*silence).await;
    }
    for (place, case) in cases.iter().enumerate() {
        if !pipelined {
            shared.answers.at_least(place).await;
            if place > 0 {
                lateen_ring::sleep(*pause).await;
            }
        }
        case.run.borrow_mut().began_ns = lateen_ring::now().as_nanos();
        if send_case(shared, place, case).await.is_none() {
            return;
        }
        case.run.borrow_mut().whole = true;
        shared.sent.raise(place + 1);
        shared
            .oracle
            .trace(|| format!("case {} is sent: {} {:?}", case.id, case.method, case.body));
        if let Flaw::ResetAfter(micros) = case.flaw {
            lateen_ring::sleep(Duration::from_micros(micros as u64)).await;
            shared.oracle.count("clients reset while they waited");
            shared.stream.reset_on_close();
            return shared.gone.raise(1);
        }
    }
    if *end == SessionEnd::HalfClose && !cases.iter().any(|case| case.form != Form::Exchange) {
        shared.oracle.count("clients half-closed");
        let _ = shared.stream.shutdown(std::net::Shutdown::Write);
    }
}

/// Sends one request; `None` if that is the end of the session's sending.
async fn send_case(shared: &Shared, place: usize, case: &Case) -> Option<()> {
    let oracle = &shared.oracle;
    let (mut bytes, head) = case.request();
    if case.flaw == Flaw::BadChunk {
        // The last chunk's size, which is alone in its line, becomes nonsense.
        let at = bytes.len() - 5;
        bytes[at] = b'x';
        oracle.count("requests with a bad chunk");
    }
    if matches!(case.form, Form::Refused(_)) {
        oracle.count("malformed requests");
    }
    let until = match case.flaw {
        Flaw::StallAt(at) | Flaw::ResetAt(at) | Flaw::CloseAt(at) | Flaw::FinAt(at) => at,
        _ => bytes.len(),
    };
    if case.expects && head <= until {
        send_pieces(shared, &bytes[..head]).await?;
        let waits = lateen_ring::Deadline::new();
        waits.set_after(CONTINUE_PATIENCE);
        oracle.count("requests that expected a 100");
        let _ = waits.guard(shared.continued.at_least(place + 1)).await;
        send_pieces(shared, &bytes[head..until]).await?;
    } else {
        send_pieces(shared, &bytes[..until]).await?;
    }
    match case.flaw {
        Flaw::StallAt(at) => {
            oracle.count(if at < head { "heads stalled" } else { "request bodies stalled" });
            // The proxy waits for it when it has answered what came before.
            shared.answers.at_least(place).await;
            let timeouts = &oracle.topology.config.timeouts;
            lateen_ring::sleep((timeouts.header.max(timeouts.body) + timeouts.idle) * 2).await;
            oracle.fail(format!("case {} was waited for beyond its timeout", case.id));
            None
        }
        Flaw::ResetAt(_) => {
            oracle.count("requests reset in the middle");
            shared.stream.reset_on_close();
            shared.gone.raise(1);
            None
        }
        Flaw::CloseAt(_) => {
            oracle.count("requests abandoned in the middle");
            shared.gone.raise(1);
            None
        }
        Flaw::FinAt(_) => {
            oracle.count("requests cut by a FIN");
            let _ = shared.stream.shutdown(std::net::Shutdown::Write);
            None
        }
        _ => Some(()),
    }
}

async fn send_pieces(shared: &Shared, bytes: &[u8]) -> Option<()> {
    if bytes.is_empty() {
        return Some(());
    }
    let mut from = 0;
    let pieces = if percent(60) { 1 } else { within(2..=6) };
    for to in cuts(bytes.len(), pieces).into_iter().chain([bytes.len()]) {
        if shared.oracle.topology.speech == Speech::Mixed && (1..12).contains(&from) && percent(50)
        {
            // What is in the first line's beginning is not TCP because it is slow.
            shared.oracle.count("pauses within a method");
            lateen_ring::sleep(shared.oracle.topology.config.timeouts.detect * 2).await;
        } else if from > 0 && percent(50) {
            shared.oracle.count("pauses within a request");
            lateen_ring::sleep(millis(0..=12)).await;
        }
        let sent = shared.stream.send(bytes[from..to].to_vec()).await;
        if let Err(error) = sent {
            shared.oracle.trace(|| format!("a client can't send on: {error}"));
            return None;
        }
        from = to;
    }
    Some(())
}

/// What follows an answer.
enum Next {
    Another,
    /// The proxy said that it closes.
    Closes,
    /// The connection is over, or of no more use.
    Over,
}

/// The reading half: an answer for each case, in order, then the end.
async fn read_session(shared: &Shared, inbox: &mut Inbox) {
    let oracle = &shared.oracle;
    for (place, case) in shared.session.cases.iter().enumerate() {
        if case.flaw == Flaw::NeverReads {
            oracle.count("clients that did not read");
            inbox.pace = oracle.topology.config.timeouts.write * 3;
        }
        let mut count = 0;
        let read = read_answer(shared, inbox, place, case, &mut count).await;
        let (outcome, next, detail) = match read {
            Ok((outcome, next)) => (outcome, next, String::new()),
            Err(Bad::Wrong(what)) => {
                if !oracle.opaque.borrow().contains(&case.id) {
                    oracle.fail(format!("case {} got {what}: {case:?}", case.id));
                }
                return;
            }
            Err(Bad::Ended(Ended::Stuck)) => {
                oracle.fail(format!("case {} is stuck: {case:?}", case.id));
                return;
            }
            Err(Bad::Ended(ended)) => {
                let begun = case.run.borrow().began_ns > 0;
                if !begun {
                    // Closed while it was idle: what was not begun goes to another connection.
                    return;
                }
                if ended == Ended::Gone && case.flaw == Flaw::None {
                    // Its own client harmed a later request of the connection.
                    shared.oracle.count("requests lost by their own client");
                    return;
                }
                let first = count == 0 && inbox.unread().is_empty();
                let outcome = match ended {
                    Ended::Fin if first => Outcome::Unanswered,
                    Ended::Fin => Outcome::Broken("by a FIN"),
                    Ended::Reset => Outcome::Broken("by a reset"),
                    Ended::Gone | Ended::Stuck => Outcome::Broken("by the client"),
                };
                (outcome, Next::Over, format!("{count} bytes of its body"))
            }
        };
        let behind =
            if shared.session.pipelined { &shared.session.cases[place + 1..] } else { &[] };
        oracle.conclude(case, behind, outcome, &detail);
        match next {
            Next::Another => shared.answers.raise(place + 1),
            Next::Closes => return read_end(shared, inbox).await,
            Next::Over => return,
        }
    }
    if shared.session.end != SessionEnd::Close {
        read_end(shared, inbox).await;
    }
}

/// After the last answer nothing may come but the end, and that in time.
async fn read_end(shared: &Shared, inbox: &mut Inbox) {
    let oracle = &shared.oracle;
    let began = lateen_ring::now();
    let opaque = shared.session.cases.iter().any(|case| oracle.opaque.borrow().contains(&case.id));
    let ended = if inbox.unread().is_empty() { inbox.more().await } else { Ok(()) };
    match ended {
        Ok(()) if opaque || oracle.topology.speech == Speech::ServerFirst => {}
        Ok(()) if shared.session.cases.is_empty() && oracle.topology.idle_cuts => {}
        Ok(()) => {
            let text = String::from_utf8_lossy(inbox.unread()).into_owned();
            let ids: Vec<usize> = shared.session.cases.iter().map(|case| case.id).collect();
            oracle.fail(format!("one answer more than requests of {ids:?}: {text:?}"));
        }
        Err(Ended::Stuck) => oracle.fail("an idle client was kept for ever".to_owned()),
        Err(_) => {
            let timeouts = &oracle.topology.config.timeouts;
            let most = timeouts.idle.max(timeouts.header) + timeouts.detect + timeouts.connect * 4;
            let took = lateen_ring::now().since(began);
            let slack = Duration::from_millis(60) + inbox.pace * 3;
            oracle.count("idle clients ended");
            if took > most + slack && oracle.is_fair() {
                oracle.fail(format!("an idle client was kept for {took:?}, longer than {most:?}"));
            }
        }
    }
}

async fn read_answer(
    shared: &Shared,
    inbox: &mut Inbox,
    place: usize,
    case: &Case,
    count: &mut usize,
) -> Result<(Outcome, Next), Bad> {
    let mut interim = 0;
    loop {
        let head = inbox.head().await?;
        let status = status_of(&head)?;
        shared.oracle.trace(|| format!("case {} gets {status}", case.id));
        match status {
            100 if case.expects => shared.continued.raise(place + 1),
            100 | 103 if case.http10 => return Err(wrong("an interim response to HTTP/1.0")),
            103 => {
                interim += 1;
                // A replayed request may be heard of twice, as far as interim responses go.
                let runs = case.run.borrow().arrivals.len();
                let most = if case.mishap == Mishap::ManyInterim { 8 } else { case.answer.interim };
                if interim > most * runs.max(1) {
                    return Err(wrong("more interim responses than were sent"));
                }
            }
            101 => {
                let Form::Upgrade { up, down, early } = case.form else {
                    return Err(wrong("an unasked 101"));
                };
                check_head(case, &head)?;
                case.run.borrow_mut().switched = true;
                shared.sent.at_least(place + 1).await;
                let party = tunnel::Party { oracle: &shared.oracle, case };
                return tunnel::go_on_as_client(party, inbox, up, down, early)
                    .await
                    .map(|()| (Outcome::Answered, Next::Over));
            }
            _ => {
                let outcome = read_final(case, inbox, &head, status, count).await?;
                if head.field("Retry-After").is_none() {
                    let responses = &shared.oracle.responses_read;
                    responses.set(responses.get() + 1);
                } else if case.run.borrow().began_ns == 0 {
                    // Turned away before it asked: it will ask on another connection.
                    shared.oracle.count("clients turned away at the cap");
                    return Err(Ended::Fin.into());
                }
                let stays = if case.http10 {
                    head.field("Connection").is_some_and(|value| value == "keep-alive")
                } else {
                    head.field("Connection").is_none_or(|value| value != "close")
                };
                if stays && case.ends_connection() && outcome == Outcome::Answered {
                    return Err(wrong("a promise to stay that was not asked for"));
                }
                // What a hasty client sent for its tunnel is nonsense as a next request.
                let hasty = matches!(case.form, Form::Upgrade { early: true, .. });
                let next = if stays { Next::Another } else { Next::Closes };
                return Ok((outcome, if hasty { Next::Over } else { next }));
            }
        }
    }
}

fn status_of(head: &Head) -> Result<u16, Bad> {
    let line = head.first_line();
    line.strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| wrong(&format!("the status line {line:?}")))
}
