//! Durations and amounts of bytes as people write them, in arguments and in what is printed.
//!
//! Comes before everything else: the parsers serve clap, the rest serves the text reports.

use std::time::Duration;

/// The longest duration that an argument may name: a day.
const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `150us`, `5ms`, `1.5s`, `2m`, `1h`; a bare number is in seconds.
///
/// # Errors
/// What is wrong with the text, and what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: use us, ms, s, m or h, as in 1.5s")),
    };
    let number: f64 =
        number.parse().map_err(|_| "not a duration: write it as 500us, 5ms or 1.5s".to_owned())?;
    let seconds = number * factor;
    if seconds > DURATION_MAX.as_secs_f64() {
        return Err("longer than a day: 24h is the most".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// Like [`parse_duration`], but nothing is not enough.
///
/// # Errors
/// As there, and zero.
pub fn parse_duration_above_zero(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be more than zero, as in 500us, 5ms or 1.5s".to_owned()),
        duration => Ok(duration),
    }
}

/// Reads an amount of bytes: `100`, `64k`, `1M`, `1G` (powers of 1,024).
///
/// # Errors
/// What is wrong with the text, and what would be right.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(format!("unknown unit `{unit}`: use k, M or G, as in 64k")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not an amount of bytes: write it as 100, 64k or 1M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more bytes than 64 bits can count".to_owned())
}

/// Like [`parse_bytes`], for bodies that are kept in memory: at most 1 GiB.
///
/// # Errors
/// As there, and more than 1 GiB.
pub fn parse_body_bytes(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        bytes if bytes > BODY_BYTES_MAX => Err("more than 1 GiB, which is the most".to_owned()),
        bytes => Ok(bytes),
    }
}

/// The largest body that is sent or answered.
pub const BODY_BYTES_MAX: u64 = 1 << 30;

/// A time in microseconds with the unit that a person would choose.
pub fn show_us(us: f64) -> String {
    if us < 1_000.0 {
        format!("{us:.1} µs")
    } else if us < 1_000_000.0 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// An amount of bytes with the unit that a person would choose.
pub fn show_bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{scaled:.0} B") } else { format!("{scaled:.2} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_in_every_unit() {
        for (text, us) in [
            ("150us", 150),
            ("5ms", 5_000),
            ("1.5s", 1_500_000),
            ("2", 2_000_000),
            ("1m", 60_000_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(us)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in ["", "s", "-1s", "1.2.3s", "5 ms", "5parsecs", "25h", "1e9", "inf", "nan"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_duration_above_zero("0ms").is_err());
    }

    #[test]
    fn reads_amounts_of_bytes() {
        for (text, bytes) in [("0", 0), ("100", 100), ("64k", 65_536), ("1M", 1 << 20)] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1.5k", "99999999999999999999", "17179869184G", "1x"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert!(parse_body_bytes("2G").is_err());
    }

    #[test]
    fn shows_units_of_a_fitting_size() {
        assert_eq!(show_us(12.34), "12.3 µs");
        assert_eq!(show_us(5_000.0), "5.00 ms");
        assert_eq!(show_us(2_500_000.0), "2.50 s");
        assert_eq!(show_bytes(100.0), "100 B");
        assert_eq!(show_bytes(1536.0), "1.50 KiB");
    }
}
