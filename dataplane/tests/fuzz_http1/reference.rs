//! A small strict reader of HTTP/1 messages that shares no code with the codec: slow, plain, and
//! made to be checked by eye against RFC 9112.

use lateen_proxy::codec::body::Framing;

/// What the reference sees in a head.
pub(crate) struct Head {
    /// Bytes up to the end of the empty line.
    pub(crate) bytes: usize,
    /// By the fields alone; a status or a method that forbids a body is not known here.
    pub(crate) framing: Framing,
    /// Field names in lower case, in order.
    pub(crate) names: Vec<String>,
}

impl Head {
    /// How many fields have this name.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.names.iter().filter(|own| *own == name).count()
    }
}

/// Reads the head that `bytes` begin with; `None` unless it is whole and strictly valid.
pub(crate) fn read_head(bytes: &[u8]) -> Option<Head> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    // Latin-1: each byte is one character, so nothing is lost.
    let text: String = bytes[..end].iter().map(|&byte| char::from(byte)).collect();
    let mut lines = text.split("\r\n");
    let start_line = lines.next()?;
    if !start_line.contains("HTTP/1.") || start_line.chars().any(is_control) {
        return None;
    }
    let mut names = Vec::new();
    let mut lengths = Vec::new();
    let mut codings = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.is_empty() || !name.chars().all(is_token) || value.chars().any(is_control) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']).to_owned();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => lengths.push(value),
            "transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
        names.push(name.to_ascii_lowercase());
    }
    let framing = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::None,
        ([length], []) if length.chars().all(|char| char.is_ascii_digit()) => {
            Framing::Length(length.parse().ok()?)
        }
        ([], [coding]) if coding == "chunked" => Framing::Chunked,
        _ => return None,
    };
    Some(Head { bytes: end + 4, framing, names })
}

/// Reads the chunked body that `bytes` begin with: its data and how many bytes it took; `None`
/// unless it is whole and strictly valid.
pub(crate) fn read_chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let line = line_at(bytes, &mut at)?;
        let digits = line.split(|&byte| byte == b';').next()?;
        if digits.is_empty() || digits.len() > 16 || !line.is_ascii() {
            return None;
        }
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = i64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        data.extend_from_slice(bytes.get(at..end)?);
        if bytes.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    loop {
        let line = line_at(bytes, &mut at)?;
        if line.is_empty() {
            return Some((data, at));
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        if colon == 0 || !line[..colon].iter().all(|&byte| is_token(char::from(byte))) {
            return None;
        }
    }
}

/// The line that begins at `at`, without its CRLF; no control bytes but tabs.
fn line_at<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|window| window == b"\r\n")?;
    let line = &rest[..end];
    if line.iter().any(|&byte| is_control(char::from(byte))) {
        return None;
    }
    *at += end + 2;
    Some(line)
}

fn is_control(char: char) -> bool {
    char != '\t' && (char < ' ' || char == '\u{7f}')
}

fn is_token(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}
