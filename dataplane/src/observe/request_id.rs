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
    /// The maker's half of every id, as digits.
    maker: [u8; 16],
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
        Self { maker: hex_digits(maker), next: start }
    }

    /// The next id, in lower-case hexadecimal digits.
    #[inline]
    pub fn make(&mut self) -> [u8; 32] {
        self.next = self.next.wrapping_add(1);
        let mut id = [0; 32];
        id[..16].copy_from_slice(&self.maker);
        id[16..].copy_from_slice(&hex_digits(mix(self.next)));
        id
    }
}

impl Default for RequestIdMaker {
    fn default() -> Self {
        Self::new()
    }
}

/// Sixteen lower-case digits, eight at a time: a nibble to each byte, then `0` added, and what lies
/// between `9` and `a` where the nibble exceeds 9.
#[inline]
fn hex_digits(value: u64) -> [u8; 16] {
    let eight_digits = |half: u64| {
        let spread = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let nibbles = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        let gap = u64::from(b'a' - b'9' - 1);
        (nibbles + 0x3030_3030_3030_3030 + letters * gap).to_be_bytes()
    };
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&eight_digits(value >> 32));
    digits[8..].copy_from_slice(&eight_digits(value & 0xffff_ffff));
    digits
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
    fn digits_are_as_the_standard_library_formats_them() {
        for value in (0..64).map(|shift| 0xfedc_ba98_7654_3210_u64.rotate_left(shift)) {
            assert_eq!(hex_digits(value), *format!("{value:016x}").as_bytes());
        }
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
