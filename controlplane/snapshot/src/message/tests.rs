//! Messages come back as they were; what is out of bounds is refused by name.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::encoding::{VERSION, encode};
use crate::testing::{epochs, snapshots};

const EPOCH: Epoch = Epoch { store: 7, number: 3 };

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        snapshot_versions: (1, 2),
        name: "cart-a".into(),
        program_version: "0.1.0".into(),
        pid: 4711,
        workers: 2,
        running: Some(EPOCH),
    }
}

fn publish() -> ToProxy {
    let encoded = encode(EPOCH, &Snapshot::default(), VERSION).expect("valid");
    ToProxy::Publish(Publish::new(&encoded).expect("memory"))
}

fn to_control() -> impl Strategy<Value = ToControl> {
    let fields = (0..9_u16, 9..20_u16, "[a-z]{1,9}", any::<u32>(), 1..=1024_u32, any::<bool>());
    let workers = vec((any::<u32>(), any::<u32>()), 1..40);
    prop_oneof![
        (fields, epochs()).prop_map(|((low, high, name, pid, workers, runs), epoch)| {
            let running = runs.then_some(epoch);
            let snapshot_versions = (low, high);
            ToControl::Hello(Hello { snapshot_versions, name, pid, workers, running, ..hello() })
        }),
        (epochs(), workers).prop_map(|(epoch, workers)| {
            let switch = |(prepare_us, switch_us)| WorkerSwitch { prepare_us, switch_us };
            ToControl::Applied { epoch, workers: workers.into_iter().map(switch).collect() }
        }),
        (epochs(), "[ -~\n\té]{0,99}")
            .prop_map(|(epoch, reason)| ToControl::Rejected { epoch, reason }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_a_proxy_says_comes_back(message in to_control()) {
        let frame = message.clone().into_frame().expect("within its bounds");
        prop_assert_eq!(ToControl::from_frame(frame), Ok(message));
    }

    #[test]
    fn a_published_snapshot_arrives(epoch in epochs(), snapshot in snapshots()) {
        let encoded = encode(epoch, &snapshot, VERSION).expect("valid");
        let frame = ToProxy::Publish(Publish::new(&encoded).expect("memory")).into_frame();
        let Ok(ToProxy::Publish(publish)) = ToProxy::from_frame(frame) else {
            panic!("it was that message")
        };
        let arrived = publish.open().expect("whole");
        prop_assert_eq!((arrived.epoch, arrived.digest), (epoch, encoded.digest));
        prop_assert_eq!(arrived.snapshot, snapshot);
        prop_assert_eq!(arrived.bytes, encoded.bytes);
    }
}

#[test]
fn what_a_control_plane_says_comes_back() {
    let frame = ToProxy::Welcome { store: 77 }.into_frame();
    assert!(matches!(ToProxy::from_frame(frame), Ok(ToProxy::Welcome { store: 77 })));
    let frame = ToProxy::Refused { reason: "no\nway".into() }.into_frame();
    let message = ToProxy::from_frame(frame).expect("a message");
    assert!(matches!(message, ToProxy::Refused { reason } if reason == "no\nway"));
}

#[test]
fn a_reason_is_cut_and_cleaned_by_who_writes_it() {
    let reason = format!("a\x1b[31m\u{85}b{}", "é".repeat(REASON_BYTES_MAX));
    let frame = ToControl::Rejected { epoch: EPOCH, reason }.into_frame().expect("always fits");
    let Ok(ToControl::Rejected { reason, .. }) = ToControl::from_frame(frame) else {
        panic!("it was that message")
    };
    assert!(reason.starts_with("a?[31m?bé"), "{reason}");
    assert!(reason.len() <= REASON_BYTES_MAX && reason.len() > REASON_BYTES_MAX - 4);
}

#[test]
fn fields_out_of_bounds_are_refused_on_both_sides() {
    type Change = fn(&mut Hello);
    let cases: [(Change, &str); 7] = [
        (|hello| hello.snapshot_versions = (2, 1), "snapshot_versions"),
        (|hello| hello.name.clear(), "name"),
        (|hello| hello.name = "a".repeat(254), "name"),
        (|hello| hello.name = "a\n".into(), "name"),
        (|hello| hello.program_version = "1".repeat(65), "program_version"),
        (|hello| hello.workers = 0, "workers"),
        (|hello| hello.workers = 1025, "workers"),
    ];
    for (change, name) in cases {
        let mut hello = hello();
        change(&mut hello);
        let received = ToControl::from_frame(frame(HELLO, &hello, None));
        let sent = ToControl::Hello(hello).into_frame();
        for error in [received.expect_err(name), sent.expect_err(name)] {
            assert!(matches!(error, MessageError::Field { field, .. } if field == name), "{error}");
        }
    }
    for count in [0, WORKERS_MAX + 1] {
        let workers = vec![WorkerSwitch::default(); count];
        let fields = AppliedFields { epoch: EPOCH, workers };
        let error = ToControl::from_frame(frame(APPLIED, &fields, None)).expect_err("bounds");
        assert!(matches!(error, MessageError::Field { field: "workers", .. }), "{error}");
    }
    for reason in ["\x1b".to_owned(), "a".repeat(REASON_BYTES_MAX + 1)] {
        let error = ToProxy::from_frame(frame(REFUSED, &reason, None)).expect_err("bounds");
        assert!(matches!(error, MessageError::Field { field: "reason", .. }), "{error}");
    }
}

#[test]
fn another_protocol_is_named_whatever_follows() {
    let frame = Frame { kind: HELLO, payload: vec![9, 0xff, 0xff], descriptor: None };
    let error = ToControl::from_frame(frame).expect_err("another protocol");
    assert_eq!(error.to_string(), "the peer speaks protocol 9, this build speaks 1");
}

#[test]
fn kinds_of_the_other_direction_and_unknown_ones_are_refused() {
    for kind in [0, 4, WELCOME, REFUSED, PUBLISH, 127] {
        let frame = Frame { kind, payload: Vec::new(), descriptor: None };
        assert_eq!(ToControl::from_frame(frame), Err(MessageError::Kind { kind }));
    }
    for kind in [0, HELLO, APPLIED, REJECTED, 68, 127] {
        let frame = Frame { kind, payload: Vec::new(), descriptor: None };
        let error = ToProxy::from_frame(frame).expect_err("another kind");
        assert_eq!(error, MessageError::Kind { kind });
    }
}

#[test]
fn every_truncation_and_every_addition_is_an_error() {
    let rejected = ToControl::Rejected { epoch: EPOCH, reason: "x".into() };
    let applied = ToControl::Applied { epoch: EPOCH, workers: vec![WorkerSwitch::default(); 3] };
    let mut frames = Vec::new();
    for message in [ToControl::Hello(hello()), rejected, applied] {
        frames.push(message.into_frame().expect("within its bounds"));
    }
    let refused = ToProxy::Refused { reason: "x".into() };
    for message in [ToProxy::Welcome { store: 300 }, refused, publish()] {
        frames.push(message.into_frame());
    }
    let read = |kind, payload| {
        let frame = Frame { kind, payload, descriptor: None };
        match kind {
            HELLO | APPLIED | REJECTED => ToControl::from_frame(frame).map(drop),
            _ => ToProxy::from_frame(frame).map(drop),
        }
    };
    for Frame { kind, payload, .. } in frames {
        assert_eq!(read(kind, payload.clone()), Ok(()));
        for length in 0..payload.len() {
            let error = read(kind, payload[..length].to_vec()).expect_err("not whole");
            assert!(matches!(error, MessageError::Fields { .. }), "{kind} {length}: {error}");
        }
        let error = read(kind, [&payload[..], b"x"].concat()).expect_err("too much");
        assert!(matches!(error, MessageError::Trailing { bytes: 1, .. }), "{kind}: {error}");
    }
}

#[test]
fn descriptors_belong_to_large_snapshots_alone() {
    let memory = || Some(sealed::seal(b"x").expect("memory"));
    let hello = frame(HELLO, &hello(), memory());
    assert!(matches!(ToControl::from_frame(hello), Err(MessageError::Descriptor { .. })));
    let welcome = frame(WELCOME, &1_u64, memory());
    assert!(matches!(ToProxy::from_frame(welcome), Err(MessageError::Descriptor { .. })));
    let inline = Frame { descriptor: memory(), ..publish().into_frame() };
    assert!(matches!(ToProxy::from_frame(inline), Err(MessageError::Descriptor { .. })));
    let fields =
        PublishFields { epoch: EPOCH, digest: Digest([0; 32]), body: BodyField::Sealed(1) };
    let bare = frame(PUBLISH, &fields, None);
    assert!(matches!(ToProxy::from_frame(bare), Err(MessageError::Descriptor { .. })));
}

#[test]
fn a_snapshot_must_be_the_one_that_was_announced() {
    let encoded = encode(EPOCH, &Snapshot::default(), VERSION).expect("valid");
    let announce = |epoch, digest| {
        let encoded = Encoded { epoch, digest, ..encoded.clone() };
        Publish::new(&encoded).expect("memory").open()
    };
    let later = Epoch { number: 4, ..EPOCH };
    let error = announce(later, encoded.digest).expect_err("another epoch");
    assert_eq!(error.to_string(), "snapshot 00000007-4 was announced, snapshot 00000007-3 came");
    let error = announce(EPOCH, Digest([0; 32])).expect_err("another digest");
    assert!(matches!(error, ArriveError::Digest { .. }), "{error}");
    assert!(announce(EPOCH, encoded.digest).is_ok());
}
