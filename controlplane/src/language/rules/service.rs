//! Rules of a Service, that of Kubernetes and that of Lateen.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceSpec as CoreServiceSpec;

use crate::language::kinds::service::{ServicePort, ServiceSpec};
use crate::language::rules::findings::Findings;
use crate::language::rules::ports::check_ports;
use crate::language::schema::check::{list_of, nearest};

pub(super) fn check_core(service: &CoreServiceSpec, findings: &mut Findings<'_>) {
    let ports = service.ports.as_deref().unwrap_or_default().iter();
    let ports = ports.map(|port| {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        (port.name.as_ref(), (i64::from(port.port), protocol))
    });
    check_ports("spec.ports", ports, findings);
}

pub(super) fn check(service: &ServiceSpec, findings: &mut Findings<'_>) {
    let ports = service.ports.iter();
    let ports = ports.map(|port| (port.name.as_ref(), (i64::from(port.port), "")));
    check_ports("spec.ports", ports, findings);
    match (&service.endpoints, &service.dns) {
        (Some(_), Some(_)) => {
            let message = "a Service has `endpoints` or `dns`, not both";
            findings.conflict("spec.dns", "spec.endpoints", message);
        }
        (None, None) => {
            let help = "list its `endpoints`, or give the `dns` name that they have";
            findings.error_with_help("spec", "a Service needs `endpoints` or `dns`", help);
        }
        (Some(endpoints), None) => {
            for (index, endpoint) in endpoints.iter().enumerate() {
                let path = format!("spec.endpoints[{index}]");
                let given = (endpoint.port, endpoint.ports.as_ref());
                check_target_ports(&service.ports, given, &path, findings);
            }
            let addresses = endpoints.iter().enumerate().map(|(index, endpoint)| {
                let key = (endpoint.address, endpoint.port, endpoint.ports.clone());
                let path = format!("spec.endpoints[{index}].address");
                (path, key, endpoint.address.to_string())
            });
            findings.unique("the endpoint", addresses);
        }
        (None, Some(dns)) => {
            let given = (dns.port, dns.ports.as_ref());
            check_target_ports(&service.ports, given, "spec.dns", findings);
        }
    }
}

/// An instance's ports: one number where the service has one port, else one for each by name.
fn check_target_ports(
    ports: &[ServicePort],
    given: (Option<u16>, Option<&BTreeMap<String, u16>>),
    path: &str,
    findings: &mut Findings<'_>,
) {
    let names: Vec<String> = ports.iter().filter_map(|port| port.name.clone()).collect();
    let by_name = match given {
        (Some(_), Some(_)) => {
            let message = "`port` or `ports`, not both";
            return findings.conflict(&format!("{path}.ports"), &format!("{path}.port"), message);
        }
        (Some(_), None) if ports.len() == 1 => return,
        (Some(_), None) => {
            let message =
                format!("the Service has {} ports, so `port` says too little", ports.len());
            let help = format!("write `ports` with {}", list_of(&names, "and"));
            return findings.error_with_help(&format!("{path}.port"), message, help);
        }
        (None, None) => {
            let field = if ports.len() == 1 { "port" } else { "ports" };
            return findings.error(path, format!("`{path}.{field}` is missing"));
        }
        (None, Some(by_name)) => by_name,
    };
    for name in by_name.keys().filter(|name| !names.contains(name)) {
        let message = format!("the Service has no port `{name}`");
        let near = nearest(name, names.iter().map(String::as_str));
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its ports are {}", list_of(&names, "and")),
        };
        findings.error_with_help(&format!("{path}.ports.{name}"), message, help);
    }
    for name in names.iter().filter(|name| !by_name.contains_key(*name)) {
        findings.error(&format!("{path}.ports"), format!("`{path}.ports.{name}` is missing"));
    }
}
