//! Whether what is written is sound: HTML whose tags fit each other and that needs nothing else, Markdown
//! whose tables are tables, and no text of others that either would read.

use crate::synthetic;
use lateen_bench::report::{markdown, model::Page, page, reading::Source};
use lateen_bench::results::Results;

fn written(results: Results) -> (String, String) {
    let old = Source { file: "old.json".into(), results: synthetic::results(true) };
    let page = Page::of(&[Source { file: "results.json".into(), results }], Some(&old));
    (page::write(&page).expect("a page"), markdown::write(&page))
}

fn all() -> Vec<(String, String)> {
    let mut hostile = synthetic::results(true);
    synthetic::make_hostile(&mut hostile);
    let mut empty = synthetic::results(true);
    empty.rows.iter_mut().flat_map(|row| &mut row.entries).for_each(|entry| entry.samples.clear());
    vec![
        written(synthetic::results(true)),
        written(synthetic::results(false)),
        written(hostile),
        written(empty),
    ]
}

/// What is wrong with the nesting of tags, or the quotes of attributes.
fn complaint(html: &str) -> Option<String> {
    const VOID: &[&str] = &["meta", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>')?;
        let tag = &rest[start + 1..end];
        if tag.matches('"').count() % 2 == 1 {
            return Some(format!("quotes in <{tag}>"));
        }
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if let Some(closed) = tag.strip_prefix('/') {
            let last = open.pop();
            if last != Some(closed) {
                return Some(format!("</{closed}> closes {last:?}"));
            }
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
    }
    (!open.is_empty()).then(|| format!("still open: {open:?}"))
}

#[test]
fn the_page_is_sound_and_needs_nothing_else() {
    assert!(complaint("<p><b></p></b>").is_some() && complaint("<p>").is_some(), "can complain");
    for (html, _) in all() {
        assert_eq!(complaint(&html), None);
        for wanted in
            ["<!doctype html>", "default-src 'none'", "prefers-color-scheme: dark", "id=\"behind\""]
        {
            assert!(html.contains(wanted), "{wanted} is missing");
        }
        for refused in
            ["<script", "<link", "src=", "url(", "@import", " onload", "style=\"", "#0102", "#0103"]
        {
            assert!(!html.contains(refused), "{refused} is in it");
        }
        let anchors = html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
        for anchor in anchors {
            assert!(html.contains(&format!("id=\"{anchor}\"")), "#{anchor} leads nowhere");
        }
    }
}

#[test]
fn both_can_be_kept_beside_source() {
    for text in all().into_iter().flat_map(|(html, markdown)| [html, markdown]) {
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
        for line in text.lines() {
            assert_eq!(line.trim_end(), line);
            assert!(!line.contains('\t'));
        }
    }
}

#[test]
fn markdown_tables_have_as_many_cells_as_columns() {
    let columns = |line: &str| line.replace("\\\\", "").replace("\\|", "").matches('|').count();
    for (_, markdown) in all() {
        let mut head = None;
        for line in markdown.lines() {
            if !line.starts_with('|') {
                head = None;
                continue;
            }
            let first = *head.get_or_insert(columns(line));
            assert_eq!(columns(line), first, "{line}");
        }
        assert!(!markdown.contains("<script"));
    }
}

#[test]
fn markdown_has_the_tables_the_verdicts_and_the_losses() {
    let (_, markdown) = written(synthetic::results(true));
    for wanted in [
        "# Lateen beside nginx, haproxy and envoy\n\n## In one table\n",
        "| scenario | lateen | nginx (tuned) | haproxy (tuned) | envoy |\n",
        "## How it was measured\n",
        "## Where Lateen is behind\n",
        "| memory · bare | memory per idle connection, at 10,000 | nginx | 1.62 (1.60–1.62) | 0.90 KiB against 0.56 KiB |\n",
        "### Distance to the floor\n",
        "## What cannot be concluded\n",
        "not run: linkerd2-proxy is not installed",
        "| scenario | lateen-epoll | nginx | nginx-tuned | haproxy | haproxy-tuned | envoy | floor |\n",
    ] {
        assert!(markdown.contains(wanted), "{wanted:?} is not in\n{markdown}");
    }
}

#[test]
fn markdown_reads_nothing_into_the_text_of_others() {
    let mut hostile = synthetic::results(true);
    synthetic::make_hostile(&mut hostile);
    let (html, markdown) = written(hostile);
    assert!(markdown.contains(
        "&lt;script&gt;document.title='broken'&lt;/script&gt;\\|\"'\\`&amp;  \\# \\[x\\]"
    ));
    assert!(html.contains("&lt;/pre&gt;") || html.contains("&#60;/pre&#62;"));
    assert!(!markdown.lines().any(|line| line.starts_with("# [x]")));
}
