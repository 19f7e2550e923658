//! A CORS filter, in the snapshot's one spelling.
//!
//! Source: Gateway API, `HTTPCORSFilter`.

use gateway_api::apis::experimental::httproutes::HttpRouteRulesFiltersCors;
use lateen_snapshot::limits::{HOST_BYTES_MAX, LABEL_BYTES_MAX};
use lateen_snapshot::model::Cors;

use crate::compile::findings::Findings;
use crate::language::object::Declared;

/// How long a preflight answer may be remembered if nothing is said, in seconds.
const MAX_AGE_S: u32 = 5;

pub(super) fn compile_cors(
    route: &Declared,
    path: &str,
    written: &HttpRouteRulesFiltersCors,
    findings: &mut Findings,
) -> Cors {
    let mut allow_origins = Vec::new();
    for (index, text) in written.allow_origins.iter().flatten().enumerate() {
        match normal_origin(text) {
            Ok(origin) => allow_origins.push(origin),
            Err(help) => {
                let message = format!("the origin `{text}` can't be allowed");
                let path = format!("{path}.allowOrigins[{index}]");
                findings.error_with_help(route, &path, message, help);
            }
        }
    }
    let lower = |names: &Option<Vec<String>>| -> Vec<String> {
        names.iter().flatten().map(|name| name.to_ascii_lowercase()).collect()
    };
    Cors {
        allow_origins,
        allow_credentials: written.allow_credentials.unwrap_or(false),
        allow_methods: written.allow_methods.clone().unwrap_or_default(),
        allow_headers: lower(&written.allow_headers),
        expose_headers: lower(&written.expose_headers),
        max_age_s: written.max_age.and_then(|age| u32::try_from(age).ok()).unwrap_or(MAX_AGE_S),
    }
}

/// `*`, or scheme, host and port in lower case, without the scheme's own port. Else what would be right.
fn normal_origin(text: &str) -> Result<String, &'static str> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://").unwrap_or(("", &lower));
    let own_port = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(own_port)),
        None => (authority, own_port),
    };
    if host == "*" {
        return Err(
            "write `*` for all origins, or name the hosts, such as `https://*.example.com`",
        );
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.len() > HOST_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(
            "each part of a host name has 1 to 63 letters, digits and `-`, and a letter or \
                    digit at both ends",
        );
    }
    Ok(match port == own_port {
        true => format!("{scheme}://{host}"),
        false => format!("{scheme}://{host}:{port}"),
    })
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_spelling() {
        for (written, expected) in [
            ("*", Some("*")),
            ("https://Shop.Example.com", Some("https://shop.example.com")),
            ("https://a.com:443", Some("https://a.com")),
            ("http://a.com:443", Some("http://a.com:443")),
            ("http://a.com:080", Some("http://a.com")),
            ("http://*.a.com:8080", Some("http://*.a.com:8080")),
            ("http://10.0.0.1:8080", Some("http://10.0.0.1:8080")),
            ("http://*", None),
            ("http://-a.com", None),
        ] {
            assert_eq!(normal_origin(written).ok().as_deref(), expected, "{written}");
        }
    }
}
