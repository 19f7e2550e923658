//! The commands that only look: objects, revisions, differences, status.

use std::fmt::Write as _;

use lateen_control::api::messages::{
    DiffRequest, DiffResponse, HistoryResponse, ObjectText, ObjectsResponse, RevisionResponse,
    RevisionsDiffResponse, StatusResponse,
};
use lateen_control::serve::preview::{PartChanges, ProxyChange};
use lateen_control::status::{ProxyState, ProxyStatus, UnixMs};
use lateen_control::store::diff::Change;

use crate::arguments::{Diff, Get, History, Output, Show, Status};
use crate::client::Client;
use crate::files;
use crate::overrides;
use crate::policies;
use crate::problem::Problem;
use crate::show::{change_word, count, name, print, print_json, table};

pub(crate) fn get(get: &Get) -> Result<(), Problem> {
    let is_of_policies = get.what.as_deref().is_some_and(policies::are_meant);
    if let Some(route) = &get.route {
        if !is_of_policies {
            let message = "--route is for `lateen get policies`";
            let help = format!("lateen get policies --route {route}");
            return Err(Problem::new(message).with_help(help));
        }
        return policies::in_force(get, route);
    }
    if is_of_policies {
        return policies::list(get);
    }
    if get.what.as_deref().is_some_and(overrides::are_meant) {
        return overrides::list(get);
    }
    let client = Client::new(&get.api, &get.form)?;
    let (kind, object) = match get.what.as_deref().map(|what| (what, what.split_once('/'))) {
        None => (None, None),
        Some((_, Some((kind, object)))) => (Some(kind), Some(object)),
        Some((kind, None)) => (Some(kind), None),
    };
    let query = [("kind", kind), ("namespace", get.namespace.as_deref()), ("name", object)];
    let path = format!("/v1/objects{}", query_of(&query));
    let response: ObjectsResponse = client.get(&path)?;
    if get.form.output == Output::Json {
        print_json(&response)?;
    }
    if let (Some(what), Some(_), true) = (&get.what, object, response.objects.is_empty()) {
        let within =
            get.namespace.as_ref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
        let message = format!("there is no {what}{within}");
        return Err(Problem::new(message).with_help("`lateen get` lists what there is"));
    }
    match (get.form.output, object) {
        (Output::Json, _) => Ok(()),
        (Output::Text, Some(_)) => print(&texts(&response.objects)),
        (Output::Text, None) if response.objects.is_empty() => print("no objects\n"),
        (Output::Text, None) => {
            let row = |object: &ObjectText| {
                let key = &object.key;
                [&key.kind, &key.namespace, &key.name].map(ToString::to_string).to_vec()
            };
            print(&table(&["KIND", "NAMESPACE", "NAME"], response.objects.iter().map(row)))
        }
    }
}

/// A file that declares them all.
fn texts(objects: &[ObjectText]) -> String {
    let texts: Vec<&str> = objects.iter().map(|object| &*object.text).collect();
    texts.join("---\n")
}

pub(crate) fn diff(diff: &Diff) -> Result<(), Problem> {
    let client = Client::new(&diff.api, &diff.form)?;
    if let [old, new] = diff.revisions[..] {
        let path = format!("/v1/diff?old={old}&new={new}");
        let response: RevisionsDiffResponse = client.get(&path)?;
        return match diff.form.output {
            Output::Json => print_json(&response),
            Output::Text if response.objects.is_empty() => {
                print(&format!("revisions {old} and {new} say the same\n"))
            }
            Output::Text => print(&changes(&response.objects)),
        };
    }
    let request = DiffRequest { files: files::read(&diff.files)?, prune: diff.prune };
    let response: DiffResponse = client.post("/v1/diff", &request, 0)?;
    match diff.form.output {
        Output::Json => print_json(&response),
        Output::Text => print(&preview(&response)),
    }
}

fn preview(response: &DiffResponse) -> String {
    let mut text = String::new();
    for warning in &response.warnings {
        let _ = writeln!(text, "{}\n", warning.rendered);
    }
    text.push_str(&changes(&response.objects));
    for proxy in &response.proxies {
        text.push_str(&proxy_change(proxy));
    }
    if response.objects.is_empty() {
        text.push_str("no object would change\n");
    }
    if response.proxies.is_empty() {
        text.push_str("no proxy would get anything else\n");
    }
    if let Some(pinned) = response.pinned {
        let _ = writeln!(
            text,
            "a rollback holds revision {pinned}: none of this would run before `lateen resume`"
        );
    }
    text
}

fn changes(objects: &[Change]) -> String {
    let mut text = String::new();
    for object in objects {
        let _ = writeln!(text, "{} {}", name(&object.key), change_word(object.change));
        let _ = writeln!(text, "{}", object.text);
    }
    text
}

fn proxy_change(change: &ProxyChange) -> String {
    let mut text = format!("proxy {} {}\n", change.proxy, change_word(change.change));
    let parts = [
        ("listeners", &change.listeners),
        ("routes", &change.routes),
        ("clusters", &change.clusters),
    ];
    for (title, PartChanges { added, removed, changed }) in parts {
        let signed = [('+', added), ('-', removed), ('~', changed)];
        for (sign, names) in signed {
            for name in names {
                let _ = writeln!(text, "  {title:<9} {sign} {name}");
            }
        }
    }
    text.push('\n');
    text
}

pub(crate) fn history(history: &History) -> Result<(), Problem> {
    let client = Client::new(&history.api, &history.form)?;
    let (limit, before) = (history.limit.to_string(), history.before.map(|n| n.to_string()));
    let query = [("limit", Some(&*limit)), ("before", before.as_deref())];
    let response: HistoryResponse = client.get(&format!("/v1/history{}", query_of(&query)))?;
    match history.form.output {
        Output::Json => print_json(&response),
        Output::Text if response.revisions.is_empty() => print("no revisions\n"),
        Output::Text => print(&revisions(&response)),
    }
}

fn revisions(response: &HistoryResponse) -> String {
    let rows = response.revisions.iter().map(|revision| {
        let number = Some(revision.number);
        let state = match (response.pinned == number, response.live == number) {
            (true, _) => "pinned",
            (_, true) => "live",
            _ => "",
        };
        vec![
            revision.number.to_string(),
            state.to_owned(),
            UnixMs(revision.time_ms).to_string(),
            revision.author.clone(),
            revision.source.clone(),
            revision.object_count.to_string(),
            first_line(&revision.message),
        ]
    });
    let header = ["REVISION", "STATE", "TIME", "AUTHOR", "SOURCE", "OBJECTS", "MESSAGE"];
    table(&header, rows)
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").to_owned()
}

pub(crate) fn show(show: &Show) -> Result<(), Problem> {
    let client = Client::new(&show.api, &show.form)?;
    let response: RevisionResponse = client.get(&format!("/v1/history/{}", show.revision))?;
    if show.form.output == Output::Json {
        return print_json(&response);
    }
    let revision = &response.revision;
    let mut text = format!(
        "# revision {} of {}, by {}, from {}\n",
        revision.number,
        UnixMs(revision.time_ms),
        revision.author,
        revision.source
    );
    for line in revision.message.lines() {
        let _ = writeln!(text, "# {line}");
    }
    let _ = writeln!(text, "# sha256 {}\n---", revision.digest);
    text.push_str(&texts(&response.objects));
    print(&text)
}

pub(crate) fn status(status: &Status) -> Result<(), Problem> {
    let client = Client::new(&status.api, &status.form)?;
    let response: StatusResponse = client.get("/v1/status")?;
    match status.form.output {
        Output::Json => print_json(&response),
        Output::Text => print(&overview(&response)),
    }
}

fn overview(response: &StatusResponse) -> String {
    let StatusResponse { version, pid, control, proxies } = response;
    let mut text = format!("control plane {version}, process {pid}\n");
    let source = control.source.folder.as_ref();
    let source = source.map_or("lateen apply".to_owned(), |f| format!("files of {}", f.display()));
    let epoch = control.epoch.map_or("none".to_owned(), |epoch| epoch.to_string());
    let _ = writeln!(text, "source    {source}");
    let _ = writeln!(text, "revision  {}", revision_line(response));
    let _ = writeln!(text, "epoch     {epoch}");
    if !control.overrides.is_empty() {
        let stand = count(control.overrides.len(), "order");
        let _ = writeln!(text, "overrides {stand}, see `lateen get overrides`");
    }
    for trouble in troubles(response) {
        let _ = writeln!(text, "trouble   {trouble}");
    }
    if proxies.proxies.is_empty() {
        text.push_str("\nno proxies\n");
    } else {
        let header =
            ["PROXY", "STATE", "WANTED", "RUNNING", "CORES", "PREPARE µs", "SWITCH µs BY CORE"];
        let _ = write!(text, "\n{}", table(&header, proxies.proxies.iter().map(proxy_row)));
    }
    let rejections: String = proxies.proxies.iter().filter_map(rejection).collect();
    if !rejections.is_empty() {
        let _ = write!(text, "\n{rejections}");
    }
    if let Some(rejected) = &control.source.rejection {
        for report in &rejected.diagnostics {
            let _ = write!(text, "\n{}\n", report.rendered);
        }
    }
    text
}

fn revision_line(response: &StatusResponse) -> String {
    let view = &response.control;
    match (view.store.latest, view.store.pinned, view.live_revision) {
        (None, ..) => "none yet".to_owned(),
        (Some(latest), Some(pinned), _) => {
            format!("{pinned}, pinned by a rollback; the latest is {latest}")
        }
        (Some(latest), None, Some(live)) if live == latest => format!("{latest}, live"),
        (Some(latest), None, live) => {
            let live = live.map_or("none".to_owned(), |live| live.to_string());
            format!("{latest}; live is {live}")
        }
    }
}

/// What is wrong, a line each.
fn troubles(response: &StatusResponse) -> Vec<String> {
    let view = &response.control;
    let mut troubles = Vec::new();
    if let Some(rejected) = &view.source.rejection {
        troubles.push(format!(
            "the files are not accepted since {}: {}; what was accepted last goes on running",
            rejected.since, rejected.reason
        ));
    }
    if let Some(set_aside) = &view.store.set_aside {
        troubles.push(format!(
            "the store was damaged at the start ({}) and is now {}",
            set_aside.why,
            set_aside.to.display()
        ));
    }
    troubles.extend(view.problem.clone());
    troubles.extend(response.proxies.trouble.clone());
    troubles.extend(view.overrides.iter().filter_map(|of| {
        let why = of.why_none.as_ref()?;
        Some(format!("an order does nothing: {}: {why}", of.order.ordered))
    }));
    troubles.extend(view.dns.iter().filter_map(|dns| {
        let problem = dns.problem.as_ref()?;
        let kept = dns.addresses.len();
        Some(format!("DNS: {problem}; {kept} known addresses are used"))
    }));
    for proxy in &response.proxies.proxies {
        troubles.extend(proxy.second_connections.as_ref().map(|second| {
            format!(
                "process {} tried to be proxy {} too, which is process {} ({} times, last {})",
                second.last_pid, proxy.name, second.held_by_pid, second.count, second.last_at
            )
        }));
    }
    troubles.extend(response.proxies.refused.iter().map(|refused| {
        let who = refused.name.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
        format!("process {} was refused{who} at {}: {}", refused.pid, refused.at, refused.reason)
    }));
    troubles
}

fn proxy_row(proxy: &ProxyStatus) -> Vec<String> {
    let epoch = |epoch: &Option<_>| {
        epoch
            .as_ref()
            .map_or("-".to_owned(), |epoch: &lateen_snapshot::model::Epoch| epoch.to_string())
    };
    let cores = proxy.connection.as_ref().map_or("-".to_owned(), |c| c.workers.to_string());
    let workers = proxy.last_applied.as_ref().map(|applied| &*applied.workers).unwrap_or_default();
    let prepare = workers.iter().map(|worker| worker.prepare_us).max();
    let mut switch: Vec<String> =
        workers.iter().take(SWITCHES_SHOWN).map(|worker| worker.switch_us.to_string()).collect();
    if workers.len() > SWITCHES_SHOWN {
        let slowest = workers.iter().map(|worker| worker.switch_us).max().unwrap_or(0);
        switch.push(format!("… slowest {slowest}"));
    }
    vec![
        proxy.name.clone(),
        state_word(proxy.state).to_owned(),
        epoch(&proxy.wanted),
        epoch(&proxy.running),
        cores,
        prepare.map_or("-".to_owned(), |prepare| prepare.to_string()),
        if switch.is_empty() { "-".to_owned() } else { switch.join(" ") },
    ]
}

/// More are in the JSON.
const SWITCHES_SHOWN: usize = 8;

const fn state_word(state: ProxyState) -> &'static str {
    match state {
        ProxyState::UnknownProxy => "not declared",
        ProxyState::Disconnected => "not connected",
        ProxyState::Current => "current",
        ProxyState::Changing => "changing",
        ProxyState::Rejected => "refused it",
        ProxyState::NoAnswer => "does not answer",
    }
}

fn rejection(proxy: &ProxyStatus) -> Option<String> {
    let rejection = proxy.last_rejection.as_ref()?;
    let tense = match proxy.state {
        ProxyState::Rejected => "refuses",
        _ => "last refused",
    };
    Some(format!(
        "proxy {} {tense} epoch {} ({}): {}\n",
        proxy.name, rejection.epoch, rejection.at, rejection.reason
    ))
}

/// `?a=b&c=d` of those that are given.
pub(crate) fn query_of(fields: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        let lead = if text.is_empty() { '?' } else { '&' };
        let _ = write!(text, "{lead}{name}=");
        for byte in value.bytes() {
            // RFC 3986, unreserved.
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}
