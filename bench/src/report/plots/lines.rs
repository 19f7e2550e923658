//! Lines over percentiles or rates, with a logarithmic upright axis and their names at their ends.

use super::canvas::{self, Anchor, Canvas, Ink, WIDTH};
use crate::numbers::{self, Quantity};
use crate::report::charts::{Axis, Line, Lines};
use std::f64::consts::LOG10_2;

const HEIGHT: i32 = 270;
const LEFT: i32 = 58;
const RIGHT: i32 = WIDTH - 122;
const TOP: i32 = 12;
const BOTTOM: i32 = HEIGHT - 44;
/// Between the names at the ends of lines.
const NAME_STEP: i32 = 17;
/// Lines that have room for their names; more are drawn into a taller plot.
const NAMES_MAX: i32 = (BOTTOM - TOP) / NAME_STEP;
/// Percentiles that have a whisker and a mark on the axis.
const MARKED: &[(f64, &str)] =
    &[(LOG10_2, "50 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")];

/// The drawing.
pub fn draw(lines: &Lines, title: &str) -> anyhow::Result<String> {
    let taller = (lines.lines.len() as i32 - NAMES_MAX).max(0) * NAME_STEP;
    let scale = Scale::of(lines, BOTTOM + taller);
    canvas::drawn(HEIGHT + taller, title, |canvas| {
        draw_upright_axis(canvas, &scale, lines.quantity)?;
        draw_level_axis(canvas, &scale, lines.axis)?;
        let dodge = |index: usize| 2 * index as i32 - (lines.lines.len() as i32 - 1);
        for (index, line) in lines.lines.iter().enumerate().rev() {
            draw_line(canvas, &scale, line, lines.axis, dodge(index))?;
        }
        draw_names(canvas, &scale, lines)
    })
}

/// From values to units.
struct Scale {
    level: (f64, f64),
    /// Decimal logarithms.
    upright: (f64, f64),
    bottom: i32,
}

impl Scale {
    fn of(lines: &Lines, bottom: i32) -> Scale {
        let points = || lines.lines.iter().flat_map(|line| &line.points);
        let most_level = points().map(|(at, _)| *at).fold(0.0, f64::max);
        let level = match lines.axis {
            Axis::Nines => (MARKED[0].0, most_level.max(1.0)),
            Axis::Rate => (0.0, if most_level > 0.0 { most_level * 1.03 } else { 1.0 }),
        };
        let least = points().map(|(_, spread)| spread.least.log10()).fold(f64::INFINITY, f64::min);
        let most = points().map(|(_, spread)| spread.most.log10()).fold(-f64::INFINITY, f64::max);
        // Half an octave at least, so that noise does not look like a slope.
        let (middle, half) = ((least + most) / 2.0, ((most - least) / 2.0).max(0.15));
        Scale { level, upright: (middle - half * 1.06, middle + half * 1.06), bottom }
    }

    fn x(&self, value: f64) -> i32 {
        let share = (value - self.level.0) / (self.level.1 - self.level.0);
        LEFT + (share.clamp(0.0, 1.0) * f64::from(RIGHT - LEFT)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        let share = (value.log10() - self.upright.0) / (self.upright.1 - self.upright.0);
        self.bottom - (share.clamp(0.0, 1.0) * f64::from(self.bottom - TOP)).round() as i32
    }
}

fn draw_upright_axis(canvas: &Canvas, scale: &Scale, quantity: Quantity) -> anyhow::Result<()> {
    let mut free_from = i32::MAX;
    for value in upright_marks(scale.upright) {
        let y = scale.y(value);
        canvas.stroke(vec![(LEFT, y), (RIGHT, y)], Ink::Grid, 1)?;
        // From below upwards: a mark too close to the last one keeps its line and loses its number.
        if y <= free_from {
            let label = mark_label(value, quantity);
            canvas.text(&label, (LEFT - 7, y), Anchor::Right, Ink::Faint)?;
            free_from = y - 18;
        }
    }
    Ok(())
}

fn mark_label(value: f64, quantity: Quantity) -> String {
    let label = numbers::quantity(value, quantity);
    label.replace(".00", "").replace(".0 ", " ")
}

/// 1, 2 and 5 of each decade, or fewer where there are many decades.
fn upright_marks((least, most): (f64, f64)) -> Vec<f64> {
    let decades = most - least;
    let steps: &[f64] = match decades {
        _ if decades > 3.5 => &[1.0],
        _ if decades > 0.8 => &[1.0, 2.0, 5.0],
        _ => &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
    };
    let first = least.floor().max(-12.0) as i32;
    let last = most.ceil().min(15.0) as i32;
    let all =
        (first..=last).flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
    all.filter(|value| (least..=most).contains(&value.log10())).collect()
}

fn draw_level_axis(canvas: &Canvas, scale: &Scale, axis: Axis) -> anyhow::Result<()> {
    let bottom = scale.bottom;
    canvas.stroke(vec![(LEFT, bottom), (RIGHT, bottom)], Ink::Faint, 1)?;
    let marks: Vec<(f64, String)> = match axis {
        Axis::Nines => MARKED
            .iter()
            .filter(|(at, _)| *at <= scale.level.1 + 1e-6)
            .map(|(at, name)| (*at, (*name).to_owned()))
            .collect(),
        Axis::Rate => rate_marks(scale.level.1),
    };
    for (at, label) in marks {
        let x = scale.x(at);
        canvas.stroke(vec![(x, bottom), (x, bottom + 4)], Ink::Faint, 1)?;
        canvas.text(&label, (x, bottom + 15), Anchor::Middle, Ink::Faint)?;
    }
    let name = match axis {
        Axis::Nines => "requests answered within",
        Axis::Rate => "offered requests/s",
    };
    canvas.text(name, ((LEFT + RIGHT) / 2, bottom + 34), Anchor::Middle, Ink::Faint)
}

/// At most four steps of 1, 2 or 5.
fn rate_marks(most: f64) -> Vec<(f64, String)> {
    let decade = 10_f64.powf(most.log10().floor());
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0].map(|step| step * decade);
    let step = steps.into_iter().find(|step| most / step <= 4.5).unwrap_or(decade * 10.0);
    (0..=4)
        .map(|index| f64::from(index) * step)
        .filter(|at| *at <= most)
        .map(|at| {
            let label = if step >= 1000.0 && at > 0.0 {
                format!("{:.0} k", at / 1000.0)
            } else {
                numbers::quantity(at, Quantity::Count)
            };
            (at, label)
        })
        .collect()
}

fn draw_line(
    canvas: &Canvas,
    scale: &Scale,
    line: &Line,
    axis: Axis,
    dodge: i32,
) -> anyhow::Result<()> {
    let ink = Ink::from(line.series);
    let path: Vec<(i32, i32)> =
        line.points.iter().map(|(at, spread)| (scale.x(*at), scale.y(spread.median))).collect();
    let width = if line.series.colour == 0 { 3 } else { 2 };
    if path.len() > 1 && line.series.broken {
        canvas.dashes(path.clone(), ink, width)?;
    } else if path.len() > 1 {
        canvas.stroke(path.clone(), ink, width)?;
    }
    for ((at, spread), (x, y)) in line.points.iter().zip(path) {
        let marked = axis == Axis::Rate || MARKED.iter().any(|(mark, _)| (mark - at).abs() < 1e-6);
        if !marked {
            continue;
        }
        canvas.dot((x, y), 3, ink)?;
        let (low, high) = (scale.y(spread.least), scale.y(spread.most));
        if spread.count > 1 && low != high {
            let x = (x + dodge).clamp(LEFT, RIGHT);
            canvas.stroke(vec![(x, low), (x, high)], ink, 1)?;
            for end in [low, high] {
                canvas.stroke(vec![(x - 2, end), (x + 2, end)], ink, 1)?;
            }
        }
    }
    Ok(())
}

/// At the right, in the order of the lines' ends, moved apart. Percentiles end at the same place, and
/// have a thin line from there to the name; rates do not, and threads would cross.
fn draw_names(canvas: &Canvas, scale: &Scale, lines: &Lines) -> anyhow::Result<()> {
    let mut ends: Vec<(&Line, (i32, i32))> = lines
        .lines
        .iter()
        .filter_map(|line| {
            let (at, spread) = line.points.last()?;
            Some((line, (scale.x(*at), scale.y(spread.median))))
        })
        .collect();
    ends.sort_by_key(|(_, (_, y))| *y);
    let wanted: Vec<i32> = ends.iter().map(|(_, (_, y))| *y).collect();
    for ((line, (x, y)), at) in ends.iter().zip(apart(&wanted, TOP, scale.bottom)) {
        let ink = Ink::from(line.series);
        let key = vec![(RIGHT + 7, at), (RIGHT + 14, at)];
        if lines.axis == Axis::Nines {
            canvas.stroke(vec![(x + 4, *y), key[0]], ink, 1)?;
        }
        if line.series.broken {
            canvas.stroke(vec![key[0], (key[0].0 + 2, at)], ink, 3)?;
            canvas.stroke(vec![(key[1].0 - 2, at), key[1]], ink, 3)?;
        } else {
            canvas.stroke(key, ink, 3)?;
        }
        let name = canvas::fitted(&line.label, WIDTH - RIGHT - 18);
        canvas.text(&name, (RIGHT + 18, at), Anchor::Left, Ink::Text)?;
    }
    Ok(())
}

/// Places in the same order, a step from each other, as near to what is wanted as is left.
fn apart(wanted: &[i32], top: i32, bottom: i32) -> Vec<i32> {
    let mut places: Vec<i32> = Vec::new();
    for want in wanted {
        let free = places.last().map_or(top, |last| last + NAME_STEP);
        places.push((*want).max(free));
    }
    let mut limit = bottom;
    for place in places.iter_mut().rev() {
        *place = (*place).min(limit);
        limit = *place - NAME_STEP;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_order_and_their_distance() {
        assert_eq!(apart(&[100, 101, 102], 0, 300), vec![100, 117, 134]);
        assert_eq!(apart(&[290, 295, 300], 0, 300), vec![266, 283, 300]);
        assert_eq!(apart(&[], 0, 300), Vec::<i32>::new());
    }

    #[test]
    fn marks_are_few_at_every_size() {
        for (least, most) in [(1.0, 1.3), (1.0, 2.0), (2.0, 5.0), (0.0, 7.0)] {
            let marks = upright_marks((least, most)).len();
            assert!((2..=12).contains(&marks), "{marks} marks from {least} to {most}");
        }
        for most in [0.7, 7.0, 43_000.0, 1e6] {
            let marks = rate_marks(most).len();
            assert!((3..=5).contains(&marks), "{marks} marks to {most}");
        }
    }
}
