//! Snapshots come back as they were; bytes that are not one are told apart.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Balancing, Cluster, ClusterPolicy, Endpoint};
use crate::testing::{epochs, snapshots};

const EPOCH: Epoch = Epoch { store: 0x1122_3344_5566_7788, number: 42 };

fn small() -> Snapshot {
    let cluster = Cluster {
        name: "a/b:1".into(),
        endpoints: vec![Endpoint { address: "10.0.0.1:80".parse().expect("an address") }],
        weights: Vec::new(),
        balancing: Balancing::RoundRobin,
        connect_timeout_ms: Some(300),
        policy: ClusterPolicy::default(),
    };
    Snapshot { clusters: vec![Arc::new(cluster)], ..Snapshot::default() }
}

/// A whole file around any payload.
fn sealed(payload: &[u8]) -> Vec<u8> {
    let header = Header {
        version: VERSION,
        payload_bytes: payload.len() as u64,
        epoch: EPOCH,
        digest: Digest::of(payload),
    };
    [&header.to_bytes()[..], payload].concat()
}

/// If this fails, the bytes of a version changed: that needs a new version.
#[test]
fn version_1_has_these_bytes() {
    let encoded = encode(EPOCH, &small(), 1).expect("valid");
    let hex: String = encoded.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Magic, version, length, store, number.
    assert_eq!(hex[..68], *"6c617465656e00730100240000000000000088776655443322112a00000000000000");
    assert_eq!(hex[68..132], encoded.digest.to_string());
    // No listeners, tables and routes; one cluster: its name, one IPv4 endpoint, no weights, balancing,
    // timeout, and a policy that says nothing.
    assert_eq!(
        hex[2 * HEADER_BYTES..],
        *"0000000105612f623a3101000a00000150000101ac020000000000000000000000000000"
    );
    assert_eq!(decode(&encoded.bytes), Ok((EPOCH, encoded.digest, small())));
}

#[test]
fn the_digest_is_of_the_content_alone() {
    let one = encode(EPOCH, &small(), VERSION).expect("valid");
    let other = encode(Epoch { number: 43, ..EPOCH }, &small(), VERSION).expect("valid");
    assert_eq!(one.digest, other.digest);
    assert_ne!(one.bytes, other.bytes);
}

#[test]
fn writes_only_versions_and_epochs_that_can_be_read() {
    assert_eq!(encode(EPOCH, &small(), 0), Err(EncodeError::Version { version: 0 }));
    let error = encode(EPOCH, &small(), 2).expect_err("not yet");
    assert_eq!(error.to_string(), "snapshots of version 2 can't be written, only versions 1 to 1");
    assert_eq!(encode(Epoch::default(), &small(), 1), Err(EncodeError::NoEpoch));
    assert_eq!(version_for(&(1..=7)), Some(1));
    assert_eq!(version_for(&(0..=1)), Some(1));
    assert_eq!(version_for(&(2..=7)), None);
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = encode(EPOCH, &small(), VERSION).expect("valid").bytes;
    for length in 0..bytes.len() {
        let error = decode(&bytes[..length]).expect_err("not whole");
        let expected = match length {
            0..8 => matches!(error, DecodeError::Magic),
            _ => matches!(error, DecodeError::Length { .. }),
        };
        assert!(expected, "{length}: {error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(decode(&longer), Err(DecodeError::Length { .. })));
    // A payload cut short under a header that says so is no snapshot either.
    let payload = &bytes[HEADER_BYTES..];
    for length in 0..payload.len() {
        let error = decode(&sealed(&payload[..length])).expect_err("not whole");
        assert!(matches!(error, DecodeError::Payload(_)), "{length}: {error}");
    }
    let error = decode(&sealed(&[payload, b"xy"].concat())).expect_err("too much");
    assert_eq!(error, DecodeError::Trailing { bytes: 2 });
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = encode(EPOCH, &small(), VERSION).expect("valid").bytes;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = decode(&flipped).expect_err("damaged");
            let expected = match at {
                0..8 => matches!(error, DecodeError::Magic),
                8..10 => matches!(error, DecodeError::Version { .. }),
                10..HEADER_BYTES => matches!(error, DecodeError::Header),
                _ => matches!(error, DecodeError::Digest { .. }),
            };
            assert!(expected, "byte {at}, bit {bit}: {error}");
        }
    }
}

#[test]
fn another_version_is_named_even_if_nothing_behind_it_is_known() {
    let error = decode(b"lateen\0s\x02\x00something else").expect_err("not yet");
    assert_eq!(error.to_string(), "the snapshot has version 2, this build reads versions 1 to 1");
}

#[test]
fn lists_that_claim_more_than_there_is_cost_nothing() {
    // Each list of the snapshot in turn, then a cluster's endpoints, claims 2^60 elements.
    let claim = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    let befores: [&[u8]; 5] = [&[], &[0], &[0, 0], &[0, 0, 0], &[0, 0, 0, 1, 1, b'a']];
    for before in befores {
        let payload = [before, &claim, &[0xff; 1000]].concat();
        let error = decode(&sealed(&payload)).expect_err("a lie");
        assert!(matches!(error, DecodeError::Payload(_)), "{error}");
    }
}

#[test]
fn small_bytes_that_become_large_values_are_bounded() {
    // A cluster of nineteen bytes takes more than a hundred in memory.
    let payload = [&[0, 0, 0, 0xff, 0xff, 0x03][..], &[0; 19 * 65535]].concat();
    let mut deserializer = postcard::Deserializer::from_bytes(&payload);
    let unread = deserialize_within::<Snapshot, _>(&mut deserializer, 1024 * 1024);
    assert!(matches!(unread, Err(Unread::Budget)));
    let mut deserializer = postcard::Deserializer::from_bytes(&payload);
    let snapshot: Snapshot =
        deserialize_within(&mut deserializer, 64 * 1024 * 1024).expect("enough for them");
    assert_eq!(snapshot.clusters.len(), 65535);
    // It decodes, but is not valid: their names are empty.
    assert!(matches!(decode(&sealed(&payload)), Err(DecodeError::Invalid(_))));
}

#[test]
fn what_is_not_valid_is_refused_by_name() {
    let mut snapshot = small();
    Arc::make_mut(&mut snapshot.clusters[0]).endpoints[0].address.set_port(0);
    let bytes = encode(EPOCH, &snapshot, VERSION).expect("encodes").bytes;
    assert_eq!(
        decode(&bytes).expect_err("no port").to_string(),
        "the snapshot is not valid: cluster 0 (\"a/b:1\"): endpoints[0].address: 10.0.0.1:0: a port \
         from 1 to 65535 is needed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn comes_back_as_it_was(epoch in epochs(), snapshot in snapshots()) {
        let encoded = encode(epoch, &snapshot, VERSION).expect("valid");
        let decoded = decode(&encoded.bytes);
        prop_assert_eq!(decoded, Ok((epoch, encoded.digest, snapshot)));
    }
}
