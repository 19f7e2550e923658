//! The commands that change something: what was asked for holds on every core of every proxy, or they
//! say what does not, and fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::CommandFactory;
use clap::error::ErrorKind;
use lateen_control::api::messages::{
    ApplyRequest, ChangeResponse, DeleteRequest, How, ResumeRequest, RollbackRequest, Undone,
    Verdict,
};
use lateen_control::status::Outcome;

use crate::arguments::{self, Apply, Arguments, Delete, Output, Resume, Rollback};
use crate::client::Client;
use crate::files;
use crate::problem::Problem;
use crate::show::{change_word, count, name, print, print_json};

pub(crate) fn apply(apply: Apply) -> Result<(), Problem> {
    let client = Client::new(&apply.api, &apply.form)?;
    let how = how(apply.how);
    let wait_s = how.wait_s;
    let request = ApplyRequest { files: files::read(&apply.files.files)?, prune: apply.prune, how };
    let response = client.post("/v1/apply", &request, wait_s)?;
    report(&response, apply.form.output, &Asked::Change { wait_s })
}

pub(crate) fn delete(delete: Delete) -> Result<(), Problem> {
    let client = Client::new(&delete.api, &delete.form)?;
    let how = how(delete.how);
    let wait_s = how.wait_s;
    let arguments::Named { kind, name } = delete.object;
    let request = DeleteRequest { kind, namespace: delete.namespace, name, how };
    let response = client.post("/v1/delete", &request, wait_s)?;
    report(&response, delete.form.output, &Asked::Change { wait_s })
}

pub(crate) fn roll_back(rollback: &Rollback) -> Result<(), Problem> {
    let client = Client::new(&rollback.api, &rollback.form)?;
    let (revision, wait_s) = (rollback.revision, rollback.wait.wait);
    let response = client.post("/v1/rollback", &RollbackRequest { revision, wait_s }, wait_s)?;
    report(&response, rollback.form.output, &Asked::Rollback { revision, wait_s })
}

pub(crate) fn resume(resume: &Resume) -> Result<(), Problem> {
    let client = Client::new(&resume.api, &resume.form)?;
    let wait_s = resume.wait.wait;
    let response = client.post("/v1/resume", &ResumeRequest { wait_s }, wait_s)?;
    report(&response, resume.form.output, &Asked::Change { wait_s })
}

/// Ends the process, as any wrong usage does, where options do not go together.
fn how(how: arguments::How) -> How {
    let arguments::How { if_revision, dry_run, message, atomic, wait } = how;
    if atomic && wait.wait == 0 && !dry_run {
        let message = "--atomic needs --wait: who does not wait does not hear of a refusal";
        Arguments::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let message = message.unwrap_or_default();
    How { if_revision, dry_run, atomic, message, wait_s: wait.wait }
}

/// What the answer is about.
enum Asked {
    Change { wait_s: u64 },
    Rollback { revision: u64, wait_s: u64 },
}

fn report(response: &ChangeResponse, output: Output, asked: &Asked) -> Result<(), Problem> {
    for warning in &response.warnings {
        // Nobody to tell: it was accepted all the same.
        let _ = writeln!(io::stderr(), "{}\n", warning.rendered);
    }
    match output {
        Output::Json => print_json(response)?,
        Output::Text => print(&words(response, asked))?,
    }
    match response.verdict.is_as_asked() {
        true => Ok(()),
        false => Err(problem(response, asked)),
    }
}

/// What was done.
fn words(response: &ChangeResponse, asked: &Asked) -> String {
    let mut text = String::new();
    for changed in &response.changes {
        let _ = writeln!(text, "{} {}", name(&changed.key), change_word(changed.change));
    }
    let revision = match asked {
        Asked::Rollback { revision, .. } => *revision,
        Asked::Change { .. } => response.revision,
    };
    if response.verdict == Verdict::DryRun {
        text.push_str(match response.changes.is_empty() {
            true => "dry run: it would be accepted and change nothing\n",
            false => "dry run: it would be accepted; nothing was changed\n",
        });
        return text;
    }
    if let Asked::Change { .. } = asked
        && response.changes.is_empty()
    {
        let _ = writeln!(text, "nothing changed: it is what revision {revision} says");
    }
    let epoch = response.epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
    match response.verdict {
        Verdict::Live => {
            let _ =
                writeln!(text, "revision {revision} is live{}", running(&response.proxies, &epoch));
        }
        Verdict::NotWaited => {
            let _ = writeln!(
                text,
                "revision {revision} is stored and published as epoch {epoch}; the proxies were not \
                 waited for"
            );
        }
        _ => {}
    }
    if !response.orphans.is_empty() {
        let names = response.orphans.join(", ");
        let _ = writeln!(
            text,
            "not declared any more, and connected; they keep what they run: {names}"
        );
    }
    if let Asked::Rollback { .. } = asked {
        text.push_str("it is pinned: what is applied from now on waits until `lateen resume`\n");
    }
    text
}

/// `: epoch X runs on every core of 2 proxies (not connected: c)`
pub(crate) fn running(proxies: &BTreeMap<String, Outcome>, epoch: &str) -> String {
    let of = |wanted: &Outcome| names(proxies, |outcome| outcome == wanted);
    let (applied, away) = (of(&Outcome::Applied), of(&Outcome::Disconnected));
    let mut text = match applied.len() {
        0 => "; no proxy is connected".to_owned(),
        proxies => format!(": every core of {} runs epoch {epoch}", count(proxies, "proxy")),
    };
    if !away.is_empty() && !applied.is_empty() {
        let _ = write!(text, "; not connected: {}", away.join(", "));
    }
    text
}

pub(crate) fn names(
    proxies: &BTreeMap<String, Outcome>,
    is_meant: impl Fn(&Outcome) -> bool,
) -> Vec<&str> {
    proxies.iter().filter(|(_, outcome)| is_meant(outcome)).map(|(name, _)| &**name).collect()
}

/// What does not hold.
fn problem(response: &ChangeResponse, asked: &Asked) -> Problem {
    let ChangeResponse { revision, proxies, .. } = response;
    let (Asked::Change { wait_s } | Asked::Rollback { wait_s, .. }) = asked;
    match response.verdict {
        Verdict::StoredNotLive => {
            let pinned = response.pinned.unwrap_or(0);
            let message = format!(
                "stored, not live: revision {revision} waits, because a rollback holds revision {pinned}"
            );
            Problem::new(message).with_help("`lateen resume` makes the latest revision live")
        }
        Verdict::Rejected => rejected(response),
        _ => {
            let of = |wanted| names(proxies, |outcome| *outcome == wanted).join(", ");
            let (silent, left) = (of(Outcome::Unanswered), of(Outcome::Left));
            let mut message = format!("stored, but not live everywhere: after {wait_s} s");
            if !silent.is_empty() {
                let _ = write!(message, " these have not said that they run it: {silent}");
            }
            if !left.is_empty() {
                let and = if silent.is_empty() { "" } else { ", and" };
                let _ = write!(message, "{and} these went away when they were told: {left}");
            }
            if let Some(undone) = &response.undone {
                message.push_str(&taken_back(*revision, undone));
            }
            Problem::new(message).with_help("`lateen status` shows when they do")
        }
    }
}

fn rejected(response: &ChangeResponse) -> Problem {
    let mut message = String::new();
    for (name, outcome) in &response.proxies {
        if let Outcome::Rejected { epoch, reason } = outcome {
            let lead = if message.is_empty() { "" } else { "\nerror: " };
            let _ = write!(message, "{lead}proxy {name} refused epoch {epoch}: {reason}");
        }
    }
    let revision = response.revision;
    match &response.undone {
        None if !response.is_new => Problem::new(message).with_help(format_args!(
            "it keeps what it ran; revision {revision} was there before, so there is nothing to take back: \
             mend what it refused and apply it again, or go back with `lateen rollback`"
        )),
        None => Problem::new(message).with_help(format_args!(
            "it keeps what it ran, and others run revision {revision}; mend what it refused and apply \
             it again, or go back with `lateen rollback`; with --atomic nobody would run it"
        )),
        Some(undone) => Problem::new(message + &taken_back(revision, undone)),
    }
}

/// What came in the place of a revision, as a further line.
fn taken_back(revision: u64, undone: &Undone) -> String {
    match undone {
        Undone::Back { revision: back, epoch, proxies } => {
            let epoch = epoch.map(|epoch| epoch.to_string()).unwrap_or_default();
            let late = names(proxies, |outcome| {
                !matches!(outcome, Outcome::Applied | Outcome::Disconnected)
            });
            let all = match late.is_empty() {
                true => "every connected proxy runs it".to_owned(),
                false => format!("these have not said that they run it: {}", late.join(", ")),
            };
            format!(
                "\nerror: revision {revision} was taken back: revision {back} says what was before, as \
                 epoch {epoch}; {all}"
            )
        }
        Undone::Overtaken => format!(
            "\nerror: revision {revision} was not taken back: the config was changed by someone else \
             meanwhile"
        ),
        Undone::Failed { reason } => {
            format!("\nerror: revision {revision} could not be taken back: {reason}")
        }
    }
}
