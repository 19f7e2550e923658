//! Tables of the `chunked` module: whole bodies in, whole bodies out; each is also fed one byte
//! at a time.

use super::*;

/// Feeds `input` in pieces of `piece` bytes; returns what came out, what was consumed, and the
/// body's bytes.
fn feed(
    input: &[u8],
    piece: usize,
    encoding: BodyEncoding,
) -> Result<(Vec<u8>, Progress), ChunkedError> {
    let mut decoder = ChunkedDecoder::new();
    let mut out = Vec::new();
    let mut total = Progress { consumed: 0, body_bytes: 0, done: false };
    for part in input.chunks(piece.max(1)) {
        let progress = decoder.transcode(part, &mut out, encoding)?;
        total.consumed += progress.consumed;
        total.body_bytes += progress.body_bytes;
        total.done = progress.done;
        assert_eq!(decoder.is_done(), progress.done);
        assert!(progress.done || progress.consumed == part.len());
        if progress.done {
            break;
        }
    }
    Ok((out, total))
}

/// The same verdict whole and in pieces of one and three bytes.
fn verdict(input: &[u8]) -> Result<(Vec<u8>, Progress), ChunkedError> {
    let whole = feed(input, input.len(), BodyEncoding::Plain);
    for piece in [1, 3] {
        let pieces = feed(input, piece, BodyEncoding::Plain);
        assert_eq!(whole, pieces, "{piece} bytes: {:?}", String::from_utf8_lossy(input));
    }
    whole
}

fn refusal(input: impl AsRef<[u8]>) -> ChunkedError {
    let input = input.as_ref();
    verdict(input).expect_err(&String::from_utf8_lossy(input))
}

#[test]
fn decodes_to_the_last_chunk_and_leaves_what_follows() {
    for (input, data) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("A\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
        ("0000000000000001\r\nx\r\n0\r\n\r\n", "x"),
        ("2;a=b;c=\"d e\"\r\nhi\r\n0;last\r\n\r\n", "hi"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("1\r\nx\r\n0\r\nDigest: y\r\nX: \r\n\r\n", "x"),
    ] {
        let following = format!("{input}GET / HTTP/1.1\r\n");
        let (out, progress) = verdict(following.as_bytes()).expect(input);
        let expected = Progress { consumed: input.len(), body_bytes: data.len(), done: true };
        assert_eq!((out.as_slice(), progress), (data.as_bytes(), expected), "{input:?}");
    }
}

#[test]
fn waits_for_the_rest_of_a_body() {
    let body = b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for end in 0..body.len() {
        let (_, progress) = verdict(&body[..end]).expect("a valid start");
        assert!(!progress.done, "{end}");
    }
}

#[test]
fn encodes_the_data_of_one_input_as_one_chunk_without_extensions() {
    for (input, output) in [
        ("0\r\n\r\n", "0\r\n\r\n"),
        ("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", "b\r\nhello world\r\n0\r\n\r\n"),
        ("00A\r\n0123456789\r\n", "a\r\n0123456789\r\n"),
        ("5\r\nhel", "3\r\nhel\r\n"),
        ("5\r\n", ""),
        ("", ""),
        ("1\r\nx\r\n0\r\nA: b\r\n\r\n", "1\r\nx\r\n0\r\nA: b\r\n\r\n"),
        ("1\r\nx\r\n0\r\nA: b\r\n", "1\r\nx\r\n"),
    ] {
        let (out, _) = feed(input.as_bytes(), input.len(), BodyEncoding::Chunked).expect(input);
        assert_eq!(String::from_utf8_lossy(&out), output, "{input:?}");
    }
    let (out, _) = feed(b"2\r\nab\r\n0\r\n\r\n", 1, BodyEncoding::Chunked).expect("valid");
    assert_eq!(out, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
}

#[test]
fn encodes_sizes_around_every_change_of_width() {
    for size in [1, 9, 10, 15, 16, 17, 254, 255, 256, 257, 4_095, 4_096, 4_097, 65_535, 65_536] {
        let data = vec![b'x'; size];
        let input = [format!("{size:X}\r\n").as_bytes(), &data, b"\r\n0\r\n\r\n"].concat();
        let expected = [format!("{size:x}\r\n").as_bytes(), &data, b"\r\n0\r\n\r\n"].concat();
        let (out, _) = feed(&input, input.len(), BodyEncoding::Chunked).expect("valid");
        assert!(out == expected, "{size}");
        let mut chunk = Vec::new();
        write_chunk(&data, &mut chunk);
        write_last_chunk(&mut chunk);
        assert!(chunk == expected, "{size}");
    }
}

#[test]
fn appends_after_what_the_caller_has_written() {
    let mut out = b"head".to_vec();
    let mut decoder = ChunkedDecoder::new();
    decoder.transcode(b"1\r\nx\r\n0\r\n\r\n", &mut out, BodyEncoding::Chunked).expect("valid");
    assert_eq!(out, b"head1\r\nx\r\n0\r\n\r\n");
    let after = decoder.transcode(b"more", &mut out, BodyEncoding::Chunked);
    assert_eq!(after, Ok(Progress { consumed: 0, body_bytes: 0, done: true }));
    assert_eq!(out, b"head1\r\nx\r\n0\r\n\r\n");
}

#[test]
fn refuses_sizes_that_can_be_read_in_two_ways() {
    for size in [
        "",
        " 5",
        "5 ",
        "+5",
        "-5",
        "0x5",
        "5_0",
        "g",
        "5h",
        "5\t",
        "\u{665}",
        "5,",
        "8000000000000000",
        "ffffffffffffffff",
        "10000000000000005",
        "00000000000000005",
    ] {
        let error = refusal(format!("{size}\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(error, ChunkedError::Size, "{size:?}");
    }
    let (_, progress) = verdict(b"7fffffffffffffff\r\nx").expect("63 bits");
    assert_eq!(progress.body_bytes, 1);
}

#[test]
fn refuses_line_ends_that_are_not_crlf() {
    for input in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5;x\r\rhello\r\n0\r\n\r\n",
        "0\r\n\rX",
        "0\r\nA: b\r\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n\n",
    ] {
        assert_eq!(refusal(input), ChunkedError::LineEnd, "{input:?}");
    }
}

#[test]
fn refuses_extensions_with_control_bytes_or_beyond_their_bounds() {
    for extension in ["\n", "a\n", "\0", "a\u{7f}", "a\u{e9}"] {
        let error = refusal(format!("5;{extension}\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(error, ChunkedError::Extension, "{extension:?}");
    }
    let chunk = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes));
    let most = usize::from(EXTENSION_BYTES_MAX);
    assert!(verdict(chunk(most).as_bytes()).is_ok());
    assert_eq!(refusal(chunk(most + 1)), ChunkedError::Extension);
    let chunks = EXTENSION_BYTES_TOTAL_MAX as usize / most;
    assert!(verdict(chunk(most).repeat(chunks).as_bytes()).is_ok());
    assert_eq!(refusal(chunk(most).repeat(chunks) + "1;e"), ChunkedError::Extension);
}

#[test]
fn refuses_trailers_that_are_no_field_lines() {
    for trailer in [
        "A",
        "A b: c",
        "A : b",
        ": b",
        " A: b",
        "\tA: b",
        "A: b\0",
        "A: \u{1}",
        "A\u{e9}: b",
        "A: b\r\n folded",
        "A: \u{7f}",
    ] {
        let error = refusal(format!("0\r\n{trailer}\r\n\r\n"));
        assert_eq!(error, ChunkedError::Trailer, "{trailer:?}");
    }
}

#[test]
fn trailer_sections_are_bounded_in_bytes_and_lines() {
    let lines = |count: u16| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count.into()));
    assert!(verdict(lines(TRAILERS_MAX).as_bytes()).is_ok());
    assert_eq!(refusal(lines(TRAILERS_MAX + 1)), ChunkedError::TrailerTooLarge);
    let long = |bytes: usize| format!("0\r\nA: {}\r\n\r\n", "b".repeat(bytes - 4));
    assert!(verdict(long(TRAILER_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(refusal(long(TRAILER_BYTES_MAX + 1)), ChunkedError::TrailerTooLarge);
}

#[test]
fn drops_forbidden_trailers_and_keeps_the_others_in_order() {
    let input = "0\r\nA: 1\r\nContent-Length: 5\r\nHost: x\r\nB:2\r\nAuthorization: y\r\n\r\n";
    for piece in [1, 7, input.len()] {
        let (out, progress) = feed(input.as_bytes(), piece, BodyEncoding::Chunked).expect("valid");
        assert_eq!(String::from_utf8_lossy(&out), "0\r\nA: 1\r\nB:2\r\n\r\n");
        assert!(progress.done);
    }
}

#[test]
fn nothing_of_a_bad_trailer_section_is_passed_on() {
    let mut decoder = ChunkedDecoder::new();
    let mut out = Vec::new();
    let input = b"1\r\nx\r\n0\r\nA: b\r\nbad\r\n\r\n";
    let refused = decoder.transcode(input, &mut out, BodyEncoding::Chunked);
    assert_eq!(refused, Err(ChunkedError::Trailer));
    assert_eq!(out, b"1\r\nx\r\n");
}
