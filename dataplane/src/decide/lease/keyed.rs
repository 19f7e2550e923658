//! A rate for each key, such as each client, within bounded memory.
//!
//! Before: a request has a key, of which only a hash is kept. After: its key's own bucket lends to the
//! worker that asks. Where all places are taken, a key whose bucket is full again gives way: to forget a
//! full bucket and make a full one anew is the same, so that nobody gains by being forgotten. While there
//! is no such key, all that are new share one bucket, and none of them takes anything from who has one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::rate::flow::Promise;
use super::rate::{Bucket, Lease, Rate};

/// So many buckets at most are looked at for a full one.
const LOOKS_MAX: usize = 64;

/// The buckets of all keys of a limit, for all workers.
#[derive(Debug)]
pub struct KeyedBuckets {
    rate: Rate,
    /// How many keys have a bucket of their own, at the most.
    keys_max: usize,
    by_key: HashMap<u64, u32, Hashed>,
    places: Vec<(u64, Bucket)>,
    /// One entry for each place: when its bucket was last known to be full again. It may be later, never
    /// sooner.
    full_at: BinaryHeap<Reverse<(u64, u32)>>,
    overflow: Bucket,
}

/// Whose bucket lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lender {
    /// The key's own.
    Own,
    /// The one that keys without a place share.
    Overflow,
}

impl KeyedBuckets {
    /// None yet.
    pub fn new(rate: Rate, keys_max: usize, now_ns: u64) -> Self {
        Self {
            rate,
            keys_max,
            by_key: HashMap::default(),
            places: Vec::new(),
            full_at: BinaryHeap::new(),
            overflow: Bucket::full(&rate, now_ns),
        }
    }

    /// As [`Bucket::lend`], from the bucket of `key`: a hash that nobody can foresee.
    ///
    /// Cost: a look-up; for a new key also a step for each change since a key last had to give way.
    pub fn lend(&mut self, key: u64, lease: &mut Lease, size: u64, now_ns: u64) -> Lender {
        let rate = self.rate;
        match self.place_of(key, now_ns) {
            Some(place) => {
                self.places[place as usize].1.lend(lease, &rate, size, now_ns);
                Lender::Own
            }
            None => {
                *lease = Lease::default();
                self.overflow.lend(lease, &rate, 1, now_ns);
                Lender::Overflow
            }
        }
    }

    /// As [`Bucket::draw`], likewise.
    pub fn draw(
        &mut self,
        key: u64,
        lease: &mut Lease,
        most: u64,
        size: u64,
        now_ns: u64,
    ) -> (Promise, Lender) {
        let rate = self.rate;
        match self.place_of(key, now_ns) {
            Some(place) => {
                let bucket = &mut self.places[place as usize].1;
                (bucket.draw(lease, &rate, most, size, now_ns), Lender::Own)
            }
            None => {
                *lease = Lease::default();
                (self.overflow.draw(lease, &rate, most, 0, now_ns), Lender::Overflow)
            }
        }
    }

    /// As [`Bucket::take`], likewise.
    pub fn take(&mut self, key: u64, most: u64, now_ns: u64) -> u64 {
        let rate = self.rate;
        match self.place_of(key, now_ns) {
            Some(place) => self.places[place as usize].1.take(&rate, most, now_ns),
            None => self.overflow.take(&rate, most, now_ns),
        }
    }

    /// As [`Bucket::put_back`], likewise.
    pub fn put_back(&mut self, key: u64, bytes: u64, now_ns: u64) {
        let bucket = match self.by_key.get(&key) {
            Some(place) => &mut self.places[*place as usize].1,
            None => &mut self.overflow,
        };
        bucket.put_back(&self.rate, bytes, now_ns);
    }

    /// Takes back what is left of a worker's lease from the bucket of `key`.
    pub fn take_back(&mut self, key: u64, lease: &mut Lease, now_ns: u64) {
        let bucket = match self.by_key.get(&key) {
            Some(place) => &mut self.places[*place as usize].1,
            None => &mut self.overflow,
        };
        bucket.take_back(lease, &self.rate, now_ns);
    }

    /// The limit is another now: what is there stays.
    pub fn change(&mut self, rate: Rate, keys_max: usize, now_ns: u64) {
        self.keys_max = keys_max;
        if rate == self.rate {
            return;
        }
        for (_, bucket) in &mut self.places {
            bucket.change(&self.rate, &rate, now_ns);
        }
        self.overflow.change(&self.rate, &rate, now_ns);
        self.rate = rate;
        let full_at = self.places.iter().zip(0..);
        self.full_at = full_at
            .map(|((_, bucket), place)| Reverse((bucket.full_at_ns(&rate), place)))
            .collect();
    }

    /// How many keys have a bucket of their own.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// The bucket from which `key` is lent.
    pub fn bucket_of(&self, key: u64) -> &Bucket {
        match self.by_key.get(&key) {
            Some(place) => &self.places[*place as usize].1,
            None => &self.overflow,
        }
    }

    fn place_of(&mut self, key: u64, now_ns: u64) -> Option<u32> {
        if let Some(place) = self.by_key.get(&key) {
            return Some(*place);
        }
        let bucket = Bucket::full(&self.rate, now_ns);
        let place = match self.places.len() < self.keys_max {
            true => {
                self.places.push((key, bucket));
                (self.places.len() - 1) as u32
            }
            false => {
                let place = self.pop_full(now_ns)?;
                let gone = std::mem::replace(&mut self.places[place as usize], (key, bucket));
                self.by_key.remove(&gone.0);
                place
            }
        };
        self.full_at.push(Reverse((now_ns, place)));
        self.by_key.insert(key, place);
        Some(place)
    }

    /// A place whose bucket is full, which has no entry of its own any more. Others wait meanwhile: it looks
    /// at a few only, and the next time at others, for those it has seen come later then.
    fn pop_full(&mut self, now_ns: u64) -> Option<u32> {
        for _ in 0..LOOKS_MAX {
            let Reverse((known_ns, place)) = *self.full_at.peek()?;
            if known_ns > now_ns {
                return None;
            }
            self.full_at.pop();
            let full_at_ns = self.places[place as usize].1.full_at_ns(&self.rate);
            if full_at_ns <= now_ns {
                return Some(place);
            }
            self.full_at.push(Reverse((full_at_ns, place)));
        }
        None
    }
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed;

impl std::hash::BuildHasher for Hashed {
    type Hasher = Same;

    fn build_hasher(&self) -> Same {
        Same(0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Same(u64);

impl std::hash::Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("a key is a u64");
    }
}
