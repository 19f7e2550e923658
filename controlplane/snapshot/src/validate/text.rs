//! What a single value of a snapshot must look like: names, hosts, paths, header fields, patterns.
//!
//! Before: [`validate`](super) comes to a value; after: a problem of a field, or nothing. What
//! passed here may be written into an HTTP/1 head, a metric or a log line as it is.

#[cfg(test)]
mod tests;

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::parse::Parser;

use super::Invalid;
use super::patterns::Patterns;
use crate::limits::*;
use crate::model::HostPattern;

/// Bytes of a value that a message shows.
const SHOWN_BYTES_MAX: usize = 120;

/// Header fields that no edit may touch, because they frame the message, end at this hop, or say
/// what this hop alone knows. `host` is changed by a rewrite.
const RESERVED_FIELDS: [(&str, &str); 19] = [
    ("connection", ENDS_HERE),
    ("content-length", FRAMES),
    ("expect", ENDS_HERE),
    ("host", "the host is changed by a rewrite, not by header edits"),
    ("http2-settings", ENDS_HERE),
    ("keep-alive", ENDS_HERE),
    ("max-forwards", ENDS_HERE),
    ("proxy-authenticate", ENDS_HERE),
    ("proxy-authorization", ENDS_HERE),
    ("proxy-connection", ENDS_HERE),
    ("te", ENDS_HERE),
    ("trailer", FRAMES),
    ("transfer-encoding", FRAMES),
    ("upgrade", ENDS_HERE),
    ("via", SET_HERE),
    ("x-forwarded-for", SET_HERE),
    ("x-forwarded-proto", SET_HERE),
    ("x-lateen-epoch", SET_HERE),
    ("x-request-id", SET_HERE),
];
const ENDS_HERE: &str = "this header field belongs to one hop, it can't be edited";
const FRAMES: &str = "this header field frames the message, it can't be edited";
const SET_HERE: &str = "this header field is set by the proxy itself, it can't be edited";

/// Fields of a response that a route's CORS policy decides on: beside one nobody else may edit them.
pub const CORS_FIELDS: [&str; 3] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-expose-headers",
];

/// What is wrong with a field, before it is known whose field it is.
#[derive(Debug)]
pub(super) struct Problem {
    field: String,
    value: String,
    wanted: String,
}

impl Problem {
    pub(super) fn new(
        field: impl fmt::Display,
        value: impl fmt::Display,
        wanted: impl Into<String>,
    ) -> Self {
        Self { field: field.to_string(), value: value.to_string(), wanted: wanted.into() }
    }

    /// The same for a value that is text from outside.
    pub(super) fn quoted(field: impl fmt::Display, value: &str, wanted: impl Into<String>) -> Self {
        Self::new(field, quote(value), wanted)
    }

    /// The field is one of `outer`'s.
    pub(super) fn inside(mut self, outer: impl fmt::Display) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }

    pub(super) fn at(self, place: &dyn fmt::Display) -> Invalid {
        let Self { field, value, wanted } = self;
        Invalid { place: place.to_string(), field, value, wanted }
    }
}

/// A value in quotes, with escapes, cut to a readable length.
pub(super) fn quote(value: &str) -> String {
    let shown = clip(value, SHOWN_BYTES_MAX);
    if shown.len() == value.len() {
        return format!("{value:?}");
    }
    format!("{shown:?}… ({} bytes)", value.len())
}

/// The longest beginning of a text of at most so many bytes that ends between two characters.
pub(crate) fn clip(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

pub(super) fn show_pattern(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Any => "any".to_owned(),
        HostPattern::Exact(host) => quote(host),
        HostPattern::Suffix(suffix) => quote(&format!("*{suffix}")),
    }
}

/// Names go into metrics and log lines: any text that can't break out of its line.
pub(super) fn name(name: &str) -> Result<(), Problem> {
    not_longer("name", name, NAME_BYTES_MAX)?;
    if !name.is_empty() && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::quoted("name", name, "a name that is not empty, without control characters"))
}

/// What a limit counts under.
pub(super) fn limit_name(name: &str) -> Result<(), Problem> {
    not_longer("name", name, LIMIT_NAME_BYTES_MAX)?;
    if !name.is_empty() && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::quoted("name", name, "a name that is not empty, without control characters"))
}

/// What clients are told of a limit, in quotes (RFC 9651 §3.3.3).
pub(super) fn limit_label(label: &str) -> Result<(), Problem> {
    not_longer("label", label, LABEL_BYTES_MAX)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !label.is_empty() && label.bytes().all(is_plain) {
        return Ok(());
    }
    Err(Problem::quoted("label", label, "letters, digits and hyphens"))
}

fn not_longer(field: &'static str, value: &str, bytes_max: usize) -> Result<(), Problem> {
    if value.len() <= bytes_max {
        return Ok(());
    }
    Err(Problem::quoted(field, value, format!("at most {bytes_max} bytes")))
}

pub(super) fn host_pattern(pattern: &HostPattern) -> Result<(), Problem> {
    match pattern {
        HostPattern::Any => Ok(()),
        HostPattern::Exact(name) => host("host", name),
        HostPattern::Suffix(suffix) => match suffix.strip_prefix('.') {
            Some(name) => host("host", name),
            None => Err(Problem::quoted("host", suffix, "a suffix begins with a dot")),
        },
    }
}

/// A host name: lower case, no trailing dot, no port. Underscores are allowed, as DNS allows them
/// and names of services have them. An IPv4 address is one too; an IPv6 address is not.
pub(super) fn host(field: &'static str, name: &str) -> Result<(), Problem> {
    not_longer(field, name, HOST_BYTES_MAX)?;
    if name.split('.').all(|label| is_label(label.as_bytes())) {
        return Ok(());
    }
    Err(Problem::quoted(
        field,
        name,
        "a host name in lower case is needed: labels of letters, digits, '-' and '_' with single \
         dots between them, without port",
    ))
}

fn is_label(label: &[u8]) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
        && !label.starts_with(b"-")
        && !label.ends_with(b"-")
}

/// A path as a request line carries it, without a query.
pub(super) fn path(field: &'static str, path: &str) -> Result<(), Problem> {
    not_longer(field, path, PATH_BYTES_MAX)?;
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
    if path.starts_with('/') && path.bytes().all(plain) {
        return Ok(());
    }
    Err(Problem::quoted(
        field,
        path,
        "a path that begins with '/' is needed, of visible ASCII without '?' and '#' (others \
         percent-encoded)",
    ))
}

/// A path that stands for all below it.
pub(super) fn path_prefix(field: &'static str, prefix: &str) -> Result<(), Problem> {
    path(field, prefix)?;
    if prefix == "/" || !prefix.ends_with('/') {
        return Ok(());
    }
    Err(Problem::quoted(field, prefix, "a prefix has no trailing slash, unless it is \"/\""))
}

/// Source: RFC 9110 §9.1.
pub(super) fn method(field: &'static str, method: &str) -> Result<(), Problem> {
    not_longer(field, method, METHOD_BYTES_MAX)?;
    if is_token(method) {
        return Ok(());
    }
    Err(Problem::quoted(field, method, "a method is needed, such as GET"))
}

/// Source: RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A header field's name, in the lower case in which names are compared.
pub(super) fn field_name(field: &'static str, name: &str) -> Result<(), Problem> {
    not_longer(field, name, FIELD_NAME_BYTES_MAX)?;
    if is_token(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(Problem::quoted(field, name, "a header field's name in lower case is needed"))
}

/// Source: RFC 6265 §4.1.1.
pub(super) fn cookie_name(field: &'static str, name: &str) -> Result<(), Problem> {
    not_longer(field, name, COOKIE_NAME_BYTES_MAX)?;
    if is_token(name) {
        return Ok(());
    }
    Err(Problem::quoted(field, name, "a cookie's name is needed"))
}

/// A header field's name that edits may touch.
pub(super) fn editable_name(field: &'static str, name: &str) -> Result<(), Problem> {
    field_name(field, name)?;
    match why_reserved(name) {
        None => Ok(()),
        Some(why) => Err(Problem::quoted(field, name, why)),
    }
}

/// Why no edit may touch the header field of that name, in lower case; `None` if one may.
pub fn why_reserved(name: &str) -> Option<&'static str> {
    RESERVED_FIELDS.iter().find(|(reserved, _)| *reserved == name).map(|(_, why)| *why)
}

/// Source: RFC 9110 §5.5. Without the obsolete bytes past ASCII that are not UTF-8.
pub(super) fn field_value(field: &'static str, value: &str) -> Result<(), Problem> {
    not_longer(field, value, FIELD_VALUE_BYTES_MAX)?;
    let allowed = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if value.bytes().all(allowed) && value.trim_matches([' ', '\t']).len() == value.len() {
        return Ok(());
    }
    Err(Problem::quoted(
        field,
        value,
        "a header field's value has no control characters and no blanks at its ends",
    ))
}

/// A query parameter's name or value, as it stands in a request line.
pub(super) fn query_text(field: &'static str, text: &str, bytes_max: usize) -> Result<(), Problem> {
    not_longer(field, text, bytes_max)?;
    if !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::quoted(field, text, "a query has no control characters"))
}

pub(super) fn regex(
    field: &'static str,
    pattern: &str,
    patterns: &mut Patterns,
) -> Result<(), Problem> {
    not_longer(field, pattern, REGEX_BYTES_MAX)?;
    match patterns.compile(pattern) {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err(Problem::quoted(
            field,
            pattern,
            format!("a regular expression that takes at most {REGEX_PROGRAM_BYTES_MAX} bytes"),
        )),
        Err(error) => {
            // The last line says what is wrong; those before it draw where.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(Problem::quoted(field, pattern, format!("not a regular expression: {reason}")))
        }
    }
}

/// Compiles a pattern as [`validate`](super::validate) does and as a proxy must: it stands for whole
/// values, which may be any bytes.
///
/// Errors: the pattern is not one, or takes more than
/// [`REGEX_PROGRAM_BYTES_MAX`].
pub fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    // `a)|(b` would end the group below and escape its anchors.
    if let Err(error) = Parser::new().parse(pattern) {
        return Err(regex::Error::Syntax(error.to_string()));
    }
    RegexBuilder::new(&format!(r"\A(?:{pattern})\z"))
        .size_limit(REGEX_PROGRAM_BYTES_MAX)
        .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
        .build()
}

/// An origin that a CORS policy allows: `*`, or scheme, host and a port that is not the scheme's own.
pub(super) fn origin(field: &'static str, origin: &str) -> Result<(), Problem> {
    not_longer(field, origin, ORIGIN_BYTES_MAX)?;
    if origin == "*" || is_origin(origin) {
        return Ok(());
    }
    Err(Problem::quoted(
        field,
        origin,
        "\"*\" or an origin in lower case, such as https://example.com, https://*.example.com or \
         http://example.com:8080 (without the scheme's own port)",
    ))
}

fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    };
    let is_own = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|p| p > 0 && p.to_string() == text);
    is_scheme(scheme)
        && host("host", name.strip_prefix("*.").unwrap_or(name)).is_ok()
        && port.is_none_or(is_port)
        && !is_own
}

/// Source: RFC 3986 §3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'))
}
