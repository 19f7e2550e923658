//! Which colour a peer has. Lateen always has the first, whatever else is compared, and a variant of a
//! peer has its colour with a broken line.

use crate::judgement::LATEEN;
use std::collections::BTreeMap;

/// Colours of the palette that a variable of the page's style names: `--series-0` and so on.
pub const COLOURS: u8 = 9;

/// How a peer is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Below [`COLOURS`].
    pub colour: u8,
    /// A variant of another peer.
    pub broken: bool,
}

const KNOWN: &[(&str, u8)] =
    &[(LATEEN, 0), ("nginx", 1), ("haproxy", 2), ("envoy", 3), ("floor", 7), ("direct", 8)];
/// Of peers that are described by a user.
const OTHERS: std::ops::Range<u8> = 4..7;

/// Gives every peer its colour, in the order of the peers.
pub fn assign<'a>(peers: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, Series> {
    let mut assigned: BTreeMap<String, Series> = BTreeMap::new();
    let mut next = OTHERS.cycle();
    for peer in peers {
        if assigned.contains_key(peer) {
            continue;
        }
        let (base, variant) =
            peer.split_once(['-', '_']).map_or((peer, false), |(base, _)| (base, true));
        let known = KNOWN.iter().find(|(name, _)| *name == base).map(|(_, colour)| *colour);
        let of_base = assigned.get(base).map(|series| series.colour);
        let series = match known.or(of_base) {
            Some(colour) => Series { colour, broken: variant },
            None => Series { colour: next.next().unwrap_or(OTHERS.start), broken: false },
        };
        assigned.insert(peer.to_owned(), series);
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateen_keeps_its_colour_and_variants_share_one() {
        let assigned = assign(["mine", "nginx-tuned", "lateen", "mine-tuned", "nginx"]);
        assert_eq!(assigned["lateen"], Series { colour: 0, broken: false });
        assert_eq!(assigned["nginx-tuned"], Series { colour: 1, broken: true });
        assert_eq!(assigned["nginx"], Series { colour: 1, broken: false });
        assert_eq!(assigned["mine"].colour, assigned["mine-tuned"].colour);
    }
}
