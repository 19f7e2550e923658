//! Bounds of the API, with their units and why they are what they are.

use std::time::Duration;

use crate::store::limits::{HISTORY_PAGE_MAX, REVISION_BYTES_MAX};

/// Bytes of a request that brings files. JSON writes two bytes for a line's end or a quote.
pub const FILES_BODY_BYTES_MAX: usize = 2 * REVISION_BYTES_MAX;

/// Bytes of any other request.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Files of one request.
pub const FILES_MAX: usize = 10_000;

/// How long a change may be waited for, in seconds.
pub const WAIT_S_MAX: u64 = 3600;

/// Revisions in one answer unless it is asked for more.
pub const HISTORY_PAGE: usize = 50;

/// One step of waiting for proxies; a control plane that ends is held up by no more than this.
pub const WAIT_STEP: Duration = Duration::from_millis(500);

/// Connections at a time; more wait to be accepted. Each is a descriptor, and proxies need some too.
pub const CONNECTIONS_MAX: usize = 128;

/// How long a caller may take for the head of a request, and be silent between two.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a token.
pub const TOKEN_BYTES_MAX: usize = 4096;

const _: () = assert!(HISTORY_PAGE <= HISTORY_PAGE_MAX);
