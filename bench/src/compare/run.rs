//! The comparison from its begin to its end: the plan, row after row, the file, the summary.

use super::arguments::CompareArguments;
use super::counters::Countable;
use super::generator::Generator;
use super::interrupt::{Interrupt, Interrupted, unless_interrupted};
use super::lanes::{Bench, Configs, Measured};
use super::placement::{place, usable_cpus};
use super::plan::Plan;
use super::processes::Starter;
use super::progress::Progress;
use super::scenarios::{Method, NOT_THERE_YET, SCENARIOS, Scenario};
use super::{change, closed, machine, memory, outcome, rates, start};
use crate::descriptors::raise_past_hard_limit;
use crate::results::{Entry, FORMAT, Profile, Results, Row};
use anyhow::Context;
use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

const NOTHING_MEASURED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const INTERRUPTED: u8 = 130;
/// Memory, where it can be written to: an access log is then no test of a disk.
const SHARED_MEMORY: &str = "/dev/shm";

/// Runs the command; errors are told here.
pub fn run(arguments: &CompareArguments) -> ExitCode {
    let tell = |error: &anyhow::Error| drop(writeln!(std::io::stderr(), "error: {error:#}"));
    let plan = match Plan::of(arguments) {
        Ok(plan) => plan,
        Err(error) => {
            tell(&error);
            return ExitCode::from(WRONG_USAGE);
        }
    };
    if !arguments.list
        && let Err(error) = refuse_results(&arguments.out)
    {
        tell(&error);
        return ExitCode::from(WRONG_USAGE);
    }
    let done = if arguments.list { list(&plan) } else { compare(plan, &arguments.out) };
    done.unwrap_or_else(|error| {
        tell(&error);
        ExitCode::from(NOTHING_MEASURED)
    })
}

/// Results of hours are not written over by a line that was typed once more.
fn refuse_results(out: &Path) -> anyhow::Result<()> {
    let held = std::fs::read_to_string(out).is_ok_and(|text| Results::parse(&text).is_ok());
    anyhow::ensure!(
        !held,
        "--out {}: it holds results already; name another file, or remove it",
        out.display()
    );
    Ok(())
}

fn list(plan: &Plan) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Scenarios:")?;
    for scenario in &SCENARIOS {
        let quick = if scenario.quick { " (quick)" } else { "" };
        writeln!(out, "  {:<22} {}{quick}", scenario.name, scenario.title)?;
    }
    for (name, title) in NOT_THERE_YET {
        writeln!(out, "  {name:<22} {title}")?;
    }
    writeln!(out, "\nPeers:")?;
    for contestant in &plan.contestants {
        let peer = &contestant.peer;
        writeln!(out, "  {:<22} {}", peer.name, peer.about)?;
        let released = match (&peer.version, &peer.released) {
            (_, Some(day)) => Some(format!("released {day}")),
            (Some(_), None) => Some("release date not known".to_owned()),
            (None, None) => None,
        };
        let said: Vec<&str> = [&peer.version, &released, &peer.newer]
            .into_iter()
            .filter_map(Option::as_deref)
            .collect();
        let state = match &peer.not_run {
            Some(why) => format!("not here: {why}"),
            None => said.join("; "),
        };
        if !state.is_empty() {
            writeln!(out, "  {:<22} {state}", "")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(plan: Plan, out: &Path) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    // A comparison of hours must not end with a file that can't be written.
    let file = std::fs::OpenOptions::new().create(true).append(true).open(out);
    drop(file.with_context(|| format!("--out {}", out.display()))?);
    let interrupt = Interrupt::on_signals()?;
    raise_past_hard_limit();
    let (folder, remark) = temporary_folder()?;
    let bench = bench(&plan, interrupt, folder.path())?;
    let mut results = begin(&plan, &bench, remark);
    let mut configs = Configs::new();
    let mut save = |results: &mut Results, configs: &Configs, interrupted: bool| {
        results.interrupted = interrupted;
        results.took_s = began.elapsed().as_secs_f64();
        finish(results, configs);
        write(results, out)
    };
    let ended = rows(&plan, &bench, &mut results, &mut configs, &mut save);
    bench.progress.done();
    drop(folder);
    let interrupted = matches!(&ended, Err(error) if error.is::<Interrupted>());
    save(&mut results, &configs, interrupted)?;
    std::io::stdout().write_all(outcome::text(&results, &out.to_string_lossy()).as_bytes())?;
    if results.interrupted {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    ended?;
    let mut measured =
        results.rows.iter().flat_map(|row| &row.entries).flat_map(|entry| &entry.samples);
    let any = measured.any(|sample| sample.discarded.is_none());
    Ok(if any { ExitCode::SUCCESS } else { ExitCode::from(NOTHING_MEASURED) })
}

fn bench(plan: &Plan, interrupt: Interrupt, folder: &Path) -> anyhow::Result<Bench> {
    let starter = Starter {
        launcher: std::env::current_exe().context("this program's own path is not known")?,
        directory: folder.to_owned(),
    };
    let cpus = usable_cpus()?;
    let placement = place(&cpus, 1);
    // What this process does meanwhile is not to be the proxy's neighbour. Programs get their own CPUs.
    start::pin(&placement.upstream)?;
    Ok(Bench {
        generator: Generator { starter: starter.clone(), interrupt: interrupt.clone() },
        starter,
        interrupt,
        countable: Countable::here(placement.proxy[0]),
        placement,
        cpus,
        length: plan.length,
        runs: plan.runs,
        repeats: plan.repeats,
        instruction_clock: plan.instruction_clock,
        progress: Progress::new(plan.rows.len()),
        lanes: Cell::new(0),
    })
}

fn begin(plan: &Plan, bench: &Bench, remark: String) -> Results {
    let mut environment = machine::environment(&bench.cpus, &bench.placement, &bench.countable);
    environment.instruction_clock = plan.instruction_clock;
    environment.remarks.push(remark);
    environment.remarks.extend(plan.remarks.iter().cloned());
    if let Some(why) = super::usage::no_cpu_time() {
        environment.remarks.push(format!("No cost of a proxy is known: {why}."));
    }
    if let (None, Some(why)) = (&bench.countable.no_counters, &bench.countable.no_cpu_counters) {
        environment.remarks.push(format!("Instructions of whole CPUs were not counted: {why}."));
    }
    if bench.placement.client == bench.placement.upstream {
        environment.remarks.push(
            "Client and upstream share a CPU: they are often the limit, and not the proxy."
                .to_owned(),
        );
    }
    Results {
        format: FORMAT,
        started: rfc3339(SystemTime::now()),
        took_s: 0.0,
        command: command_line(std::env::args().skip(1)),
        interrupted: false,
        environment,
        peers: plan.contestants.iter().map(|contestant| contestant.peer.clone()).collect(),
        rows: Vec::new(),
    }
}

fn command_line(words: impl Iterator<Item = String>) -> Vec<String> {
    ["lateen-bench".to_owned()].into_iter().chain(words).collect()
}

fn rows(
    plan: &Plan,
    bench: &Bench,
    results: &mut Results,
    configs: &mut Configs,
    save: &mut dyn FnMut(&mut Results, &Configs, bool) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for (scenario, profile) in &plan.rows {
        bench.progress.row(scenario.name, scenario.title);
        let measured = Measured { bench, scenario, profile: *profile, plan };
        let mut row = empty_row(plan, scenario, *profile);
        let ended = match scenario.method {
            Method::Closed | Method::Workers => closed::measure(&measured, &mut row, configs),
            Method::Rates => rates::measure(&measured, &mut row, configs),
            Method::Memory => memory::measure(&measured, &mut row, configs),
            Method::Change => change::measure(&measured, &mut row, configs),
        };
        tell_missing(bench, &row);
        let ended = ended.or_else(|error| {
            let why = unless_interrupted(error)?;
            row.caveats.push(format!("not measured to its end: {why}"));
            bench.progress.line(&format!("  {why}"));
            Ok::<_, anyhow::Error>(())
        });
        results.rows.push(row);
        bench.progress.row_done();
        ended?;
        // Whoever is killed now leaves the rows until here, as those of a run that was not ended.
        save(results, configs, true)?;
    }
    Ok(())
}

fn tell_missing(bench: &Bench, row: &Row) {
    for entry in &row.entries {
        if let Some(why) = &entry.not_run {
            bench.progress.line(&format!("  {}: not run: {why}", entry.peer));
        }
    }
}

fn empty_row(plan: &Plan, scenario: &Scenario, profile: Profile) -> Row {
    let entry = |name: &String| Entry { peer: name.clone(), ..Entry::default() };
    Row {
        scenario: scenario.name.to_owned(),
        profile,
        kind: scenario.kind(),
        title: scenario.title.to_owned(),
        unit: scenario.unit.to_owned(),
        units_per_answer: 1.0,
        caveats: Vec::new(),
        entries: plan.contestants.iter().map(|contestant| entry(&contestant.peer.name)).collect(),
    }
}

fn finish(results: &mut Results, configs: &Configs) {
    for ((name, file), text) in configs {
        if let Some(peer) = results.peers.iter_mut().find(|peer| peer.name == *name) {
            peer.configs.insert(file.clone(), text.clone());
        }
    }
    let samples = results.rows.iter().flat_map(|row| &row.entries).flat_map(|entry| &entry.samples);
    let engine =
        samples.filter_map(|sample| sample.load.as_ref()).map(|load| load.engine.clone()).next();
    results.environment.load_engine = engine.unwrap_or_default();
}

/// Whole, or not at all: what was there before stays until then.
fn write(results: &Results, out: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(results)? + "\n";
    // A name that nobody else has: two comparisons may write into one folder.
    let name = out.file_name().context("--out names no file")?.to_string_lossy();
    let beside = out.with_file_name(format!("{name}.{}.new", std::process::id()));
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, out))
        .with_context(|| format!("{} can't be written", out.display()))
}

fn temporary_folder() -> anyhow::Result<(TempDir, String)> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("lateen-compare-");
    let holds = "Access logs and what proxies put into temporary files";
    if let Ok(folder) = builder.tempdir_in(SHARED_MEMORY) {
        return Ok((
            folder,
            format!("{holds} are in memory ({SHARED_MEMORY}), and no disk is waited for."),
        ));
    }
    let folder = builder.tempdir().context("no temporary folder")?;
    let remark = format!("{holds} are on a disk, as {SHARED_MEMORY} can't be written to.");
    Ok((folder, remark))
}

/// A moment as RFC 3339, UTC, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant, chrono-Compatible Low-Level Date
    // Algorithms, civil_from_days).
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_not_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("all.json");
        assert!(refuse_results(&out).is_ok(), "nothing is there");
        std::fs::write(&out, "").expect("a file");
        assert!(refuse_results(&out).is_ok(), "an empty file holds nothing");
        let results = Results {
            format: FORMAT,
            started: String::new(),
            took_s: 0.0,
            command: Vec::new(),
            interrupted: false,
            environment: crate::results::Environment::default(),
            peers: Vec::new(),
            rows: Vec::new(),
        };
        write(&results, &out).expect("it can be written");
        let why = refuse_results(&out).expect_err("results are there").to_string();
        assert!(why.contains("name another file, or remove it"), "{why}");
        let names = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(names, 1, "the file beside it is gone");
    }

    #[test]
    fn writes_moments_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_651_200, "2026-11-26T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
