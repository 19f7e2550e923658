//! Parts of a request that decisions go by, taken as they were sent, without decoding.
//!
//! Before: the codec found the head whole and its fields valid. After: routes match them, and keys are
//! made of them.

use crate::codec::http1::head::Fields;

/// A request target as path and query, without the mark between them.
#[inline]
pub fn split_target(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

/// The first value of a query parameter; a name without `=` has an empty one.
pub fn query_value<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|&byte| byte == b'&').find_map(|parameter| match parameter.strip_prefix(name)? {
        [] => Some(&b""[..]),
        [b'=', value @ ..] => Some(value),
        _ => None,
    })
}

/// The first value of a cookie (RFC 6265 §4.2.1, §5.4), without the quotes around it.
pub fn cookie_value<'f>(fields: &Fields<'f>, name: &[u8]) -> Option<&'f [u8]> {
    fields.values(b"cookie").find_map(|line| {
        line.split(|&byte| byte == b';').find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"=")?;
            Some(match value {
                [b'"', inner @ .., b'"'] => inner,
                _ => value,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::http1::head::tests::OwnedFields;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let lines = [("Cookie", &b"ab=1; a=\"two\""[..]), ("cookie", b"a=3;b=; c")];
        let owned = OwnedFields::new(lines);
        let fields = owned.view();
        assert_eq!(cookie_value(&fields, b"ab"), Some(&b"1"[..]));
        assert_eq!(cookie_value(&fields, b"a"), Some(&b"two"[..]));
        assert_eq!(cookie_value(&fields, b"b"), Some(&b""[..]));
        assert_eq!(cookie_value(&fields, b"c"), None);
    }

    #[test]
    fn a_query_parameter_is_found_by_its_whole_name() {
        let query = b"ab=1&a&b=2=3&b=4";
        assert_eq!(query_value(query, b"a"), Some(&b""[..]));
        assert_eq!(query_value(query, b"b"), Some(&b"2=3"[..]));
        assert_eq!(query_value(query, b"c"), None);
        assert_eq!(split_target(b"/a?b?c"), (&b"/a"[..], Some(&b"b?c"[..])));
        assert_eq!(split_target(b"*"), (&b"*"[..], None));
    }
}
