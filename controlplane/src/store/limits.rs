//! Bounds of what a store takes. The units are in the names.

/// Objects of one revision: ten times the largest mesh that is measured (10,000 services).
pub const OBJECTS_MAX: usize = 100_000;

/// Text of one object. etcd takes no request larger than 1.5 MiB, so no Kubernetes object is either.
pub const TEXT_BYTES_MAX: usize = 1536 * 1024;

/// Keys and texts of one revision. The latest set is held in memory.
pub const REVISION_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Kind, namespace and name of an object, each. DNS names end at 253.
pub const KEY_PART_BYTES_MAX: usize = 253;

/// Who made a revision.
pub const AUTHOR_BYTES_MAX: usize = 256;

/// Why it was made.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What an order of an operator is about, and what it says, each: a few names.
pub const ORDER_TEXT_BYTES_MAX: usize = 4 * 1024;

/// Where it came from. Paths end at 4096.
pub const SOURCE_BYTES_MAX: usize = 4096 + 64;

/// Revisions in one answer of `history`.
pub const HISTORY_PAGE_MAX: usize = 1000;

/// Epochs that one write reserves. Those of a block that were not used when the process ended are
/// skipped: 2⁶³ of them last for a million restarts a second over 292 years.
pub const EPOCHS_PER_LEASE: u64 = 1000;

/// The highest epoch that somebody may have seen of a store: half of what its file can hold.
pub const EPOCH_MAX: u64 = (i64::MAX / 2) as u64;

/// What a unified diff of one pair of sets may take, in milliseconds, before it becomes coarse: line
/// matching is quadratic in the worst case.
pub const DIFF_MS_MAX: u64 = 2000;

/// Orders that wait for the store's thread; then callers wait.
pub const ORDERS_QUEUED_MAX: usize = 64;

/// Revisions that are kept unless told otherwise.
pub const REVISIONS_KEPT: usize = 1000;

/// Bytes of the file in use before old revisions go even if their count would let them stay.
pub const STORE_BYTES_KEPT: u64 = 4 * 1024 * 1024 * 1024;

const _: () = {
    assert!(TEXT_BYTES_MAX < REVISION_BYTES_MAX);
    assert!((REVISION_BYTES_MAX as u64) < STORE_BYTES_KEPT);
    // SQLite refuses a value of more than a billion bytes.
    assert!(TEXT_BYTES_MAX < 1_000_000_000);
};
