//! Tests of the buffer pool; they run under Miri too.

use super::*;

const BYTES: usize = 4_096;

fn published(pool: &Pool) -> u16 {
    pool.inner.borrow().ring.as_ref().map_or(0, |ring| ring.published)
}

/// Plays the kernel: takes the oldest published buffer and fills it.
struct Kernel {
    head: u16,
}

impl Kernel {
    fn fill(&mut self, pool: &Rc<Pool>, byte: u8) -> Lease {
        let (address, index) = {
            let inner = pool.inner.borrow();
            let ring = inner.ring.as_ref().expect("made before");
            assert_ne!(self.head, ring.tail, "a published buffer is left");
            let slot = usize::from(self.head & ring.mask);
            let base = ring.entries.start.cast::<BufRingEntry>();
            // SAFETY: the slot lies inside the array.
            let entry = unsafe { base.add(slot) };
            // SAFETY: an entry before the tail was written by `publish`.
            let entry = unsafe { entry.as_ref() };
            assert_eq!(entry.len() as usize, BYTES);
            (entry.addr(), entry.bid())
        };
        assert_eq!(address, pool.address(index), "the entry names its buffer's place");
        self.head = self.head.wrapping_add(1);
        let mut lease = pool.consumed(index, BYTES);
        lease.writable().fill(byte);
        lease
    }
}

#[test]
fn leases_are_disjoint_and_return() {
    let pool = Pool::new(BYTES, 4).expect("memory");
    let mut leases: Vec<_> = (0..4).map(|_| pool.take().expect("four")).collect();
    assert!(pool.take().is_none());
    assert_eq!((pool.leased(), pool.available()), (4, 0));
    for (value, lease) in leases.iter_mut().enumerate() {
        lease.writable().fill(value as u8 + 1);
    }
    for (value, lease) in leases.iter().enumerate() {
        assert!(lease.len() == BYTES && lease.iter().all(|&byte| byte == value as u8 + 1));
    }
    drop(leases);
    assert_eq!((pool.leased(), pool.available()), (0, 4));
}

#[test]
fn a_lease_shows_what_is_left_of_it() {
    let pool = Pool::new(BYTES, 1).expect("memory");
    let mut lease = pool.take().expect("one");
    lease.writable()[..5].copy_from_slice(b"abcde");
    lease.truncate(5);
    lease.truncate(50);
    lease.advance(2);
    assert_eq!(&lease[..], b"cde");
    lease.truncate(2);
    assert_eq!(&lease[..], b"cd");
    lease.advance(2);
    assert!(lease.is_empty());
    drop(lease);
    // The next one has the whole buffer again.
    assert_eq!(pool.take().expect("returned").len(), BYTES);
}

#[test]
fn a_lease_keeps_its_memory_when_the_pool_is_let_go() {
    let pool = Pool::new(BYTES, 1).expect("memory");
    let mut lease = pool.take().expect("one");
    drop(pool);
    lease.writable().fill(9);
    assert!(lease.iter().all(|&byte| byte == 9));
}

#[test]
fn the_kernel_gets_each_buffer_once_whatever_returns_when() {
    let pool = Pool::new(BYTES, 8).expect("memory");
    pool.make_ring(4).expect("memory");
    assert!(pool.replenish());
    assert_eq!(published(&pool), 4);
    let mut kernel = Kernel { head: 0 };
    let mut held = std::collections::VecDeque::new();
    // More rounds than the array has entries, so that it wraps, and 16 bits too.
    let rounds = if cfg!(miri) { 200 } else { 70_000 };
    for round in 0..rounds {
        let byte = round as u8;
        held.push_back((byte, kernel.fill(&pool, byte)));
        if held.len() > (round * 7) % 4 {
            let (byte, lease) = held.pop_front().expect("just pushed");
            assert!(lease[0] == byte && lease[BYTES - 1] == byte, "overwritten while lent");
        }
        let open = usize::from(published(&pool)) + usize::from(pool.leased());
        assert!(open + pool.inner.borrow().free.len() <= 8);
    }
    held.clear();
    assert_eq!(pool.leased(), 0);
}

#[test]
fn grows_when_it_ran_dry_and_shrinks_to_what_it_began_with() {
    let pool = Pool::new(BYTES, 16).expect("memory");
    pool.make_ring(2).expect("memory");
    pool.replenish();
    let mut kernel = Kernel { head: 0 };
    assert!(!pool.has_grown());
    for target in [4, 8, 16, 16] {
        pool.grow();
        pool.replenish();
        assert_eq!(published(&pool), target);
    }
    assert!(pool.has_grown());
    let lease = kernel.fill(&pool, 7);
    // While the kernel may be picking, nothing is taken back.
    pool.shrink(false);
    assert_eq!(published(&pool), 15);
    pool.grow();
    pool.shrink(true);
    assert!(!pool.has_grown());
    assert_eq!(published(&pool), 2);
    assert!(lease.iter().all(|&byte| byte == 7), "a lease keeps its bytes");
    drop(lease);
    // What the kernel sees from now on is whole.
    for round in 0..40 {
        assert!(kernel.fill(&pool, round).iter().all(|&byte| byte == round));
    }
}

#[test]
fn a_burst_without_a_ring_gives_its_memory_back_once() {
    let pool = Pool::new(BYTES, 256).expect("memory");
    let calm: Vec<_> = (0..WARM_MAX).map(|_| pool.take().expect("free")).collect();
    drop(calm);
    assert!(!pool.has_grown(), "a few warm buffers are worth their memory");
    let burst: Vec<_> = (0..256)
        .map(|_| {
            let mut lease = pool.take().expect("free");
            lease.writable().fill(1);
            lease
        })
        .collect();
    drop(burst);
    assert!(pool.has_grown());
    pool.shrink(true);
    assert!(!pool.has_grown());
    let mut again = pool.take().expect("free");
    assert!(again.writable().iter().all(|&byte| byte == 0), "its pages were let go");
    drop(again);
    assert!(!pool.has_grown(), "one warm buffer is no burst");
}
