//! All that the page says, before it is a page: made once, written as HTML and as Markdown.

use super::baseline::{self, Change};
use super::behind::{self, Behind};
use super::charts::Chart;
use super::findings::{self, Tile};
use super::machine::{self, Run};
use super::reading::Source;
use super::series::{self, Series};
use super::{conclusions, method, overview, sections};
use crate::judgement::{Conditions, Place};
use crate::results::{Results, Row};
use std::collections::BTreeMap;

/// The page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// `Lateen beside nginx, haproxy and envoy`.
    pub title: String,
    /// What was measured and found, a sentence each.
    pub findings: Vec<String>,
    /// The main finding against each peer.
    pub tiles: Vec<Tile>,
    /// What the proxies cost, short enough for a README.
    pub headline: Option<Table>,
    /// One cell for each row and peer.
    pub overview: Vec<Table>,
    /// Where Lateen is behind, and how far from the floor.
    pub behind: Behind,
    /// What changed since an older run.
    pub changes: Option<Change>,
    /// One for each row.
    pub sections: Vec<Section>,
    /// How it was measured.
    pub method: Vec<String>,
    /// What cannot be concluded.
    pub limits: Vec<String>,
    /// One for each file.
    pub runs: Vec<Run>,
}

/// A row of the results.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Of the page, without a `#`.
    pub anchor: String,
    /// The scenario and its profile.
    pub heading: String,
    /// What it is, in a sentence.
    pub title: String,
    /// What must be known before anything is compared.
    pub caveats: Vec<String>,
    /// Plots over all points.
    pub charts: Vec<Chart>,
    /// One for each point.
    pub points: Vec<Point>,
    /// Peers without samples, and samples that do not count, with the reason.
    pub absent: Vec<String>,
}

/// A point of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Nothing where it is the only one.
    pub heading: Option<String>,
    /// Plots of it.
    pub charts: Vec<Chart>,
    /// Lateen over each peer.
    pub ratios: Option<Table>,
    /// Medians with their range.
    pub figures: Table,
    /// What the figures need beside them.
    pub remarks: Vec<String>,
}

/// A table of peers or rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Above it.
    pub caption: String,
    /// Names of the columns, the first of them that of the rows' names.
    pub head: Vec<String>,
    /// From top to bottom.
    pub rows: Vec<TableRow>,
}

/// A row of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableRow {
    /// A peer, or a scenario.
    pub name: String,
    /// A place in the page that says more.
    pub anchor: Option<String>,
    /// Colour of a peer.
    pub series: Option<Series>,
    /// One for each column after the first.
    pub cells: Vec<Cell>,
}

/// A cell of a table.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// The number.
    pub text: String,
    /// Least and most.
    pub range: Option<String>,
    /// `better`, `worse` or `undecided`.
    pub verdict: Option<&'static str>,
    /// Why it is undecided.
    pub note: Option<String>,
}

impl Cell {
    /// Where there is no value.
    pub fn none() -> Cell {
        Cell { text: "–".to_owned(), ..Cell::default() }
    }

    /// Of text alone.
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), ..Cell::default() }
    }
}

impl Page {
    /// Of one or more results, and an older one to compare the first with.
    pub fn of(sources: &[Source], old: Option<&Source>) -> Page {
        let names = sources.iter().flat_map(|source| peer_names(&source.results));
        let series: BTreeMap<String, Series> = series::assign(names);
        // Which results a row is of needs saying only where another has the same.
        let in_several = |row: &Row| {
            let has = |source: &&Source| {
                let rows = &source.results.rows;
                rows.iter().any(|one| (&one.scenario, one.profile) == (&row.scenario, row.profile))
            };
            sources.iter().filter(has).count() > 1
        };
        let mut places = Vec::new();
        for (number, source) in sources.iter().enumerate() {
            for row in &source.results.rows {
                let anchor = format!("row-{}", places.len() + 1);
                let file = in_several(row).then(|| format!(" · run {}", number + 1));
                let heading = format!(
                    "{} · {}{}",
                    row.scenario,
                    row.profile.name(),
                    file.unwrap_or_default()
                );
                let conditions = Conditions::of(&source.results);
                places.push(Placed { row, anchor, heading, conditions });
            }
        }
        let mut behind = behind::of(&places);
        for peer in sources.iter().flat_map(|source| &source.results.peers) {
            if peer.not_run.is_some() && !behind.unmeasured.contains(&peer.name) {
                behind.unmeasured.push(peer.name.clone());
            }
        }
        let (mut findings, tiles) = findings::of(sources, &places, &behind);
        let changes = old.map(|old| baseline::of(sources, old));
        findings.extend(changes.as_ref().map(Change::sentence));
        Page {
            title: findings::title(sources),
            findings,
            tiles,
            headline: overview::headline(&places),
            overview: overview::of(&places),
            behind,
            changes,
            sections: places.iter().map(|placed| sections::of(placed, &series)).collect(),
            method: method::of(sources),
            limits: conclusions::of(sources),
            runs: sources
                .iter()
                .enumerate()
                .map(|(index, source)| {
                    let name = (sources.len() > 1).then(|| format!("Run {}", index + 1));
                    machine::of(name, source)
                })
                .collect(),
        }
    }
}

/// A row, and where the page has it.
#[derive(Debug, Clone)]
pub struct Placed<'a> {
    /// What was measured.
    pub row: &'a Row,
    /// Of its section.
    pub anchor: String,
    /// Of its section.
    pub heading: String,
    /// Of its run.
    pub conditions: Conditions,
}

impl Placed<'_> {
    /// Its points, as they are judged.
    pub fn points(&self) -> impl Iterator<Item = Place<'_>> {
        let (row, conditions) = (self.row, self.conditions);
        let place = move |point| Place { row, point, conditions };
        row.points().into_iter().map(place)
    }

    /// The heading, and the point where the row has more than one.
    pub fn name_of(&self, point: &str) -> String {
        if self.row.points().len() > 1 && !point.is_empty() {
            format!("{} · {point}", self.heading)
        } else {
            self.heading.clone()
        }
    }
}

fn peer_names(results: &Results) -> impl Iterator<Item = &str> {
    let entries = results.rows.iter().flat_map(|row| &row.entries);
    let peers = results.peers.iter().map(|peer| peer.name.as_str());
    peers.chain(entries.map(|entry| entry.peer.as_str()))
}
