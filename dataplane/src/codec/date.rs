//! The `Date` field's text (IMF-fixdate, RFC 9110 §5.6.7).
//!
//! Role: turn seconds into 29 bytes. Before it: a worker that noticed its clock reach a new
//! second. After it: the worker keeps the bytes and lends them to every head of that second. It
//! never reads a clock.

/// Bytes of an IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// The date of `unix_s` seconds since 1970-01-01T00:00:00Z, like `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Years past 9999 have no IMF-fixdate; the last second of 9999 stands for them.
pub fn http_date(unix_s: u64) -> [u8; DATE_BYTES] {
    let unix_s = unix_s.min(UNIX_S_MAX);
    let (days, second_of_day) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil_from_days(days);

    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let weekday = ((days + 4) % 7) as usize; // the epoch was a Thursday
    text[0..3].copy_from_slice(&WEEKDAYS[weekday * 3..weekday * 3 + 3]);
    put_two_digits(&mut text, 5, day);
    let month = (month - 1) as usize;
    text[8..11].copy_from_slice(&MONTHS[month * 3..month * 3 + 3]);
    put_two_digits(&mut text, 12, year / 100);
    put_two_digits(&mut text, 14, year % 100);
    put_two_digits(&mut text, 17, second_of_day / 3_600);
    put_two_digits(&mut text, 20, second_of_day / 60 % 60);
    put_two_digits(&mut text, 23, second_of_day % 60);
    text
}

/// 9999-12-31T23:59:59Z.
const UNIX_S_MAX: u64 = 253_402_300_799;
const WEEKDAYS: &[u8; 21] = b"SunMonTueWedThuFriSat";
const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

fn put_two_digits(text: &mut [u8; DATE_BYTES], at: usize, number: u64) {
    debug_assert!(number < 100);
    text[at] = b'0' + (number / 10) as u8;
    text[at + 1] = b'0' + (number % 10) as u8;
}

/// Year, month (1–12) and day (1–31) of a count of days since the epoch. Counts in eras of 400
/// years that begin on the first of March, so that the leap day is the last of its year
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_known_seconds_as_imf_fixdate() {
        for (unix_s, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(http_date(unix_s), text.as_bytes(), "{unix_s}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..146_097 {
            assert_eq!(civil_from_days(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 => 28 + u64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
