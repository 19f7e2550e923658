//! Time spans and sizes as people write them: `250ms`, `10s`, `1h`, `64KiB`, `none`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::limits;

/// A time span: a whole number and `us`, `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeSpan(pub(super) Duration);

/// A size in bytes: a whole number and `B`, `KiB`, `MiB`, `GiB`, `TiB`, or nothing for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) u64);

/// A value that may be `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrNone<T>(pub(super) Option<T>);

const TIME_UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl FromStr for TimeSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a time span, such as 250ms, 10s or 1h")?;
        let factor_us = match TIME_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            // 0 is 0 in any unit.
            None if unit.is_empty() && number == 0 => 1,
            None if unit.is_empty() => return Err("has no unit; write it like 250ms or 10s".into()),
            None => return Err(format!("`{unit}` is no unit of time; use us, ms, s, m, h or d")),
        };
        let span = number.checked_mul(factor_us).map(Duration::from_micros);
        match span {
            Some(span) if span <= limits::TIME_SPAN_MAX => Ok(Self(span)),
            _ => Err(format!("is too long; at most {}", Self(limits::TIME_SPAN_MAX))),
        }
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span_us = self.0.as_micros() as u64;
        if span_us == 0 {
            return out.write_str("0s");
        }
        write_in_largest_unit(out, span_us, &TIME_UNITS)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text, "a size, such as 8KiB, 1MiB or 4096")?;
        let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            None if unit.is_empty() => 1,
            None => {
                return Err(format!("`{unit}` is no unit of size; use B, KiB, MiB, GiB or TiB"));
            }
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| "is too large".to_owned())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return out.write_str("0B");
        }
        write_in_largest_unit(out, self.0, &SIZE_UNITS)
    }
}

impl<T: FromStr<Err = String>> FromStr for OrNone<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|value| Self(Some(value))).map_err(|error| format!("{error}, or none"))
    }
}

impl<T: fmt::Display> fmt::Display for OrNone<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(out),
            None => out.write_str("none"),
        }
    }
}

/// Splits `10s` into 10 and `s`.
fn split<'a>(text: &'a str, wanted: &str) -> Result<(u64, &'a str), String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("is not {wanted}"));
    }
    let number = number.parse().map_err(|_| "is too large a number".to_owned())?;
    Ok((number, unit))
}

/// Writes `value` in the largest unit that leaves no rest. The last unit's factor is 1.
fn write_in_largest_unit(
    out: &mut fmt::Formatter<'_>,
    value: u64,
    units: &[(&str, u64)],
) -> fmt::Result {
    for (unit, factor) in units {
        if value.is_multiple_of(*factor) {
            return write!(out, "{}{unit}", value / factor);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_and_written() {
        for (text, span_us, written) in [
            ("250ms", 250_000, "250ms"),
            ("10s", 10_000_000, "10s"),
            ("60s", 60_000_000, "1m"),
            ("1h", 3_600_000_000, "1h"),
            ("2d", 172_800_000_000, "2d"),
            ("1500ms", 1_500_000, "1500ms"),
            ("7us", 7, "7us"),
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
        ] {
            let span: TimeSpan = text.parse().expect(text);
            assert_eq!(span.0, Duration::from_micros(span_us), "{text}");
            assert_eq!(span.to_string(), written, "{text}");
        }
    }

    #[test]
    fn malformed_time_spans_are_refused_with_a_hint() {
        for (text, hint) in [
            ("", "10s"),
            ("s", "10s"),
            ("-1s", "10s"),
            ("1.5s", "no unit of time"),
            ("10", "no unit; write it like"),
            ("10 s", "no unit of time"),
            ("10sec", "us, ms, s, m, h or d"),
            ("400d", "at most 366d"),
            ("18446744073709551615h", "at most 366d"),
            ("18446744073709551616s", "too large a number"),
            ("none", "10s"),
        ] {
            let error = text.parse::<TimeSpan>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("4096", 4096, "4KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("3GiB", 3 << 30, "3GiB"),
            ("1000B", 1000, "1000B"),
            ("0", 0, "0B"),
        ] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string(), written, "{text}");
        }
        for (text, hint) in [
            ("64KB", "KiB"),
            ("64k", "KiB"),
            ("KiB", "8KiB"),
            ("-1", "8KiB"),
            ("99999999999999TiB", "too large"),
        ] {
            let error = text.parse::<ByteSize>().expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn none_is_read_where_it_is_allowed() {
        assert_eq!("none".parse(), Ok(OrNone::<TimeSpan>(None)));
        assert_eq!("5s".parse(), Ok(OrNone(Some(TimeSpan(Duration::from_secs(5))))));
        assert_eq!(OrNone::<ByteSize>(None).to_string(), "none");
        assert_eq!(OrNone(Some(ByteSize(1024))).to_string(), "1KiB");
        assert!("never".parse::<OrNone<TimeSpan>>().expect_err("no number").ends_with("or none"));
    }
}
