//! Bytes, FINs and resets between two ends, and the faults that befall them.
//!
//! What a socket answers after a reset is what Linux answers: the error goes to the operation that
//! meets it first (ECONNRESET, or EPIPE if a FIN had come before), later reads see the end of the
//! stream and later writes EPIPE; bytes that had arrived before the reset can still be read. Closing
//! with bytes unread sends a reset, and so does whatever reaches a closed socket.

use std::time::Duration;

use rustix::io::Errno;

use super::network::{Direction, End, EndId, Event, Kind, Segment};
use super::trace::What;
use super::{Instant, Sim};

impl Sim {
    /// How many bytes a read of at most `max` may take now; 0 is the end.
    ///
    /// # Errors
    /// EAGAIN if there is nothing; what became of the connection.
    pub(super) fn readable(&mut self, id: EndId, max: usize) -> Result<usize, Errno> {
        if !self.may_go_on(id) {
            return Err(Errno::AGAIN);
        }
        let faults = *self.profiles.at(self.ends.at(id).profile);
        let end = self.ends.at(id);
        // Once the FIN is there everything is, and no reset can take it away again.
        let breakable = end.incoming.arrived > 0 && !end.incoming.fin_arrived && !end.broken;
        if breakable && self.random.chance(faults.reset) {
            let incoming = &mut self.ends.at(id).incoming;
            incoming.arrived = self.random.below(incoming.arrived as u64 + 1) as usize;
            incoming.cut();
            self.break_connection(id);
        }
        let end = self.ends.at(id);
        if end.is_readable() && self.stalls(id) {
            return Err(Errno::AGAIN);
        }
        let end = self.ends.at(id);
        let there = end.incoming.arrived.min(max);
        if there > 0 {
            if there > 1 && self.random.chance(faults.short_read) {
                self.counts.short_reads += 1;
                return Ok(self.random.part_of(there - 1));
            }
            return Ok(there);
        }
        if end.incoming.fin_arrived || end.read_closed {
            return Ok(0);
        }
        match end.error.take() {
            Some(errno) => Err(errno),
            None if end.broken => Ok(0),
            None => Err(Errno::AGAIN),
        }
    }

    /// Draws whether a socket that could go on stalls instead.
    fn stalls(&mut self, id: EndId) -> bool {
        let profile = self.ends.at(id).profile;
        if !self.random.chance(self.profiles.at(profile).stall) {
            return false;
        }
        self.counts.stalls += 1;
        let stall = self.random.below(self.config.stall_max.as_nanos() as u64);
        let until = self.now + Duration::from_nanos(stall + 1);
        self.ends.at(id).stalled_until = until;
        self.note(What::Stalled, id, 0);
        self.at(until, Event::Resume(id));
        true
    }

    /// Reads what [`Sim::readable`] allowed.
    pub(super) fn take_in(&mut self, id: EndId, count: usize, sink: impl FnMut(&[u8])) {
        if count == 0 {
            return;
        }
        let end = self.ends.at(id);
        end.incoming.read(count, sink);
        let peer = end.peer;
        self.note(What::Read, id, count);
        if let Some(peer) = peer {
            self.touch(peer);
        }
    }

    /// How many of `wanted` bytes a write may take now.
    ///
    /// # Errors
    /// EAGAIN if there is no room; EPIPE and ECONNRESET.
    pub(super) fn writable(&mut self, id: EndId, wanted: usize) -> Result<usize, Errno> {
        if !self.may_go_on(id) {
            return Err(Errno::AGAIN);
        }
        let faults = *self.profiles.at(self.ends.at(id).profile);
        if wanted > 0 && !self.ends.at(id).broken && self.random.chance(faults.reset) {
            self.break_connection(id);
        }
        let end = self.ends.at(id);
        if end.broken || end.write_closed {
            return Err(end.error.take().unwrap_or(Errno::PIPE));
        }
        if self.stalls(id) {
            return Err(Errno::AGAIN);
        }
        let room = self.room(id).min(wanted);
        if wanted > 0 && room == 0 {
            self.counts.backpressure += 1;
            return Err(Errno::AGAIN);
        }
        if room > 1 && self.random.chance(faults.short_write) {
            self.counts.short_writes += 1;
            return Ok(self.random.part_of(room - 1));
        }
        Ok(room)
    }

    /// Sends the first `count` of `bytes`, which [`Sim::writable`] allowed.
    pub(super) fn put_out<'a>(
        &mut self,
        id: EndId,
        count: usize,
        bytes: impl Iterator<Item = &'a [u8]>,
    ) {
        if count == 0 {
            return;
        }
        self.note(What::Sent, id, count);
        let Some(peer) = self.ends.at(id).peer else {
            // Nobody is there any more: what arrives there is answered with a reset.
            let there = self.ends.at(id).incoming.latency_ns;
            let delay = self.delay(there) + self.delay(there);
            return self.send_reset(id, self.now + delay);
        };
        let mut left = count;
        let direction = &mut self.ends.at(peer).incoming;
        for part in bytes {
            let part = &part[..left.min(part.len())];
            direction.bytes.extend(part);
            left -= part.len();
        }
        debug_assert_eq!(left, 0, "what is sent is there");
        self.send_segment(peer, Segment::Bytes(count));
    }

    fn send_segment(&mut self, to: EndId, segment: Segment) {
        let latency = self.ends.at(to).incoming.latency_ns;
        let at = self.now + self.delay(latency);
        let Direction { on_the_way, .. } = &mut self.ends.at(to).incoming;
        let at = on_the_way.back().map_or(at, |(last, _)| at.max(*last));
        on_the_way.push_back((at, segment));
        self.at(at, Event::Deliver(to));
    }

    /// Bytes that may be sent before the reader has to read.
    pub(super) fn room(&mut self, id: EndId) -> usize {
        match self.ends.at(id).peer {
            Some(peer) => self.ends.at(peer).incoming.room(),
            None => usize::MAX,
        }
    }

    pub(super) fn send_fin(&mut self, id: EndId) {
        let end = self.ends.at(id);
        if std::mem::replace(&mut end.write_closed, true) {
            return;
        }
        let peer = end.peer;
        self.note(What::FinSent, id, 0);
        if let Some(peer) = peer {
            self.send_segment(peer, Segment::Fin);
        }
    }

    fn send_reset(&mut self, to: EndId, at: Instant) {
        if let Some(end) = self.ends.find(to)
            && !std::mem::replace(&mut end.reset_due, true)
        {
            self.at(at, Event::Reset(to));
        }
    }

    /// Something between the ends breaks the connection: both get a reset, this one now.
    fn break_connection(&mut self, id: EndId) {
        self.counts.resets += 1;
        let peer = self.ends.at(id).peer;
        self.reset_arrives(id);
        if let Some(peer) = peer {
            let latency = self.ends.at(peer).incoming.latency_ns;
            let at = self.now + self.delay(latency);
            self.send_reset(peer, at);
        }
    }

    pub(super) fn reset_arrives(&mut self, id: EndId) {
        let Some(end) = self.ends.find(id) else { return };
        let lost = end.incoming.bytes.len() - end.incoming.arrived;
        // The reset may fall into the middle of what was sent before it.
        end.incoming.arrived += self.random.below(lost as u64 + 1) as usize;
        end.incoming.cut();
        if !std::mem::replace(&mut end.broken, true) {
            let errno = if end.incoming.fin_arrived { Errno::PIPE } else { Errno::CONNRESET };
            end.error = Some(errno);
        }
        let peer = end.peer.take();
        if let Some(peer) = peer
            && let Some(other) = self.ends.find(peer)
        {
            other.peer = None;
        }
        self.note(What::ResetArrived, id, 0);
        self.touch(id);
    }

    /// An end is gone: tells the other one.
    pub(super) fn hang_up(&mut self, id: EndId) {
        let Some(peer) = self.ends.at(id).peer else { return };
        let end = self.ends.at(id);
        let reset = end.reset_on_close || end.incoming.arrived > 0;
        // What is still on its way here will find a closed socket.
        let on_the_way = end.incoming.on_the_way.back().map(|(at, _)| *at);
        let more = end.incoming.bytes.len() > end.incoming.arrived;
        let latency = self.ends.at(peer).incoming.latency_ns;
        if reset {
            let at = self.now + self.delay(latency);
            self.send_reset(peer, at);
        } else {
            self.send_fin(id);
            if more && let Some(arrives) = on_the_way {
                let at = arrives + self.delay(latency);
                self.send_reset(peer, at);
            }
        }
        self.ends.at(peer).peer = None;
        self.touch(peer);
    }

    /// An unaccepted connection is thrown away with its listener.
    pub(super) fn drop_unaccepted(&mut self, id: EndId) {
        if let Some(end) = self.ends.find(id) {
            end.reset_on_close = true;
            self.hang_up(id);
            self.ends.remove(id);
        }
    }

    /// A connect reaches its target: queues the other end there, or is refused.
    pub(super) fn connect_arrives(&mut self, id: EndId) -> Option<EndId> {
        let client = self.ends.find(id)?;
        let target = client.remote.clone()?;
        let from = client.local.clone();
        let listener = self.ends.listener(&target)?;
        let bound = self.ends.at(listener).local.clone();
        let profile = self.profiles.of_accepted(&bound);
        let mut server = End::new(Kind::Connected, target, Some(from), profile);
        server.peer = Some(id);
        server.incoming.latency_ns = self.latency();
        server.incoming.capacity = self.random.within(&self.config.socket_bytes) as usize;
        let server = self.ends.insert(server);
        self.ends.at(id).peer = Some(server);
        if let Kind::Listening { queue, .. } = &mut self.ends.at(listener).kind {
            queue.push_back(server);
        }
        self.touch(listener);
        Some(server)
    }
}
