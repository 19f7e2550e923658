//! `lateen-bench load`: starts the threads, shows how far they are, adds up what they counted.
//!
//! Comes after the arguments; the result goes to [`summary`](super::summary), and on to whoever
//! asked for it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::arguments::LoadArguments;
use super::output::Output;
use super::plan::{Amount, Plan};
use super::summary::{self, LoadReport, Span};
use super::tally::Tally;
use super::worker::{self, Link, Message, Signals};
use super::{barrier, percentiles, show};
use crate::clock::{as_ns, now_ns};
use crate::cpu::ProcessTime;
use crate::engine::EventLoop;

/// How often the progress line changes.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// The exit code of arguments that make no sense, which is clap's too.
const USAGE: u8 = 2;

/// The command.
pub fn run(arguments: &LoadArguments) -> ExitCode {
    let plan = match Plan::new(arguments) {
        Ok(plan) => plan,
        Err(error) => return complain(&error, ExitCode::from(USAGE)),
    };
    let outputs = match Outputs::open(arguments) {
        Ok(outputs) => outputs,
        Err(error) => return complain(&error, ExitCode::from(USAGE)),
    };
    match measure_and_tell(&plan, outputs) {
        Ok(report) if report.requests > 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => complain(&error, ExitCode::FAILURE),
    }
}

fn complain(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    // Nobody to tell: the code says it.
    let _ = writeln!(io::stderr(), "lateen-bench load: {error:#}");
    code
}

/// Where the result goes beside what people read.
struct Outputs {
    json: Option<Output>,
    json_is_stdout: bool,
    hdr: Option<Output>,
}

impl Outputs {
    fn open(arguments: &LoadArguments) -> anyhow::Result<Self> {
        let json = arguments.json.as_deref();
        let is_stdout = |path: &Path| path == Path::new("-");
        let json_is_stdout = json.is_some_and(is_stdout);
        let json = json.filter(|path| !is_stdout(path));
        let hdr = arguments.hdr.as_deref();
        Ok(Self {
            json: json.map(|path| Output::open("--json", path)).transpose()?,
            json_is_stdout,
            hdr: hdr.map(|path| Output::open("--hdr", path)).transpose()?,
        })
    }
}

fn measure_and_tell(plan: &Plan, outputs: Outputs) -> anyhow::Result<LoadReport> {
    let (tally, span) = measure(plan)?;
    let report = summary::summarise(plan, &tally, span);
    let text = show::as_text(&report, tally.first_reason.as_deref());
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    if outputs.json_is_stdout {
        io::stdout().write_all(json()?.as_bytes()).context("stdout")?;
        io::stderr().write_all(text.as_bytes()).context("stderr")?;
    } else {
        io::stdout().write_all(text.as_bytes()).context("stdout")?;
    }
    if let Some(output) = outputs.json {
        output.write(&json()?)?;
    }
    if let Some(output) = outputs.hdr {
        output.write(&percentiles::as_hgrm(&tally.latency_ns))?;
    }
    Ok(report)
}

fn measure(plan: &Plan) -> anyhow::Result<(Tally, Span)> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The first ends the measurement, the second the program.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let (sender, messages) = mpsc::channel();
    let mut starts = Vec::new();
    let mut progress = Vec::new();
    for thread in 0..plan.threads {
        let (start_sender, start) = mpsc::channel();
        let signals = Signals { stop: stop.clone(), progress: Arc::new(AtomicU64::new(0)) };
        progress.push(signals.progress.clone());
        starts.push(start_sender);
        let (plan, link) = (plan.clone(), Link { starts: start, messages: sender.clone() });
        thread::Builder::new()
            .name(format!("load-{thread}"))
            .spawn(move || work(&plan, thread, signals, &link))
            .context("a thread can't be started")?;
    }
    // A thread that panics takes its sender along; with ours gone too, that shows.
    drop(sender);
    await_ready(&messages, plan)?;
    if !plan.staged {
        let start_ns = start_all(&starts)?;
        return collect(plan, &messages, &progress, start_ns);
    }
    start_all(&starts)?;
    await_standing(&messages, plan)?;
    barrier::wait_at(barrier::READY)?;
    let start_ns = start_all(&starts)?;
    let measured = collect(&plan.warmed_up(), &messages, &progress, start_ns)?;
    barrier::wait_at(barrier::DONE)?;
    Ok(measured)
}

/// Lets all threads go; from when on.
fn start_all(starts: &[Sender<u64>]) -> anyhow::Result<u64> {
    let start_ns = now_ns();
    for start in starts {
        start.send(start_ns).map_err(|_| anyhow!("a thread of the load ended early"))?;
    }
    Ok(start_ns)
}

fn work(plan: &Plan, thread: u32, signals: Signals, link: &Link) {
    let mut event_loop = match EventLoop::new(plan.engine) {
        Ok(event_loop) => event_loop,
        Err(error) => {
            let _ = link.messages.send(Message::Ready(Err(error)));
            return;
        }
    };
    let _ = link.messages.send(Message::Ready(Ok(event_loop.engine())));
    // No start: another thread could not be made ready.
    let Ok(start_ns) = link.starts.recv() else { return };
    if let Err(error) = worker::run(&mut event_loop, plan.clone(), thread, start_ns, signals, link)
    {
        let _ = link.messages.send(Message::Done(Err(error)));
    }
}

fn await_ready(messages: &Receiver<Message>, plan: &Plan) -> anyhow::Result<()> {
    for _ in 0..plan.threads {
        match messages.recv().context("a thread of the load ended early")? {
            Message::Ready(ready) => {
                ready.with_context(|| format!("no event loop on {}", plan.engine))?;
            }
            Message::Standing | Message::Done(_) => {}
        }
    }
    Ok(())
}

fn await_standing(messages: &Receiver<Message>, plan: &Plan) -> anyhow::Result<()> {
    for _ in 0..plan.threads {
        match messages.recv().context("a thread of the load ended early")? {
            Message::Done(Err(error)) => return Err(error).context("a thread of the load failed"),
            Message::Standing | Message::Ready(_) | Message::Done(Ok(_)) => {}
        }
    }
    Ok(())
}

fn collect(
    plan: &Plan,
    messages: &Receiver<Message>,
    progress: &[Arc<AtomicU64>],
    start_ns: u64,
) -> anyhow::Result<(Tally, Span)> {
    let measure_from_ns = start_ns + as_ns(plan.warmup);
    let bar = progress_bar(plan);
    let mut cpu_before = (plan.warmup.is_zero()).then(ProcessTime::now);
    let mut tally = Tally::new();
    let mut left = plan.threads;
    while left > 0 {
        let now = now_ns();
        if now >= measure_from_ns && cpu_before.is_none() {
            cpu_before = Some(ProcessTime::now());
        }
        let mut wait = PROGRESS_EVERY;
        if cpu_before.is_none() {
            wait = wait.min(Duration::from_nanos(measure_from_ns.saturating_sub(now)));
        }
        match messages.recv_timeout(wait) {
            Ok(Message::Done(counted)) => {
                tally.add(*counted.context("a thread of the load failed")?);
                left -= 1;
            }
            Ok(Message::Ready(_) | Message::Standing) => {}
            Err(RecvTimeoutError::Timeout) => show_progress(&bar, plan, progress, start_ns),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow!("a thread of the load ended early"));
            }
        }
    }
    let cpu = cpu_before.map(|before| ProcessTime::now().since(before)).unwrap_or_default();
    bar.finish_and_clear();
    Ok((tally, Span { measure_from_ns, cpu }))
}

fn progress_bar(plan: &Plan) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = match plan.amount {
        Amount::Time(duration) => (plan.warmup + duration).as_millis() as u64,
        Amount::Requests(requests) => requests,
    };
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

fn show_progress(bar: &ProgressBar, plan: &Plan, progress: &[Arc<AtomicU64>], start_ns: u64) {
    let answers: u64 = progress.iter().map(|thread| thread.load(Ordering::Relaxed)).sum();
    let elapsed = Duration::from_nanos(now_ns().saturating_sub(start_ns));
    // Each of the two draws: the first line that is seen already says what goes on.
    bar.set_message(said_of(plan.amount, elapsed.saturating_sub(plan.warmup), answers));
    bar.set_position(match plan.amount {
        Amount::Time(_) => elapsed.as_millis() as u64,
        Amount::Requests(_) => answers,
    });
}

/// After so much of what counts.
fn said_of(amount: Amount, measured: Duration, answers: u64) -> String {
    let plural = if answers == 1 { "" } else { "s" };
    match amount {
        _ if measured.is_zero() => "warming up".to_owned(),
        Amount::Time(duration) if measured >= duration => {
            format!("{answers} answer{plural}, awaiting the last")
        }
        // A rate over less would jump.
        _ if measured < PROGRESS_EVERY / 2 => format!("{answers} answer{plural}"),
        _ => {
            let rate = answers as f64 / measured.as_secs_f64();
            format!("{answers} answer{plural}, {rate:.0}/s")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_says_what_goes_on() {
        let (time, number) = (Amount::Time(Duration::from_secs(4)), Amount::Requests(1000));
        let said = |amount, ms, answers| said_of(amount, Duration::from_millis(ms), answers);
        assert_eq!(said(time, 0, 0), "warming up");
        assert_eq!(said(time, 1, 48), "48 answers");
        assert_eq!(said(time, 1000, 1), "1 answer, 1/s");
        assert_eq!(said(time, 3999, 8000), "8000 answers, 2001/s");
        assert_eq!(said(time, 9000, 8000), "8000 answers, awaiting the last");
        assert_eq!(said(number, 9000, 900), "900 answers, 100/s");
    }
}
