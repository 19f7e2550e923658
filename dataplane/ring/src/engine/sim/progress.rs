//! What becomes of operations: events that are due, and completions on ends that were touched.

use std::time::Duration;

use rustix::io::Errno;

use super::network::{Answer, EndId, Event, Kind};
use super::trace::What;
use super::{HELD_BACK_MAX, Sim};
use crate::engine::{Io, add};
use crate::socket::{
    Accepted, End, Interest, READY_ACCEPTS_MAX, READY_LEASES_MAX, RecvState, SocketKey, Watch,
};

/// Leases that a multishot receive may fill before its consumer gets to stop it.
const BURST_MAX: u64 = 6;

/// What one attempt to receive came to.
#[derive(PartialEq, Eq)]
enum Received {
    Bytes,
    Nothing,
    /// The stream's end, an error, or no buffer: the receive is over.
    Over,
}

impl Sim {
    /// True unless the end stalls.
    pub(super) fn may_go_on(&mut self, id: EndId) -> bool {
        self.ends.at(id).stalled_until <= self.now
    }

    pub(super) fn happen(&mut self, io: &mut Io, event: Event) {
        match event {
            Event::Deliver(id) => {
                let now = self.now;
                if self.ends.find(id).is_some_and(|end| end.incoming.arrive(now)) {
                    let arrived = self.ends.at(id).incoming.arrived;
                    self.note(What::Arrived, id, arrived);
                    self.touch(id);
                }
            }
            Event::Reset(id) => {
                let connecting =
                    |end: &&mut _| matches!(end, super::End { kind: Kind::Connecting, .. });
                let connects = self.ends.find(id).as_ref().is_some_and(connecting);
                self.reset_arrives(id);
                if connects {
                    self.answer(io, id, Answer::Refused);
                }
            }
            Event::Arrive(id) => {
                let Some(client) = self.ends.find(id) else { return };
                let latency = client.incoming.latency_ns;
                let answer = match self.connect_arrives(id) {
                    Some(_) => Answer::Connected,
                    None => Answer::Refused,
                };
                let delay = self.delay(latency);
                self.after(delay, Event::Answer(id, answer));
            }
            Event::Answer(id, answer) => self.answer(io, id, answer),
            Event::Resume(id) => self.touch(id),
        }
    }

    fn answer(&mut self, io: &mut Io, id: EndId, answer: Answer) {
        let Some(end) = self.ends.find(id) else { return };
        if !matches!(end.kind, Kind::Connecting) {
            return;
        }
        end.kind = Kind::Connected;
        let outcome = match answer {
            Answer::Connected => Ok(()),
            Answer::Refused => Err(Errno::CONNREFUSED),
            Answer::TimedOut => Err(Errno::TIMEDOUT),
        };
        end.broken |= outcome.is_err();
        let key = end.key.expect("whoever connects has a slot");
        self.note(What::Answered, id, usize::from(outcome.is_ok()));
        add(&io.counts.completed, 1);
        if let Some(connect) = io.sockets.at(key).connect() {
            connect.outcome = Some(outcome);
            if let Some(waker) = connect.waker.take() {
                waker.wake();
            }
        }
    }

    /// Goes on with everything that an end has in flight, unless a fault holds it back.
    pub(super) fn progress(&mut self, io: &mut Io, id: EndId) {
        let Some(end) = self.ends.find(id) else { return };
        end.touched = false;
        let Some(key) = end.key else { return };
        if matches!(end.kind, Kind::Listening { .. }) {
            self.progress_accept(io, key, id);
        } else if self.may_go_on(id) && !self.is_held_back(io, key, id) {
            if self.random.coin() {
                self.progress_recv(io, key, id);
                self.progress_send(io, key, id);
            } else {
                self.progress_send(io, key, id);
                self.progress_recv(io, key, id);
            }
            for interest in [Interest::Readable, Interest::Writable, Interest::HungUp] {
                self.progress_watch(io, key, id, interest);
            }
        }
        if io.sockets.at(key).closing {
            self.finish_close(io, key, id);
        }
    }

    /// Draws whether what a socket waits for is reported late.
    fn is_held_back(&mut self, io: &mut Io, key: SocketKey, id: EndId) -> bool {
        let socket = io.sockets.at(key);
        let waits = socket.recv.state != RecvState::Idle
            || socket.send.in_flight
            || socket.readable == Watch::Armed
            || socket.writable == Watch::Armed;
        if !waits {
            return false;
        }
        let faults = *self.profiles.at(self.ends.at(id).profile);
        if self.random.chance(faults.reorder) {
            self.counts.reorders += 1;
            let delay = self.random.below(HELD_BACK_MAX.as_nanos() as u64);
            self.after(Duration::from_nanos(delay), Event::Resume(id));
            return true;
        }
        false
    }

    pub(super) fn progress_recv(&mut self, io: &mut Io, key: SocketKey, id: EndId) {
        match io.sockets.at(key).recv.state {
            RecvState::Idle | RecvState::Starved => {}
            RecvState::Armed { multishot: false } => {
                if self.receive(io, key, id) == Received::Bytes {
                    io.sockets.at(key).recv.state = RecvState::Idle;
                }
            }
            RecvState::Armed { multishot: true } => {
                let burst = 1 + self.random.below(BURST_MAX);
                let more = (0..burst).all(|_| self.receive(io, key, id) == Received::Bytes);
                let recv = &mut io.sockets.at(key).recv;
                let armed = matches!(recv.state, RecvState::Armed { .. });
                // A reader that lags behind stops what reads ahead of it.
                let stop = armed && recv.ready() >= READY_LEASES_MAX;
                if stop {
                    recv.state = RecvState::Stopping;
                }
                if stop || more {
                    self.touch(id);
                }
            }
            RecvState::Stopping => {
                if self.random.coin() && self.receive(io, key, id) == Received::Bytes {
                    self.counts.cancel_races += 1;
                }
                let recv = &mut io.sockets.at(key).recv;
                recv.state = RecvState::Idle;
                recv.wake();
            }
        }
    }

    fn receive(&mut self, io: &mut Io, key: SocketKey, id: EndId) -> Received {
        let end = self.ends.at(id);
        let nothing = !end.is_readable();
        let profile = end.profile;
        if nothing {
            return Received::Nothing;
        }
        let stopping = io.sockets.at(key).recv.state == RecvState::Stopping;
        let starve = self.profiles.at(profile).starve;
        let lease = if self.random.chance(starve) { None } else { io.pool.take() };
        let Some(mut lease) = lease else {
            self.counts.starvations += 1;
            add(&io.counts.starved, 1);
            if !stopping {
                io.starve(key);
            }
            return Received::Over;
        };
        let count = self.readable(id, lease.len());
        let socket = io.sockets.at(key);
        match count {
            Err(Errno::AGAIN) => return Received::Nothing,
            Ok(0) => socket.ended(),
            Err(errno) => socket.recv.end = Some(End::Failed(errno)),
            Ok(count) => {
                let mut filled = 0;
                self.take_in(id, count, |bytes| {
                    lease.writable()[filled..filled + bytes.len()].copy_from_slice(bytes);
                    filled += bytes.len();
                });
                lease.truncate(count);
                socket.recv.push(lease);
            }
        }
        add(&io.counts.completed, 1);
        let recv = &mut socket.recv;
        let received = if recv.end.is_some() {
            recv.state = RecvState::Idle;
            Received::Over
        } else {
            Received::Bytes
        };
        recv.wake();
        received
    }

    pub(super) fn progress_send(&mut self, io: &mut Io, key: SocketKey, id: EndId) {
        let send = &mut io.sockets.at(key).send;
        if !send.in_flight {
            return;
        }
        let op = send.op.as_mut().expect("a send is kept until it completes");
        let left = op.remaining().map(<[u8]>::len).sum();
        match self.writable(id, left) {
            // The reader's next read touches this end again.
            Err(Errno::AGAIN) => return,
            Err(errno) => send.error = Some(errno),
            Ok(count) => {
                self.put_out(id, count, op.remaining());
                send.bytes_total += count as u64;
                if !op.advance(count) {
                    return self.touch(id);
                }
            }
        }
        add(&io.counts.completed, 1);
        send.in_flight = false;
        let op = send.op.take();
        send.wake();
        if let Some(op) = op {
            io.spares.retire(op);
        }
    }

    pub(super) fn is_ready(&mut self, id: EndId, interest: Interest) -> bool {
        match interest {
            Interest::Readable => self.ends.at(id).is_readable(),
            Interest::Writable => {
                let end = self.ends.at(id);
                end.broken || end.write_closed || self.room(id) > 0
            }
            Interest::HungUp => self.ends.at(id).is_hung_up(),
        }
    }

    fn progress_watch(&mut self, io: &mut Io, key: SocketKey, id: EndId, interest: Interest) {
        let socket = io.sockets.at(key);
        let armed = match interest {
            Interest::Readable => socket.readable == Watch::Armed,
            Interest::Writable => socket.writable == Watch::Armed,
            Interest::HungUp => socket.rare.as_ref().is_some_and(|r| r.hung_up == Watch::Armed),
        };
        if armed && self.is_ready(id, interest) {
            socket.report(interest);
        }
    }

    pub(super) fn progress_accept(&mut self, io: &mut Io, key: SocketKey, id: EndId) {
        let accept = io.sockets.at(key).accept();
        if !accept.armed {
            return;
        }
        let end = self.ends.at(id);
        let profile = end.profile;
        let Kind::Listening { queue, multishot } = &mut end.kind else { return };
        let stop = accept.stopping;
        if stop && self.random.coin() {
            // Nothing arrives through it any more.
        } else if queue.is_empty() {
            if !stop {
                return;
            }
        } else if self.random.chance(self.profiles.at(profile).accept_error) {
            self.counts.accept_errors += 1;
            let errors = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
            accept.error = Some(errors[self.random.below(errors.len() as u64) as usize]);
            accept.armed = false;
        } else {
            if stop {
                self.counts.cancel_races += 1;
            }
            while let Some(accepted) = queue.pop_front() {
                accept.ready.push_back(Accepted::Simulated(accepted));
                accept.armed = *multishot && accept.ready.len() < READY_ACCEPTS_MAX;
                if !accept.armed {
                    break;
                }
            }
        }
        if stop {
            accept.armed = false;
        }
        accept.stopping = false;
        accept.wake();
        self.note(What::Accepting, id, 0);
    }

    /// Closes the end and frees its slot.
    pub(super) fn finish_close(&mut self, io: &mut Io, key: SocketKey, id: EndId) {
        let mut socket = io.sockets.remove(key);
        self.by_slot[key.index as usize] = None;
        if let Some(op) = socket.send.op.take() {
            io.spares.retire(op);
        }
        self.note(What::Closed, id, 0);
        self.hang_up(id);
        let end = self.ends.remove(id).expect("its slot named it");
        if let Kind::Listening { queue, .. } = end.kind {
            let taken = socket.rare.take().and_then(|rare| rare.accept);
            for accepted in taken.into_iter().flat_map(|accept| accept.ready) {
                if let Accepted::Simulated(id) = accepted {
                    self.drop_unaccepted(id);
                }
            }
            for id in queue {
                self.drop_unaccepted(id);
            }
        }
        // Dropping the rest returns the leases.
    }
}
