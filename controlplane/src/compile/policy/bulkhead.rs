//! Bulkheads, in the words of the snapshot.

use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::bulkhead::Caps;

use crate::language::kinds::traffic_policy::bulkhead::Bulkhead;
use crate::language::text::duration_ms;

/// Unless told otherwise. Source: FEATURES, Defaults; a wait of Linkerd's outbound failfast. A proxy has
/// the same where no policy says anything.
const CONNECTIONS_MAX: u32 = 1_024;
const PENDING_MAX: u32 = 1_024;
const QUEUE_TIMEOUT_MS: u32 = 3_000;

pub(super) fn caps_of(written: &Bulkhead) -> Caps {
    let wait_ms = written.queue_timeout.as_deref().and_then(duration_ms);
    Caps {
        connections_max: written.max_connections.unwrap_or(CONNECTIONS_MAX),
        pending_max: written.max_pending.unwrap_or(PENDING_MAX),
        requests_max: written.max_requests,
        retries_max: written.max_retries,
        queue_timeout_ms: wait_ms
            .map_or(QUEUE_TIMEOUT_MS, |wait_ms| wait_ms.clamp(1, DURATION_MS_MAX.into()) as u32),
    }
}
