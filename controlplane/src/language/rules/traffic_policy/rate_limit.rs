//! Rules of rate limits.

use lateen_snapshot::limits::{RATE_BYTES_BURST_LEAST, RATE_UNITS_MAX};

use super::check_fits;
use crate::language::kinds::traffic_policy::TargetRef;
use crate::language::kinds::traffic_policy::rate_limit::{
    RateLimit, RateLimitKey, RateLimitKeyType,
};
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_span;
use crate::language::text::is_token;

pub(super) fn check_rate_limits(
    limits: &[RateLimit],
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("rateLimits[{index}]");
        let path = format!("spec.{field}");
        check_unit(limit, &field, targets, findings);
        let help = "such as `1s` or `1m`";
        check_span(limit.per.as_deref(), &format!("{path}.per"), "per", help, findings);
        match &limit.key {
            Some(key) => {
                check_key(key, limit.connections.is_some(), &path, findings);
                check_key_of_bytes(limit, key, &path, targets, findings);
            }
            None if limit.max_keys.is_some() => {
                let message = "`maxKeys` says nothing without a `key`";
                let help = "say what is counted by itself, such as `key: {type: SourceAddress}`";
                findings.error_with_help(&format!("{path}.maxKeys"), message, help);
            }
            None => {}
        }
    }
    let names = limits.iter().enumerate();
    let names = names.map(|(index, limit)| {
        (format!("spec.rateLimits[{index}].name"), &limit.name, limit.name.clone())
    });
    findings.unique("the limit", names);
}

/// What is counted: exactly one of the three, and what is said of it.
fn check_unit(limit: &RateLimit, field: &str, targets: &[TargetRef], findings: &mut Findings<'_>) {
    let path = format!("spec.{field}");
    let units = [
        ("requests", limit.requests.is_some(), "TCPRoute"),
        ("connections", limit.connections.is_some(), "HTTPRoute"),
        ("bytes", limit.bytes.is_some(), ""),
    ];
    let mut said = units.into_iter().filter(|(_, is_said, _)| *is_said);
    let Some((unit, _, not_for)) = said.next() else {
        let help = "such as `requests: 100`, and `per: 1s`";
        let message = "this limit does not say how much is let through";
        return findings.error_with_help(&path, message, help);
    };
    if let Some((second, ..)) = said.next() {
        let message = "a limit is of `requests`, of `connections` or of `bytes`";
        return findings.conflict(&format!("{path}.{second}"), &format!("{path}.{unit}"), message);
    }
    check_fits(&format!("{field}.{unit}"), |kind| kind != not_for, targets, findings);
    if limit.headers.is_some() {
        let at = format!("{path}.headers");
        if limit.requests.is_none() {
            let message = format!("`headers` says nothing about `{unit}`, which nobody is told of");
            findings.conflict(&at, &format!("{path}.{unit}"), message);
        } else if limit.dry_run {
            let message = "clients are told nothing of a limit that only counts";
            findings.conflict(&at, &format!("{path}.dryRun"), message);
        }
    }
    if limit.bytes.is_some() {
        if limit.burst.is_some_and(|burst| burst < RATE_BYTES_BURST_LEAST) {
            let message = "a `burst` of so few bytes would have them sent one by one";
            let help = format!("at least {RATE_BYTES_BURST_LEAST}");
            findings.error_with_help(&format!("{path}.burst"), message, help);
        }
        return;
    }
    if limit.direction.is_some() {
        let message = format!("`direction` says nothing about `{unit}`");
        let at = format!("{path}.direction");
        findings.conflict(&at, &format!("{path}.{unit}"), message);
    }
    if limit.burst.is_some_and(|burst| burst > RATE_UNITS_MAX) {
        let message = format!("a `burst` of so many {unit} is no limit");
        let help = format!("at most {RATE_UNITS_MAX}");
        findings.error_with_help(&format!("{path}.burst"), message, help);
    }
}

/// What is not HTTP has no head, whose parts could tell its bytes apart.
fn check_key_of_bytes(
    limit: &RateLimit,
    key: &RateLimitKey,
    path: &str,
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    let has_bytes_alone = targets.iter().position(|target| target.kind == "TCPRoute");
    let Some(index) = has_bytes_alone.filter(|_| limit.bytes.is_some()) else { return };
    let target = format!("spec.targetRefs[{index}].kind");
    let kind = key.r#type;
    if kind != RateLimitKeyType::SourceAddress {
        let message = format!("the connections of a TCPRoute have no {kind:?} to be counted by");
        findings.conflict(&format!("{path}.key.type"), &target, message);
    } else if key.trusted_hops.is_some_and(|hops| hops > 0) {
        let message = "the connections of a TCPRoute have no `X-Forwarded-For`";
        findings.conflict(&format!("{path}.key.trustedHops"), &target, message);
    }
}

fn check_key(key: &RateLimitKey, of_connections: bool, limit: &str, findings: &mut Findings<'_>) {
    let path = format!("{limit}.key");
    let (type_path, kind) = (format!("{path}.type"), key.r#type);
    if kind != RateLimitKeyType::SourceAddress {
        if of_connections {
            let message = format!("a connection has no {kind:?} to be counted by");
            let first = format!("{limit}.connections");
            findings.conflict(&type_path, &first, message);
        }
        match &key.name {
            None => {
                findings.error(&path, format!("a key of the type `{kind:?}` needs a `name`"));
            }
            Some(name) if !is_token(name) => {
                let message = format!("`{name}` can't be the name of a header field or a cookie");
                let help = "letters, digits and !#$%&'*+-.^_`|~";
                findings.error_with_help(&format!("{path}.name"), message, help);
            }
            Some(_) => {}
        }
        let of_addresses = [
            ("ipv4PrefixLength", key.ipv4_prefix_length.is_some()),
            ("ipv6PrefixLength", key.ipv6_prefix_length.is_some()),
            ("trustedHops", key.trusted_hops.is_some()),
        ];
        for (field, _) in of_addresses.into_iter().filter(|(_, is_there)| *is_there) {
            let message = format!("`{field}` says nothing for a key of the type `{kind:?}`");
            findings.conflict(&format!("{path}.{field}"), &type_path, message);
        }
        return;
    }
    if key.name.is_some() {
        let message = "a key of the type `SourceAddress` has no `name`";
        findings.conflict(&format!("{path}.name"), &type_path, message);
    }
    if of_connections && key.trusted_hops.is_some_and(|hops| hops > 0) {
        let message = "a connection has no `X-Forwarded-For` that hops could be trusted for";
        let first = format!("{limit}.connections");
        findings.conflict(&format!("{path}.trustedHops"), &first, message);
    }
}
