//! Where a client is sent: the value of `Location`.
//!
//! Before it: the route of a request is a redirect. After it: `reply` writes the answer. It says
//! nothing that did not come from config or from the request.

use lateen_snapshot::model::Redirect;

use crate::codec::http1::fields::put_number;
use crate::codec::http1::rewrite::put_target;
use crate::codec::message::Scheme;

/// What a redirect takes from the request, where it does not say it itself.
#[derive(Clone, Copy, Debug)]
pub struct Redirected<'a> {
    /// How the client reached the proxy.
    pub scheme: Scheme,
    /// The request's authority, or where it named none, an address that the client can reach.
    pub authority: &'a [u8],
    /// The port that the client reached.
    pub listener_port: u16,
    /// The request's path and query; `*` becomes `/`.
    pub target: &'a [u8],
    /// See [`Found`](crate::decide::route::Found).
    pub prefix_bytes: u32,
}

/// Appends an absolute URL (HTTPRequestRedirectFilter). The port is the redirect's, else that of the
/// scheme that it names, else the listener's; it is left out where it is the scheme's own.
pub fn put_location(redirect: &Redirect, request: &Redirected<'_>, out: &mut Vec<u8>) {
    let (scheme, own_port) = match (redirect.scheme.as_deref(), request.scheme) {
        (Some("https"), _) | (None, Scheme::Https) => ("https", 443),
        (Some(_), _) | (None, Scheme::Http) => ("http", 80),
    };
    let listener_port = if redirect.scheme.is_some() { own_port } else { request.listener_port };
    let port = redirect.port.unwrap_or(listener_port);
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    match &redirect.host {
        Some(host) => out.extend_from_slice(host.as_bytes()),
        None => out.extend_from_slice(without_port(request.authority)),
    }
    if port != own_port {
        out.push(b':');
        put_number(u64::from(port), out);
    }
    let target = if request.target == b"*" { b"/" } else { request.target };
    put_target(target, redirect.path.as_ref(), request.prefix_bytes as usize, out);
}

/// The host of a valid authority; an IP literal keeps its brackets.
fn without_port(authority: &[u8]) -> &[u8] {
    let behind_literal = authority.iter().position(|&byte| byte == b']').unwrap_or(0);
    match authority[behind_literal..].iter().position(|&byte| byte == b':') {
        Some(colon) => &authority[..behind_literal + colon],
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use lateen_snapshot::model::PathRewrite;

    use super::*;

    const REQUEST: Redirected<'static> = Redirected {
        scheme: Scheme::Http,
        authority: b"Example.com:8080",
        listener_port: 8080,
        target: b"/foo/bar?a=b",
        prefix_bytes: 4,
    };

    const REDIRECT: Redirect =
        Redirect { status: 302, scheme: None, host: None, port: None, path: None };

    fn location(redirect: &Redirect, request: &Redirected<'_>) -> String {
        let mut out = Vec::new();
        put_location(redirect, request, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_is_not_said_is_taken_from_the_request() {
        let https = Redirected { scheme: Scheme::Https, listener_port: 443, ..REQUEST };
        let v6 = Redirected { authority: b"[::1]:99", ..REQUEST };
        let bare_v6 = Redirected { authority: b"[::1]", listener_port: 80, ..REQUEST };
        let options = Redirected { target: b"*", ..REQUEST };
        for (request, expected) in [
            (REQUEST, "http://Example.com:8080/foo/bar?a=b"),
            (https, "https://Example.com/foo/bar?a=b"),
            (v6, "http://[::1]:8080/foo/bar?a=b"),
            (bare_v6, "http://[::1]/foo/bar?a=b"),
            (options, "http://Example.com:8080/"),
        ] {
            assert_eq!(location(&REDIRECT, &request), expected);
        }
    }

    #[test]
    fn a_port_is_written_where_it_is_not_the_schemes_own() {
        let on_80 = Redirected { listener_port: 80, ..REQUEST };
        for (request, scheme, port, expected) in [
            (REQUEST, Some("https"), None, "https://Example.com/foo"),
            (REQUEST, Some("https"), Some(443), "https://Example.com/foo"),
            (REQUEST, Some("https"), Some(80), "https://Example.com:80/foo"),
            (REQUEST, Some("http"), None, "http://Example.com/foo"),
            (REQUEST, Some("http"), Some(8443), "http://Example.com:8443/foo"),
            (REQUEST, None, Some(80), "http://Example.com/foo"),
            (REQUEST, None, Some(443), "http://Example.com:443/foo"),
            (on_80, None, None, "http://Example.com/foo"),
        ] {
            let redirect = Redirect { scheme: scheme.map(str::to_owned), port, ..REDIRECT };
            let request = Redirected { target: b"/foo", ..request };
            assert_eq!(location(&redirect, &request), expected, "{scheme:?} {port:?}");
        }
    }

    #[test]
    fn host_and_path_are_replaced_and_the_query_stays() {
        let host = || Some("other.example".to_owned());
        for (path, expected) in [
            (None, "http://other.example:8080/foo/bar?a=b"),
            (Some(PathRewrite::Full("/x".into())), "http://other.example:8080/x?a=b"),
            (Some(PathRewrite::Prefix("/x".into())), "http://other.example:8080/x/bar?a=b"),
            (Some(PathRewrite::Prefix(String::new())), "http://other.example:8080/bar?a=b"),
        ] {
            assert_eq!(location(&Redirect { host: host(), path, ..REDIRECT }, &REQUEST), expected);
        }
    }
}
