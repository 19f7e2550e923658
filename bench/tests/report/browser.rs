//! The page in headless Chromium: at the width of a phone and of a desk, light and dark. A script that
//! only the test's copy of the page has measures what is on the screen and sends it to a frame around it;
//! the page as it is forbids scripts, and is loaded too.

use crate::synthetic;
use lateen_bench::report::{model::Page, page, reading::Source};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A page is there within seconds; a machine under load may take longer.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);
const PHONE: u32 = 360;
const DESK: u32 = 1280;
/// Text smaller than this on a phone is not read, in CSS pixels.
const TEXT_PX_MIN: f64 = 9.5;

/// What the script in the page saw.
#[derive(Debug, Deserialize)]
struct Seen {
    width: u32,
    dark: bool,
    title: String,
    overflow: f64,
    wide: Vec<String>,
    plots: usize,
    unlabelled: usize,
    overlaps: Vec<String>,
    outside: Vec<String>,
    text_px: f64,
    lateen: String,
}

const SCRIPT: &str = r#"
<script>
addEventListener('load', () => {
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  const inner = document.documentElement.clientWidth;
  const seen = {
    width: innerWidth, dark: matchMedia('(prefers-color-scheme: dark)').matches, title: document.title,
    overflow: document.documentElement.scrollWidth - inner, wide: [], plots: 0, unlabelled: 0,
    overlaps: [], outside: [], text_px: 1e9, lateen: '',
  };
  for (const one of document.body.querySelectorAll('*')) {
    if (one.closest('.scroll *, pre *, svg *')) continue;
    const box = one.getBoundingClientRect();
    if (box.right > inner + 0.5 || box.left < -0.5) seen.wide.push(one.tagName + ' ' + one.textContent.slice(0, 40));
  }
  for (const svg of document.querySelectorAll('svg')) {
    seen.plots += 1;
    if (!svg.querySelector('title') || !svg.getAttribute('aria-label')) seen.unlabelled += 1;
    const view = svg.viewBox.baseVal, scale = svg.getBoundingClientRect().width / view.width;
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent.trim(), text.getBBox(), text]);
    for (const [name, box, text] of texts) {
      seen.text_px = Math.min(seen.text_px, parseFloat(getComputedStyle(text).fontSize) * scale);
      if (box.x < -1 || box.y < -1 || box.x + box.width > view.width + 1 || box.y + box.height > view.height + 1)
        seen.outside.push(name + ' in ' + svg.getAttribute('aria-label'));
    }
    for (let one = 0; one < texts.length; one += 1) for (let other = 0; other < one; other += 1) {
      const [a, b] = [texts[one][1], texts[other][1]];
      const across = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
      const down = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
      if (across > 0 && down > 1) seen.overlaps.push(texts[one][0] + ' / ' + texts[other][0] + ' in ' + svg.getAttribute('aria-label'));
    }
  }
  const lateen = document.querySelector('svg rect[fill="var(--series-0)"]');
  seen.lateen = lateen ? getComputedStyle(lateen).fill : '';
  parent.postMessage(JSON.stringify(seen), '*');
});
</script>
"#;

/// Runs the browser until it has printed the page that it made of a file; returns that and its console.
fn dump(folder: &Path, file: &str, dark: bool, more: &[String]) -> (String, Vec<String>) {
    let scheme = if dark { 0 } else { 1 };
    let profile = tempfile::tempdir_in(folder).expect("a folder for the browser's profile");
    let spawned = Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=5000", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .args(if more.is_empty() { vec!["--dump-dom".to_owned()] } else { more.to_vec() })
        .arg(format!("file://{}", folder.join(file).display()))
        .env("HOME", profile.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut browser = spawned.unwrap_or_else(|error| {
        panic!(
            "chromium cannot be started ({error}): this test needs it; on Debian: apt-get install \
             --no-install-recommends chromium, or tests/run, which installs it"
        )
    });
    let (mut out, mut err) =
        (browser.stdout.take().expect("piped"), browser.stderr.take().expect("piped"));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            err.read_to_end(&mut text).map(|_| text)
        });
        let mut text = Vec::new();
        let read = out.read_to_end(&mut text);
        let errors = errors.join().expect("a reader never panics").unwrap_or_default();
        // The receiver is gone only after a timeout, which has been told already.
        let _ = sender.send(read.map(|_| (text, errors)));
    });
    let read = receiver.recv_timeout(LOAD_TIMEOUT);
    // Ends the one process that was started here; it has ended by itself but after a timeout.
    let _ = browser.kill();
    browser.wait().expect("the browser was started here");
    let (out, err) = read.expect("chromium printed the page in time").expect("its output");
    let console: Vec<String> = String::from_utf8_lossy(&err)
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .map(str::to_owned)
        .collect();
    (String::from_utf8_lossy(&out).into_owned(), console)
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file in a temporary folder");
}

/// The page as a phone or a desk has it.
fn look(html: &str, width: u32, dark: bool) -> Seen {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let policy = html.find("<meta http-equiv=\"Content-Security-Policy\"").expect("a policy");
    let end = policy + html[policy..].find('>').expect("its end") + 1;
    let open = format!("{}{}", &html[..policy], &html[end..]);
    write(folder.path(), "copy.html", &open.replace("</body>", &format!("{SCRIPT}</body>")));
    // Chromium has no window as narrow as a phone, so that the page stands in a frame of that width.
    let frame = format!(
        "<!doctype html><meta name=\"color-scheme\" content=\"light dark\"><pre id=seen></pre>\
         <script>addEventListener('message', one => {{ \
         document.getElementById('seen').textContent = btoa(encodeURIComponent(one.data)); }});\
         </script><iframe src=copy.html width={width} height=2000 frameborder=0></iframe>"
    );
    write(folder.path(), "frame.html", &frame);
    let (dom, console) = dump(folder.path(), "frame.html", dark, &[]);
    assert_eq!(console, Vec::<String>::new(), "the console at {width} px");
    let (_, rest) = dom.split_once("<pre id=\"seen\">").expect("what was seen");
    let (seen, _) = rest.split_once("</pre>").expect("its end");
    serde_json::from_str(&decode(seen)).expect("what the script wrote")
}

/// Base64 of percent-encoded text, which passes through the printed page unchanged.
fn decode(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0_u32;
    let mut held = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter).expect("base64");
        bits = bits << 6 | value as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    let mut plain = Vec::new();
    let mut rest = &bytes[..];
    while let [first, more @ ..] = rest {
        rest = more;
        if *first == b'%' {
            let digits = std::str::from_utf8(&more[..2]).expect("two digits");
            plain.push(u8::from_str_radix(digits, 16).expect("of base 16"));
            rest = &more[2..];
        } else {
            plain.push(*first);
        }
    }
    String::from_utf8(plain).expect("text")
}

fn source(results: lateen_bench::results::Results) -> Source {
    Source { file: "results.json".into(), results }
}

fn check(html: &str, width: u32, dark: bool) -> Seen {
    let seen = look(html, width, dark);
    let at = format!("{width} px, {}", if dark { "dark" } else { "light" });
    assert_eq!((seen.width, seen.dark), (width, dark), "the frame is not as wanted");
    assert_eq!(seen.overflow, 0.0, "the page is wider than its window at {at}: {:?}", seen.wide);
    assert_eq!(seen.wide, Vec::<String>::new(), "at {at}");
    assert_eq!(seen.overlaps, Vec::<String>::new(), "labels over each other at {at}");
    assert_eq!(seen.outside, Vec::<String>::new(), "labels outside their plot at {at}");
    assert_eq!(seen.unlabelled, 0, "plots without a title at {at}");
    assert!(seen.text_px >= TEXT_PX_MIN, "text of {} px at {at}", seen.text_px);
    seen
}

#[test]
fn the_page_fits_phones_and_desks_in_light_and_dark() {
    let now = source(synthetic::results(true));
    let mut before = synthetic::results(true);
    synthetic::scale_cost(&mut before.rows[0], "lateen", 0.9);
    let report = Page::of(&[now], Some(&source(before)));
    let html = page::write(&report).expect("a page");
    for (dark, colour) in [(false, "rgb(0, 100, 180)"), (true, "rgb(77, 166, 255)")] {
        for width in [PHONE, DESK] {
            let seen = check(&html, width, dark);
            assert!(seen.plots >= 20, "only {} plots", seen.plots);
            assert_eq!(seen.lateen, colour, "Lateen's colour");
        }
    }
    write_for_looking_at(&report, &html);
}

#[test]
fn a_bad_page_is_seen_to_be_bad() {
    let bad = "<!doctype html><html><head><meta charset=\"utf-8\">\
               <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"></head>\
               <body><div style=\"width: 900px\">wide</div><svg viewBox=\"0 0 100 50\" width=\"300\">\
               <text x=\"0\" y=\"20\" font-size=\"8\">one</text><text x=\"5\" y=\"21\">two</text>\
               <text x=\"90\" y=\"40\">outside</text></svg></body></html>";
    let seen = look(bad, PHONE, false);
    assert!(seen.overflow > 500.0 && seen.wide == ["DIV wide"], "{seen:?}");
    assert_eq!((seen.overlaps.len(), seen.outside.len(), seen.unlabelled), (1, 1, 1), "{seen:?}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let html = bad.replace("wide", "<script>document.title = 'broken'</script>");
    write(folder.path(), "bad.html", &html);
    let (_, console) = dump(folder.path(), "bad.html", false, &[]);
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:?}");
}

#[test]
fn hostile_text_is_shown_and_runs_nothing() {
    let mut results = synthetic::results(false);
    synthetic::make_hostile(&mut results);
    let report = Page::of(&[source(results)], None);
    let html = page::write(&report).expect("a page");
    let seen = check(&html, PHONE, false);
    assert_eq!(
        seen.title,
        report.title.replace('\n', " ").split_whitespace().collect::<Vec<_>>().join(" ")
    );
}

#[test]
fn a_page_about_little_is_whole_too() {
    let mut little = synthetic::results(false);
    little.rows.iter_mut().for_each(|row| {
        row.entries.retain(|entry| ["lateen", "envoy"].contains(&entry.peer.as_str()));
        row.entries.iter_mut().for_each(|entry| entry.samples.truncate(1));
    });
    little.rows[0].entries.iter_mut().for_each(|entry| entry.samples.clear());
    little.peers.clear();
    let html = page::write(&Page::of(&[source(little)], None)).expect("a page");
    assert!(check(&html, PHONE, true).plots > 5);
}

#[test]
fn the_page_as_it_is_loads_without_a_word_on_the_console() {
    let html = page::write(&Page::of(&[source(synthetic::results(true))], None)).expect("a page");
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "report.html", &html);
    let (dom, console) = dump(folder.path(), "report.html", false, &[]);
    assert_eq!(console, Vec::<String>::new());
    assert!(dom.contains("Where Lateen is behind") && dom.contains("<svg"), "{dom:.300}");
}

/// The page of made-up results, its Markdown, and what the page looks like, where they are asked for.
fn write_for_looking_at(report: &Page, html: &str) {
    let Ok(target) = std::env::var("LATEEN_WRITE_REPORT") else { return };
    let target = std::path::absolute(target).expect("a path");
    std::fs::create_dir_all(&target).expect("the folder");
    write(&target, "report.html", html);
    write(&target, "report.md", &lateen_bench::report::markdown::write(report));
    for (width, height) in [(PHONE, 6000), (DESK, 6000)] {
        let frame = format!(
            "<!doctype html><meta name=\"color-scheme\" content=\"light dark\"><body style=\"margin:0\">\
             <iframe src=report.html width={width} height={height} frameborder=0></iframe>"
        );
        write(&target, "frame.html", &frame);
        for (dark, scheme) in [(false, "light"), (true, "dark")] {
            let image = target.join(format!("{width}-{scheme}.png"));
            let screenshot = [
                format!("--screenshot={}", image.display()),
                format!("--window-size={},{height}", width.max(500)),
            ];
            dump(&target, "frame.html", dark, &screenshot);
        }
    }
}
