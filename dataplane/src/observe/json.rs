//! JSON by hand: enough for access-log lines and the config dump, with no formatting machinery.
//!
//! Bytes that are no JSON go in as follows: control characters, `"` and `\` are escaped as RFC 8259
//! §7 has it; valid UTF-8 is copied as it is; each byte that is no valid UTF-8 becomes `\u00` and
//! its two hexadecimal digits. So a line is valid JSON in UTF-8 whatever a peer sent, and in the
//! raw line an escape `\u0080` to `\u00ff` always stands for a byte, never for a character.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The most bytes that one byte of text becomes: `\u0000`.
pub(super) const ESCAPED_BYTES_MAX: usize = 6;

/// The most bytes that [`Cursor::number`] writes or touches.
pub(super) const NUMBER_BYTES_MAX: usize = 24;

/// Writes JSON into memory that was measured before: each piece costs a compare and its stores, and
/// the end of the memory is met nowhere. Whoever makes one gives it room for the longest text.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a mut [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `memory`.
    pub(super) fn new(memory: &'a mut [u8]) -> Self {
        Self { rest: memory }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Writes text whose length is known when this is compiled.
    #[inline]
    pub(super) fn put<const SIZE: usize>(&mut self, text: &[u8; SIZE]) {
        let rest = std::mem::take(&mut self.rest);
        let (to, rest) = rest.split_first_chunk_mut().expect(MEASURED);
        *to = *text;
        self.rest = rest;
    }

    /// Writes the first `count` of `bytes`, but touches memory for all: a store of known size is
    /// cheaper than a copy of unknown size.
    #[inline]
    pub(super) fn put_first<const SIZE: usize>(&mut self, bytes: [u8; SIZE], count: usize) {
        debug_assert!(count <= SIZE);
        let rest = std::mem::take(&mut self.rest);
        *rest.first_chunk_mut().expect(MEASURED) = bytes;
        self.rest = rest.get_mut(count..).expect(MEASURED);
    }

    /// Writes bytes as they are.
    #[inline]
    pub(super) fn put_slice(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        let (to, rest) = rest.split_at_mut_checked(bytes.len()).expect(MEASURED);
        to.copy_from_slice(bytes);
        self.rest = rest;
    }

    /// Writes `bytes` as what stands between the quotes of a JSON string.
    ///
    /// Cost: a look at sixteen bytes at a time and one copy, while nothing needs an escape.
    #[inline]
    pub(super) fn text(&mut self, bytes: &[u8]) {
        if is_plain(bytes) {
            self.put_slice(bytes);
        } else {
            self.escaped(bytes);
        }
    }

    /// Writes a number in decimal digits.
    ///
    /// Cost: rises with the number; most in a line are small.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        match number {
            0..10 => self.put(&[b'0' + number as u8]),
            10..10_000 => {
                let digits = four_digits(number as u32);
                let leading_zeros = digits.trailing_zeros() / 8;
                let text = (digits | ASCII_ZEROS as u32) >> (8 * leading_zeros);
                self.put_first(text.to_le_bytes(), 4 - leading_zeros as usize);
            }
            _ => self.large_number(number),
        }
    }

    fn large_number(&mut self, number: u64) {
        const EIGHT_DIGITS: u64 = 100_000_000;
        if number >= EIGHT_DIGITS {
            self.number(number / EIGHT_DIGITS);
            let digits = eight_digits((number % EIGHT_DIGITS) as u32);
            return self.put(&(digits | ASCII_ZEROS).to_le_bytes());
        }
        let digits = eight_digits(number as u32);
        let leading_zeros = digits.trailing_zeros() / 8;
        let text = (digits | ASCII_ZEROS) >> (8 * leading_zeros);
        self.put_first(text.to_le_bytes(), 8 - leading_zeros as usize);
    }

    #[cold]
    fn escaped(&mut self, bytes: &[u8]) {
        for chunk in bytes.utf8_chunks() {
            for byte in chunk.valid().bytes() {
                match byte {
                    b'"' | b'\\' => self.put(&[b'\\', byte]),
                    b'\n' => self.put(b"\\n"),
                    b'\r' => self.put(b"\\r"),
                    b'\t' => self.put(b"\\t"),
                    0..0x20 => self.escape(byte),
                    _ => self.put(&[byte]),
                }
            }
            for byte in chunk.invalid() {
                self.escape(*byte);
            }
        }
    }

    fn escape(&mut self, byte: u8) {
        let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
        self.put(b"\\u00");
        self.put(&digits);
    }
}

const MEASURED: &str = "the memory was measured for the longest text";

/// `0` in each of eight bytes.
pub(super) const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;

/// The eight decimal digits of a number below 10^8 as values 0 to 9, the first in the lowest byte.
/// Halves the number, then both halves at once, and so on; the reciprocals are exact for their
/// ranges (10,486 / 2^20 below 10,000; 103 / 2^10 below 100).
#[inline]
pub(super) const fn eight_digits(number: u32) -> u64 {
    debug_assert!(number < 100_000_000);
    let fours = (number / 10_000) as u64 | ((number % 10_000) as u64) << 32;
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (twos - 10 * tens) << 8
}

/// The four decimal digits of a number below 10,000, likewise.
#[inline]
const fn four_digits(number: u32) -> u32 {
    debug_assert!(number < 10_000);
    let hundreds = (number * 10_486) >> 20;
    let twos = hundreds | (number - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f;
    tens | (twos - 10 * tens) << 8
}

/// Whether all bytes stand for themselves: ASCII but controls, `"` and `\`. Looks at whole words;
/// the last one overlaps its neighbour instead of being shorter.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    if let Some(last) = bytes.last_chunk::<16>() {
        return is_plain_16(last) && bytes.as_chunks::<16>().0.iter().all(is_plain_16);
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

/// Without a branch per byte, so that the compiler makes it a few vector instructions.
#[inline]
fn is_plain_16(bytes: &[u8; 16]) -> bool {
    !bytes.iter().fold(false, |found, byte| found | is_special(*byte))
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
        push_string(&mut self.0, value);
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
        self.array(name, values, |out, value| push_string(out, &value));
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
        push_string(&mut self.0, name);
        self.0.push(b':');
    }
}

fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push(out, text.len() * ESCAPED_BYTES_MAX, |cursor| cursor.text(text.as_bytes()));
    out.push(b'"');
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    push(out, NUMBER_BYTES_MAX, |cursor| cursor.number(number));
}

/// Appends what `write` writes, `bytes_max` at most.
fn push(out: &mut Vec<u8>, bytes_max: usize, write: impl FnOnce(&mut Cursor<'_>)) {
    let start = out.len();
    out.resize(start + bytes_max, 0);
    let mut cursor = Cursor::new(&mut out[start..]);
    write(&mut cursor);
    let left = cursor.left();
    out.truncate(out.len() - left);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(bytes: &[u8]) -> String {
        let mut out = vec![b'"'];
        push(&mut out, bytes.len() * ESCAPED_BYTES_MAX, |cursor| cursor.text(bytes));
        out.push(b'"');
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
            let text = (four_digits(group) | ASCII_ZEROS as u32).to_le_bytes();
            assert_eq!(str::from_utf8(&text), Ok(format!("{group:04}").as_str()));
            for number in [group, group * 10_000 + 9_999] {
                let text = (eight_digits(number) | ASCII_ZEROS).to_le_bytes();
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
