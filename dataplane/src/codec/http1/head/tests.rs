//! Tables of the `head` module, and fields for the tests of those who look at them.

use super::*;

/// Fields that no parsed head lends.
pub(crate) struct OwnedFields {
    bytes: Vec<u8>,
    lines: Vec<FieldLine>,
}

impl OwnedFields {
    pub(crate) fn new<'f>(fields: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Self {
        let (mut bytes, mut lines) = (Vec::new(), Vec::new());
        for (name, value) in fields {
            let name_at = bytes.len() as u32;
            bytes.extend_from_slice(name.as_bytes());
            let value_at = bytes.len() as u32;
            bytes.extend_from_slice(value);
            let kind = classify(name.as_bytes());
            let value_end = bytes.len() as u32;
            lines.push(FieldLine { name_at, name_end: value_at, value_at, value_end, kind });
        }
        Self { bytes, lines }
    }

    pub(crate) fn view(&self) -> Fields<'_> {
        Fields { bytes: &self.bytes, lines: &self.lines }
    }
}

/// Names and values.
type Copies = Vec<(Vec<u8>, Vec<u8>)>;

fn fields_of(text: &[u8]) -> Cut<Copies> {
    let mut scratch = FieldScratch::new();
    let lines = scratch.room(4);
    let Some((count, end)) = cut_fields(text, 0, lines)? else { return Ok(None) };
    assert_eq!(&text[end - 2..end], b"\r\n");
    let fields = Fields { bytes: text, lines: &lines[..count] };
    Ok(Some(fields.iter().map(|field| (field.name.to_vec(), field.value.to_vec())).collect()))
}

#[test]
fn every_byte_is_judged_wherever_in_a_word_it_stands() {
    for byte in 0..=u8::MAX {
        for before in (0..20).chain(60..110) {
            for behind in [0, 1, 9, 70] {
                let pad = |count| std::iter::repeat_n(b'x', count);
                let text: Vec<u8> = pad(before).chain([byte]).chain(pad(behind)).collect();
                let first = |is_good: fn(u8) -> bool| {
                    text.iter().position(|&byte| !is_good(byte)).unwrap_or(text.len())
                };
                let is_target = |byte| byte > b' ' && byte != 0x7f;
                assert_eq!(text_bytes::<b'!'>(&text), first(is_target), "{text:?}");
                assert_eq!(value_bytes(&text), first(is_field_value_byte), "{text:?}");
                let colon = text.iter().position(|&byte| byte == b':');
                let split = colon.map(|at| (&text[..at], &text[at + 1..]));
                assert_eq!(split_at_colon(&text), split, "{text:?}");
            }
        }
    }
}

#[test]
fn the_first_of_several_odd_bytes_counts() {
    for (text, end) in [(&b"a\x7f\x00bcdefg"[..], 1), (b"\xff\x7f\x80\x01abcd", 1), (b"ab\x1f ", 2)]
    {
        assert_eq!(text_bytes::<b' '>(text), end, "{text:?}");
    }
}

#[test]
fn values_lose_the_white_space_around_them() {
    let text = b"A: b\r\nC:\t d  e \t\r\nF:\r\nG: \t \r\n\r\nrest";
    let fields = fields_of(text).expect("valid").expect("whole");
    let expected = [("A", "b"), ("C", "d  e"), ("F", ""), ("G", "")];
    assert_eq!(fields, expected.map(|(name, value)| (name.into(), value.into())));
}

#[test]
fn faults_are_told_apart() {
    for (text, fault) in [
        (&b"A: b\n\r\n"[..], Fault::BareLineFeed),
        (b"A: b\r\n\n", Fault::BareLineFeed),
        (b"A: b\r\n\rx", Fault::LineEnd),
        (b"A: b\rc\r\n\r\n", Fault::FieldValue),
        (b"A: b\x00\r\n\r\n", Fault::FieldValue),
        (b"A b: c\r\n\r\n", Fault::FieldName),
        (b": c\r\n\r\n", Fault::FieldName),
        (b"A\r\nB: c\r\n\r\n", Fault::FieldName),
        (b"A\r\n\r\n", Fault::FieldName),
        (b" A: b\r\n\r\n", Fault::FieldName),
        (b"A:\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n", Fault::TooManyLines),
    ] {
        assert_eq!(fields_of(text), Err(fault), "{:?}", String::from_utf8_lossy(text));
    }
}

#[test]
fn whatever_may_go_on_well_is_waited_for() {
    let text = b"Content-Length: 12\r\nA:\tb\r\n\r\n";
    for end in 0..text.len() {
        assert_eq!(fields_of(&text[..end]), Ok(None), "{end}");
    }
    assert!(fields_of(text).is_ok_and(|fields| fields.is_some()));
}
