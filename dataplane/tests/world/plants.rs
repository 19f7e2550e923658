//! Planted bugs: each must be caught, or the judge is blind.

use lateen_proxy::plant::{self, Plant};

use crate::run::run_seed;

/// Worlds in which a bug must show; most show within a few.
const SEEDS_MAX: u64 = 1_000;

/// Takes the plant out when its test ends, however that ends.
struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        plant::set(None);
    }
}

fn is_caught(planted: Plant) {
    let _planted = Planted;
    plant::set(Some(planted));
    let caught = (0..SEEDS_MAX).find_map(|seed| {
        let report = run_seed(seed, false);
        Some((seed, report.violations.into_iter().next()?))
    });
    match caught {
        Some((seed, violation)) => {
            println!("{planted:?} is caught by seed {seed}: {violation:.160}")
        }
        None => panic!("{planted:?} is not caught in {SEEDS_MAX} worlds"),
    }
}

macro_rules! caught {
    ($($name:ident: $plant:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_caught(Plant::$plant);
            }
        )*

        #[test]
        fn every_plant_has_a_test() {
            assert_eq!(Plant::ALL, [$(Plant::$plant),*]);
        }
    };
}

caught! {
    catches_a_pool_that_keeps_stale_connections: StaleConnectionKept,
    catches_a_byte_lost_on_a_short_read: ByteLostOnShortRead,
    catches_a_replayed_post: PostReplayed,
    catches_a_truncation_that_looks_whole: TruncationUnmarked,
    catches_keep_alive_after_an_early_answer: KeptAliveAfterEarlyAnswer,
    catches_a_leaked_lease: LeaseLeaked,
    catches_an_idle_client_without_a_deadline: IdleUnbounded,
    catches_pipelined_requests_that_are_dropped: PipelinedDropped,
    catches_a_nominated_field_that_goes_on: NominatedForwarded,
    catches_load_that_is_never_taken_off: LoadKept,
}
