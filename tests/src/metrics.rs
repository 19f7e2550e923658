//! Reads the text format of Prometheus, as far as a test looks at it.

use std::collections::BTreeMap;

/// One line of a scrape.
#[derive(Debug)]
pub struct Sample {
    /// Name of the metric, with its suffix.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A whole scrape.
#[derive(Debug)]
pub struct Scrape(Vec<Sample>);

impl Scrape {
    /// Parses the answer of `/metrics`.
    ///
    /// # Panics
    /// On a line that is neither a comment nor a sample.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(
            lines
                .map(|line| parse_line(line).unwrap_or_else(|| panic!("bad sample: {line}")))
                .collect(),
        )
    }

    /// Sum over all samples of this name that carry all these labels; 0 where there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let carries = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        self.0.iter().filter(carries).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// True where at least one sample has this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|sample| sample.name == name)
    }

    /// All samples of this name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

fn parse_line(line: &str) -> Option<Sample> {
    let (series, value) = match line.split_once('}') {
        Some((series, value)) => (series, value),
        None => line.split_once(' ')?,
    };
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels
        .split("\",")
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (key, value) = label.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect::<Option<_>>()?;
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_the_samples_that_carry_the_labels() {
        let scrape = Scrape::parse(
            "# TYPE a counter\na{x=\"1\",y=\"p,q\"} 2\na{x=\"1\",y=\"r\"} 3\na{x=\"2\"} 10\nb 0.5\n# EOF\n",
        );
        assert_eq!(scrape.sum("a", &[("x", "1")]), 5.0);
        assert_eq!(scrape.sum("a", &[("y", "p,q")]), 2.0);
        assert_eq!(scrape.sum("a", &[]), 15.0);
        assert_eq!(scrape.sum("b", &[]), 0.5);
        assert_eq!(scrape.sum("b", &[("x", "1")]), 0.0);
        assert!(!scrape.has("c"));
    }
}
