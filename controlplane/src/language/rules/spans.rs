//! Time spans that go into a snapshot: not longer than it takes, since cutting one would be silent.

use lateen_snapshot::limits::DURATION_MS_MAX;

use crate::language::rules::findings::Findings;
use crate::language::text::duration_ms;

/// A time span that is neither 0 nor too long.
pub(super) fn check_span(
    text: Option<&str>,
    path: &str,
    field: &str,
    help_if_0: &str,
    findings: &mut Findings<'_>,
) {
    if text.and_then(duration_ms) == Some(0) {
        findings.error_with_help(path, format!("`{field}` is 0"), help_if_0);
    }
    check_length(text, path, field, findings);
}

/// A time span that may be 0.
pub(super) fn check_length(
    text: Option<&str>,
    path: &str,
    field: &str,
    findings: &mut Findings<'_>,
) {
    if text.and_then(duration_ms).is_some_and(|span_ms| span_ms > DURATION_MS_MAX.into()) {
        findings.error_with_help(path, format!("`{field}` is too long"), "at most `720h`");
    }
}
