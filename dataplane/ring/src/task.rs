//! Tasks: the slab of a worker's futures, its FIFO run queue, and wakers that own nothing.
//!
//! A waker is one word: the worker's number, the task's slot and the slot's generation. Cloning and
//! dropping it costs nothing, waking it from its own worker is a push onto the run queue, and waking
//! it from any other thread goes through that worker's [`Remote`] queue and its eventfd. A waker that
//! outlives its task or its worker wakes nobody, or somebody who polls once for nothing.
#![expect(unsafe_code, reason = "a RawWaker vtable whose data word is a number")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::socket::slots_in_use;

/// The future of a task. `!Send`: a task never leaves its worker.
pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

/// A task's name: `worker` 12 bits, `generation` 24 bits, `index` 28 bits, packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(u64);

const INDEX_BITS: u32 = 28;
const GENERATION_BITS: u32 = 24;
/// The index that stands for the future given to `block_on`.
const MAIN_INDEX: u32 = (1 << INDEX_BITS) - 1;
/// Live runtimes in one process, each with a number of its own.
const WORKERS_MAX: usize = 1 << (64 - INDEX_BITS - GENERATION_BITS);

const _: () = assert!(usize::BITS == 64, "a task's name must fit a waker's data pointer");

impl TaskId {
    fn new(worker: u16, generation: u32, index: u32) -> Self {
        let generation = u64::from(generation) & ((1 << GENERATION_BITS) - 1);
        Self(
            u64::from(worker) << (INDEX_BITS + GENERATION_BITS)
                | generation << INDEX_BITS
                | u64::from(index),
        )
    }

    pub(crate) fn main(worker: u16) -> Self {
        Self::new(worker, 0, MAIN_INDEX)
    }

    fn worker(self) -> u16 {
        (self.0 >> (INDEX_BITS + GENERATION_BITS)) as u16
    }

    fn generation(self) -> u32 {
        (self.0 >> INDEX_BITS) as u32 & ((1 << GENERATION_BITS) - 1)
    }

    pub(crate) fn index(self) -> u32 {
        self.0 as u32 & ((1 << INDEX_BITS) - 1)
    }

    pub(crate) fn is_main(self) -> bool {
        self.index() == MAIN_INDEX
    }

    pub(crate) fn waker(self) -> Waker {
        let raw = RawWaker::new(std::ptr::without_provenance(self.0 as usize), &VTABLE);
        // SAFETY: the vtable's functions treat the data pointer as a number and never dereference
        // it, own nothing and touch only thread-safe state, so they meet RawWaker's contract for
        // any number of clones, from any thread, for as long as anybody keeps one.
        unsafe { Waker::from_raw(raw) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &VTABLE),
    |data| wake(TaskId(data.addr() as u64)),
    |data| wake(TaskId(data.addr() as u64)),
    |_| {},
);

thread_local! {
    /// The run queue of the runtime that runs on this thread, if one does.
    static LOCAL: RefCell<Option<std::rc::Rc<RunQueue>>> = const { RefCell::new(None) };
}

fn wake(id: TaskId) {
    let local = LOCAL.try_with(|local| {
        let local = local.borrow();
        match &*local {
            Some(queue) if queue.worker == id.worker() => {
                queue.push(id);
                true
            }
            _ => false,
        }
    });
    if !local.unwrap_or(false) {
        wake_from_afar(id);
    }
}

#[cold]
fn wake_from_afar(id: TaskId) {
    let remote = registry()[id.worker() as usize].clone();
    if let Some(remote) = remote {
        remote.push(id);
    }
}

/// Makes `queue` the one that wakes on this thread go to; the guard undoes it.
pub(crate) fn enter(queue: std::rc::Rc<RunQueue>) -> Entered {
    LOCAL.with(|local| {
        let mut local = local.borrow_mut();
        assert!(local.is_none(), "one runtime runs on a thread at a time");
        *local = Some(queue);
    });
    Entered(())
}

pub(crate) struct Entered(());

impl Drop for Entered {
    fn drop(&mut self) {
        LOCAL.with(|local| *local.borrow_mut() = None);
    }
}

/// The worker's run queue: tasks to poll, first come first served, each in it at most once.
pub(crate) struct RunQueue {
    worker: u16,
    line: RefCell<Line>,
    main_ready: Cell<bool>,
}

struct Line {
    ready: VecDeque<TaskId>,
    /// One flag per task slot: is it queued? Kept apart from the slab so that a wake during a poll
    /// or a drop borrows nothing else.
    queued: Vec<bool>,
}

impl RunQueue {
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            worker,
            line: RefCell::new(Line { ready: VecDeque::new(), queued: Vec::new() }),
            main_ready: Cell::new(true),
        }
    }

    #[inline]
    pub(crate) fn push(&self, id: TaskId) {
        if id.is_main() {
            self.main_ready.set(true);
            return;
        }
        let line = &mut *self.line.borrow_mut();
        match line.queued.get_mut(id.index() as usize) {
            Some(flag) if !*flag => {
                *flag = true;
                line.ready.push_back(id);
            }
            _ => {}
        }
    }

    #[inline]
    fn pop(&self) -> Option<TaskId> {
        let line = &mut *self.line.borrow_mut();
        let id = line.ready.pop_front()?;
        line.queued[id.index() as usize] = false;
        Some(id)
    }

    fn unpop(&self, id: TaskId) {
        let line = &mut *self.line.borrow_mut();
        line.queued[id.index() as usize] = true;
        line.ready.push_front(id);
    }

    fn grow(&self, count: usize) {
        let queued = &mut self.line.borrow_mut().queued;
        if queued.len() < count {
            queued.resize(count, false);
        }
    }

    /// One more than the highest slot that is in the queue: a wake may outlive its task.
    fn slots_queued(&self) -> usize {
        let line = self.line.borrow();
        line.queued.iter().rposition(|queued| *queued).map_or(0, |last| last + 1)
    }

    fn shrink(&self, count: usize) {
        let line = &mut *self.line.borrow_mut();
        line.queued.truncate(count);
        line.queued.shrink_to_fit();
        line.ready.shrink_to_fit();
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.main_ready.get() && self.line.borrow().ready.is_empty()
    }

    pub(crate) fn take_main(&self) -> bool {
        self.main_ready.replace(false)
    }
}

struct Slot {
    generation: u32,
    /// The turn in which the task was last polled: no task is polled twice in a turn, so one that
    /// keeps waking itself cannot keep the worker from its I/O.
    turn: u32,
    occupied: bool,
    /// Away while the task is being polled.
    future: Option<TaskFuture>,
}

pub(crate) const SLOT_BYTES: usize = size_of::<Slot>() + size_of::<bool>();

/// All tasks of a worker.
pub(crate) struct Tasks {
    worker: u16,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    live: Cell<usize>,
    /// Of slots that are made anew after the table shrank: no waker of their forerunners fits them.
    first_generation: Cell<u32>,
}

/// What the run queue's head asks for.
pub(crate) enum Next {
    Poll(TaskId, TaskFuture),
    /// The head was already polled in this turn, and so was everything behind it or it is newer.
    Later,
    Empty,
}

impl Tasks {
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            worker,
            slots: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            live: Cell::new(0),
            first_generation: Cell::new(0),
        }
    }

    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    /// Puts a task in a slot and on the run queue.
    pub(crate) fn insert(&self, queue: &RunQueue, turn: u32, future: TaskFuture) -> TaskId {
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            assert!(slots.len() < MAIN_INDEX as usize, "2^28 tasks is more than memory holds");
            let generation = self.first_generation.get();
            slots.push(Slot { generation, turn: 0, occupied: false, future: None });
            slots.len() as u32 - 1
        });
        let slot = &mut slots[index as usize];
        slot.occupied = true;
        slot.turn = turn.wrapping_sub(1);
        slot.future = Some(future);
        let id = TaskId::new(self.worker, slot.generation, index);
        queue.grow(slots.len());
        self.live.set(self.live.get() + 1);
        queue.push(id);
        id
    }

    /// Gives back the memory of the free slots behind the last one in use. Generations keep growing.
    pub(crate) fn shrink(&self, queue: &RunQueue) {
        let mut slots = self.slots.borrow_mut();
        let mut free = self.free.borrow_mut();
        let kept = slots_in_use(slots.len(), &free).max(queue.slots_queued());
        let gone = slots[kept..].iter().map(|slot| slot.generation).max();
        self.first_generation.set(self.first_generation.get().max(gone.unwrap_or(0)));
        slots.truncate(kept);
        slots.shrink_to_fit();
        free.retain(|index| (*index as usize) < kept);
        free.shrink_to_fit();
        queue.shrink(kept);
    }

    /// Takes the next task to poll in `turn` off the queue.
    #[inline]
    pub(crate) fn next(&self, queue: &RunQueue, turn: u32) -> Next {
        loop {
            let Some(id) = queue.pop() else { return Next::Empty };
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[id.index() as usize];
            if !slot.occupied {
                continue;
            }
            // The entry may have been made for a task that is gone. Its flag kept the slot's new
            // task from being queued a second time, so the entry is the new one's: a poll for
            // nothing harms nobody, a wake that is lost does.
            let id = TaskId::new(self.worker, slot.generation, id.index());
            if slot.turn == turn {
                queue.unpop(id);
                return Next::Later;
            }
            if let Some(future) = slot.future.take() {
                slot.turn = turn;
                return Next::Poll(id, future);
            }
        }
    }

    /// Puts a polled future back. Gives it back to the caller if the task was aborted meanwhile.
    #[inline]
    pub(crate) fn put_back(&self, id: TaskId, future: TaskFuture) -> Option<TaskFuture> {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[id.index() as usize];
        let alive =
            slot.occupied && slot.generation & ((1 << GENERATION_BITS) - 1) == id.generation();
        if !alive {
            return Some(future);
        }
        slot.future = Some(future);
        None
    }

    /// Frees a slot; the future, if it is there, is the caller's to drop outside of any borrow.
    pub(crate) fn remove(&self, id: TaskId) -> Option<TaskFuture> {
        debug_assert_eq!(id.worker(), self.worker, "a task's name is of use on its worker only");
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(id.index() as usize)?;
        if !slot.occupied || slot.generation & ((1 << GENERATION_BITS) - 1) != id.generation() {
            return None;
        }
        slot.occupied = false;
        slot.generation = slot.generation.wrapping_add(1);
        let future = slot.future.take();
        self.free.borrow_mut().push(id.index());
        self.live.set(self.live.get() - 1);
        future
    }

    /// Takes any one live task, for teardown.
    pub(crate) fn take_any(&self) -> Option<TaskFuture> {
        loop {
            let id = {
                let slots = self.slots.borrow();
                let index = slots.iter().position(|slot| slot.occupied)? as u32;
                TaskId::new(self.worker, slots[index as usize].generation, index)
            };
            if let Some(future) = self.remove(id) {
                return Some(future);
            }
        }
    }
}

/// The part of a worker that other threads may touch: wakes sent from afar.
pub(crate) struct Remote {
    queue: Mutex<Vec<TaskId>>,
    /// Written to get the worker out of its wait. `None` on the simulation, which has one thread.
    eventfd: Option<OwnedFd>,
}

impl Remote {
    fn push(&self, id: TaskId) {
        let first = {
            let mut queue = lock(&self.queue);
            if queue.last() == Some(&id) {
                return;
            }
            queue.push(id);
            queue.len() == 1
        };
        // Whoever finds the queue empty calls; the worker empties it after it was called.
        if first && let Some(eventfd) = &self.eventfd {
            // EAGAIN means that the counter is at its maximum: the worker is being woken already.
            let _ = rustix::io::write(eventfd.as_fd(), &1_u64.to_ne_bytes());
        }
    }

    /// Moves all wakes that came from afar to the run queue.
    pub(crate) fn drain(&self, queue: &RunQueue) {
        let ids = std::mem::take(&mut *lock(&self.queue));
        for id in ids {
            queue.push(id);
        }
    }
}

static REGISTRY: Mutex<Vec<Option<Arc<Remote>>>> = Mutex::new(Vec::new());

fn registry() -> MutexGuard<'static, Vec<Option<Arc<Remote>>>> {
    lock(&REGISTRY)
}

/// A panic while one of these locks is held leaves nothing half-done, so poison is passed over.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime's number in this process and the door through which other threads wake it.
pub(crate) struct Registration {
    pub(crate) worker: u16,
    pub(crate) remote: Arc<Remote>,
}

impl Registration {
    /// `None` if 4,096 runtimes live already.
    pub(crate) fn new(eventfd: Option<OwnedFd>) -> Option<Self> {
        let remote = Arc::new(Remote { queue: Mutex::new(Vec::new()), eventfd });
        let mut registry = registry();
        let worker = match registry.iter().position(Option::is_none) {
            Some(worker) => worker,
            None if registry.len() < WORKERS_MAX => {
                registry.push(None);
                registry.len() - 1
            }
            None => return None,
        };
        registry[worker] = Some(remote.clone());
        Some(Self { worker: worker as u16, remote })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        registry()[self.worker as usize] = None;
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    fn world() -> (Registration, Rc<RunQueue>, Tasks) {
        let registration = Registration::new(None).expect("few runtimes live in a test");
        let queue = Rc::new(RunQueue::new(registration.worker));
        let tasks = Tasks::new(registration.worker);
        (registration, queue, tasks)
    }

    fn idle() -> TaskFuture {
        Box::pin(std::future::pending())
    }

    fn polled(tasks: &Tasks, queue: &RunQueue, turn: u32) -> Vec<TaskId> {
        let mut ids = Vec::new();
        while let Next::Poll(id, future) = tasks.next(queue, turn) {
            ids.push(id);
            tasks.put_back(id, future);
        }
        ids
    }

    #[test]
    fn a_task_is_polled_once_for_many_wakes_and_once_a_turn() {
        let (_registration, queue, tasks) = world();
        let _entered = enter(queue.clone());
        let first = tasks.insert(&queue, 1, idle());
        let second = tasks.insert(&queue, 1, idle());
        assert_eq!(polled(&tasks, &queue, 1), [first, second]);
        for _ in 0..3 {
            second.waker().wake_by_ref();
            first.waker().wake();
        }
        assert_eq!(polled(&tasks, &queue, 1), [], "each was polled in this turn");
        assert!(!queue.is_empty());
        assert_eq!(polled(&tasks, &queue, 2), [second, first]);
    }

    #[test]
    fn the_next_user_of_a_queued_slot_is_polled() {
        let (_registration, queue, tasks) = world();
        let _entered = enter(queue.clone());
        let first = tasks.insert(&queue, 1, idle());
        // Still queued when it is removed.
        drop(tasks.remove(first));
        let second = tasks.insert(&queue, 1, idle());
        assert_eq!(second.index(), first.index());
        assert_ne!(second, first);
        assert_eq!(polled(&tasks, &queue, 1), [second]);
        // A stale waker polls the new one for nothing; it takes nothing away.
        first.waker().wake();
        assert_eq!(polled(&tasks, &queue, 2), [second]);
        assert!(tasks.remove(first).is_none());
        assert_eq!(tasks.live(), 1);
    }

    #[test]
    fn wakes_find_their_worker_from_anywhere() {
        let (registration, queue, tasks) = world();
        let id = tasks.insert(&queue, 1, idle());
        assert_eq!(polled(&tasks, &queue, 1), [id]);
        let waker = id.waker();
        let other = waker.clone();
        assert!(waker.will_wake(&other));
        std::thread::spawn(move || {
            for _ in 0..100 {
                other.wake_by_ref();
            }
        })
        .join()
        .expect("it only wakes");
        assert!(lock(&registration.remote.queue).len() == 1, "the same wake waits once");
        registration.remote.drain(&queue);
        assert_eq!(polled(&tasks, &queue, 2), [id]);
        // Main's wake is a flag of its own.
        assert!(queue.take_main(), "a new queue polls main first");
        TaskId::main(registration.worker).waker().wake();
        registration.remote.drain(&queue);
        assert!(queue.take_main());
        drop(registration);
        waker.wake();
    }

    #[test]
    fn a_name_keeps_its_parts() {
        for (worker, generation, index) in
            [(0, 0, 0), (4_095, (1 << GENERATION_BITS) - 1, MAIN_INDEX - 1), (7, 1, 2)]
        {
            let id = TaskId::new(worker, generation, index);
            assert_eq!((id.worker(), id.generation(), id.index()), (worker, generation, index));
            assert!(!id.is_main());
        }
        assert!(TaskId::main(9).is_main());
        // A generation that wraps stays in its bits.
        assert_eq!(TaskId::new(1, 1 << GENERATION_BITS, 5), TaskId::new(1, 0, 5));
    }
}
