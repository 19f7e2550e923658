//! Rules of rate limits.

use super::{check_fits, check_span};
use crate::language::kinds::traffic_policy::TargetRef;
use crate::language::kinds::traffic_policy::rate_limit::{
    RateLimit, RateLimitKey, RateLimitKeyType,
};
use crate::language::rules::findings::Findings;
use crate::language::text::is_token;

pub(super) fn check_rate_limits(
    limits: &[RateLimit],
    targets: &[TargetRef],
    findings: &mut Findings<'_>,
) {
    for (index, limit) in limits.iter().enumerate() {
        let field = format!("rateLimits[{index}]");
        let path = format!("spec.{field}");
        match (limit.requests, limit.connections) {
            (None, None) => {
                let help = "such as `requests: 100`, and `per: 1s`";
                let message = "this limit does not say how much is let through";
                findings.error_with_help(&path, message, help);
            }
            (Some(_), Some(_)) => {
                let message = "a limit is of `requests` or of `connections`";
                let (at, first) = (format!("{path}.connections"), format!("{path}.requests"));
                findings.conflict(&at, &first, message);
            }
            (Some(_), None) => {
                let fits = |kind: &str| kind != "TCPRoute";
                check_fits(&format!("{field}.requests"), fits, targets, findings);
            }
            (None, Some(_)) => {
                let fits = |kind: &str| kind != "HTTPRoute";
                check_fits(&format!("{field}.connections"), fits, targets, findings);
            }
        }
        let help = "such as `1s` or `1m`";
        check_span(limit.per.as_deref(), &format!("{path}.per"), "per", help, findings);
        match &limit.key {
            Some(key) => check_key(key, limit.connections.is_some(), &path, findings),
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
