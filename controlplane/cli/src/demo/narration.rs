//! What one sees: lines of text, and on a terminal below them figures that move.
//!
//! Before: something happened. After: someone read it, or a program, which gets lines only.

use std::io::{self, IsTerminal as _, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::Row;

/// Acts and what comes before and after them.
pub(super) const STEPS: u64 = 6;

/// What one sees.
#[derive(Debug)]
pub(super) enum Narration {
    /// Lines.
    Plain,
    /// Lines, and what moves below them.
    Live {
        /// All that moves.
        screen: MultiProgress,
        /// How far it is.
        progress: ProgressBar,
        /// A line each.
        rows: Vec<ProgressBar>,
    },
}

impl Narration {
    /// What suits stdout.
    pub(super) fn new() -> Self {
        if !io::stdout().is_terminal() {
            return Self::Plain;
        }
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        if screen.is_hidden() {
            return Self::Plain;
        }
        let style = ProgressStyle::with_template("{spinner} [{bar:24}] {msg}");
        let style = style.expect("the template is right").progress_chars("=> ");
        let progress = screen.add(ProgressBar::new(STEPS).with_style(style));
        Self::Live { screen, progress, rows: Vec::new() }
    }

    /// Whether figures can be shown all the time.
    pub(super) const fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. })
    }

    /// Says something, of one or more lines.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        match self {
            Self::Plain => {
                let mut out = io::stdout().lock();
                writeln!(out, "{}", text.trim_end())?;
                out.flush()
            }
            Self::Live { screen, .. } => screen.println(text.trim_end()),
        }
    }

    /// Says what comes next.
    pub(super) fn begin_act(&self, title: &str) -> io::Result<()> {
        self.say(&format!("\n== {title}"))?;
        if let Self::Live { progress, .. } = self {
            progress.inc(1);
            progress.set_message(title.to_owned());
        }
        Ok(())
    }

    /// Says figures.
    pub(super) fn report(&self, figures: &[Row]) -> io::Result<()> {
        let lines: Vec<String> =
            std::iter::once(header()).chain(figures.iter().map(line)).collect();
        self.say(&lines.join("\n"))
    }

    /// Puts figures in the place of those that are shown.
    pub(super) fn show(&mut self, figures: &[Row]) {
        let Self::Live { screen, rows, .. } = self else { return };
        if rows.is_empty() {
            let style = ProgressStyle::with_template("{msg}").expect("the template is right");
            let row = || screen.add(ProgressBar::new_spinner().with_style(style.clone()));
            rows.extend((0..=figures.len()).map(|_| row()));
            rows[0].set_message(header());
        }
        rows[1..].iter().zip(figures).for_each(|(row, figures)| row.set_message(line(figures)));
    }

    /// Moves what only moves.
    pub(super) fn tick(&self) {
        if let Self::Live { progress, .. } = self {
            progress.tick();
        }
    }

    /// Takes all that moves away; what is said from now on is lines.
    pub(super) fn clear(&mut self) {
        if let Self::Live { screen, .. } = self {
            // A terminal that is gone needs no clearing.
            let _ = screen.clear();
        }
        *self = Self::Plain;
    }
}

fn header() -> String {
    format!(
        "   {:<22} {:>9} {:>9} {:>9} {:>9}",
        "proxies of", "success", "resp./s", "p50 ms", "p99 ms"
    )
}

fn line(row: &Row) -> String {
    let who = match row.proxies {
        1 => row.service.to_owned(),
        several => format!("{} ({several} sidecars)", row.service),
    };
    let success = row.success_percent.map_or("-".to_owned(), |percent| format!("{percent:.2} %"));
    let bound = |bound: Option<f64>| match bound {
        None => "-".to_owned(),
        Some(bound) if bound.is_infinite() => "> 50000".to_owned(),
        Some(bound) => format!("<= {bound}"),
    };
    let (rate, p50, p99) = (row.rate, bound(row.p50_ms), bound(row.p99_ms));
    format!("   {who:<22} {success:>9} {rate:>9.0} {p50:>9} {p99:>9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known() {
        let row = Row {
            service: "service1",
            proxies: 3,
            rate: 399.6,
            success_percent: Some(100.0),
            p50_ms: Some(1.0),
            p99_ms: Some(f64::INFINITY),
        };
        assert_eq!(
            [header(), line(&row)].join("\n"),
            "   proxies of               success   resp./s    p50 ms    p99 ms\n   \
                service1 (3 sidecars)   100.00 %       400      <= 1   > 50000"
        );
        let idle = Row { rate: 0.0, success_percent: None, p50_ms: None, p99_ms: None, ..row };
        assert!(line(&idle).ends_with("-         0         -         -"), "{}", line(&idle));
    }
}
