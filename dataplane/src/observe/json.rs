//! JSON by hand: enough for access-log lines and the config dump, with no formatting machinery.
//!
//! Bytes that are no JSON go in as follows: control characters, `"` and `\` are escaped as RFC 8259
//! §7 has it; valid UTF-8 is copied as it is; each byte that is no valid UTF-8 becomes `\u00` and
//! its two hexadecimal digits. So a line is valid JSON in UTF-8 whatever a peer sent, and in the raw
//! line an escape `\u0080` to `\u00ff` always stands for a byte, never for a character.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` as a JSON string with its quotes.
///
/// Cost: a look at sixteen bytes at a time and one copy, while nothing needs an escape.
#[inline]
pub(super) fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        push_escaped(out, bytes);
    }
    out.push(b'"');
}

/// Appends a number in decimal digits.
#[inline]
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    const EIGHT_DIGITS: u64 = 100_000_000;
    if number < 10 {
        out.push(b'0' + number as u8);
    } else if number < EIGHT_DIGITS {
        let digits = decimal_digits(number as u32);
        let leading_zeros = digits.trailing_zeros() / 8;
        let text = (digits >> (8 * leading_zeros)) | ASCII_ZEROS;
        push_first(out, text.to_le_bytes(), 8 - leading_zeros as usize);
    } else {
        push_number(out, number / EIGHT_DIGITS);
        let digits = decimal_digits((number % EIGHT_DIGITS) as u32);
        out.extend_from_slice(&(digits | ASCII_ZEROS).to_le_bytes());
    }
}

/// `0` in each of eight bytes.
pub(super) const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight decimal digits of a number below 10^8 as values 0 to 9, the first in the lowest byte.
/// Halves the number three times, each time in all parts of the word at once; the reciprocals are
/// exact for their ranges (10,486 / 2^20 below 10,000; 103 / 2^10 below 100).
#[inline]
pub(super) const fn decimal_digits(number: u32) -> u64 {
    debug_assert!(number < 100_000_000);
    let fours = (number / 10_000) as u64 | ((number % 10_000) as u64) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - 10 * tens) << 8
}

/// Appends the first `count` of `bytes`: a store of known size and a step back, which is cheaper
/// than a copy of unknown size.
#[inline]
pub(super) fn push_first<const SIZE: usize>(out: &mut Vec<u8>, bytes: [u8; SIZE], count: usize) {
    debug_assert!(count <= SIZE);
    out.extend_from_slice(&bytes);
    out.truncate(out.len() - (SIZE - count));
}

/// Whether all bytes stand for themselves: ASCII but controls, `"` and `\`. Looks at whole words;
/// the last one overlaps its neighbour instead of being shorter.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
        let (sixteens, _) = bytes.as_chunks::<16>();
        return is_plain_16(first) && is_plain_16(last) && sixteens.iter().all(is_plain_16);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return !has_special(u64::from_le_bytes(*first)) && !has_special(u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return !has_special(u64::from(first) | u64::from(last) << 32);
    }
    !bytes.iter().any(|byte| is_special(*byte))
}

#[inline]
fn is_plain_16(bytes: &[u8; 16]) -> bool {
    let word = u128::from_le_bytes(*bytes);
    !has_special(word as u64) && !has_special((word >> 64) as u64)
}

/// Whether any of eight bytes is special. The tests below can only err for a byte above a special
/// one (by its borrow), so never for the word. Source: S. Anderson, "Bit Twiddling Hacks", hasless
/// and haszero.
#[inline]
const fn has_special(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let controls = word.wrapping_sub(ONES * 0x20);
    let quotes = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslashes = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (controls | quotes | backslashes | word) & HIGH != 0
}

#[inline]
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte >= 0x80 || byte == b'"' || byte == b'\\'
}

#[cold]
fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..0x20 => push_escape(out, byte),
                _ => out.push(byte),
            }
        }
        for byte in chunk.invalid() {
            push_escape(out, *byte);
        }
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\u00");
    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// A JSON object that is built member by member; for what is written rarely.
#[derive(Debug)]
pub struct Object(Vec<u8>);

impl Object {
    /// An empty object.
    #[expect(clippy::new_without_default, reason = "an object is begun to be filled")]
    pub fn new() -> Self {
        Self(vec![b'{'])
    }

    /// Adds a string.
    pub fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        push_string(&mut self.0, value.as_bytes());
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        push_number(&mut self.0, value);
    }

    /// Adds a number, or null.
    pub fn optional_number(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => {
                self.name(name);
                self.0.extend_from_slice(b"null");
            }
        }
    }

    /// Adds true or false.
    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.0.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Adds an array of strings.
    pub fn strings(&mut self, name: &str, values: impl Iterator<Item = String>) {
        self.array(name, values, |out, value| push_string(out, value.as_bytes()));
    }

    /// Adds an array of numbers.
    pub fn numbers(&mut self, name: &str, values: impl Iterator<Item = u64>) {
        self.array(name, values, push_number);
    }

    /// The object's text.
    pub fn finish(mut self) -> String {
        self.0.push(b'}');
        String::from_utf8(self.0).expect("strings came in as str, the rest is ASCII")
    }

    fn array<T>(
        &mut self,
        name: &str,
        values: impl Iterator<Item = T>,
        push: impl Fn(&mut Vec<u8>, T),
    ) {
        self.name(name);
        self.0.push(b'[');
        for (index, value) in values.enumerate() {
            if index > 0 {
                self.0.push(b',');
            }
            push(&mut self.0, value);
        }
        self.0.push(b']');
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        push_string(&mut self.0, name.as_bytes());
        self.0.push(b':');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_string(&mut out, bytes);
        String::from_utf8(out).expect("what is written is always UTF-8")
    }

    #[test]
    fn strings_are_escaped() {
        for (bytes, text) in [
            (&b""[..], r#""""#),
            (b"/plain/path?with=all&the=usual", r#""/plain/path?with=all&the=usual""#),
            (b"say \"hi\" \\ now", r#""say \"hi\" \\ now""#),
            (b"a\nb\rc\td\x00e\x1f\x7f", "\"a\\nb\\rc\\td\\u0000e\\u001f\x7f\""),
            ("grün €".as_bytes(), "\"grün €\""),
            (b"caf\xe9!", r#""caf\u00e9!""#),
            (b"\xff\xfe", r#""\u00ff\u00fe""#),
            (b"cut \xe2\x82", r#""cut \u00e2\u0082""#),
            (b"0123456\"", r#""0123456\"""#),
        ] {
            assert_eq!(string(bytes), text);
        }
    }

    #[test]
    fn numbers_are_decimal() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        let around = powers.flat_map(|power| [power - 1, power, power + 1]);
        for number in around.chain([12_345, 1_000_100, u64::MAX]) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(str::from_utf8(&out), Ok(number.to_string().as_str()));
        }
    }

    #[test]
    fn every_group_of_four_digits_is_exact() {
        for group in 0..10_000 {
            for number in [group, group * 10_000 + 9_999] {
                let text = (decimal_digits(number) | ASCII_ZEROS).to_le_bytes();
                assert_eq!(str::from_utf8(&text), Ok(format!("{number:08}").as_str()));
            }
        }
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in 0..70 {
            let plain = vec![b' '; length];
            assert!(is_plain(&plain) && is_plain(&vec![0x7f; length]), "length {length}");
            for position in 0..length {
                for special in [0, 0x1f, b'"', b'\\', 0x80, 0xff] {
                    let mut bytes = plain.clone();
                    bytes[position] = special;
                    assert!(!is_plain(&bytes), "{special} at {position} of {length}");
                }
            }
        }
    }

    #[test]
    fn an_object_holds_its_members_in_order() {
        let mut object = Object::new();
        object.string("a", "b\"");
        object.number("n", 7);
        object.optional_number("none", None);
        object.boolean("yes", true);
        object.strings("list", ["x".to_owned(), "y".to_owned()].into_iter());
        object.numbers("empty", std::iter::empty());
        assert_eq!(
            object.finish(),
            r#"{"a":"b\"","n":7,"none":null,"yes":true,"list":["x","y"],"empty":[]}"#
        );
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_an_independent_parser(text: String) {
            let back: String = serde_json::from_str(&string(text.as_bytes())).expect("valid JSON");
            prop_assert_eq!(back, text);
        }

        #[test]
        fn any_bytes_make_valid_json(bytes: Vec<u8>) {
            let back: String = serde_json::from_str(&string(&bytes)).expect("valid JSON");
            if let Ok(text) = str::from_utf8(&bytes) {
                prop_assert_eq!(back, text);
            }
        }
    }
}
