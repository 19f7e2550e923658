//! Bars, each below its name and its number, so that long names need no room beside them on a phone.

use super::canvas::{self, Anchor, Canvas, Ink, WIDTH};
use crate::numbers;
use crate::report::charts::{Bar, Bars};

const ROW_HEIGHT: i32 = 38;
const BAR_HEIGHT: i32 = 12;
const LEGEND_HEIGHT: i32 = 26;
/// Beside the longest bar, so that its whisker is not cut.
const MARGIN: i32 = 4;
/// How strongly the second part of a bar is drawn, and one that is not compared.
const SECOND: f64 = 0.45;
const PALE: f64 = 0.3;

/// The drawing.
pub fn draw(bars: &Bars, title: &str) -> anyhow::Result<String> {
    let legend = if bars.parts.is_some() { LEGEND_HEIGHT } else { 0 };
    let below = ROW_HEIGHT * bars.bars.len() as i32;
    let height = below + legend + 2;
    let most = bars.bars.iter().map(|bar| bar.value.most).fold(0.0, f64::max);
    canvas::drawn(height, title, |canvas| {
        if let Some(parts) = bars.parts {
            draw_legend(canvas, parts, below)?;
        }
        for (index, bar) in bars.bars.iter().enumerate() {
            draw_bar(canvas, bars, bar, ROW_HEIGHT * index as i32, most)?;
        }
        Ok(())
    })
}

/// Below the bars, so that those of two plots side by side are level.
fn draw_legend(canvas: &Canvas, parts: [&str; 2], top: i32) -> anyhow::Result<()> {
    let mut left = 0;
    for (part, strength) in parts.into_iter().zip([1.0, SECOND]) {
        canvas.block((left, top + 8), (left + 11, top + 19), Ink::Faint, strength)?;
        canvas.text(part, (left + 16, top + 14), Anchor::Left, Ink::Faint)?;
        left += 16 + canvas::width_of(part) + 18;
    }
    Ok(())
}

fn draw_bar(canvas: &Canvas, bars: &Bars, bar: &Bar, top: i32, most: f64) -> anyhow::Result<()> {
    let (median, range) = numbers::spread(bar.value, bars.quantity);
    let mut value = if bar.value.count > 1 { format!("{median} ({range})") } else { median };
    if let Some(note) = &bar.note {
        value = format!("{note} · {value}");
    }
    let room = WIDTH - canvas::width_of(&value) - 12;
    canvas.text(&canvas::fitted(&bar.label, room), (0, top + 9), Anchor::Left, Ink::Text)?;
    canvas.text(&value, (WIDTH, top + 9), Anchor::Right, Ink::Faint)?;
    let along = |value: f64| {
        let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
        (share * f64::from(WIDTH - MARGIN)).round() as i32
    };
    let (upper, lower) = (top + 19, top + 19 + BAR_HEIGHT);
    canvas.block((0, upper), (WIDTH, lower), Ink::Grid, 0.55)?;
    let end = along(bar.value.median).max(1);
    let ink = Ink::from(bar.series);
    let strength = if bar.note.is_some() { PALE } else { 1.0 };
    match bar.first_share {
        Some(share) => {
            let split = (f64::from(end) * share).round() as i32;
            canvas.block((0, upper), (split, lower), ink, strength)?;
            canvas.block((split, upper), (end, lower), ink, strength * SECOND)?;
        }
        None => canvas.block((0, upper), (end, lower), ink, strength)?,
    }
    if bar.value.count > 1 {
        let (least, most) = (along(bar.value.least), along(bar.value.most));
        let middle = upper + BAR_HEIGHT / 2;
        canvas.stroke(vec![(least, middle), (most, middle)], Ink::Text, 1)?;
        for end in [least, most] {
            canvas.stroke(vec![(end, middle - 4), (end, middle + 4)], Ink::Text, 1)?;
        }
    }
    Ok(())
}
