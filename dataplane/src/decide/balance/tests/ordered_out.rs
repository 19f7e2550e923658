//! What an operator has ordered out gets nothing, whoever is left.

use super::*;

#[test]
fn what_is_ordered_out_gets_nothing_whatever_becomes_of_the_others() {
    let hashing = || Box::new(Hashing { keys: vec![HashKey::Path], bound_percent: None });
    let methods = [
        Balancing::LeastRequest,
        Balancing::RoundRobin,
        Balancing::Random,
        Balancing::Maglev(hashing()),
        Balancing::RingHash(hashing()),
    ];
    for balancing in methods {
        for weights in [&[][..], &[1, 5, 2]] {
            let world = World::of(&cluster(balancing.clone(), 3, weights));
            let mut draws = Draws(7);
            world.at(index(1)).set_out_of_service(OutOfService::Ordered, true);
            let mut pick = |tried: &[EndpointIndex]| world.pick(0, draws.next(), tried);
            for _ in 0..500 {
                assert_ne!(pick(&[]), Some(index(1)), "{balancing:?}");
            }
            // Not as the last that was not tried, and not when nobody else is in service.
            assert_eq!(pick(&[index(0), index(2)]), None, "{balancing:?}");
            for at in [0, 2] {
                world.at(index(at)).set_out_of_service(OutOfService::Unhealthy, true);
            }
            for _ in 0..500 {
                assert!(pick(&[]).is_some_and(|picked| picked != index(1)), "{balancing:?}");
            }
            for at in [0, 2] {
                world.at(index(at)).set_out_of_service(OutOfService::Ordered, true);
            }
            assert_eq!(pick(&[]), None, "{balancing:?}");
        }
    }
    let world = World::of(&cluster(Balancing::LeastRequest, 1, &[]));
    world.at(index(0)).set_out_of_service(OutOfService::Ordered, true);
    assert_eq!(world.pick(0, 1, &[]), None);
}
