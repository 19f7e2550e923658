//! Makes request ids: 32 hexadecimal digits, unique without a system call per id.
//!
//! Before: a request came without a valid `X-Request-Id`. After: the id goes to the upstream and
//! into the access log. An id identifies; it is no secret and must not be used as one.

use std::hash::{BuildHasher, RandomState};

/// A worker's source of request ids.
///
/// The first half is random per maker and keeps makers apart; the second is a counter from a random
/// start through a bijection, so that one maker never repeats itself and ids sort like noise.
#[derive(Debug)]
pub struct RequestIdMaker {
    maker: u64,
    next: u64,
}

impl RequestIdMaker {
    /// A maker from the process's own randomness (the kernel's, by way of std's hash seeds).
    pub fn new() -> Self {
        let randomness = RandomState::new();
        Self::seeded(randomness.hash_one(0_u8), randomness.hash_one(1_u8))
    }

    /// A maker whose ids follow from its seed, for simulations.
    pub fn seeded(maker: u64, start: u64) -> Self {
        Self { maker, next: start }
    }

    /// The next id, in lower-case hexadecimal digits.
    #[inline]
    pub fn make(&mut self) -> [u8; 32] {
        self.next = self.next.wrapping_add(1);
        let mut id = [0; 32];
        write_hex(&mut id[..16], self.maker);
        write_hex(&mut id[16..], mix(self.next));
        id
    }
}

impl Default for RequestIdMaker {
    fn default() -> Self {
        Self::new()
    }
}

fn write_hex(out: &mut [u8], value: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (two, byte) in out.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// SplitMix64's finaliser, a bijection on 64 bits (G. Steele and others, OOPSLA 2014).
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_32_lower_case_hexadecimal_digits() {
        let id = RequestIdMaker::new().make();
        assert!(id.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')), "{id:?}");
        assert_eq!(
            &RequestIdMaker::seeded(0xab, u64::MAX).make(),
            b"00000000000000ab0000000000000000"
        );
    }

    #[test]
    fn ids_do_not_repeat_within_or_across_makers() {
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let mut maker = RequestIdMaker::new();
            for _ in 0..20_000 {
                assert!(seen.insert(maker.make()));
            }
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_ids() {
        let (mut one, mut other) = (RequestIdMaker::seeded(1, 2), RequestIdMaker::seeded(1, 2));
        for _ in 0..10 {
            assert_eq!(one.make(), other.make());
        }
    }
}
