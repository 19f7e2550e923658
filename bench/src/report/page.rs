//! Writes the page as HTML. All text goes through the template's escaping; the plots alone go in as they
//! are, and escape theirs when they are drawn.

use super::baseline::Moved;
use super::behind::Item;
use super::charts::Chart;
use super::model::{Page, Table};
use super::plots::{bars, lines};
use askama::Template;

/// The page as one file that needs no other.
pub fn write(page: &Page) -> anyhow::Result<String> {
    let mut sections = Vec::new();
    for section in &page.sections {
        let points = section
            .points
            .iter()
            .map(|point| drawn(&point.charts, &section.heading, point.heading.as_deref()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        sections.push(Drawn { charts: drawn(&section.charts, &section.heading, None)?, points });
    }
    Ok(clean(&Report { page, sections }.render()?))
}

#[derive(Template)]
#[template(path = "report.html")]
struct Report<'a> {
    page: &'a Page,
    sections: Vec<Drawn>,
}

/// Plots of a section, in the order of the model's.
struct Drawn {
    charts: Vec<Figure>,
    points: Vec<Vec<Figure>>,
}

struct Figure {
    title: String,
    svg: String,
}

fn drawn(charts: &[Chart], heading: &str, point: Option<&str>) -> anyhow::Result<Vec<Figure>> {
    let place = point.map_or_else(|| heading.to_owned(), |point| format!("{heading}, {point}"));
    let draw = |chart: &Chart| {
        let title = match chart {
            Chart::Bars(bars) => &bars.title,
            Chart::Lines(lines) => &lines.title,
        };
        let label = format!("{title}: {place}");
        let svg = match chart {
            Chart::Bars(chart) => bars::draw(chart, &label)?,
            Chart::Lines(chart) => lines::draw(chart, &label)?,
        };
        Ok(Figure { title: title.clone(), svg })
    };
    charts.iter().map(draw).collect()
}

impl Report<'_> {
    fn table<'a>(&self, table: &'a Table) -> TableHtml<'a> {
        TableHtml { table }
    }

    fn items<'a>(&self, caption: &'a str, items: &'a [Item]) -> ItemsHtml<'a> {
        ItemsHtml { caption, items }
    }

    fn moved<'a>(&self, caption: &'a str, verdict: &'a str, moved: &'a [Moved]) -> MovedHtml<'a> {
        MovedHtml { caption, verdict, moved }
    }

    fn plots<'a>(&self, figures: &'a [Figure]) -> PlotsHtml<'a> {
        PlotsHtml { figures }
    }
}

/// A table in a box of its own that scrolls.
#[derive(Template)]
#[template(path = "table.html")]
struct TableHtml<'a> {
    table: &'a Table,
}

/// Figures in which Lateen is behind, or nothing is decided.
#[derive(Template)]
#[template(path = "items.html")]
struct ItemsHtml<'a> {
    caption: &'a str,
    items: &'a [Item],
}

/// Figures that changed.
#[derive(Template)]
#[template(path = "moved.html")]
struct MovedHtml<'a> {
    caption: &'a str,
    verdict: &'a str,
    moved: &'a [Moved],
}

/// Plots side by side, or below each other on a phone.
#[derive(Template)]
#[template(path = "plots.html")]
struct PlotsHtml<'a> {
    figures: &'a [Figure],
}

/// Without tabs, space at the ends of lines, or the empty lines that the templates leave: reports are
/// kept beside source. Configs keep their empty lines.
fn clean(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut verbatim = false;
    for line in html.lines().map(str::trim_end) {
        if line.is_empty() && !verbatim {
            continue;
        }
        if let Some(start) = line.rfind("<pre>") {
            verbatim = !line[start..].contains("</pre>");
        } else if line.contains("</pre>") {
            verbatim = false;
        }
        out.push_str(&line.replace('\t', "    "));
        out.push('\n');
    }
    out
}
