//! Timers: a hierarchical wheel, and the lazy [`Deadline`] that connections keep.
//!
//! A connection moves its deadline several times a request and lets it expire almost never. So a
//! `Deadline` is one long-lived wheel entry; moving it *later* is a plain store, and the entry is
//! relinked only when the wheel reaches its old place and finds the wanted time still ahead. Moving
//! it *earlier* than the place it is linked at relinks at once.
//!
//! Wheel layout: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987), scheme 7:
//! six levels of 64 slots; a slot of level n spans 64^n ticks; a tick is 2^20 ns (about 1.05 ms).
//! A timer never fires early, and late by at most a tick plus the length of the worker's turn.

use std::task::Waker;
use std::time::Duration;

use crate::socket::slots_in_use;
use crate::time::Instant;

const TICK_SHIFT: u32 = 20;
const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const NIL: u32 = u32::MAX;
/// The farthest tick the wheel can hold from its present; later deadlines are linked there and
/// relinked when they are reached (2^36 ticks are two years).
const SPAN_TICKS: u64 = 1 << (SLOT_BITS * LEVELS as u32);

const _: () = assert!(SLOTS == 64, "the occupancy map of a level is one u64");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey(u32);

struct Entry {
    /// When the owner wants to be woken.
    wanted: Instant,
    /// The tick at which the wheel will look at this entry; meaningful while `place` is set.
    tick: u64,
    /// `level * SLOTS + slot` while linked.
    place: Option<u16>,
    prev: u32,
    next: u32,
    waker: Option<Waker>,
}

pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();

/// The wheel of one worker.
pub(crate) struct Wheel {
    entries: Vec<Entry>,
    free: Vec<u32>,
    heads: Box<[u32; LEVELS * SLOTS]>,
    occupied: [u64; LEVELS],
    /// All ticks up to and including this one have been served.
    served: u64,
}

impl Wheel {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            heads: Box::new([NIL; LEVELS * SLOTS]),
            occupied: [0; LEVELS],
            served: now.as_nanos() >> TICK_SHIFT,
        }
    }

    /// Makes an entry that is not set.
    pub(crate) fn insert(&mut self) -> TimerKey {
        let entry = Entry {
            wanted: Instant::NEVER,
            tick: 0,
            place: None,
            prev: NIL,
            next: NIL,
            waker: None,
        };
        match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                TimerKey(index)
            }
            None => {
                self.entries.push(entry);
                TimerKey(self.entries.len() as u32 - 1)
            }
        }
    }

    /// Frees an entry. Its waker is returned so that the caller can drop it outside of any borrow.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.unlink(key.0);
        let waker = self.entries[key.0 as usize].waker.take();
        self.free.push(key.0);
        waker
    }

    /// Gives back the memory of the free entries behind the last one in use.
    pub(crate) fn shrink(&mut self) {
        let kept = slots_in_use(self.entries.len(), &self.free);
        self.entries.truncate(kept);
        self.entries.shrink_to_fit();
        self.free.retain(|index| (*index as usize) < kept);
        self.free.shrink_to_fit();
    }

    #[inline]
    pub(crate) fn wanted(&self, key: TimerKey) -> Instant {
        self.entries[key.0 as usize].wanted
    }

    /// Moves the deadline; `Instant::NEVER` clears it.
    #[inline]
    pub(crate) fn set(&mut self, key: TimerKey, at: Instant) {
        let entry = &mut self.entries[key.0 as usize];
        entry.wanted = at;
        if at == Instant::NEVER {
            // Left linked: it is unlinked when the wheel gets there, which is cheaper than doing it
            // for each of the many deadlines that are cleared and set again.
            return;
        }
        let tick = tick_at_or_after(at);
        if entry.place.is_none() || tick < entry.tick {
            self.unlink(key.0);
            self.link(key.0, tick);
        }
    }

    /// Registers who is woken when the deadline passes.
    #[inline]
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: &Waker) {
        let slot = &mut self.entries[key.0 as usize].waker;
        match slot {
            Some(known) if known.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }

    /// How long the worker may sleep; `None` if no timer is linked. It may be shorter than the time
    /// to the earliest deadline (a cascade or a deadline that was moved), never longer.
    pub(crate) fn next_wait(&self, now: Instant) -> Option<Duration> {
        let tick = self.next_tick()?;
        Some(Instant::from_nanos(tick << TICK_SHIFT).since(now))
    }

    /// Serves all ticks up to `now` and wakes the owners whose deadline has passed.
    pub(crate) fn advance(&mut self, now: Instant) {
        let now_tick = now.as_nanos() >> TICK_SHIFT;
        while let Some(tick) = self.next_tick() {
            if tick > now_tick {
                break;
            }
            self.served = tick;
            // Cascade from the top: an entry of a higher level whose slot begins at this tick may
            // belong into a lower slot that is due at the same tick.
            for level in (0..LEVELS).rev() {
                let shift = SLOT_BITS * level as u32;
                if tick & ((1 << shift) - 1) == 0 {
                    self.serve(level, ((tick >> shift) as usize) & (SLOTS - 1), now);
                }
            }
        }
        self.served = self.served.max(now_tick);
    }

    fn serve(&mut self, level: usize, slot: usize, now: Instant) {
        let place = level * SLOTS + slot;
        let mut index = std::mem::replace(&mut self.heads[place], NIL);
        self.occupied[level] &= !(1 << slot);
        while index != NIL {
            let entry = &mut self.entries[index as usize];
            let next = entry.next;
            entry.place = None;
            entry.prev = NIL;
            entry.next = NIL;
            if entry.wanted <= now {
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            } else if entry.wanted != Instant::NEVER {
                let tick = tick_at_or_after(entry.wanted);
                self.link(index, tick);
            }
            index = next;
        }
    }

    /// The earliest tick after `served` at which some slot must be looked at.
    fn next_tick(&self) -> Option<u64> {
        (0..LEVELS)
            .filter(|&level| self.occupied[level] != 0)
            .map(|level| {
                let shift = SLOT_BITS * level as u32;
                let current = self.served >> shift;
                let position = (current as u32) & (SLOTS as u32 - 1);
                // Rotate so that bit 0 stands for the slot after the current one.
                let ahead = self.occupied[level].rotate_right(position + 1).trailing_zeros();
                (current + 1 + u64::from(ahead)) << shift
            })
            .min()
    }

    fn link(&mut self, index: u32, wanted_tick: u64) {
        let tick = wanted_tick.clamp(self.served + 1, self.served + SPAN_TICKS - 1);
        // The highest bit in which the tick differs from the present decides the level.
        let differing = 63 - (tick ^ self.served).leading_zeros();
        let level = ((differing / SLOT_BITS) as usize).min(LEVELS - 1);
        let slot = ((tick >> (SLOT_BITS * level as u32)) as usize) & (SLOTS - 1);
        let place = level * SLOTS + slot;
        let head = self.heads[place];
        let entry = &mut self.entries[index as usize];
        debug_assert!(entry.place.is_none(), "an entry is linked once");
        entry.tick = tick;
        entry.place = Some(place as u16);
        entry.prev = NIL;
        entry.next = head;
        if head != NIL {
            self.entries[head as usize].prev = index;
        }
        self.heads[place] = index;
        self.occupied[level] |= 1 << slot;
    }

    fn unlink(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        let Some(place) = entry.place.take() else { return };
        let (prev, next) = (entry.prev, entry.next);
        entry.prev = NIL;
        entry.next = NIL;
        if next != NIL {
            self.entries[next as usize].prev = prev;
        }
        if prev == NIL {
            self.heads[place as usize] = next;
            if next == NIL {
                self.occupied[place as usize / SLOTS] &= !(1 << (place as usize % SLOTS));
            }
        } else {
            self.entries[prev as usize].next = next;
        }
    }

    /// Entries in use.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[inline]
fn tick_at_or_after(at: Instant) -> u64 {
    (at.as_nanos() >> TICK_SHIFT) + u64::from(at.as_nanos() & ((1 << TICK_SHIFT) - 1) != 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn at_ms(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn armed(wheel: &mut Wheel, at: Instant) -> (TimerKey, Arc<Count>) {
        let count = Arc::new(Count::default());
        let key = wheel.insert();
        wheel.set(key, at);
        wheel.set_waker(key, &Waker::from(count.clone()));
        (key, count)
    }

    fn fired(count: &Arc<Count>) -> bool {
        count.0.load(Ordering::Relaxed) > 0
    }

    #[test]
    fn fires_neither_early_nor_more_than_a_tick_late_over_all_levels() {
        for start in [0, 1, 63, 64, 4_095, 262_143, 987_654_321] {
            for wait in [1, 2, 63, 64, 65, 100, 4_096, 5_000, 300_000, 3_600_000, 90_000_000] {
                let mut wheel = Wheel::new(at_ms(start));
                let deadline = at_ms(start + wait);
                let (_key, count) = armed(&mut wheel, deadline);
                let mut now = at_ms(start);
                let mut turns = 0;
                while !fired(&count) {
                    let sleep = wheel.next_wait(now).expect("a timer is linked");
                    now = now + sleep.max(Duration::from_nanos(1));
                    wheel.advance(now);
                    turns += 1;
                    assert!(turns <= LEVELS + 1, "start {start} wait {wait}: too many wakeups");
                }
                assert!(now >= deadline, "start {start} wait {wait}: early");
                assert!(
                    now.since(deadline) <= Duration::from_millis(2),
                    "start {start} wait {wait}: late"
                );
                assert_eq!(wheel.next_wait(now), None);
            }
        }
    }

    #[test]
    fn a_deadline_moved_later_fires_at_the_later_time_only() {
        let mut wheel = Wheel::new(at_ms(0));
        let (key, count) = armed(&mut wheel, at_ms(10));
        wheel.set(key, at_ms(50));
        wheel.advance(at_ms(20));
        assert!(!fired(&count));
        wheel.advance(at_ms(52));
        assert!(fired(&count));
    }

    #[test]
    fn a_deadline_moved_earlier_fires_at_the_earlier_time() {
        let mut wheel = Wheel::new(at_ms(0));
        let (key, count) = armed(&mut wheel, at_ms(5_000));
        wheel.set(key, at_ms(10));
        wheel.advance(at_ms(12));
        assert!(fired(&count));
    }

    #[test]
    fn a_cleared_or_removed_deadline_never_fires() {
        let mut wheel = Wheel::new(at_ms(0));
        let (cleared, count) = armed(&mut wheel, at_ms(10));
        wheel.set(cleared, Instant::NEVER);
        let (removed, other) = armed(&mut wheel, at_ms(10));
        wheel.remove(removed);
        wheel.advance(at_ms(1_000));
        assert!(!fired(&count));
        assert!(!fired(&other));
        assert_eq!(wheel.next_wait(at_ms(1_000)), None);
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn many_random_timers_all_fire_in_their_tick() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut wheel = Wheel::new(at_ms(77));
        let mut timers = Vec::new();
        // Miri is about a thousand times slower, and looks at each step whatever their number.
        for _ in 0..if cfg!(miri) { 50 } else { 5_000 } {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let deadline = at_ms(78 + random % 1_000_000);
            timers.push((deadline, armed(&mut wheel, deadline).1));
        }
        let mut now = at_ms(77);
        while let Some(sleep) = wheel.next_wait(now) {
            now = now + sleep.max(Duration::from_nanos(1));
            wheel.advance(now);
            for (deadline, count) in &timers {
                if now.since(*deadline) > Duration::from_millis(2) {
                    assert!(fired(count), "{deadline:?} passed at {now:?}");
                }
                assert!(!fired(count) || *deadline <= now, "{deadline:?} fired at {now:?}");
            }
            timers.retain(|(_, count)| !fired(count));
        }
        assert!(timers.is_empty());
    }
}
