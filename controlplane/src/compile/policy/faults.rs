//! Faults, in the words of the snapshot.

use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::faults::{
    AbortKind, FaultAbort, FaultBandwidth, FaultDelay, Faults, Share,
};

use crate::language::kinds::traffic_policy::faults as written;
use crate::language::text::duration_ms;

pub(super) fn faults_of(written: &written::Faults) -> Box<Faults> {
    let headers = written.headers.iter().flatten();
    // The language saw to it that durations are more than 0 and that an abort is one of both.
    Box::new(Faults {
        headers: headers
            .map(|header| (header.name.to_ascii_lowercase(), header.value.clone()))
            .collect(),
        delay: written.delay.as_ref().map(|delay| FaultDelay {
            delay_ms: duration_ms(&delay.duration).unwrap_or(1).min(DURATION_MS_MAX.into()) as u32,
            share: share_of(&delay.fraction),
        }),
        abort: written.abort.as_ref().map(|abort| FaultAbort {
            kind: abort.status.map_or(AbortKind::Reset, AbortKind::Status),
            share: share_of(&abort.fraction),
        }),
        bandwidth: written.response_bandwidth.as_ref().map(|bandwidth| FaultBandwidth {
            bytes_per_s: bandwidth.bytes_per_second,
            share: share_of(&bandwidth.fraction),
        }),
    })
}

fn share_of(fraction: &written::FaultFraction) -> Share {
    Share { numerator: fraction.numerator, denominator: fraction.of() }
}
