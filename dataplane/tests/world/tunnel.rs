//! Both ends of a tunnel: a TCP connection, or what an Upgrade leaves behind.
//!
//! Each end sends its bytes in pieces and a FIN behind them, at the same time reads the other's, and
//! checks every byte and that the FIN comes behind the last one. A reset must come as a reset.

use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use lateen_ring::{Stream, TaskHandle, spawn};

use crate::case::{Case, Flaw, Mishap, Outcome};
use crate::dice::{cuts, millis, percent, within};
use crate::oracle::Oracle;
use crate::pattern::{self, Lane};
use crate::topology::Speech;
use crate::wire::{Bad, Ended, Inbox, Signal};

/// What a server that speaks first says.
pub(crate) const GREETING: &[u8] = b"220 well met\r\n";

/// Who runs an end.
pub(crate) struct Party<'a> {
    pub(crate) oracle: &'a Rc<Oracle>,
    pub(crate) case: &'a Case,
}

/// The first line of a TCP client: the upstream learns from it which case it is.
pub(crate) fn first_line(case: &Case) -> String {
    format!("T{:06}\n", case.id)
}

/// Runs a TCP client.
pub(crate) async fn run_client(
    oracle: &Rc<Oracle>,
    case: &Rc<Case>,
    inbox: &mut Inbox,
    up: usize,
    down: usize,
) {
    let party = Party { oracle, case };
    case.run.borrow_mut().began_ns = lateen_ring::now().as_nanos();
    case.run.borrow_mut().switched = true;
    let outcome = match talk_as_client(&party, inbox, up, down).await {
        Ok(()) => Outcome::Answered,
        Err(Bad::Wrong(what)) => {
            oracle.fail(format!("case {} got {what}: {case:?}", case.id));
            return;
        }
        Err(Bad::Ended(Ended::Stuck)) => {
            oracle.fail(format!("case {} is stuck: {case:?}", case.id));
            return;
        }
        Err(Bad::Ended(Ended::Fin)) => Outcome::Broken("by a FIN"),
        Err(Bad::Ended(Ended::Reset)) => Outcome::Broken("by a reset"),
        Err(Bad::Ended(Ended::Gone)) => Outcome::Broken("by the client"),
    };
    oracle.count("TCP tunnels");
    oracle.conclude(case, &[], outcome, "");
}

async fn talk_as_client(
    party: &Party<'_>,
    inbox: &mut Inbox,
    up: usize,
    down: usize,
) -> Result<(), Bad> {
    if party.oracle.topology.speech == Speech::ServerFirst {
        while inbox.unread().len() < GREETING.len() {
            inbox.more().await?;
        }
        if !inbox.unread().starts_with(GREETING) {
            return Err(Bad::Wrong("no greeting".to_owned()));
        }
        inbox.consume(GREETING.len());
        party.oracle.count("servers that spoke first");
    }
    let line = first_line(party.case).into_bytes();
    if inbox.stream.send(line).await.is_err() {
        return Err(Ended::Reset.into());
    }
    exchange(party, inbox, Side { sends: (Lane::Up, up), reads: (Lane::Down, down) }, 0).await
}

/// Goes on with an upgraded connection, as the client. `early`: the first bytes were sent with the
/// request already.
pub(crate) async fn go_on_as_client(
    party: Party<'_>,
    inbox: &mut Inbox,
    up: usize,
    down: usize,
    early: bool,
) -> Result<(), Bad> {
    party.oracle.count("upgrades");
    let sent = if early { early_bytes(up) } else { 0 };
    exchange(&party, inbox, Side { sends: (Lane::Up, up), reads: (Lane::Down, down) }, sent).await
}

/// Tunnel bytes that a hasty client sends behind its request's head.
pub(crate) fn early_bytes(up: usize) -> usize {
    up.min(700)
}

/// One end's task.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    pub(crate) sends: (Lane, usize),
    pub(crate) reads: (Lane, usize),
}

/// Sends and reads until both directions are closed. The first `sent` bytes are on their way.
pub(crate) async fn exchange(
    party: &Party<'_>,
    inbox: &mut Inbox,
    side: Side,
    sent: usize,
) -> Result<(), Bad> {
    let case = party.case;
    let done = Rc::new(Signal::default());
    let is_client = side.sends.0 == Lane::Up;
    let fate = Fate {
        id: case.id,
        lane: side.sends.0,
        from: sent,
        to: side.sends.1,
        stops: match (is_client, case.flaw, case.mishap) {
            (true, Flaw::ResetAt(at), _) | (false, _, Mishap::ResetAt(at)) => Stops::ResetAt(at),
            (true, Flaw::ResetAfter(_), _) => Stops::ResetAtEnd,
            (true, Flaw::StallAt(at), _) | (false, _, Mishap::StallAt(at)) => Stops::StallAt(at),
            _ => Stops::Fin,
        },
    };
    if fate.stops != Stops::Fin {
        party.oracle.count("tunnels that one end harms");
    }
    let fate_stops = fate.stops;
    let sending =
        Sending(spawn(send_lane(inbox.stream.clone(), fate, inbox.gone.clone(), done.clone())));
    let mut count = 0;
    let ended = read_lane(inbox, case.id, side.reads.0, &mut count).await;
    let (lane, expected) = side.reads;
    party
        .oracle
        .trace(|| format!("case {}: {count} of {expected} of {lane:?}, {ended:?}", case.id));
    ended?;
    if count != expected {
        if stalls(case) || !case.run.borrow().switched {
            return Err(Bad::Ended(Ended::Gone));
        }
        return Err(Bad::Wrong(format!("a FIN after {count} of {expected} bytes of {lane:?}")));
    }
    if !matches!(fate_stops, Stops::StallAt(_)) {
        done.at_least(1).await;
    }
    drop(sending);
    Ok(())
}

/// A tunnel in which an end says nothing for too long is closed in order.
fn stalls(case: &Case) -> bool {
    matches!(case.mishap, Mishap::StallAt(_)) || matches!(case.flaw, Flaw::StallAt(_))
}

async fn read_lane(inbox: &mut Inbox, id: usize, lane: Lane, count: &mut usize) -> Result<(), Bad> {
    inbox.body(crate::wire::Delimited::Close, id, lane, count).await
}

struct Sending(TaskHandle);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What one direction sends, and how it stops.
struct Fate {
    id: usize,
    lane: Lane,
    from: usize,
    to: usize,
    stops: Stops,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stops {
    Fin,
    ResetAt(usize),
    ResetAtEnd,
    StallAt(usize),
}

async fn send_lane(stream: Rc<Stream>, fate: Fate, gone: Rc<Signal>, done: Rc<Signal>) {
    let until = match fate.stops {
        Stops::ResetAt(at) | Stops::StallAt(at) => at.clamp(fate.from, fate.to),
        Stops::Fin | Stops::ResetAtEnd => fate.to,
    };
    let length = until.saturating_sub(fate.from);
    let mut from = 0;
    let pieces = if length == 0 { vec![] } else { cuts(length, within(1..=5)) };
    for to in pieces.into_iter().chain([length]) {
        let mut bytes = Vec::new();
        pattern::append(&mut bytes, fate.id, fate.lane, fate.from + from, to - from);
        if !bytes.is_empty() && stream.send(bytes).await.is_err() {
            return done.raise(1);
        }
        from = to;
        if percent(40) {
            lateen_ring::sleep(millis(0..=15)).await;
        }
    }
    match fate.stops {
        Stops::Fin => {
            let _ = stream.shutdown(Shutdown::Write);
        }
        Stops::ResetAt(_) | Stops::ResetAtEnd => {
            stream.reset_on_close();
            gone.raise(1);
        }
        Stops::StallAt(_) => lateen_ring::sleep(Duration::from_secs(3_600)).await,
    }
    done.raise(1);
}
