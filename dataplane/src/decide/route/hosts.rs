//! Host names to what belongs to them: exact names first, then suffixes from the longest to the
//! shortest, then what is for any host.
//!
//! Before it: the authority of a request, in any case. After it: a listener's table, or a table's
//! rules. Nothing is copied or put in lower case: hashing and comparing set bit 5 of every byte on the
//! way, which makes both cases of a letter the same. Of the bytes that the codec lets stand in an
//! authority (RFC 3986 §3.2.2) it makes no other two the same.

use lateen_snapshot::model::HostPattern;

/// The port that a plaintext authority without one means (RFC 9110 §4.2.1).
const PORT_IF_NONE: u16 = 80;

/// Takes a valid authority apart: the host without a dot at its end, which means the same, and the
/// digits of its port, if it has one. An IP literal keeps its brackets.
#[inline]
pub fn split_authority(authority: &[u8]) -> (&[u8], &[u8]) {
    let mut digits_at = authority.len();
    while digits_at > 0 && authority[digits_at - 1].is_ascii_digit() {
        digits_at -= 1;
    }
    let (before, digits) = authority.split_at(digits_at);
    let (host, digits) = match before {
        [host @ .., b':'] => (host, digits),
        _ => (authority, &b""[..]),
    };
    match host {
        [name @ .., b'.'] if !name.is_empty() => (name, digits),
        _ => (host, digits),
    }
}

/// The port of [`split_authority`]'s digits.
#[inline(never)] // unrolled into its callers it takes their registers
pub(super) fn port_of(digits: &[u8]) -> u16 {
    let digit = |port: u16, byte: &u8| port.wrapping_mul(10).wrapping_add(u16::from(byte - b'0'));
    if digits.is_empty() { PORT_IF_NONE } else { digits.iter().fold(0, digit) }
}

/// Values by host pattern.
#[derive(Debug)]
pub(super) struct HostIndex<T> {
    exact: Names<T>,
    suffixes: Names<T>,
    /// The lengths of all suffixes, longest first, each once.
    suffix_lengths: Box<[u32]>,
    any: Option<T>,
}

impl<T: Copy> HostIndex<T> {
    /// Of two entries of the same pattern the first counts.
    pub(super) fn build<'s>(entries: impl IntoIterator<Item = (&'s HostPattern, T)>) -> Self {
        let (mut exact, mut suffixes, mut any) = (Vec::new(), Vec::new(), None);
        for (pattern, value) in entries {
            match pattern {
                HostPattern::Any => any = any.or(Some(value)),
                HostPattern::Exact(host) => exact.push((&**host, value)),
                HostPattern::Suffix(suffix) => suffixes.push((&**suffix, value)),
            }
        }
        let mut suffix_lengths: Vec<u32> =
            suffixes.iter().map(|(suffix, _)| suffix.len() as u32).collect();
        suffix_lengths.sort_unstable_by(|a, b| b.cmp(a));
        suffix_lengths.dedup();
        Self {
            exact: Names::build(&exact),
            suffixes: Names::build(&suffixes),
            suffix_lengths: suffix_lengths.into(),
            any,
        }
    }

    /// What every host gets, if it is the same.
    pub(super) fn only_any(&self) -> Option<T> {
        self.any.filter(|_| self.exact.is_empty() && self.suffixes.is_empty())
    }

    /// Offers the values for a host, the most specific first, until one is taken.
    #[inline]
    pub(super) fn find_map<R>(
        &self,
        host: &[u8],
        mut take: impl FnMut(&T) -> Option<R>,
    ) -> Option<R> {
        if let Some(taken) = self.exact.get(host).and_then(&mut take) {
            return Some(taken);
        }
        for &length in &self.suffix_lengths {
            // At least one byte of a label stands before the suffix, which begins with its dot.
            let Some(start) = host.len().checked_sub(length as usize).filter(|&at| at > 0) else {
                continue;
            };
            if host[start] == b'.'
                && let Some(taken) = self.suffixes.get(&host[start..]).and_then(&mut take)
            {
                return Some(taken);
            }
        }
        self.any.as_ref().and_then(take)
    }
}

/// A hash table from lower-case names to values, asked in any case. Open addressing, at most half
/// full; only config decides what stands in it, so that a client can't make its chains long.
#[derive(Debug)]
struct Names<T> {
    /// All names, bit 5 of every byte set, one behind the other.
    text: Box<[u8]>,
    entries: Box<[Entry<T>]>,
    /// Positions in `entries`, counted from 1; 0 is free. A power of two of them.
    slots: Box<[u32]>,
}

#[derive(Debug)]
struct Entry<T> {
    hash: u32,
    start: u32,
    end: u32,
    value: T,
}

impl<T: Copy> Names<T> {
    fn build(names: &[(&str, T)]) -> Self {
        let mut text = Vec::with_capacity(names.iter().map(|(name, _)| name.len()).sum());
        let mut entries = Vec::with_capacity(names.len());
        for (name, value) in names {
            let start = text.len() as u32;
            text.extend(name.bytes().map(|byte| byte | 0x20));
            let hash = fold_hash(name.as_bytes());
            entries.push(Entry { hash, start, end: text.len() as u32, value: *value });
        }
        let count = if entries.is_empty() { 0 } else { (entries.len() * 2).next_power_of_two() };
        let mut slots = vec![0; count].into_boxed_slice();
        for (index, entry) in entries.iter().enumerate() {
            let mut at = entry.hash as usize & (count - 1);
            while slots[at] != 0 {
                at = (at + 1) & (count - 1);
            }
            slots[at] = index as u32 + 1;
        }
        Self { text: text.into(), entries: entries.into(), slots }
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[inline]
    fn get(&self, name: &[u8]) -> Option<&T> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = fold_hash(name);
        let mut at = hash as usize;
        loop {
            at &= self.slots.len() - 1;
            let index = self.slots[at].checked_sub(1)?;
            let entry = &self.entries[index as usize];
            if entry.hash == hash
                && equals_folded(name, &self.text[entry.start as usize..entry.end as usize])
            {
                return Some(&entry.value);
            }
            at += 1;
        }
    }
}

/// Bit 5 of every byte.
const FOLD: u64 = u64::from_ne_bytes([0x20; 8]);

/// A hash that is the same for both cases of a letter. The last eight bytes may overlap the word
/// before: still a function of the name.
#[inline]
fn fold_hash(name: &[u8]) -> u32 {
    // The multiplier of FxHash: odd, with bits all over.
    const SPREAD: u64 = 0x517c_c1b7_2722_0a95;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ (word | FOLD)).wrapping_mul(SPREAD);
    let mut hash = name.len() as u64;
    for word in name.as_chunks::<8>().0 {
        hash = mix(hash, u64::from_ne_bytes(*word));
    }
    (mix(hash, last_word(name)) >> 32) as u32
}

/// Whether a name in any case equals one that is folded.
#[inline]
fn equals_folded(name: &[u8], folded: &[u8]) -> bool {
    let same = |name: u64, folded: u64| (name | FOLD) == (folded | FOLD);
    let (words, folded_words) = (name.as_chunks::<8>().0, folded.as_chunks::<8>().0);
    let word = u64::from_ne_bytes;
    name.len() == folded.len()
        && words.iter().zip(folded_words).all(|(a, b)| same(word(*a), word(*b)))
        && same(last_word(name), last_word(folded))
}

/// The last eight bytes as a word.
#[inline]
fn last_word(bytes: &[u8]) -> u64 {
    bytes.last_chunk::<8>().map_or_else(|| short_word(bytes), |last| u64::from_ne_bytes(*last))
}

/// Fewer than eight bytes as a word, filled up with zeros.
#[inline]
pub(super) fn short_word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_host_and_port() {
        for (authority, host, port) in [
            ("example.com", "example.com", 80),
            ("example.com:8080", "example.com", 8080),
            ("Example.COM.", "Example.COM", 80),
            ("example.com.:81", "example.com", 81),
            ("10.0.0.1", "10.0.0.1", 80),
            ("10.0.0.1:9", "10.0.0.1", 9),
            ("[::1]", "[::1]", 80),
            ("[::1]:443", "[::1]", 443),
            ("[::1]:80", "[::1]", 80),
            ("8080", "8080", 80),
            (".", ".", 80),
            ("", "", 80),
            ("a:65535", "a", 65_535),
            ("a.1", "a.1", 80),
        ] {
            let (own, digits) = split_authority(authority.as_bytes());
            assert_eq!((own, port_of(digits)), (host.as_bytes(), port), "{authority}");
        }
    }

    #[test]
    fn folding_takes_letters_and_nothing_else_of_a_host_for_the_same() {
        let others = b"-._~!$&'()*+,;=%:[]0123456789";
        let bytes = || (b'a'..=b'z').chain(b'A'..=b'Z').chain(others.iter().copied());
        for (a, b) in bytes().flat_map(|a| bytes().map(move |b| (a, b))) {
            for pad in [0, 3, 7, 8, 15, 20] {
                let (mut name, mut folded) = (vec![b'x'; pad], vec![b'x'; pad]);
                name.push(a);
                folded.push(b | 0x20);
                let same = a.eq_ignore_ascii_case(&b);
                assert_eq!(equals_folded(&name, &folded), same, "{a} {b} {pad}");
                assert!(!same || fold_hash(&name) == fold_hash(&folded), "{a} {b} {pad}");
            }
        }
    }
}
