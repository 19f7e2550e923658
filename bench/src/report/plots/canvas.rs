//! A drawing area of `plotters` whose colours are names. `plotters` knows numbers only: each name is
//! drawn as a number that nothing else has, and becomes a variable of the page's style afterwards, so
//! that one drawing suits light and dark.

use crate::report::series::{COLOURS, Series};
use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Units of the drawing's width; a phone shows it at about three quarters.
pub const WIDTH: i32 = 400;
/// Of text. `plotters` divides it by 1.24 on the way to SVG, which leaves 13 of the same units.
const TEXT_SIZE: i32 = 16;
/// Of one letter, on the safe side of what a browser takes.
const LETTER_WIDTH: f64 = 7.4;

/// A colour of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Of text.
    Text,
    /// Of what stands back.
    Faint,
    /// Of lines behind the data.
    Grid,
    /// Of a peer.
    Series(u8),
}

impl Ink {
    fn sentinel(self) -> RGBColor {
        match self {
            Ink::Text => RGBColor(1, 2, 3),
            Ink::Faint => RGBColor(1, 2, 4),
            Ink::Grid => RGBColor(1, 2, 5),
            Ink::Series(colour) => RGBColor(1, 3, colour % COLOURS),
        }
    }

    fn variable(self) -> String {
        match self {
            Ink::Text => "var(--text)".to_owned(),
            Ink::Faint => "var(--faint)".to_owned(),
            Ink::Grid => "var(--grid)".to_owned(),
            Ink::Series(colour) => format!("var(--series-{})", colour % COLOURS),
        }
    }

    fn all() -> impl Iterator<Item = Ink> {
        [Ink::Text, Ink::Faint, Ink::Grid].into_iter().chain((0..COLOURS).map(Ink::Series))
    }
}

impl From<Series> for Ink {
    fn from(series: Series) -> Ink {
        Ink::Series(series.colour)
    }
}

/// Where text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Left,
    /// Its middle.
    Middle,
    /// Its right end.
    Right,
}

/// Something to draw on, in units from the upper left.
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
}

/// Draws, and returns the SVG with its title.
pub fn drawn(
    height: i32,
    title: &str,
    draw: impl FnOnce(&Canvas) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut svg = String::new();
    let size = (WIDTH as u32, height.max(1) as u32);
    {
        let canvas = Canvas { area: SVGBackend::with_string(&mut svg, size).into_drawing_area() };
        draw(&canvas)?;
        canvas.area.present().map_err(failed)?;
    }
    for ink in Ink::all() {
        let RGBColor(red, green, blue) = ink.sentinel();
        let number = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        svg = svg.replace(&number, &format!("\"{}\"", ink.variable()));
    }
    let (_, body) = svg.split_once('>').ok_or_else(|| anyhow!("plotters wrote no SVG"))?;
    let title = escaped(title);
    Ok(format!(
        "<svg viewBox=\"0 0 {} {}\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" \
         aria-label=\"{title}\">\n<title>{title}</title>{body}",
        size.0, size.1
    ))
}

impl Canvas<'_> {
    /// A filled rectangle.
    pub fn block(
        &self,
        from: (i32, i32),
        to: (i32, i32),
        ink: Ink,
        strength: f64,
    ) -> anyhow::Result<()> {
        let style = ink.sentinel().mix(strength).filled();
        self.area.draw(&Rectangle::new([from, to], style)).map_err(failed)
    }

    /// Straight lines from point to point.
    pub fn stroke(&self, points: Vec<(i32, i32)>, ink: Ink, width: u32) -> anyhow::Result<()> {
        let style = ink.sentinel().stroke_width(width);
        self.area.draw(&PathElement::new(points, style)).map_err(failed)
    }

    /// The same, broken.
    pub fn dashes(&self, points: Vec<(i32, i32)>, ink: Ink, width: u32) -> anyhow::Result<()> {
        let style = ink.sentinel().stroke_width(width);
        let dashed = DashedPathElement::new(points, 5, 4, style);
        self.area.draw(&dashed).map_err(failed)
    }

    /// A filled circle.
    pub fn dot(&self, at: (i32, i32), radius: i32, ink: Ink) -> anyhow::Result<()> {
        self.area.draw(&Circle::new(at, radius, ink.sentinel().filled())).map_err(failed)
    }

    /// Text whose middle is at the given height.
    pub fn text(&self, text: &str, at: (i32, i32), anchor: Anchor, ink: Ink) -> anyhow::Result<()> {
        let held = match anchor {
            Anchor::Left => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::Right => HPos::Right,
        };
        let style = ("sans-serif", TEXT_SIZE)
            .into_font()
            .color(&ink.sentinel())
            .pos(Pos::new(held, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), at, style)).map_err(failed)
    }
}

/// A label on one line, of at most so many units; what is longer ends in `…`.
pub fn fitted(text: &str, width: i32) -> String {
    let clean: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let most = (f64::from(width) / LETTER_WIDTH).max(1.0) as usize;
    if clean.chars().count() <= most {
        return clean;
    }
    clean.chars().take(most - 1).chain(['…']).collect()
}

/// Units that a text takes at most.
pub fn width_of(text: &str) -> i32 {
    (text.chars().count() as f64 * LETTER_WIDTH) as i32
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other if other.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_variables_and_text_stays_text() {
        let svg = drawn(40, "a <b> & \"c\"", |canvas| {
            canvas.block((0, 0), (10, 10), Ink::Series(3), 1.0)?;
            canvas.text("</text><script>", (0, 20), Anchor::Left, Ink::Text)
        })
        .expect("a drawing");
        assert!(svg.contains("fill=\"var(--series-3)\""), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt;b&gt; &amp; &quot;c&quot;\""), "{svg}");
        assert!(!svg.contains('#') && !svg.contains("<script>"), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
    }

    #[test]
    fn a_label_that_is_too_long_ends_in_dots() {
        assert_eq!(fitted("haproxy-tuned", 110), "haproxy-tuned");
        assert_eq!(fitted("a-name-of-some-length", 60), "a-name-…");
        assert_eq!(fitted("two\nlines", 100), "two lines");
    }
}
