//! What the virtual network consists of: ends of connections, listeners, and what is on its way.
//!
//! An end holds the direction that leads *to* it, so that what was sent before the sender closed
//! still arrives. Within a direction everything arrives in the order in which it was sent; between
//! directions nothing is promised. A reset is the exception, as in reality: it throws away what has
//! not arrived when it does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rustix::io::Errno;

use crate::address::Address;
use crate::sim::{Faults, Scope};
use crate::socket::SocketKey;
use crate::time::Instant;

/// Names an end; the generation tells it from an earlier user of the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndId {
    pub(super) index: u32,
    generation: u32,
}

/// One end of a connection, or a listener.
pub(super) struct End {
    pub(super) kind: Kind,
    /// The slot of the task that owns it; `None` while it waits to be accepted.
    pub(super) key: Option<SocketKey>,
    pub(super) local: Address,
    pub(super) remote: Option<Address>,
    /// Which faults happen to it.
    pub(super) profile: usize,
    /// It waits to be looked at in the next turn.
    pub(super) touched: bool,
    pub(super) stalled_until: Instant,

    /// The other end, until that is closed or the connection breaks.
    pub(super) peer: Option<EndId>,
    pub(super) incoming: Direction,
    /// This side sends nothing more.
    pub(super) write_closed: bool,
    /// This side reads nothing more (`shutdown(2)`).
    pub(super) read_closed: bool,
    /// A reset has arrived.
    pub(super) broken: bool,
    /// What the reset is reported as, to whichever operation comes first; those that follow see the
    /// end of the stream, or EPIPE, as on Linux.
    pub(super) error: Option<Errno>,
    /// A reset is on its way here.
    pub(super) reset_due: bool,
    /// The close is to be a reset (SO_LINGER of zero).
    pub(super) reset_on_close: bool,
}

pub(super) enum Kind {
    Listening {
        /// Connections that wait to be accepted.
        queue: VecDeque<EndId>,
        multishot: bool,
    },
    Connecting,
    Connected,
}

impl End {
    pub(super) fn new(kind: Kind, local: Address, remote: Option<Address>, profile: usize) -> Self {
        Self {
            kind,
            key: None,
            local,
            remote,
            profile,
            touched: false,
            stalled_until: Instant::default(),
            peer: None,
            incoming: Direction::default(),
            write_closed: false,
            read_closed: false,
            broken: false,
            error: None,
            reset_due: false,
            reset_on_close: false,
        }
    }

    /// POLLIN: there are bytes, or an end, or an error to be read.
    pub(super) fn is_readable(&self) -> bool {
        self.incoming.arrived > 0 || self.incoming.fin_arrived || self.broken || self.read_closed
    }

    /// POLLHUP or POLLERR: a reset arrived, or both directions are closed.
    pub(super) fn is_hung_up(&self) -> bool {
        self.broken || (self.incoming.fin_arrived && self.write_closed)
    }
}

/// What a direction carries, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Bytes(usize),
    Fin,
}

/// One direction of a connection.
#[derive(Default)]
pub(super) struct Direction {
    /// Everything between the writer and the reader; the first `arrived` bytes can be read.
    pub(super) bytes: VecDeque<u8>,
    pub(super) arrived: usize,
    /// What has yet to arrive, with its time; the times never decrease.
    pub(super) on_the_way: VecDeque<(Instant, Segment)>,
    pub(super) fin_arrived: bool,
    pub(super) capacity: usize,
    pub(super) latency_ns: u64,
}

impl Direction {
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// Takes what is due out of the way. True if something was.
    pub(super) fn arrive(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((_, segment)) = self.on_the_way.pop_front_if(|(at, _)| *at <= now) {
            match segment {
                Segment::Bytes(count) => self.arrived += count,
                Segment::Fin => self.fin_arrived = true,
            }
            any = true;
        }
        any
    }

    /// Loses what has not arrived; a FIN behind lost bytes is lost with them.
    pub(super) fn cut(&mut self) {
        self.fin_arrived &= self.bytes.len() == self.arrived;
        self.bytes.truncate(self.arrived);
        self.on_the_way.clear();
    }

    /// Reads `count` of the bytes that have arrived.
    pub(super) fn read(&mut self, count: usize, mut sink: impl FnMut(&[u8])) {
        debug_assert!(count <= self.arrived, "what has not arrived cannot be read");
        let (first, second) = self.bytes.as_slices();
        let cut = count.min(first.len());
        sink(&first[..cut]);
        if count > cut {
            sink(&second[..count - cut]);
        }
        self.bytes.drain(..count);
        self.arrived -= count;
    }
}

/// All ends, and the listeners among them by address.
#[derive(Default)]
pub(crate) struct Ends {
    places: Vec<Place>,
    free: Vec<u32>,
    listeners: Vec<(Address, EndId)>,
}

struct Place {
    generation: u32,
    end: Option<End>,
}

impl Ends {
    pub(super) fn insert(&mut self, end: End) -> EndId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, end: None });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        let listens = matches!(end.kind, Kind::Listening { .. });
        let id = EndId { index, generation: place.generation };
        if listens {
            self.listeners.push((end.local.clone(), id));
        }
        place.end = Some(end);
        id
    }

    pub(super) fn remove(&mut self, id: EndId) -> Option<End> {
        let place = &mut self.places[id.index as usize];
        if place.generation != id.generation {
            return None;
        }
        let end = place.end.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        if matches!(end.kind, Kind::Listening { .. }) {
            self.listeners.retain(|(_, listener)| *listener != id);
        }
        Some(end)
    }

    pub(super) fn find(&mut self, id: EndId) -> Option<&mut End> {
        let place = &mut self.places[id.index as usize];
        place.end.as_mut().filter(|_| place.generation == id.generation)
    }

    /// # Panics
    /// If the end is gone: a slot's end lives as long as the slot.
    pub(super) fn at(&mut self, id: EndId) -> &mut End {
        self.find(id).expect("an open socket has an end")
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &End)> {
        let ends = self.places.iter().enumerate();
        ends.filter_map(|(index, place)| Some((index, place.end.as_ref()?)))
    }

    /// Who listens where `address` leads.
    pub(super) fn listener(&self, address: &Address) -> Option<EndId> {
        let exact = self.listeners.iter().find(|(bound, _)| bound == address);
        let found =
            exact.or_else(|| self.listeners.iter().find(|(bound, _)| covers(bound, address)));
        found.map(|(_, id)| *id)
    }

    /// True if a listener on `address` would share what another has.
    pub(super) fn is_taken(&self, address: &Address) -> bool {
        self.listeners
            .iter()
            .any(|(bound, _)| bound == address || covers(bound, address) || covers(address, bound))
    }
}

/// True if a listener bound to `bound` is reached at `address`: same port, and bound to all.
fn covers(bound: &Address, address: &Address) -> bool {
    match (bound.inet(), address.inet()) {
        (Some(bound), Some(address)) => {
            bound.port() == address.port()
                && bound.ip().is_unspecified()
                && (bound.is_ipv6() || address.is_ipv4())
        }
        _ => false,
    }
}

/// Something that is to happen at its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// What is due on the direction to this end arrives.
    Deliver(EndId),
    /// A reset arrives.
    Reset(EndId),
    /// A connect reaches its target.
    Arrive(EndId),
    /// A connect is answered.
    Answer(EndId, Answer),
    /// A socket that was held back goes on.
    Resume(EndId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Answer {
    Connected,
    Refused,
    TimedOut,
}

/// Events by time; those of the same time in random order.
#[derive(Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Instant, u64, u64, Event)>>,
    added: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Instant, tie: u64, event: Event) {
        self.added += 1;
        self.heap.push(Reverse((at, tie, self.added, event)));
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Event> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((.., event))| event)
    }
}

/// The faults of each scope, by the index that ends keep.
pub(crate) struct Profiles {
    faults: Vec<(Option<Scope>, Faults)>,
}

impl Profiles {
    pub(super) fn new(others: Faults) -> Self {
        Self { faults: vec![(Some(Scope::Others), others)] }
    }

    pub(crate) fn set(&mut self, scope: Scope, faults: Faults) {
        match self.faults.iter_mut().find(|(known, _)| known.as_ref() == Some(&scope)) {
            Some((_, known)) => *known = faults,
            None => self.faults.push((Some(scope), faults)),
        }
    }

    /// A profile for one end alone.
    pub(super) fn add(&mut self, faults: Faults) -> usize {
        self.faults.push((None, faults));
        self.faults.len() - 1
    }

    pub(super) fn at(&self, index: usize) -> &Faults {
        &self.faults[index].1
    }

    pub(super) fn of_accepted(&self, bound: &Address) -> usize {
        self.position(|scope| matches!(scope, Scope::Accepted(address) if address == bound))
    }

    pub(super) fn of_connecting(&self, target: &Address) -> usize {
        self.position(|scope| matches!(scope, Scope::Connecting(address) if address == target))
    }

    /// The scope that matches, or the one for all others.
    fn position(&self, matches: impl Fn(&Scope) -> bool) -> usize {
        let found = self.faults.iter().position(|(scope, _)| scope.as_ref().is_some_and(&matches));
        found.unwrap_or(0)
    }
}
