//! The store against a plain list in memory: whatever orders come, both say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use crate::store::diff::{ChangeKind, diff};
use crate::store::error::StoreError;
use crate::store::open::How;
use crate::store::retention::Retention;
use crate::store::revision::{Accepted, Key, Objects};
use crate::store::tests::{Home, meta};

#[derive(Clone, Debug)]
enum Order {
    Accept { objects: Vec<(u8, u8)>, if_latest_is_off_by: Option<u64> },
    Pin { number: u64 },
    Resume,
    Epochs { count: u16 },
    Prune { later_ms: u64 },
    Reopen,
}

fn order() -> impl Strategy<Value = Order> {
    let objects = prop::collection::vec((0..6_u8, 0..4_u8), 0..5);
    let off_by = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(1))];
    prop_oneof![
        8 => (objects, off_by)
            .prop_map(|(objects, if_latest_is_off_by)| Order::Accept { objects, if_latest_is_off_by }),
        2 => (0..30_u64).prop_map(|number| Order::Pin { number }),
        2 => Just(Order::Resume),
        1 => (1..1500_u16).prop_map(|count| Order::Epochs { count }),
        1 => (0..300_u64).prop_map(|later_ms| Order::Prune { later_ms }),
        1 => Just(Order::Reopen),
    ]
}

/// What a store is, as simply as it can be said.
#[derive(Default)]
struct Model {
    kept: BTreeMap<u64, (u64, Arc<Objects>)>,
    pinned: Option<u64>,
}

impl Model {
    fn latest(&self) -> u64 {
        self.kept.keys().next_back().copied().unwrap_or(0)
    }

    fn accept(&mut self, objects: &Arc<Objects>, now: u64, retention: Retention) -> Accepted {
        let latest = self.latest();
        if self.kept.get(&latest).is_some_and(|(_, same)| same == objects) {
            return Accepted::Unchanged(latest);
        }
        self.kept.insert(latest + 1, (now, Arc::clone(objects)));
        self.prune(now, retention);
        Accepted::New(latest + 1)
    }

    fn prune(&mut self, now: u64, retention: Retention) -> usize {
        let before = self.kept.len();
        let age = retention.age_ms.unwrap_or(u64::MAX);
        loop {
            let latest = self.latest();
            let Some((&oldest, (time, _))) =
                self.kept.iter().find(|(n, _)| **n != latest && Some(**n) != self.pinned)
            else {
                break;
            };
            if self.kept.len() <= retention.count && *time >= now.saturating_sub(age) {
                break;
            }
            self.kept.remove(&oldest);
        }
        before - self.kept.len()
    }
}

fn objects_of(parts: &[(u8, u8)]) -> Arc<Objects> {
    let object = |&(name, text): &(u8, u8)| {
        (
            Key::new(["A", "B"][usize::from(name % 2)], "n", name.to_string()),
            format!("{text}\n").into(),
        )
    };
    Arc::new(parts.iter().map(object).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_plain_list(orders in prop::collection::vec(order(), 1..40)) {
        let home = Home::new();
        let retention = Retention { count: 5, age_ms: Some(1000), ..Retention::default() };
        let mut store = home.open(retention).store;
        let mut model = Model::default();
        let (mut now, mut epoch) = (10_000, 0);
        for order in orders {
            now += 50;
            match order {
                Order::Accept { objects, if_latest_is_off_by } => {
                    let objects = objects_of(&objects);
                    let expected = if_latest_is_off_by.map(|by| model.latest() + by);
                    let accepted = store.accept(Arc::clone(&objects), &meta(now), expected);
                    if if_latest_is_off_by == Some(1) {
                        let refused = matches!(accepted, Err(StoreError::Conflict { .. }));
                        prop_assert!(refused, "{accepted:?}");
                    } else {
                        prop_assert_eq!(accepted.expect("sound"), model.accept(&objects, now, retention));
                    }
                }
                Order::Pin { number } => {
                    let there = model.kept.contains_key(&number);
                    prop_assert_eq!(store.pin(number).is_ok(), there);
                    model.pinned = if there { Some(number) } else { model.pinned };
                }
                Order::Resume => {
                    store.resume().expect("sound");
                    model.pinned = None;
                }
                Order::Epochs { count } => for _ in 0..count {
                    let next = store.next_epoch().expect("sound").number;
                    prop_assert!(next > epoch);
                    epoch = next;
                },
                Order::Prune { later_ms } => {
                    now += later_ms;
                    prop_assert_eq!(store.prune(now).expect("sound"), model.prune(now, retention));
                }
                Order::Reopen => {
                    let id = store.id();
                    drop(store);
                    let opened = home.open(retention);
                    prop_assert_eq!(opened.how, How::Found);
                    prop_assert_eq!(opened.store.id(), id);
                    store = opened.store;
                }
            }

            let history = store.history(100, None).expect("sound");
            let listed: Vec<_> = history.iter().rev().map(|r| (r.number, r.time_ms)).collect();
            let kept: Vec<_> = model.kept.iter().map(|(n, (time, _))| (*n, *time)).collect();
            prop_assert_eq!(listed, kept);
            for (number, (_, objects)) in &model.kept {
                prop_assert_eq!(&store.show(*number).expect("it is kept").1, objects);
            }
            let live = store.live().expect("sound").map(|live| (live.revision.number, live.pinned));
            let latest = model.kept.keys().next_back().map(|latest| (*latest, false));
            prop_assert_eq!(live, model.pinned.map(|pinned| (pinned, true)).or(latest));
            let texts: BTreeSet<&str> =
                model.kept.values().flat_map(|(_, set)| set.values().map(|text| &**text)).collect();
            let stored: i64 = store
                .connection()
                .query_row("SELECT count(*) FROM text", [], |row| row.get(0))
                .expect("the table is there");
            prop_assert_eq!(stored, texts.len() as i64, "texts that nothing refers to are gone");
        }
        if let (Some((old, (_, before))), Some((new, (_, after)))) =
            (model.kept.first_key_value(), model.kept.last_key_value())
        {
            let shown = |number| store.show(number).expect("it is kept").1;
            for change in diff(&shown(*old), &shown(*new)) {
                let expected = match (before.get(&change.key), after.get(&change.key)) {
                    (None, Some(_)) => ChangeKind::Added,
                    (Some(_), None) => ChangeKind::Removed,
                    (before, after) => {
                        prop_assert!(before != after);
                        ChangeKind::Changed
                    }
                };
                prop_assert_eq!(change.change, expected);
            }
        }
    }
}
