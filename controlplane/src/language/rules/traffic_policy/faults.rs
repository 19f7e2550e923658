//! Rules of the faults of a TrafficPolicy.

use super::check_fits;
use crate::language::kinds::traffic_policy::faults::{FaultFraction, Faults};
use crate::language::kinds::traffic_policy::{TargetRef, Timeouts};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_length;
use crate::language::text::duration_ms;

pub(super) fn check(
    faults: &Faults,
    timeouts: Option<&Timeouts>,
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    check_fits("faults", |kind| kind != "TCPRoute", targets, findings);
    let Faults { headers, delay, abort, response_bandwidth } = faults;
    if delay.is_none() && abort.is_none() && response_bandwidth.is_none() {
        let help = "give it `delay`, `abort` or `responseBandwidth`";
        findings.error_with_help("spec.faults", "no fault is said", help);
    }
    let names = headers.iter().flatten().enumerate().map(|(index, header)| {
        let path = format!("spec.faults.headers[{index}].name");
        (path, header.name.to_ascii_lowercase(), header.name.clone())
    });
    findings.unique("the header", names);
    if let Some(delay) = delay {
        let path = "spec.faults.delay.duration";
        check_length(Some(&delay.duration), path, "duration", findings);
        if duration_ms(&delay.duration) == Some(0) {
            findings.error_with_help(path, "a delay of 0 delays nothing", "at least `1ms`");
        }
        check_is_over_in_time(&delay.duration, timeouts, findings);
        check_fraction(&delay.fraction, "delay", findings);
    }
    if let Some(abort) = abort {
        match (abort.status, abort.reset) {
            (Some(_), Some(true)) => findings.conflict(
                "spec.faults.abort.reset",
                "spec.faults.abort.status",
                "a client whose connection is reset gets no `status`",
            ),
            (None, None | Some(false)) => {
                let help = "such as `status: 503`, or `reset: true`";
                findings.error_with_help("spec.faults.abort", "an abort that does nothing", help);
            }
            (Some(_), None | Some(false)) | (None, Some(true)) => {}
        }
        check_fraction(&abort.fraction, "abort", findings);
    }
    if let Some(bandwidth) = response_bandwidth {
        check_fraction(&bandwidth.fraction, "responseBandwidth", findings);
    }
}

/// Who waits for as long as a request may take is not forwarded, but answered 504: that is an abort.
fn check_is_over_in_time(delay: &str, timeouts: Option<&Timeouts>, findings: &mut Findings<'_>) {
    let limit = timeouts.and_then(|timeouts| timeouts.request.as_deref()).and_then(duration_ms);
    let Some(limit_ms) = limit.filter(|&limit_ms| limit_ms > 0) else { return };
    if duration_ms(delay).is_some_and(|delay_ms| delay_ms >= limit_ms) {
        findings.conflict(
            "spec.faults.delay.duration",
            "spec.timeouts.request",
            "`duration` must be shorter than `timeouts.request`: the request is over then",
        );
    }
}

fn check_fraction(fraction: &FaultFraction, of: &str, findings: &mut Findings<'_>) {
    let denominator = fraction.of();
    if fraction.numerator > denominator {
        let path = format!("spec.faults.{of}.fraction.numerator");
        let message = format!("{} of {denominator} are more than all", fraction.numerator);
        findings.error_with_help(&path, message, format!("at most `{denominator}`"));
    }
}
