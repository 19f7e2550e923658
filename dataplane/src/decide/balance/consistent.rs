//! Where the keys of requests lead, so that few lead elsewhere when endpoints come and go: a hash ring,
//! and Maglev's table.
//!
//! Before: a snapshot says so of a cluster. A table is built once per process, off the workers, and
//! shared by them. After: a choice walks it from the request's key on. The same endpoints make the same
//! table on every proxy, whatever their order.
//!
//! Sources: D. Karger and others, "Consistent Hashing and Random Trees", STOC 1997; D. Eisenbud and
//! others, "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4.

use std::net::{IpAddr, SocketAddr};

use lateen_snapshot::model::{Balancing, Cluster};
use twox_hash::XxHash64;

use super::mix;
use crate::limits::{
    MAGLEV_ENTRIES_LEAST, MAGLEV_ENTRIES_MAX, MAGLEV_PER_ENDPOINT, RING_POINTS, RING_POINTS_MAX,
};

/// Where keys lead.
#[derive(Debug)]
pub struct Table(Kind);

#[derive(Debug)]
enum Kind {
    Ring(Ring),
    Maglev(Box<[u32]>),
}

impl Table {
    /// The table of a cluster; `None`: it is not balanced by keys, or has no endpoint.
    ///
    /// Cost: up to a second for the largest, so never on a worker.
    pub fn of(cluster: &Cluster) -> Option<Self> {
        if cluster.endpoints.is_empty() {
            return None;
        }
        match &cluster.balancing {
            Balancing::RingHash(_) => Some(Self(Kind::Ring(Ring::of(cluster)))),
            Balancing::Maglev(_) => Some(Self(Kind::Maglev(maglev(cluster)))),
            Balancing::LeastRequest
            | Balancing::RoundRobin
            | Balancing::Random
            | Balancing::PeakEwma(_) => None,
        }
    }

    /// The endpoints of a key in the order in which they are to be tried, the same again and again. Some
    /// may come several times, and it never ends.
    #[inline]
    pub(super) fn walk(&self, key: u64) -> Walk<'_> {
        let at = match &self.0 {
            Kind::Ring(ring) => ring.position(key) as u64,
            Kind::Maglev(_) => key,
        };
        Walk { table: self, at }
    }
}

/// See [`Table::walk`].
pub(super) struct Walk<'t> {
    table: &'t Table,
    /// Position on the ring, or a key.
    at: u64,
}

impl Iterator for Walk<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        Some(match &self.table.0 {
            Kind::Ring(ring) => {
                let index = ring.endpoints[self.at as usize];
                self.at += 1;
                if self.at as usize == ring.endpoints.len() {
                    self.at = 0;
                }
                index
            }
            Kind::Maglev(entries) => {
                let index = entries[(self.at % entries.len() as u64) as usize];
                // Of 0 it is 0.
                self.at = mix(self.at.wrapping_add(1));
                index
            }
        })
    }
}

/// Points of all endpoints, in the order of their hashes.
#[derive(Debug)]
struct Ring {
    hashes: Box<[u64]>,
    /// Beside them.
    endpoints: Box<[u32]>,
    /// Where the hashes with given highest bits begin: a search looks only between two of these.
    starts: Box<[u32]>,
    /// How many bits those are.
    start_bits: u32,
}

impl Ring {
    fn of(cluster: &Cluster) -> Self {
        let weight_of = |index: usize| cluster.weights.get(index).copied().unwrap_or(1);
        let total: u64 =
            (0..cluster.endpoints.len()).map(|index| u64::from(weight_of(index))).sum();
        // Halved until all fit, so that a change of some endpoints rarely changes the points of others.
        let mut per_weight = RING_POINTS;
        while per_weight > 1 && total * u64::from(per_weight) > RING_POINTS_MAX as u64 {
            per_weight /= 2;
        }
        let mut points = Vec::new();
        for (index, endpoint) in cluster.endpoints.iter().enumerate() {
            let bytes = address_bytes(endpoint.address);
            let wanted = u64::from(weight_of(index)) * u64::from(per_weight);
            // Weights alone may be more than there is room for: then each has its share of it.
            let share = (u128::from(wanted) * RING_POINTS_MAX as u128)
                / u128::from((total * u64::from(per_weight)).max(RING_POINTS_MAX as u64));
            for point in 0..(share as u64).max(1) {
                points.push((XxHash64::oneshot(point, &bytes), index as u32));
            }
        }
        points.sort_unstable_by_key(|(hash, index)| {
            (*hash, address_bytes(cluster.endpoints[*index as usize].address))
        });
        let (hashes, endpoints): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
        let start_bits = hashes.len().ilog2();
        let starts = (0..=1_u64 << start_bits)
            .map(|high| {
                let least = high.checked_shl(64 - start_bits).unwrap_or(0);
                match high >> start_bits {
                    0 => hashes.partition_point(|hash| *hash < least) as u32,
                    _ => hashes.len() as u32,
                }
            })
            .collect();
        Self { hashes: hashes.into(), endpoints: endpoints.into(), starts, start_bits }
    }

    /// The first point that is not before the key.
    #[inline]
    fn position(&self, key: u64) -> usize {
        let high = key.checked_shr(64 - self.start_bits).unwrap_or(0) as usize;
        let (from, to) = (self.starts[high] as usize, self.starts[high + 1] as usize);
        let at = from + self.hashes[from..to].partition_point(|hash| *hash < key);
        if at == self.hashes.len() { 0 } else { at }
    }
}

/// Endpoints fill the table in turn, each by a permutation of its own; the heavier has more turns.
fn maglev(cluster: &Cluster) -> Box<[u32]> {
    struct Filler {
        next: u64,
        skip: u64,
        weight: u64,
        /// Turns that it is owed, in units of the greatest weight.
        owed: u64,
        index: u32,
    }
    const FREE: u32 = u32::MAX;
    let count = cluster.endpoints.len();
    let size = maglev_entries(count);
    let mut fillers: Vec<(Vec<u8>, Filler)> = cluster
        .endpoints
        .iter()
        .enumerate()
        .map(|(index, endpoint)| {
            let bytes = address_bytes(endpoint.address);
            let filler = Filler {
                next: XxHash64::oneshot(0, &bytes) % size,
                skip: XxHash64::oneshot(1, &bytes) % (size - 1) + 1,
                weight: u64::from(cluster.weights.get(index).copied().unwrap_or(1)),
                owed: 0,
                index: index as u32,
            };
            (bytes, filler)
        })
        .collect();
    fillers.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let greatest = fillers.iter().map(|(_, filler)| filler.weight).max().unwrap_or(1);
    let mut entries = vec![FREE; size as usize];
    let mut free = size;
    loop {
        for (_, filler) in &mut fillers {
            filler.owed += filler.weight;
            if filler.owed < greatest {
                continue;
            }
            filler.owed -= greatest;
            while entries[filler.next as usize] != FREE {
                filler.next = (filler.next + filler.skip) % size;
            }
            entries[filler.next as usize] = filler.index;
            free -= 1;
            if free == 0 {
                return entries.into();
            }
        }
    }
}

/// A prime of at least [`MAGLEV_PER_ENDPOINT`] entries for each endpoint. It is the same for many counts:
/// in a table of another size nearly every key leads elsewhere.
fn maglev_entries(endpoints: usize) -> u64 {
    let rounded = (endpoints as u64).next_power_of_two();
    let least = rounded.saturating_mul(MAGLEV_PER_ENDPOINT).max(MAGLEV_ENTRIES_LEAST);
    if least >= MAGLEV_ENTRIES_MAX {
        return MAGLEV_ENTRIES_MAX;
    }
    let is_prime =
        |number: &u64| (2..).take_while(|n| n * n <= *number).all(|n| !number.is_multiple_of(n));
    (least..=MAGLEV_ENTRIES_MAX).find(is_prime).unwrap_or(MAGLEV_ENTRIES_MAX)
}

/// Of an address, the same on every proxy.
pub(super) fn address_hash(address: SocketAddr) -> u64 {
    XxHash64::oneshot(0, &address_bytes(address))
}

fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

#[cfg(test)]
#[path = "consistent_tests.rs"]
mod tests;
