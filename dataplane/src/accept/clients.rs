//! The clients of one worker: how many there are, which have been idle longest, and the cap.
//!
//! Before: `listener` accepted a connection. After: its task runs until the connection ends. An
//! idle connection can be ended from here, because nobody waits for anything on it; a busy one is
//! ended only when a drain's grace is over.

use std::cell::{Cell, RefCell};

use lateen_ring::{Instant, TaskHandle};

use crate::loaded::ListenerSlot;

/// Names a client of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(u32);

const NIL: u32 = u32::MAX;

struct Slot {
    task: Option<TaskHandle>,
    /// Neighbours in the list of idle clients, longest idle first.
    previous: u32,
    next: u32,
    /// When it became idle; `NEVER` while busy.
    idle_since: Instant,
    /// Where it came in.
    listener: ListenerSlot,
    occupied: bool,
}

/// What the table keeps of a client, in bytes.
pub const SLOT_BYTES: usize = size_of::<Slot>();

/// The table of clients.
pub struct Clients {
    table: RefCell<Table>,
    count: Cell<usize>,
    count_max: usize,
}

struct Table {
    slots: Vec<Slot>,
    /// Beside the slots, as far as the last client that had one: when connections have lasted as long as they
    /// may. Few listeners say so, and an idle connection is to stay small.
    ends: Vec<Instant>,
    free: Vec<u32>,
    longest_idle: u32,
    latest_idle: u32,
}

impl Clients {
    /// An empty table for at most `count_max` clients.
    pub fn new(count_max: usize) -> Self {
        let table = Table {
            slots: Vec::new(),
            ends: Vec::new(),
            free: Vec::new(),
            longest_idle: NIL,
            latest_idle: NIL,
        };
        Self { table: RefCell::new(table), count: Cell::new(0), count_max }
    }

    /// Clients that are connected.
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// Whether the cap is reached.
    pub fn is_full(&self) -> bool {
        self.count.get() >= self.count_max
    }

    /// Whether one of them waits with nothing asked for.
    pub fn has_idle(&self) -> bool {
        self.table.borrow().longest_idle != NIL
    }

    /// Enters a client that came in at `listener`, busy at first.
    pub fn enter(&self, listener: ListenerSlot) -> ClientId {
        self.count.set(self.count.get() + 1);
        let mut table = self.table.borrow_mut();
        let slot = Slot {
            task: None,
            previous: NIL,
            next: NIL,
            idle_since: Instant::NEVER,
            listener,
            occupied: true,
        };
        match table.free.pop() {
            Some(index) => {
                table.slots[index as usize] = slot;
                ClientId(index)
            }
            None => {
                table.slots.push(slot);
                ClientId(table.slots.len() as u32 - 1)
            }
        }
    }

    /// Notes the task that serves a client, so that it can be ended.
    pub fn set_task(&self, client: ClientId, task: TaskHandle) {
        let mut table = self.table.borrow_mut();
        let slot = &mut table.slots[client.0 as usize];
        // The task may have run to its end before its handle got here; then the slot is free.
        if slot.occupied {
            slot.task = Some(task);
        }
    }

    /// A client's connection may last until `ends`.
    pub fn set_ends(&self, client: ClientId, ends: Instant) {
        let table = &mut *self.table.borrow_mut();
        let index = client.0 as usize;
        if table.ends.len() <= index {
            table.ends.resize(index + 1, Instant::NEVER);
        }
        table.ends[index] = ends;
    }

    /// Until when a client's connection may last; `NEVER`: for ever. Asked for every answer.
    #[inline]
    pub fn ends_of(&self, client: ClientId) -> Instant {
        self.table.borrow().ends.get(client.0 as usize).copied().unwrap_or(Instant::NEVER)
    }

    /// Takes a client out; its task is ending.
    pub fn leave(&self, client: ClientId) {
        self.count.set(self.count.get() - 1);
        let mut table = self.table.borrow_mut();
        table.unlink(client.0);
        let slot = &mut table.slots[client.0 as usize];
        slot.occupied = false;
        slot.task = None;
        if let Some(ends) = table.ends.get_mut(client.0 as usize) {
            *ends = Instant::NEVER;
        }
        table.free.push(client.0);
        if table.free.len() == table.slots.len() {
            table.slots = Vec::new();
            table.ends = Vec::new();
            table.free = Vec::new();
        }
    }

    /// A client waits with nothing asked for.
    #[inline]
    pub fn became_idle(&self, client: ClientId, now: Instant) {
        let mut table = self.table.borrow_mut();
        let last = table.latest_idle;
        let slot = &mut table.slots[client.0 as usize];
        debug_assert!(slot.idle_since == Instant::NEVER, "idle once");
        slot.idle_since = now;
        slot.previous = last;
        slot.next = NIL;
        table.latest_idle = client.0;
        if last == NIL {
            table.longest_idle = client.0;
        } else {
            table.slots[last as usize].next = client.0;
        }
    }

    /// A client asked for something.
    #[inline]
    pub fn became_busy(&self, client: ClientId) {
        self.table.borrow_mut().unlink(client.0);
    }

    /// Ends the client that has been idle longest, if it has been so since before `before`. False if
    /// there is none.
    pub fn end_longest_idle(&self, before: Instant) -> bool {
        let task = {
            let mut table = self.table.borrow_mut();
            let index = table.longest_idle;
            if index == NIL {
                return false;
            }
            let slot = &mut table.slots[index as usize];
            if slot.idle_since >= before {
                return false;
            }
            slot.task.take()
        };
        // Dropping the task takes it out of the table: see `Client`'s destructor in `connection`.
        match task {
            Some(task) => {
                task.abort();
                true
            }
            None => false,
        }
    }

    /// Clients of the listeners that `at` names. Cost: linear in all clients.
    pub fn at(&self, at: impl Fn(ListenerSlot) -> bool) -> Vec<ClientId> {
        let table = self.table.borrow();
        let here = |slot: &Slot| slot.occupied && at(slot.listener);
        (0..).zip(&table.slots).filter(|(_, slot)| here(slot)).map(|(id, _)| ClientId(id)).collect()
    }

    /// Keeps those of `clients` that are still there, at listeners that `at` names: another one may
    /// have come in the place of one that left.
    pub fn retain_at(&self, clients: &mut Vec<ClientId>, at: impl Fn(ListenerSlot) -> bool) {
        let table = self.table.borrow();
        clients.retain(|client| {
            // The table shrinks when the last one leaves.
            let slot = table.slots.get(client.0 as usize);
            slot.is_some_and(|slot| slot.occupied && at(slot.listener))
        });
    }

    /// Ends those of `clients`, all of whom are there, that have been idle since before `before`.
    pub fn end_idle(&self, clients: &[ClientId], before: Instant) {
        self.end(clients, |slot| slot.idle_since < before);
    }

    /// Ends `clients`, all of whom are there, busy ones too, and returns how many were busy.
    pub fn end_all(&self, clients: &[ClientId]) -> usize {
        self.end(clients, |_| true)
    }

    fn end(&self, clients: &[ClientId], which: impl Fn(&Slot) -> bool) -> usize {
        let tasks: Vec<(TaskHandle, bool)> = {
            let mut table = self.table.borrow_mut();
            let end = |client: &ClientId| {
                let slot = &mut table.slots[client.0 as usize];
                let was_busy = slot.idle_since == Instant::NEVER;
                if which(slot) { Some((slot.task.take()?, was_busy)) } else { None }
            };
            clients.iter().filter_map(end).collect()
        };
        let mut busy = 0;
        for (task, was_busy) in tasks {
            // Dropping the task takes it out of the table.
            task.abort();
            busy += usize::from(was_busy);
        }
        busy
    }
}

impl Table {
    fn unlink(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        if std::mem::replace(&mut slot.idle_since, Instant::NEVER) == Instant::NEVER {
            return;
        }
        let (previous, next) = (slot.previous, slot.next);
        if previous == NIL {
            self.longest_idle = next;
        } else {
            self.slots[previous as usize].next = next;
        }
        if next == NIL {
            self.latest_idle = previous;
        } else {
            self.slots[next as usize].previous = previous;
        }
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_in_the_place_of_one_that_left_is_another() {
        let clients = Clients::new(10);
        let [here, there] = [ListenerSlot(0), ListenerSlot(1)];
        let [first, _, third] = [here, there, here].map(|at| clients.enter(at));
        let mut left = clients.at(|at| at == here);
        assert_eq!(left, [first, third]);
        clients.leave(first);
        assert_eq!(clients.enter(there), first, "the place is free");
        clients.retain_at(&mut left, |at| at == here);
        assert_eq!(left, [third]);
        clients.leave(third);
        clients.retain_at(&mut left, |at| at == here);
        assert!(left.is_empty());
        assert_eq!(clients.end_all(&left), 0);
        assert_eq!(clients.count(), 2);
    }
    #[test]
    fn an_end_is_that_of_one_client_and_not_of_the_next_in_its_place() {
        let clients = Clients::new(10);
        let [first, second] = [0, 0].map(|at| clients.enter(ListenerSlot(at)));
        assert_eq!(clients.ends_of(second), Instant::NEVER);
        assert!(clients.table.borrow().ends.is_empty(), "nobody pays for what nobody has");
        let ends = Instant::from_nanos(3);
        clients.set_ends(first, ends);
        assert_eq!([first, second].map(|of| clients.ends_of(of)), [ends, Instant::NEVER]);
        clients.leave(first);
        assert_eq!(clients.enter(ListenerSlot(0)), first, "the place is free");
        assert_eq!(clients.ends_of(first), Instant::NEVER);
    }
}
