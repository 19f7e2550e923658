//! The sources from which a listener takes headers of the PROXY protocol.

use std::net::IpAddr;

use lateen_snapshot::model::proxy_protocol::AddressRange;

use crate::language::kinds::proxy::ProxyListener;
use crate::language::rules::findings::Findings;
use crate::language::text::address_range;

pub(super) fn check(listener: &ProxyListener, path: &str, findings: &mut Findings<'_>) {
    let from = listener.proxy_protocol.iter().flat_map(|accepted| &accepted.from);
    for (index, text) in from.enumerate() {
        let path = format!("{path}.proxyProtocol.from[{index}]");
        let Some((address, bits)) = address_range(text) else {
            let message = format!("`{text}` is no range of addresses");
            let help = "an IP address and how many of its bits count, such as `10.0.0.0/8`";
            findings.error_with_help(&path, message, help);
            continue;
        };
        let canonical = address.to_canonical();
        if canonical != address {
            let message = format!("`{text}` is an IPv4 address that is written as IPv6");
            findings.error_with_help(&path, message, format!("write `{canonical}`"));
            continue;
        }
        match AddressRange::around(address, bits) {
            Some(range) if range.address != address => {
                let message = format!("`{text}` has bits beyond its first {bits}");
                let help = format!("write `{}/{bits}`, or all bits of one address", range.address);
                findings.error_with_help(&path, message, help);
            }
            Some(_) => {}
            None => {
                let most = if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
                let message = format!("`{text}`: the address has {most} bits only");
                findings.error_with_help(&path, message, format!("`/{most}` is this one alone"));
            }
        }
    }
    let each = listener.proxy_protocol.iter().flat_map(|accepted| &accepted.from).enumerate();
    let each = each.map(|(index, text)| {
        (format!("{path}.proxyProtocol.from[{index}]"), text.clone(), text.clone())
    });
    findings.unique("the range", each);
}
