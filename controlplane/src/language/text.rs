//! What a text has to look like to be a name, a host, a duration and so on.
//!
//! The patterns are those of the Gateway API's definitions (v1.5.1) and of Kubernetes. They stand in
//! the JSON Schemas; what is checked here is the same, with words instead of a pattern.

use std::net::IpAddr;

use crate::limits::REGEX_BYTES_MAX;

/// A form that texts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 1123 label, as a namespace.
    Label,
    /// RFC 1123 subdomain, as the name of most objects.
    Name,
    /// Host name, maybe with `*.` before it; no IP address.
    Hostname,
    /// Host name without a wildcard; no IP address.
    PreciseHostname,
    /// IP address.
    Ip,
    /// API group, or nothing for the core of Kubernetes.
    Group,
    /// Kind of objects.
    Kind,
    /// Field name of RFC 9110.
    HeaderName,
    /// Field value without white space around it.
    HeaderValue,
    /// Absolute path, without a query.
    Path,
    /// Absolute path that no two spellings have, as a match has it.
    MatchPath,
    /// What a matched prefix is replaced by: an absolute path, or nothing.
    PathPrefix,
    /// GEP-2257 duration.
    Duration,
    /// Origin of a page, with wildcards (Fetch standard).
    Origin,
    /// RFC 3339 time in UTC and whole seconds.
    Time,
    /// `*`, or the name of a namespace.
    NamespaceOrAll,
}

/// The longest duration, about 49 days: what 32 bits of milliseconds hold.
pub const DURATION_MS_MAX: u64 = u32::MAX as u64;

impl Format {
    const ALL: [Self; 16] = [
        Self::Label,
        Self::Name,
        Self::Hostname,
        Self::PreciseHostname,
        Self::Ip,
        Self::Group,
        Self::Kind,
        Self::HeaderName,
        Self::HeaderValue,
        Self::Path,
        Self::MatchPath,
        Self::PathPrefix,
        Self::Duration,
        Self::Origin,
        Self::Time,
        Self::NamespaceOrAll,
    ];

    /// What JSON Schema's `format` says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Label => "dns-label",
            Self::Name => "dns-subdomain",
            Self::Hostname => "wildcard-hostname",
            Self::PreciseHostname => "precise-hostname",
            Self::Ip => "ip",
            Self::Group => "api-group",
            Self::Kind => "api-kind",
            Self::HeaderName => "header-name",
            Self::HeaderValue => "header-value",
            Self::Path => "absolute-path",
            Self::MatchPath => "match-path",
            Self::PathPrefix => "path-prefix",
            Self::Duration => "gep-2257",
            Self::Origin => "cors-origin",
            Self::Time => "date-time",
            Self::NamespaceOrAll => "dns-label-or-star",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// JSON Schema's `pattern`; `None` where a pattern can't say it.
    pub const fn pattern(self) -> Option<&'static str> {
        Some(match self {
            Self::Label => r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            Self::Name | Self::PreciseHostname => {
                r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
            }
            Self::Hostname => {
                r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
            }
            Self::Group => r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
            Self::Kind => r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$",
            Self::HeaderName => r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$",
            Self::HeaderValue => r"^[!-~]+([\t ]?[!-~]+)*$",
            Self::Path | Self::MatchPath => {
                r"^/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})*$"
            }
            Self::PathPrefix => r"^(/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})*)?$",
            Self::Duration => r"^([0-9]{1,5}(h|m|s|ms)){1,4}$",
            Self::Origin => {
                r"^(\*|https?://(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9\-]+|\*)(:([0-9]{1,5}))?))$"
            }
            Self::NamespaceOrAll => r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$",
            Self::Ip | Self::Time => return None,
        })
    }

    /// The most characters it may have.
    pub const fn length_max(self) -> Option<usize> {
        match self {
            Self::Label | Self::Kind | Self::NamespaceOrAll => Some(63),
            Self::Name | Self::Hostname | Self::PreciseHostname | Self::Group | Self::Origin => {
                Some(253)
            }
            Self::HeaderName => Some(256),
            Self::HeaderValue => Some(4096),
            Self::Path | Self::MatchPath | Self::PathPrefix => Some(1024),
            Self::Ip | Self::Duration | Self::Time => None,
        }
    }

    /// What such a text is, for "… expected".
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Label | Self::Name => "a name",
            Self::Hostname | Self::PreciseHostname => "a host name",
            Self::Ip => "an IP address",
            Self::Group => "an API group",
            Self::Kind => "a kind",
            Self::HeaderName => "a header name",
            Self::HeaderValue => "a header value",
            Self::Path | Self::MatchPath => "an absolute path",
            Self::PathPrefix => "a path prefix",
            Self::Duration => "a duration",
            Self::Origin => "an origin",
            Self::Time => "a time",
            Self::NamespaceOrAll => "a namespace or `*`",
        }
    }

    /// What such a text looks like.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::Label => {
                "at most 63 lower case letters, digits and `-`, with a letter or digit at both ends"
            }
            Self::Name => {
                "lower case letters, digits, `-` and `.`, with a letter or digit at both ends of each part"
            }
            Self::Hostname => {
                "such as `shop.example.com` or `*.example.com`: lower case, no port, no IP address, a wildcard only as the whole first label"
            }
            Self::PreciseHostname => {
                "such as `shop.example.com`: lower case, no port, no IP address, no wildcard"
            }
            Self::Ip => "such as `127.0.0.1` or `::1`; a host name goes into a Service's `dns`",
            Self::Group => {
                "such as `gateway.networking.k8s.io`, or `\"\"` for the core of Kubernetes"
            }
            Self::Kind => "such as `Service`",
            Self::HeaderName => "letters, digits and ``!#$%&'*+-.^_`|~``",
            Self::HeaderValue => "visible ASCII, with single spaces or tabs only between",
            Self::Path => {
                "it starts with `/` and has only what a path may have, so no `?`, `#` or space"
            }
            Self::MatchPath => {
                "it starts with `/`, has only what a path may have, and no `//`, `/./`, `/../` or `%2F`"
            }
            Self::PathPrefix => {
                "it is empty, or starts with `/` and has only what a path may have, so no `?`, `#` or space"
            }
            Self::Duration => {
                "such as `1h30m`, `5s` or `250ms`: up to four whole numbers of up to five digits, each with h, m, s or ms; at most 49 days"
            }
            Self::Origin => {
                "such as `https://shop.example.com`, `https://*.example.com:8443` or `*`"
            }
            Self::Time => "such as `2026-01-31T12:00:00Z`",
            Self::NamespaceOrAll => "the name of a namespace, or `*` for every one",
        }
    }

    /// Whether a text has this form.
    pub fn accepts(self, text: &str) -> bool {
        if self.length_max().is_some_and(|length_max| text.chars().count() > length_max) {
            return false;
        }
        match self {
            Self::Label => is_label(text),
            Self::Name => is_subdomain(text),
            Self::Hostname => is_hostname(text.strip_prefix("*.").unwrap_or(text)),
            Self::PreciseHostname => is_hostname(text),
            Self::Ip => text.parse::<IpAddr>().is_ok(),
            Self::Group => text.is_empty() || is_subdomain(text),
            Self::Kind => {
                text.starts_with(|c: char| c.is_ascii_alphabetic())
                    && text.ends_with(|c: char| c.is_ascii_alphanumeric())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            }
            Self::HeaderName => !text.is_empty() && text.bytes().all(is_token_byte),
            Self::HeaderValue => is_header_value(text),
            Self::Path => is_path(text),
            Self::MatchPath => is_match_path(text),
            Self::PathPrefix => text.is_empty() || is_path(text),
            Self::Duration => duration_ms(text).is_some(),
            Self::Origin => is_origin(text),
            Self::Time => is_time(text),
            Self::NamespaceOrAll => text == "*" || is_label(text),
        }
    }
}

/// The milliseconds of a GEP-2257 duration; `None` if it is none, or longer than [`DURATION_MS_MAX`].
pub fn duration_ms(text: &str) -> Option<u64> {
    let mut total_ms: u64 = 0;
    let mut rest = text;
    for _ in 0..4 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 5 {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        // "ms" before "m": of two units that fit, the longer is meant.
        let (unit, unit_ms) = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
            .into_iter()
            .find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total_ms += number * unit_ms;
        if rest.is_empty() {
            return Some(total_ms).filter(|&total_ms| total_ms <= DURATION_MS_MAX);
        }
    }
    None
}

/// An IP address and how many of its first bits count: `10.0.0.0/8`, or the address alone for all of them.
pub fn address_range(text: &str) -> Option<(IpAddr, u8)> {
    match text.split_once('/') {
        None => {
            let address: IpAddr = text.parse().ok()?;
            Some((address, if address.is_ipv4() { 32 } else { 128 }))
        }
        Some((address, bits)) => {
            let is_plain = bits.bytes().all(|byte| byte.is_ascii_digit());
            let bits = is_plain.then(|| bits.parse().ok())??;
            Some((address.parse().ok()?, bits))
        }
    }
}

/// Compiles a regular expression as routes use it, or says in one line why it is none.
pub fn check_regex(text: &str) -> Result<(), String> {
    match regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(format!("it takes more than {REGEX_BYTES_MAX} bytes of memory"))
        }
        // The crate draws the expression over several lines; the reason is in the last.
        Err(error) => {
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            Err(reason.trim_start_matches("error: ").to_owned())
        }
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    bytes.first().is_some_and(|&byte| byte != b'-')
        && bytes.last().is_some_and(|&byte| byte != b'-')
        && bytes.iter().all(is_inner)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_hostname(text: &str) -> bool {
    // Of IP addresses only those of version 4 look like host names.
    is_subdomain(text)
        && text.split('.').all(|label| label.len() <= 63)
        && text.parse::<IpAddr>().is_err()
}

/// Whether a text is a token: the name of a header field or a cookie. Source: RFC 9110 §5.6.2.
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// RFC 9110, 5.6.2: `tchar`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_header_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_blank = |byte: u8| byte == b' ' || byte == b'\t';
    bytes.first().is_some_and(u8::is_ascii_graphic)
        && bytes.last().is_some_and(u8::is_ascii_graphic)
        && bytes.iter().all(|&byte| byte.is_ascii_graphic() || is_blank(byte))
        && !bytes.windows(2).any(|pair| is_blank(pair[0]) && is_blank(pair[1]))
}

/// RFC 3986, 3.3: `path-absolute`, with empty segments anywhere.
fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_path_byte = |index: usize| match bytes[index] {
        b'%' => bytes
            .get(index + 1..index + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte),
    };
    text.starts_with('/') && (0..bytes.len()).all(is_path_byte)
}

/// What the Gateway API takes for the value of an `Exact` or `PathPrefix` match.
fn is_match_path(text: &str) -> bool {
    let has_bad_part = ["//", "/./", "/../", "%2f", "%2F"].iter().any(|bad| text.contains(bad));
    is_path(text) && !has_bad_part && !text.ends_with("/.") && !text.ends_with("/..")
}

fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return false;
    };
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let is_host_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let host_is_right =
        host == "*" || host.strip_prefix("*.").unwrap_or(host).split('.').all(is_host_label);
    host_is_right && port.is_none_or(is_port)
}

/// Kubernetes writes nothing else.
fn is_time(text: &str) -> bool {
    let form = b"dddd-dd-ddTdd:dd:ddZ";
    text.len() == form.len()
        && text.bytes().zip(form).all(|(byte, &form)| match form {
            b'd' => byte.is_ascii_digit(),
            form => byte == form,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        for (text, ms) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("1h30m", Some(5_400_000)),
            ("1m1ms", Some(60_001)),
            ("10s30m1h500ms", Some(5_410_500)),
            ("1193h", Some(4_294_800_000)),
            ("1194h", None),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("1.5s", None),
            ("100000s", None),
            ("1us", None),
            ("1s1s1s1s1s", None),
            ("1 s", None),
            ("1d", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text:?}");
        }
    }

    #[test]
    fn each_format_tells_right_from_wrong() {
        let table: [(Format, &[&str], &[&str]); 16] = [
            (Format::Label, &["a", "a-1", "0"], &["", "-a", "a-", "A", "a.b", "ä"]),
            (Format::Name, &["a", "a.b-c.d"], &["", ".a", "a.", "a..b", "a.-b", "a_b"]),
            (
                Format::Hostname,
                &["a", "shop.example.com", "*.example.com", "10.0.0.example"],
                &["", "*", "*.", "a.*.b", "*a.b", "Shop.example.com", "a:80", "10.0.0.1", "a.b."],
            ),
            (Format::PreciseHostname, &["shop.example.com"], &["*.example.com", "127.0.0.1"]),
            (Format::Ip, &["127.0.0.1", "::1"], &["", "localhost", "127.0.0.1:80", "[::1]"]),
            (Format::Group, &["", "lateen.dev"], &["lateen.dev/v1", "A"]),
            (Format::Kind, &["Service", "x"], &["", "1a", "a-", "a b"]),
            (Format::HeaderName, &["x-a", "X_1", "!"], &["", "a b", "a:", ":path", "ä"]),
            (Format::HeaderValue, &["a", "a b", "a\tb"], &["", " a", "a ", "a  b", "a\nb", "ä"]),
            (Format::Path, &["/", "/a", "//a/../b"], &["", "a", "/a b", "/a?b", "/%2", "/ä"]),
            (
                Format::MatchPath,
                &["/", "/a", "/a/", "/a%20b", "/.a", "/a.."],
                &["", "a", "//", "/a//b", "/./a", "/a/..", "/a/.", "/a%2fb", "/a?b", "/a#b", "/%2"],
            ),
            (Format::PathPrefix, &["", "/", "/a"], &["a", "/a?b", "/a#b"]),
            (Format::Duration, &["1s"], &["1"]),
            (
                Format::Origin,
                &["*", "https://a.b", "http://a:80", "https://*.a.b", "http://*", "http://*:81"],
                &[
                    "",
                    "a.b",
                    "ftp://a",
                    "https://",
                    "https://a/",
                    "https://a:",
                    "https://a:0",
                    "https://a.*",
                ],
            ),
            (Format::Time, &["2026-01-31T12:00:00Z"], &["2026-01-31", "2026-01-31T12:00:00+01:00"]),
            (Format::NamespaceOrAll, &["*", "a"], &["", "a.b", "**"]),
        ];
        for (format, right, wrong) in table {
            for text in right {
                assert!(format.accepts(text), "{format:?} should take {text:?}");
            }
            for text in wrong {
                assert!(!format.accepts(text), "{format:?} should refuse {text:?}");
            }
        }
    }

    #[test]
    fn what_is_accepted_fits_the_pattern() {
        let texts = [
            "",
            "a",
            "a-b",
            "a.b",
            "*.a.b",
            "*",
            "A",
            "a b",
            "/",
            "/a",
            "/a?b",
            "5s",
            "1h30m",
            "1.5s",
            "https://a.b",
            "http://*:81",
            "10.0.0.1",
            "x_1",
            "ä",
            "a\nb",
        ];
        for format in Format::ALL {
            let Some(pattern) = format.pattern() else { continue };
            let pattern = regex::Regex::new(pattern).expect("a pattern of this table");
            for text in texts.into_iter().filter(|text| format.accepts(text)) {
                assert!(pattern.is_match(text), "{format:?}: {text:?} does not fit {pattern}");
            }
        }
    }

    #[test]
    fn a_regex_is_refused_with_its_reason() {
        assert_eq!(check_regex("^/v[0-9]+$"), Ok(()));
        assert_eq!(check_regex("a("), Err("unclosed group".to_owned()));
        let big = check_regex("(a{1000}){1000}").expect_err("too big");
        assert!(big.contains("bytes"), "{big}");
    }
}
