//! What happens, for people who wait: a bar on a terminal, a line for each sample elsewhere.

use crate::results::Sample;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};

/// Where it is told.
#[derive(Debug, Clone)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For so many rows.
    pub fn new(rows: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(rows as u64);
            let style = ProgressStyle::with_template(
                "{elapsed_precise} {bar:20} {pos}/{len} {prefix} {wide_msg}",
            );
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
            bar
        });
        Self { bar }
    }

    /// A row begins.
    pub fn row(&self, name: &str, title: &str) {
        match &self.bar {
            Some(bar) => bar.set_prefix(name.to_owned()),
            None => self.line(&format!("{name}: {title}")),
        }
    }

    /// A row is done.
    pub fn row_done(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Something is under way.
    pub fn doing(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// A sample was taken.
    pub fn sampled(&self, unit: &str, units_per_answer: f64, peer: &str, sample: &Sample) {
        let Some(load) = &sample.load else { return };
        let mut text =
            format!("  {} {peer}: {:.0} answers/s", sample.round + 1, load.requests_per_s);
        if let Some(cost) = &sample.cost {
            let units = (load.requests as f64 * units_per_answer).max(1.0);
            text.push_str(&format!(", {:.2} CPU µs/{unit}", cost.cpu_us / units));
        }
        if let Some(why) = &sample.discarded {
            text.push_str(&format!(", does not count: {why}"));
        }
        self.line(&text);
    }

    /// Something to be read now or later.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Nobody reads: nothing to be done about it.
            None => drop(writeln!(stderr(), "{text}")),
        }
    }

    /// Everything is done.
    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
