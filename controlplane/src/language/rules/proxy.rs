//! Rules of a Proxy.

use std::net::{IpAddr, Ipv4Addr};

use lateen_snapshot::limits::DURATION_MS_MAX;

use crate::language::kinds::proxy::{ListenerProtocol, ListenerType, ProxyListener, ProxySpec};
use crate::language::rules::findings::Findings;
use crate::language::rules::proxy_sources;
use crate::language::schema::check::list_of;
use crate::language::text::duration_ms;

pub(super) fn check(proxy: &ProxySpec, findings: &mut Findings<'_>) {
    let listeners = &proxy.listeners;
    let names = listeners.iter().enumerate().map(|(index, listener)| {
        (format!("spec.listeners[{index}].name"), listener.name.clone(), listener.name.clone())
    });
    findings.unique("the listener", names);
    let addresses = listeners.iter().enumerate().filter_map(|(index, listener)| {
        let default = match listener.r#type {
            ListenerType::Outbound => Ipv4Addr::LOCALHOST,
            ListenerType::Inbound | ListenerType::Gateway => Ipv4Addr::UNSPECIFIED,
        };
        let key = (listener.address.unwrap_or(IpAddr::V4(default)), listener.port?);
        Some((format!("spec.listeners[{index}].port"), key, format!("{}:{}", key.0, key.1)))
    });
    findings.unique("the address", addresses);
    for (index, listener) in listeners.iter().enumerate() {
        check_listener(listener, &format!("spec.listeners[{index}]"), findings);
    }
}

/// Whether a field must, may or can't be there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Must,
    May,
    Not,
}

use Presence::{May, Must, Not};

/// For each field that not every listener has: for `Inbound`, `Outbound` and `Gateway`.
const FIELDS: [(&str, [Presence; 3]); 9] = [
    ("port", [Must, Must, Not]),
    ("protocol", [May, May, Not]),
    ("service", [May, Not, Not]),
    ("target", [Must, Not, Not]),
    ("backend", [Not, May, Not]),
    ("gateway", [Not, Not, Must]),
    ("portOffset", [Not, Not, May]),
    ("proxyProtocol", [May, May, May]),
    ("maxConnectionDuration", [May, May, May]),
];

fn check_listener(listener: &ProxyListener, path: &str, findings: &mut Findings<'_>) {
    let of_type = listener.r#type as usize;
    for (name, presence) in FIELDS {
        let is_there = findings.declared.node_at(&format!("{path}.{name}")).is_some();
        match presence[of_type] {
            Must if !is_there => {
                let message = format!("`{path}.{name}` is missing");
                let help = format!("a listener of type `{:?}` needs it", listener.r#type);
                findings.error_with_help(path, message, help);
            }
            Not if is_there => {
                let message = format!("a listener of type `{:?}` has no `{name}`", listener.r#type);
                let fields = FIELDS.iter().filter(|field| field.1[of_type] != Not);
                let names: Vec<String> = fields.map(|field| field.0.to_owned()).collect();
                let help = format!(
                    "beside `name`, `type` and `address` it can have {}",
                    list_of(&names, "and")
                );
                findings.error_with_help(&format!("{path}.{name}"), message, help);
            }
            _ => {}
        }
    }
    proxy_sources::check(listener, path, findings);
    check_duration(listener, path, findings);
    if listener.r#type == ListenerType::Outbound {
        check_backend(listener, path, findings);
    }
}

fn check_duration(listener: &ProxyListener, path: &str, findings: &mut Findings<'_>) {
    let path = format!("{path}.maxConnectionDuration");
    match listener.max_connection_duration.as_deref().and_then(duration_ms) {
        Some(0) => {
            let help = "leave it out where a connection may last for ever";
            findings.error_with_help(&path, "`maxConnectionDuration` is 0", help);
        }
        Some(span_ms) if span_ms > DURATION_MS_MAX.into() => {
            let message = "`maxConnectionDuration` is too long";
            findings.error_with_help(&path, message, "at most 30 days (`720h`)");
        }
        _ => {}
    }
}

/// Bytes that name no host go to one service.
fn check_backend(listener: &ProxyListener, path: &str, findings: &mut Findings<'_>) {
    let protocol = listener.protocol.unwrap_or_default();
    let speaks_http_only = protocol == ListenerProtocol::Http;
    match &listener.backend {
        None if !speaks_http_only => {
            let message = format!("`{path}.backend` is missing");
            let help = "bytes that are not HTTP go to it; without one write `protocol: HTTP`";
            findings.error_with_help(path, message, help);
        }
        Some(_) if speaks_http_only => {
            let message = "an `Outbound` listener of HTTP has no `backend`";
            let help = "requests go to the service that their host names";
            findings.error_with_help(&format!("{path}.backend"), message, help);
        }
        _ => {}
    }
}
