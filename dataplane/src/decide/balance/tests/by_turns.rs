//! Round robin is even, whoever can't be had.

use super::*;

#[test]
fn round_robin_takes_turns_and_passes_over_the_refuser() {
    let balancer = World::of(&cluster(Balancing::RoundRobin, 4, &[]));
    let mut draws = Draws(1);
    let mut turns = |balancer: &World, now_ns| -> Vec<usize> {
        let mut pick = || balancer.pick(now_ns, draws.next(), &[]).expect("one is healthy");
        (0..8).map(|_| pick().as_usize()).collect()
    };
    assert_eq!(turns(&balancer, 0), [1, 2, 3, 0, 1, 2, 3, 0]);
    balancer.at(index(2)).on_refused(0);
    assert_eq!(turns(&balancer, 1), [1, 3, 0, 1, 3, 0, 1, 3]);
}

#[test]
fn round_robin_is_even_among_those_in_service_whoever_is_not() {
    for count in [3, 40] {
        for (out, why) in [OutOfService::Ejected, OutOfService::Terminating].iter().enumerate() {
            let world = World::of(&cluster(Balancing::RoundRobin, count, &[]));
            // More in a row than are passed over one by one, where there are many.
            let is_out = |at: usize| at == out || (20..35).contains(&at);
            let outs = (0..count).filter(|at| is_out(*at));
            outs.for_each(|at| world.at(index(at)).set_out_of_service(*why, true));
            let left = (0..count).filter(|at| !is_out(*at)).count();
            let mut picked = vec![0; count];
            for draw in 0..left as u64 * 10 {
                let endpoint = world.pick(0, mix(draw), &[]).expect("some are in service");
                picked[endpoint.as_usize()] += 1;
            }
            let even = |(at, times): (usize, &i32)| *times == if is_out(at) { 0 } else { 10 };
            assert!(picked.iter().enumerate().all(even), "{picked:?}");
        }
    }
}

#[test]
fn round_robin_goes_on_after_its_list_became_shorter() {
    let before = World::of(&cluster(Balancing::RoundRobin, 800, &[]));
    (0..700).for_each(|_| assert!(before.pick(0, 1, &[]).is_some()));
    let after = cluster(Balancing::RoundRobin, 3, &[]);
    let stayed = [Some(0), Some(1), Some(2)];
    let balancer = before.balancer.as_in(&after, Shared::default(), DRAW, &stayed);
    let after = World { balancer, ..World::of(&after) };
    assert_eq!(after.pick(0, 1, &[]), Some(index(0)));
    assert_eq!(after.pick(0, 1, &[]), Some(index(1)));
}
