//! By what of a request a limit counts.
//!
//! Before: the limit of a request's route has a key. After: a hash of the request's part finds the bucket
//! that it is counted in. The hasher is one for all workers, and nobody outside knows its seed.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use lateen_snapshot::limits::TRUSTED_HOPS_MAX;
use lateen_snapshot::model::rate_limit::{LimitKey, SourcePrefix};

use crate::decide::request_parts::cookie_value;
use crate::decide::route::RequestView;
use crate::decide::route::hosts::split_authority;

/// Who is connected.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'c> {
    /// Its address.
    pub ip: IpAddr,
    /// Of its worker.
    pub hashed: &'c PeerHashes,
}

/// What networks hash to, for the peers that were asked for last: a peer asks with each of its requests.
#[derive(Debug, Default)]
pub struct PeerHashes([Cell<Option<PeerHash>>; PEERS]);

type PeerHash = (IpAddr, SourcePrefix, u64);

/// A power of two.
const PEERS: usize = 32;

impl PeerHashes {
    /// That of one: `find` says it, where it is not known.
    #[inline]
    fn of(&self, ip: IpAddr, prefix: SourcePrefix, find: impl FnOnce() -> u64) -> u64 {
        let low = match ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[7] ^ ip.octets()[15],
        };
        let place = &self.0[usize::from(low) % PEERS];
        if let Some((known, of, hash)) = place.get()
            && known == ip
            && of == prefix
        {
            return hash;
        }
        let hash = find();
        place.set(Some((ip, prefix, hash)));
        hash
    }
}

/// The hash of a request's part; of a connection that is not HTTP, which has no head. All that have no
/// such part have the same. `seeded` is the same for all who ask about a peer.
pub fn hash_of_part(
    key: &LimitKey,
    view: Option<&RequestView<'_>>,
    peer: Peer<'_>,
    seeded: &impl BuildHasher,
) -> u64 {
    let part = match (key, view) {
        (LimitKey::SourceAddress(source), _) if source.trusted_hops == 0 => {
            let find = || seeded.hash_one(network_of(peer.ip, *source));
            return peer.hashed.of(peer.ip, *source, find);
        }
        (LimitKey::SourceAddress(source), _) => {
            let client = client_address(view, peer.ip, source.trusted_hops);
            return seeded.hash_one(network_of(client, *source));
        }
        (_, None) => None,
        (LimitKey::Header(name), Some(view)) if name == "host" => {
            // However it is spelt: with the port or without, a request takes the same route.
            let host = split_authority(view.authority).0.to_ascii_lowercase();
            return seeded.hash_one((!host.is_empty()).then_some(&*host));
        }
        (LimitKey::Header(name), Some(view)) => view.fields.values(name.as_bytes()).next(),
        (LimitKey::Cookie(name), Some(view)) => cookie_value(&view.fields, name.as_bytes()),
    };
    seeded.hash_one(part)
}

/// The client: who is connected, or behind `trusted_hops` proxies the one that the first of them names. A
/// client can put what it likes to the left of that, and nothing in its place.
///
/// Source: Envoy's `xff_num_trusted_hops`.
fn client_address(view: Option<&RequestView<'_>>, peer: IpAddr, trusted_hops: u8) -> IpAddr {
    let Some(view) = view.filter(|_| trusted_hops > 0) else { return peer };
    // The last so many addresses, the oldest where the next one goes.
    let mut last = [None; TRUSTED_HOPS_MAX as usize];
    let hops = usize::from(trusted_hops).min(last.len());
    let mut at = 0;
    for line in view.fields.values(b"x-forwarded-for") {
        for address in line.split(|&byte| byte == b',') {
            last[at] = Some(address.trim_ascii());
            at = (at + 1) % hops;
        }
    }
    last[at].and_then(parse_address).unwrap_or(peer).to_canonical()
}

/// An address, as proxies write it: some with a port.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// The network of so many bits that an address is in.
fn network_of(address: IpAddr, source: SourcePrefix) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(source.v4_bits)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(source.v6_bits)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;
    use crate::codec::http1::head::tests::OwnedFields;

    const WHOLE: SourcePrefix = SourcePrefix { v4_bits: 32, v6_bits: 64, trusted_hops: 0 };

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn with_head<T>(lines: &[(&str, &str)], look: impl FnOnce(&RequestView<'_>) -> T) -> T {
        let owned = OwnedFields::new(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
        let fields = owned.view();
        look(&RequestView { method: b"GET", authority: b"a.example", target: b"/", fields })
    }

    fn client(hops: u8, lines: &[(&str, &str)]) -> IpAddr {
        with_head(lines, |view| client_address(Some(view), ip("10.0.0.9"), hops))
    }

    #[test]
    fn the_client_is_as_many_addresses_from_the_right_as_hops_are_trusted() {
        let lines =
            [("X-Forwarded-For", "6.6.6.6, 1.1.1.1"), ("x-forwarded-for", "2.2.2.2 ,3.3.3.3")];
        for (hops, expected) in
            [(0, "10.0.0.9"), (1, "3.3.3.3"), (2, "2.2.2.2"), (3, "1.1.1.1"), (4, "6.6.6.6")]
        {
            assert_eq!(client(hops, &lines), ip(expected), "{hops} hops");
        }
        assert_eq!(client(5, &lines), ip("10.0.0.9"), "there are not as many");
        assert_eq!(client(1, &[]), ip("10.0.0.9"));
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets_and_nothing_else() {
        for (text, expected) in [
            ("1.2.3.4:80", "1.2.3.4"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("unknown", "10.0.0.9"),
            ("", "10.0.0.9"),
        ] {
            assert_eq!(client(1, &[("X-Forwarded-For", text)]), ip(expected), "{text:?}");
        }
    }

    #[test]
    fn a_network_is_one_client() {
        let wide = SourcePrefix { v4_bits: 24, v6_bits: 48, trusted_hops: 0 };
        assert_eq!(network_of(ip("10.1.2.3"), wide), ip("10.1.2.0"));
        assert_eq!(network_of(ip("2001:db8:1:2::3"), wide), ip("2001:db8:1::"));
        assert_eq!(network_of(ip("2001:db8:1:2::3"), WHOLE), ip("2001:db8:1:2::"));
        let all = SourcePrefix { v4_bits: 0, v6_bits: 0, trusted_hops: 0 };
        assert_eq!(network_of(ip("10.1.2.3"), all), ip("0.0.0.0"));
        assert_eq!(network_of(ip("2001:db8::1"), all), ip("::"));
    }

    #[test]
    fn requests_without_the_part_are_counted_together() {
        let seeded = RandomState::new();
        let key = LimitKey::Header("x-user".into());
        let hash = |lines: &[(&str, &str)]| {
            let peer = Peer { ip: ip("10.0.0.9"), hashed: &PeerHashes::default() };
            with_head(lines, |view| hash_of_part(&key, Some(view), peer, &seeded))
        };
        assert_eq!(hash(&[]), hash(&[("x-other", "ann")]));
        assert_ne!(hash(&[]), hash(&[("x-user", "")]));
        assert_ne!(hash(&[("x-user", "ann")]), hash(&[("x-user", "bob")]));
        assert_eq!(hash(&[("X-User", "ann")]), hash(&[("x-user", "ann"), ("x-user", "bob")]));
    }

    #[test]
    fn a_peer_is_hashed_once_for_the_network_that_is_asked_for() {
        struct Counts<'a>(RandomState, &'a Cell<u32>);
        impl BuildHasher for Counts<'_> {
            type Hasher = <RandomState as BuildHasher>::Hasher;
            fn build_hasher(&self) -> Self::Hasher {
                self.1.set(self.1.get() + 1);
                self.0.build_hasher()
            }
        }
        let made = Cell::new(0);
        let seeded = Counts(RandomState::new(), &made);
        let known = PeerHashes::default();
        let hash = |text: &str, prefix: SourcePrefix| {
            let peer = Peer { ip: ip(text), hashed: &known };
            hash_of_part(&LimitKey::SourceAddress(prefix), None, peer, &seeded)
        };
        let wide = SourcePrefix { v4_bits: 24, ..WHOLE };
        let of_one = hash("10.0.0.1", WHOLE);
        assert_eq!((hash("10.0.0.1", WHOLE), made.get()), (of_one, 1));
        // Of many some have the same place.
        let all = || (0..=255).map(|last| hash(&format!("10.0.0.{last}"), WHOLE));
        let hashes: std::collections::HashSet<u64> = all().collect();
        assert_eq!(hashes.len(), 256);
        assert!(all().all(|hash| hashes.contains(&hash)));
        assert_eq!(hash("10.0.0.1", wide), hash("10.0.0.2", wide));
        assert_eq!(hash("10.0.0.1", WHOLE), of_one);
        let behind = SourcePrefix { trusted_hops: 1, ..WHOLE };
        assert_eq!(hash("10.0.0.1", behind), of_one, "it names nobody");
    }
}
