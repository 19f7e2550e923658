//! Changes to header fields, in ready-made form.
//!
//! Before it: a route's and a backend's edits, as config has them. After it: `write_request`,
//! `write_response` and `reply` leave lines out and append others. Several edits after each other
//! become one here, when the tables are built: what a later one takes away of an earlier one's fields
//! is not written in the first place.

use lateen_snapshot::limits::EDITS_BYTES_MAX;
use lateen_snapshot::model::HeaderEdits;
use lateen_snapshot::validate::text::why_reserved;

use crate::codec::http1::fields::{FieldMask, is_field_value_byte};
use crate::codec::http1::head::Fields;
use crate::codec::message::is_token_byte;

/// Why edits must not be made: config's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The name is none, or not in lower case.
    #[error("{0:?} is no name of a header field in lower case")]
    Name(String),
    /// A value that would break the head, or have white space around it.
    #[error("{0:?} is no value for the header field {1:?}")]
    Value(String, String),
    /// The field frames the message, ends at this hop, or is this hop's own.
    #[error("the header field {0:?} is not to be edited")]
    Reserved(String),
    /// More than [`EDITS_BYTES_MAX`].
    #[error("the edits add more than {EDITS_BYTES_MAX} bytes")]
    TooLarge,
}

/// Edits of a head.
#[derive(Debug)]
pub struct Edits {
    /// Names of fields that are left out, lower case.
    cut: Box<[Box<[u8]>]>,
    /// Bit n: there is a name of n bytes in `cut`, or for n = 63 of as many or more.
    cut_lengths: u64,
    /// Whole lines to append.
    lines: Box<[u8]>,
}

impl Edits {
    /// Of edits that are made one after the other; `None` if they change nothing. What they do to
    /// fields named in `not_these` is passed over: somebody else decides on them.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn compile(chain: &[&HeaderEdits], not_these: &[&str]) -> Result<Option<Self>, EditError> {
        let mut cut: Vec<&str> = Vec::new();
        let mut lines: Vec<&(String, String)> = Vec::new();
        for edits in chain {
            let taken: Vec<&str> = edits
                .remove
                .iter()
                .chain(edits.set.iter().map(|(name, _)| name))
                .map(String::as_str)
                .collect();
            lines.retain(|(name, _)| !taken.contains(&name.as_str()));
            cut.extend(taken);
            // Of two that set the same field the later counts, as if made one after the other.
            for (index, field) in edits.set.iter().enumerate() {
                if edits.set[index + 1..].iter().all(|(name, _)| *name != field.0) {
                    lines.push(field);
                }
            }
            lines.extend(&edits.add);
        }
        cut.sort_unstable();
        cut.dedup();
        for name in cut.iter().copied().chain(lines.iter().map(|(name, _)| name.as_str())) {
            check_name(name)?;
        }
        cut.retain(|name| !not_these.contains(name));
        lines.retain(|(name, _)| !not_these.contains(&name.as_str()));

        let mut text = Vec::new();
        for (name, value) in lines {
            check_value(name, value)?;
            for part in [name.as_str(), ": ", value, "\r\n"] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        if text.len() > EDITS_BYTES_MAX {
            return Err(EditError::TooLarge);
        }
        if text.is_empty() && cut.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            cut_lengths: cut.iter().fold(0, |bits, name| bits | length_bit(name.len())),
            cut: cut.into_iter().map(|name| name.as_bytes().into()).collect(),
            lines: text.into(),
        }))
    }

    /// The lines to append.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Whether fields of this name, in any case, are left out.
    #[inline]
    pub(super) fn cuts(&self, name: &[u8]) -> bool {
        self.cut_lengths & length_bit(name.len()) != 0
            && self.cut.iter().any(|cut| cut.eq_ignore_ascii_case(name))
    }

    /// Adds the lines that are left out to `mask`.
    pub(super) fn cut_lines(&self, fields: Fields<'_>, mask: &mut FieldMask) {
        if self.cut.is_empty() {
            return;
        }
        for (index, field) in fields.iter().enumerate() {
            if self.cuts(field.name) {
                mask.insert(index);
            }
        }
    }
}

const fn length_bit(length: usize) -> u64 {
    1 << if length < 63 { length } else { 63 }
}

fn check_name(name: &str) -> Result<(), EditError> {
    let is_lower = |byte: u8| is_token_byte(byte) && !byte.is_ascii_uppercase();
    if name.is_empty() || !name.bytes().all(is_lower) {
        return Err(EditError::Name(name.to_owned()));
    }
    match why_reserved(name) {
        None => Ok(()),
        Some(_) => Err(EditError::Reserved(name.to_owned())),
    }
}

fn check_value(name: &str, value: &str) -> Result<(), EditError> {
    let is_trimmed = value.trim_matches([' ', '\t']).len() == value.len();
    if is_trimmed && value.bytes().all(is_field_value_byte) {
        return Ok(());
    }
    Err(EditError::Value(value.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn edits(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdits {
        let remove = remove.iter().map(|name| (*name).to_owned()).collect();
        HeaderEdits { set: pairs(set), add: pairs(add), remove }
    }

    fn shown(edits: &Edits) -> (Vec<&str>, &str) {
        let text = |bytes| std::str::from_utf8(bytes).expect("text");
        (edits.cut.iter().map(|name| text(name)).collect(), text(&edits.lines))
    }

    #[test]
    fn one_edit_removes_then_sets_then_adds() {
        let one = edits(&[("b", "1")], &[("b", "2"), ("a", "3")], &["a"]);
        let compiled = Edits::compile(&[&one], &[]).expect("valid").expect("something");
        assert_eq!(shown(&compiled), (vec!["a", "b"], "b: 1\r\nb: 2\r\na: 3\r\n"));
        assert!(compiled.cuts(b"A") && compiled.cuts(b"b") && !compiled.cuts(b"c"));
    }

    #[test]
    fn a_later_edit_sees_what_an_earlier_one_did() {
        for (later, cut, lines) in [
            (edits(&[("x", "new")], &[], &[]), vec!["s", "x"], "s: 1\r\ny: 3\r\nx: new\r\n"),
            (edits(&[], &[("x", "new")], &[]), vec!["s"], "s: 1\r\nx: 2\r\ny: 3\r\nx: new\r\n"),
            (edits(&[], &[], &["x", "s"]), vec!["s", "x"], "y: 3\r\n"),
        ] {
            let first = edits(&[("s", "1")], &[("x", "2"), ("y", "3")], &[]);
            let compiled = Edits::compile(&[&first, &later], &[]).expect("valid").expect("some");
            assert_eq!(shown(&compiled), (cut, lines), "{later:?}");
        }
    }

    #[test]
    fn edits_that_change_nothing_are_none() {
        let nothing = HeaderEdits::default();
        assert!(Edits::compile(&[&nothing, &nothing], &[]).expect("valid").is_none());
        let theirs = edits(&[("x", "1")], &[("x", "1")], &["x"]);
        assert!(Edits::compile(&[&theirs], &["x"]).expect("valid").is_none());
    }

    #[test]
    fn refuses_what_would_break_a_head() {
        let long = "x".repeat(EDITS_BYTES_MAX);
        for (edits, expected) in [
            (edits(&[("", "1")], &[], &[]), EditError::Name(String::new())),
            (edits(&[], &[], &["X-A"]), EditError::Name("X-A".into())),
            (edits(&[], &[("a b", "1")], &[]), EditError::Name("a b".into())),
            (edits(&[("a", "1\r\nb: 2")], &[], &[]), {
                EditError::Value("1\r\nb: 2".into(), "a".into())
            }),
            (edits(&[], &[("a", " 1")], &[]), EditError::Value(" 1".into(), "a".into())),
            (edits(&[("a", &long)], &[], &[]), EditError::TooLarge),
        ] {
            assert_eq!(Edits::compile(&[&edits], &[]).err(), Some(expected));
        }
    }

    /// The list is the snapshot's, so that both sides refuse the same; it must name all that this
    /// codec reads or ends.
    #[test]
    fn what_the_codec_takes_for_its_own_is_reserved() {
        use crate::codec::http1::fields::{Kind, classify};
        for name in [
            "te",
            "via",
            "host",
            "expect",
            "upgrade",
            "trailer",
            "connection",
            "keep-alive",
            "max-forwards",
            "x-request-id",
            "content-length",
            "http2-settings",
            "x-forwarded-for",
            "proxy-connection",
            "transfer-encoding",
            "x-forwarded-proto",
            "proxy-authenticate",
            "proxy-authorization",
        ] {
            assert_ne!(classify(name.as_bytes()), Kind::Ordinary, "{name}");
            assert!(why_reserved(name).is_some(), "{name}");
        }
        for name in ["date", "x-lateen-debug", "x-any"] {
            assert!(why_reserved(name).is_none(), "{name}");
        }
    }

    #[test]
    fn refuses_fields_that_frame_or_end_here_or_are_this_hops_own() {
        for name in [
            "connection",
            "content-length",
            "transfer-encoding",
            "host",
            "te",
            "trailer",
            "upgrade",
            "keep-alive",
            "expect",
            "via",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-lateen-epoch",
            "x-request-id",
        ] {
            let expected = Some(EditError::Reserved(name.to_owned()));
            for edits in [
                edits(&[(name, "1")], &[], &[]),
                edits(&[], &[(name, "1")], &[]),
                edits(&[], &[], &[name]),
            ] {
                assert_eq!(Edits::compile(&[&edits], &[]).err(), expected);
            }
        }
    }
}
