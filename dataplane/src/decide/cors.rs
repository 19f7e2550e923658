//! Which other origins' pages may call, and read the answer (Fetch standard, "CORS protocol";
//! HTTPRoute `cors`).
//!
//! Before it: the route of a request has a policy. After it: the proxy answers a preflight request
//! itself, with [`PREFLIGHT_STATUS`] and the lines of [`CorsPolicy::preflight`], and an upstream's
//! response gets those of [`CorsPolicy::response`] in place of its own. What the policy says of an
//! origin is for its browser to enforce: no request is refused here.
//!
//! An answer that hangs on the origin says so (`Vary: Origin`) whatever the request was, and one that
//! does not is the same for every request: else a cache could hand the answer for one origin, or for
//! none, to another (Fetch standard, "CORS protocol and HTTP caches").

use lateen_snapshot::model::Cors;
use lateen_snapshot::validate::text::CORS_FIELDS;

use crate::codec::http1::head::Fields;

/// The status of the answer to a preflight request, also to one of an origin that is not allowed: it
/// then has none of the fields that would allow anything (HTTPCORSFilter, `allowOrigins`).
pub const PREFLIGHT_STATUS: u16 = 204;

/// A CORS policy, ready to be asked.
#[derive(Debug)]
pub struct CorsPolicy {
    origins: Origins,
    /// `true` if cookies and credentials may come along.
    credentials: bool,
    methods: List,
    headers: List,
    /// The names that a page may read, or `*`; empty for none.
    exposed: Box<[u8]>,
    max_age_s: u32,
}

#[derive(Debug)]
enum Origins {
    Any,
    These(Box<[Origin]>),
}

/// An origin, or those of all hosts below one.
#[derive(Debug)]
struct Origin {
    scheme: Box<[u8]>,
    /// The host; for a wildcard what comes behind its `*`, which begins with a dot.
    host: Box<[u8]>,
    is_wildcard: bool,
    port: Option<u16>,
}

/// What may be asked for.
#[derive(Debug)]
enum List {
    /// Everything.
    Any,
    /// These, as they stand in the answer; may be empty.
    These(Box<[u8]>),
}

/// Whether a request asks for leave for another one (Fetch standard, "CORS-preflight request").
pub fn is_preflight(method: &[u8], fields: Fields<'_>) -> bool {
    method == b"OPTIONS"
        && value_of(fields, "origin").is_some()
        && value_of(fields, "access-control-request-method").is_some()
}

impl CorsPolicy {
    /// The fields of a response that the policy decides on: those of an upstream are left out.
    pub const RESPONSE_FIELDS: &'static [&'static str] = &CORS_FIELDS;

    /// Of a snapshot's.
    pub fn of(cors: &Cors) -> Self {
        let has_star = |texts: &[String]| texts.iter().any(|text| text == "*");
        let joined = |texts: &[String]| Box::from(texts.join(", ").as_bytes());
        let list = |texts: &[String]| {
            if has_star(texts) { List::Any } else { List::These(joined(texts)) }
        };
        let exposed = if !cors.allow_credentials && has_star(&cors.expose_headers) {
            Box::from(&b"*"[..])
        } else {
            // With credentials `*` would be taken for a name (Fetch standard).
            let mut named = cors.expose_headers.clone();
            named.retain(|name| name != "*");
            joined(&named)
        };
        let origins = if has_star(&cors.allow_origins) {
            Origins::Any
        } else {
            Origins::These(cors.allow_origins.iter().map(|text| Origin::of(text)).collect())
        };
        Self {
            origins,
            credentials: cors.allow_credentials,
            methods: list(&cors.allow_methods),
            headers: list(&cors.allow_headers),
            exposed,
            max_age_s: cors.max_age_s,
        }
    }

    /// Appends the lines of the answer to a preflight request.
    pub fn preflight(&self, fields: Fields<'_>, out: &mut Vec<u8>) {
        if !self.put_origin(value_of(fields, "origin"), out) {
            return;
        }
        self.put_list("Access-Control-Allow-Methods", &self.methods, out, || {
            value_of(fields, "access-control-request-method").map(<[u8]>::to_vec)
        });
        self.put_list("Access-Control-Allow-Headers", &self.headers, out, || {
            let asked: Vec<&[u8]> = fields.values(b"access-control-request-headers").collect();
            (!asked.is_empty()).then(|| asked.join(&b", "[..]))
        });
        put_line("Access-Control-Max-Age", self.max_age_s.to_string().as_bytes(), out);
    }

    /// Appends the lines of the response to any other request; `fields` are the request's.
    pub fn response(&self, fields: Fields<'_>, out: &mut Vec<u8>) {
        if self.put_origin(value_of(fields, "origin"), out) && !self.exposed.is_empty() {
            put_line("Access-Control-Expose-Headers", &self.exposed, out);
        }
    }

    /// Appends what an answer says of the origin, and returns whether that is allowed.
    fn put_origin(&self, origin: Option<&[u8]>, out: &mut Vec<u8>) -> bool {
        if matches!(self.origins, Origins::Any) && !self.credentials {
            put_line("Access-Control-Allow-Origin", b"*", out);
            return true;
        }
        let allowed = origin.filter(|origin| self.allows(origin));
        if let Some(origin) = allowed {
            put_line("Access-Control-Allow-Origin", origin, out);
            if self.credentials {
                put_line("Access-Control-Allow-Credentials", b"true", out);
            }
        }
        put_line("Vary", b"Origin", out);
        allowed.is_some()
    }

    fn allows(&self, origin: &[u8]) -> bool {
        match &self.origins {
            Origins::Any => true,
            Origins::These(origins) => {
                let Some((scheme, host, port)) = split_origin(origin) else { return false };
                origins.iter().any(|allowed| allowed.is(scheme, host, port))
            }
        }
    }

    /// `*` means everything only without credentials; with them what was asked for is allowed by
    /// name, and a request that asks for nothing hears of nothing.
    fn put_list(
        &self,
        name: &str,
        list: &List,
        out: &mut Vec<u8>,
        asked: impl Fn() -> Option<Vec<u8>>,
    ) {
        match list {
            List::Any if !self.credentials => put_line(name, b"*", out),
            List::Any => {
                if let Some(asked) = asked() {
                    put_line(name, &asked, out);
                }
            }
            List::These(these) if these.is_empty() => {}
            List::These(these) => put_line(name, these, out),
        }
    }
}

impl Origin {
    /// Of config's text; one that is no origin matches nothing.
    fn of(text: &str) -> Self {
        let (scheme, host, port) = split_origin(text.as_bytes()).unwrap_or((b"", b"", None));
        let below = host.strip_prefix(b"*").filter(|below| below.starts_with(b"."));
        Self {
            scheme: scheme.to_ascii_lowercase().into(),
            host: below.unwrap_or(host).to_ascii_lowercase().into(),
            is_wildcard: below.is_some(),
            port,
        }
    }

    fn is(&self, scheme: &[u8], host: &[u8], port: Option<u16>) -> bool {
        let same_host = if self.is_wildcard {
            // Any number of labels, and one at least, stand before the dot.
            host.len() > self.host.len()
                && host[host.len() - self.host.len()..].eq_ignore_ascii_case(&self.host)
        } else {
            host.eq_ignore_ascii_case(&self.host)
        };
        same_host && scheme.eq_ignore_ascii_case(&self.scheme) && port == self.port
    }
}

/// Scheme, host and port; the scheme's own port counts as none. `None`: no origin, as `null` is none.
fn split_origin(origin: &[u8]) -> Option<(&[u8], &[u8], Option<u16>)> {
    let colon = origin.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = (&origin[..colon], origin[colon..].strip_prefix(b"://")?);
    let literal_end = rest.iter().position(|&byte| byte == b']').unwrap_or(0);
    let port_at = rest[literal_end..].iter().position(|&byte| byte == b':');
    let (host, port) = match port_at {
        Some(at) => {
            let (host, digits) = rest.split_at(literal_end + at);
            let port = core::str::from_utf8(&digits[1..]).ok()?.parse::<u16>().ok()?;
            (host, Some(port))
        }
        None => (rest, None),
    };
    let own_port = match scheme {
        _ if scheme.eq_ignore_ascii_case(b"http") => Some(80),
        _ if scheme.eq_ignore_ascii_case(b"https") => Some(443),
        _ => None,
    };
    let is_host = !scheme.is_empty() && !host.is_empty() && !host.contains(&b'/');
    is_host.then_some((scheme, host, port.filter(|_| port != own_port)))
}

/// The value of the only field of this name. Several origins are none: no browser sends them.
fn value_of<'f>(fields: Fields<'f>, name: &str) -> Option<&'f [u8]> {
    let mut values = fields.values(name.as_bytes());
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn put_line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for text in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests;
