//! Rules of an EndpointSlice.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::language::object::SERVICE_NAME_LABEL;
use crate::language::rules::findings::Findings;

pub(super) fn check(slice: &EndpointSlice, findings: &mut Findings<'_>) {
    if !findings.declared.metadata.labels.contains_key(SERVICE_NAME_LABEL) {
        let message = format!("the label `{SERVICE_NAME_LABEL}` is missing");
        let help = "it says which Service these endpoints are of";
        findings.error_with_help("metadata.labels", message, help);
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        for (address_index, address) in endpoint.addresses.iter().enumerate() {
            let is_v4 = matches!(address.parse(), Ok(IpAddr::V4(_)));
            if is_v4 != (slice.address_type == "IPv4") {
                let path = format!("endpoints[{index}].addresses[{address_index}]");
                let message = format!("`{address}` is no {} address", slice.address_type);
                findings.error_with_help(&path, message, "`addressType` says what they are");
            }
        }
    }
    let names = slice.ports.iter().flatten().enumerate().map(|(index, port)| {
        let name = port.name.clone().unwrap_or_default();
        let shown = if name.is_empty() { "\"\"".to_owned() } else { name.clone() };
        (format!("ports[{index}].name"), name, shown)
    });
    findings.unique("the port", names);
}
