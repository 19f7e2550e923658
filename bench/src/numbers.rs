//! How numbers are written: two to three significant digits, a unit that suits the size, thousands
//! apart. The page, the plots and the Markdown all write them here.

use crate::statistics::Spread;

/// What a number counts, which decides its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Instructions, syscalls: `30.8 k`.
    Count,
    /// `58,400/s`.
    PerSecond,
    /// Given in µs: `17.2 µs`, `1.20 ms`.
    Us,
    /// Given in KiB: `0.56 KiB`, `8.30 MiB`.
    Kib,
    /// A plain number: `4`.
    Plain,
    /// Given as 0 to 1: `95 %`, `99.9 %`; never rounded up, so that only all of it is 100 %.
    Share,
}

/// One value with its unit.
pub fn quantity(value: f64, of: Quantity) -> String {
    let scale = Scale::of(value, of);
    format!("{}{}", scale.write(value), scale.unit)
}

/// The median with its unit, and the range in the same unit, which is not written again.
pub fn spread(spread: Spread, of: Quantity) -> (String, String) {
    let scale = Scale::of(spread.median, of);
    let range = format!("{}–{}", scale.write(spread.least), scale.write(spread.most));
    (format!("{}{}", scale.write(spread.median), scale.unit), range)
}

/// A ratio: `0.62`, with a third place where the second could hide which side of 1 it is on.
pub fn ratio(value: f64) -> String {
    if value != 1.0 && (value - 1.0).abs() < 0.02 {
        format!("{value:.3}")
    } else if value.abs() < 10.0 {
        format!("{value:.2}")
    } else {
        significant(value)
    }
}

/// `0.60–0.65`.
pub fn ratio_range(spread: Spread) -> String {
    format!("{}–{}", ratio(spread.least), ratio(spread.most))
}

/// `10,000`.
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut apart = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// `95 %`.
pub fn share(value: f64) -> String {
    format!("{:.0} %", value * 100.0)
}

/// `1 row`, `2 rows`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `a, b and c`.
pub fn listed<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

struct Scale {
    divisor: f64,
    unit: &'static str,
}

impl Scale {
    fn of(value: f64, quantity: Quantity) -> Scale {
        let steps: &[(f64, f64, &str)] = match quantity {
            Quantity::Count => &[(1e9, 1e9, " G"), (1e6, 1e6, " M"), (1e4, 1e3, " k")],
            Quantity::PerSecond => &[(1e9, 1e9, " G/s"), (0.0, 1.0, "/s")],
            Quantity::Us => &[(1e6, 1e6, " s"), (1e3, 1e3, " ms"), (0.0, 1.0, " µs")],
            Quantity::Kib => &[
                (1024.0 * 1024.0 * 2.0, 1024.0 * 1024.0, " GiB"),
                (2048.0, 1024.0, " MiB"),
                (0.0, 1.0, " KiB"),
            ],
            Quantity::Plain => &[],
            Quantity::Share => &[(0.0, 0.01, " %")],
        };
        steps.iter().find(|(from, ..)| value.abs() >= *from).map_or(
            Scale { divisor: 1.0, unit: "" },
            |(_, divisor, unit)| Scale { divisor: *divisor, unit },
        )
    }

    fn write(&self, value: f64) -> String {
        let scaled = value / self.divisor;
        if self.unit == " %" {
            let floored = (scaled * 10.0 + 1e-6).floor() / 10.0;
            return format!("{floored}");
        }
        // What was counted, and not divided, has no places.
        if self.unit.is_empty() && scaled.fract() == 0.0 && scaled.abs() < 1e3 {
            return format!("{scaled:.0}");
        }
        significant(scaled)
    }
}

/// Three significant digits, thousands apart; never more than three places.
fn significant(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || size >= 1e15 {
        return format!("{value:.2e}");
    }
    let places = match size {
        _ if size >= 99.95 || size == 0.0 || size.fract() == 0.0 && size < 10.0 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.1 => 2,
        _ => 3,
    };
    if places > 0 {
        return format!("{value:.places$}");
    }
    let coarse = if size >= 1e3 { 10_f64.powi(size.log10().floor() as i32 - 2) } else { 1.0 };
    let sign = if value < 0.0 { "−" } else { "" };
    format!("{sign}{}", whole(((size / coarse).round() * coarse) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit_of_their_size() {
        for (value, of, text) in [
            (58_432.0, Quantity::PerSecond, "58,400/s"),
            (30_812.0, Quantity::Count, "30.8 k"),
            (4.234, Quantity::Count, "4.23"),
            (4.0, Quantity::Count, "4"),
            (18.0, Quantity::Plain, "18"),
            (0.99998, Quantity::Share, "99.9 %"),
            (1.0, Quantity::Share, "100 %"),
            (0.87, Quantity::Share, "87 %"),
            (0.0213, Quantity::Count, "0.021"),
            (17.24, Quantity::Us, "17.2 µs"),
            (1_204.0, Quantity::Us, "1.20 ms"),
            (0.558, Quantity::Kib, "0.56 KiB"),
            (20_480.0, Quantity::Kib, "20.0 MiB"),
            (1_234_567.0, Quantity::PerSecond, "1,230,000/s"),
            (0.0, Quantity::Us, "0 µs"),
            (99.97, Quantity::Us, "100 µs"),
            (1e300, Quantity::Plain, "1.00e300"),
        ] {
            assert_eq!(quantity(value, of), text);
        }
    }

    #[test]
    fn a_ratio_beside_one_shows_its_side() {
        assert_eq!(ratio(0.624), "0.62");
        assert_eq!(ratio(0.996), "0.996");
        assert_eq!(ratio(1.0), "1.00");
        assert_eq!(ratio(12.34), "12.3");
    }
}
