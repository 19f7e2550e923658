//! The key of a request, by which a hashed cluster chooses.
//!
//! Before: a request's route led to such a cluster. After: the key is kept for the request, so that a
//! second try starts from the same place.

use std::net::IpAddr;

use lateen_snapshot::model::HashKey;
use twox_hash::XxHash64;

use crate::decide::request_parts::{cookie_value, query_value, split_target};
use crate::decide::route::RequestView;

/// The same on every proxy, so that all of them send a key to one endpoint.
const SEED: u64 = 0;

/// The key by the first of `keys` that the request has; `None`: it has none of them.
pub fn key_of_request(keys: &[HashKey], view: &RequestView<'_>, client: IpAddr) -> Option<u64> {
    keys.iter().find_map(|key| {
        let part = match key {
            HashKey::Header(name) if name == "host" => {
                Some(view.authority).filter(|authority| !authority.is_empty())
            }
            HashKey::Header(name) => view.fields.values(name.as_bytes()).next(),
            HashKey::Cookie(name) => cookie_value(&view.fields, name.as_bytes()),
            HashKey::Query(name) => query_value(split_target(view.target).1?, name.as_bytes()),
            HashKey::Path => Some(split_target(view.target).0),
            HashKey::SourceAddress => return Some(key_of_address(client)),
        };
        part.map(|part| XxHash64::oneshot(SEED, part))
    })
}

/// The key of a connection that is not HTTP; `None`: the client's address is none of `keys`.
pub fn key_of_connection(keys: &[HashKey], client: IpAddr) -> Option<u64> {
    keys.contains(&HashKey::SourceAddress).then(|| key_of_address(client))
}

/// An IPv4 client is the same whether it came to an IPv4 socket or to one of both families.
fn key_of_address(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => XxHash64::oneshot(SEED, &ip.octets()),
        IpAddr::V6(ip) => XxHash64::oneshot(SEED, &ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http1::head::tests::OwnedFields;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn key(keys: &[HashKey], target: &str, lines: &[(&str, &str)]) -> Option<u64> {
        let owned = OwnedFields::new(lines.iter().map(|(name, value)| (*name, value.as_bytes())));
        let view = RequestView {
            method: b"GET",
            authority: b"shop.example",
            target: target.as_bytes(),
            fields: owned.view(),
        };
        key_of_request(keys, &view, CLIENT)
    }

    #[test]
    fn the_first_part_that_is_there_is_the_key() {
        let keys = [HashKey::Header("x-user".into()), HashKey::Cookie("s".into()), HashKey::Path];
        let by_header = key(&keys, "/a", &[("X-User", "ann"), ("Cookie", "s=1")]);
        assert_eq!(by_header, key(&keys, "/b", &[("x-user", "ann"), ("x-user", "bob")]));
        assert_ne!(by_header, key(&keys, "/a", &[("X-User", "bob"), ("Cookie", "s=1")]));
        let by_cookie = key(&keys, "/a", &[("Cookie", "s=1")]);
        assert_eq!(by_cookie, key(&keys, "/b?c", &[("Cookie", "t=2; s=1")]));
        assert_eq!(key(&keys, "/a?x", &[]), key(&keys, "/a?y", &[]));
        assert_ne!(key(&keys, "/a", &[]), key(&keys, "/b", &[]));
    }

    #[test]
    fn a_request_without_any_part_has_no_key() {
        let keys = [HashKey::Query("q".into())];
        assert_eq!(key(&keys, "/a", &[]), None);
        assert_eq!(key(&keys, "/a?r=1", &[]), None);
        assert!(key(&keys, "/a?q", &[]).is_some());
    }

    #[test]
    fn the_host_is_the_authority_wherever_it_stood() {
        let keys = [HashKey::Header("host".into())];
        assert_eq!(key(&keys, "/", &[("Host", "other")]), key(&keys, "/", &[]));
    }

    #[test]
    fn a_client_is_the_same_over_both_families() {
        let keys = [HashKey::SourceAddress];
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("an address");
        assert_eq!(key_of_connection(&keys, CLIENT), key_of_connection(&keys, mapped));
        assert_eq!(key(&keys, "/", &[]), key_of_connection(&keys, CLIENT));
        assert_eq!(key_of_connection(&[HashKey::Path], CLIENT), None);
    }
}
