//! The target that the other side is to see: a new path, the query as it came.
//!
//! Before it: a route says how the path changes. After it: a request line, or a `Location`.

use lateen_snapshot::model::PathRewrite;

/// Appends path and query of `target` with the path changed. `prefix_bytes` is what the rule's prefix
/// took of it, see [`Found`](crate::decide::route::Found). `*`, which is no path, stays.
///
/// A prefix is replaced by the Gateway API's table (`ReplacePrefixMatch`): whole segments, one slash
/// at the seam, never nothing. A replacement that is all that is left stays as it was written.
pub(super) fn put_target(
    target: &[u8],
    rewrite: Option<&PathRewrite>,
    prefix_bytes: usize,
    out: &mut Vec<u8>,
) {
    let path_end = target.iter().position(|&byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(path_end);
    match rewrite {
        _ if path == b"*" => out.extend_from_slice(path),
        None => out.extend_from_slice(path),
        Some(PathRewrite::Full(new)) => out.extend_from_slice(new.as_bytes()),
        Some(PathRewrite::Prefix(new)) => {
            put_path(new.as_bytes(), path.get(prefix_bytes..).unwrap_or(b""), out);
        }
    }
    out.extend_from_slice(query);
}

/// Appends a path of a new beginning and the rest of the old one.
fn put_path(new: &[u8], rest: &[u8], out: &mut Vec<u8>) {
    let is_slash = |byte: &&u8| **byte == b'/';
    match (new, rest) {
        (b"", b"") => out.push(b'/'),
        (_, b"") => out.extend_from_slice(new),
        _ => {
            let slashes_at_end = new.iter().rev().take_while(is_slash).count();
            out.extend_from_slice(&new[..new.len() - slashes_at_end]);
            out.push(b'/');
            let slashes_at_start = rest.iter().take_while(is_slash).count();
            out.extend_from_slice(&rest[slashes_at_start..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(target: &str, rewrite: Option<PathRewrite>, prefix_bytes: usize) -> String {
        let mut out = Vec::new();
        put_target(target.as_bytes(), rewrite.as_ref(), prefix_bytes, &mut out);
        String::from_utf8(out).expect("text in, text out")
    }

    #[test]
    fn a_prefix_is_replaced_by_the_table_of_the_gateway_api() {
        // HTTPPathModifier, replacePrefixMatch: all of its rows, the prefixes without the slash at
        // their end, which means nothing there and is not in a snapshot.
        for (path, prefix, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            // What follows from it.
            ("/foo", "/foo", "/xyz/", "/xyz/"),
            ("/foo//bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo//bar", "/foo", "", "/bar"),
            ("/bar", "", "/xyz", "/xyz/bar"),
            ("/", "", "/xyz", "/xyz/"),
            ("/bar", "", "", "/bar"),
            ("/foo/b%2Fr/", "/foo", "/x%20z", "/x%20z/b%2Fr/"),
            ("*", "", "/xyz", "*"),
        ] {
            let rewrite = || Some(PathRewrite::Prefix(new.to_owned()));
            assert_eq!(rewritten(path, rewrite(), prefix.len()), expected, "{path} {new}");
            let with_query = format!("{path}?a=/b?c");
            let expected = format!("{expected}?a=/b?c");
            assert_eq!(rewritten(&with_query, rewrite(), prefix.len()), expected);
        }
    }

    #[test]
    fn a_full_path_replaces_all_but_the_query() {
        let full = || Some(PathRewrite::Full("/new".to_owned()));
        assert_eq!(rewritten("/a/b?c=d", full(), 2), "/new?c=d");
        assert_eq!(rewritten("/a/b", full(), 0), "/new");
        assert_eq!(rewritten("*", full(), 0), "*");
    }

    #[test]
    fn no_rewrite_changes_nothing() {
        assert_eq!(rewritten("/a//b?c?d", None, 2), "/a//b?c?d");
    }
}
