//! What is shown, one after the other, while the client sends requests all the time.
//!
//! Before: the scene is set. After: a [`Verdict`] for each act: what was to be seen, and whether it was.
//! What an act changes holds everywhere before its requests are counted, so no count is of a mixture.

use std::time::{Duration, Instant};

use lateen_control::api::messages::StatusResponse;

use super::config::{ROUTE_FILE, Route, write_route};
use super::control::laggards;
use super::load::{Load, Tally};
use super::plan::{SERVICE1, SERVICE1_V2};
use super::problem::DemoError;
use super::scene::Scene;
use super::stage::Stage;

/// Answers that a split is measured by, at least.
const ANSWERS_LEAST: u64 = 300;

/// What an act showed.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Which.
    pub(super) act: &'static str,
    /// What was to be seen.
    pub(super) found: String,
    /// Whether it is what should be.
    pub(super) is_well: bool,
}

/// How long the acts are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// A look at what does not change.
    look: Duration,
    /// A count of answers.
    count: Duration,
}

impl Pace {
    /// For people.
    pub(super) const FULL: Self =
        Self { look: Duration::from_secs(8), count: Duration::from_secs(14) };
    /// For tests and the impatient.
    pub(super) const QUICK: Self =
        Self { look: Duration::from_secs(1), count: Duration::from_secs(2) };
}

/// All that takes part.
pub(super) struct Show<'s> {
    pub(super) stage: &'s mut Stage,
    pub(super) scene: &'s mut Scene,
    pub(super) load: &'s Load,
    pub(super) pace: Pace,
    /// The revision that the first act found live; a later one rolls back to it.
    pub(super) first_revision: u64,
}

impl Show<'_> {
    /// All acts.
    ///
    /// # Errors
    /// What kept the show from going on.
    pub(super) fn play(&mut self) -> Result<Vec<Verdict>, DemoError> {
        let acts = [Self::steady, Self::canary, Self::refusal, Self::rollback, Self::death];
        let mut verdicts = Vec::new();
        for act in acts {
            let verdict = act(self)?;
            self.stage.end_act()?;
            self.stage.say(format!("-> {}", verdict.found))?;
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    fn steady(&mut self) -> Result<Verdict, DemoError> {
        self.stage.begin_act("A steady mesh")?;
        self.stage.say(
            "Requests go edge -> sidecar -> service1 -> its sidecar -> sidecar -> service2, and back;\n\
             service1 has three replicas. A sidecar counts both ways: calls to its app and of its app.",
        )?;
        self.first_revision = self.live_revision()?;
        let tally = self.count(self.pace.look)?;
        let (answers, of_v2) = tally.greetings();
        let shares: Vec<String> =
            tally.replicas.iter().map(|(replica, count)| format!("{replica} {count}")).collect();
        Ok(Verdict {
            act: "steady",
            found: format!("{answers} answers: {}", shares.join(", ")),
            is_well: tally.is_clean() && tally.replicas.len() == 3 && of_v2 == 0,
        })
    }

    fn canary(&mut self) -> Result<Verdict, DemoError> {
        self.stage.begin_act("A canary: 10 % of the requests go to service1-v2")?;
        self.stage.say(format!("In {}:", self.scene.config().join(ROUTE_FILE).display()))?;
        let (old, new) = (Route::ALL_TO_V1.backends(), Route::CANARY.backends());
        self.stage.say(old.iter().map(|line| format!("-{line}\n")).collect::<String>())?;
        self.stage.say(new.iter().map(|line| format!("+{line}\n")).collect::<String>())?;
        let before = self.live_revision()?;
        let began = Instant::now();
        self.write(&Route::CANARY.text())?;
        let status = self.stage.wait(self.scene, "the canary is live on every proxy", |scene| {
            let status = scene.control.settled(&scene.plan)?;
            (revision_of(&status) > before).then_some(status)
        })?;
        let (took_ms, revision) = (began.elapsed().as_millis(), revision_of(&status));
        self.stage.say(format!(
            "Revision {revision} runs on every core of every proxy, {took_ms} ms after the file was written."
        ))?;
        let tally = self.count(self.pace.count)?;
        Ok(Verdict {
            act: "canary",
            found: split_of(&tally),
            is_well: tally.is_clean() && is_split(&tally, Route::CANARY),
        })
    }

    fn refusal(&mut self) -> Result<Verdict, DemoError> {
        self.stage.begin_act("A bad config: refused whole, with the reasons")?;
        let before = self.status()?;
        self.write(&Route::CANARY.text_with_mistakes())?;
        let what = "the control plane refuses the bad file";
        let rejection = self
            .stage
            .wait(self.scene, what, |scene| scene.control.status()?.control.source.rejection)?;
        self.stage.say(&rejection.reason)?;
        for diagnostic in &rejection.diagnostics {
            self.stage.say(format!("\n{}", indented(&diagnostic.rendered)))?;
        }
        self.stage.say("")?;
        let tally = self.count(self.pace.look)?;
        let after = self.status()?;
        let is_unchanged = before.control.epoch == after.control.epoch
            && before.control.live_revision == after.control.live_revision
            && laggards(&after, &self.scene.plan).is_empty();
        let errors = rejection.diagnostics.len();
        self.write(&Route::CANARY.text())?;
        self.stage.wait(self.scene, "the mended file is accepted", |scene| {
            scene.control.status()?.control.source.rejection.is_none().then_some(())
        })?;
        let change = if is_unchanged { "no proxy changed" } else { "PROXIES CHANGED" };
        Ok(Verdict {
            act: "bad config",
            found: format!(
                "{errors} errors named, {change}, traffic as before: {}",
                split_of(&tally)
            ),
            is_well: tally.is_clean()
                && is_unchanged
                && errors == 2
                && is_split(&tally, Route::CANARY),
        })
    }

    fn rollback(&mut self) -> Result<Verdict, DemoError> {
        self.stage.begin_act("A rollback: the revision before the canary, with one command")?;
        self.command("history")?;
        self.command(&format!("rollback {}", self.first_revision))?;
        let rolled_back = self.count(self.pace.look)?;
        self.stage.say(format!("-> {}", split_of(&rolled_back)))?;
        self.command("resume")?;
        let resumed = self.count(self.pace.look)?;
        self.stage.say(format!("-> {}", split_of(&resumed)))?;
        let (answers, of_v2) = rolled_back.greetings();
        Ok(Verdict {
            act: "rollback",
            found: format!(
                "{of_v2} of {answers} answers from {SERVICE1_V2} while rolled back, {} after it",
                resumed.greetings().1
            ),
            is_well: rolled_back.is_clean()
                && resumed.is_clean()
                && answers > 0
                && of_v2 == 0
                && is_split(&resumed, Route::CANARY),
        })
    }

    fn death(&mut self) -> Result<Verdict, DemoError> {
        self.stage.begin_act("The control plane dies: kill -9, under load")?;
        let before = self.status()?.control.epoch;
        let phase = self.load.begin_phase();
        let pid = self.scene.kill_control_plane().unwrap_or_default();
        self.stage.say(format!("kill -9 {pid}"))?;
        let what = "every proxy has noticed that the control plane is gone";
        self.stage.wait(self.scene, what, |scene| (scene.connected_count() == 0).then_some(()))?;
        self.stage.watch(self.scene, self.pace.look)?;
        let is_gone = self.scene.control.status().is_none();
        let without = self.load.phase(phase);
        self.stage
            .say(format!("{} answers without a control plane. It comes back:", without.answered))?;
        let began = Instant::now();
        let pid = self.scene.start_control_plane(self.stage)?;
        let status = self.stage.wait(self.scene, "every proxy is back", |scene| {
            let status = scene.control.settled(&scene.plan)?;
            let is_newer = before?.is_replaced_by(status.control.epoch?);
            is_newer.then_some(status)
        })?;
        let took_ms = began.elapsed().as_millis();
        let revision = revision_of(&status);
        self.stage.say(format!(
            "pid {pid} runs, knows revision {revision}, and has every proxy back after {took_ms} ms."
        ))?;
        let tally = self.load.phase(phase);
        Ok(Verdict {
            act: "kill -9",
            found: format!("{} answers meanwhile, {} failed", tally.answered, tally.failed),
            is_well: is_gone && without.answered > 0 && tally.is_clean(),
        })
    }

    /// Counts what is sent from now on, for a time, and longer if that was little.
    fn count(&mut self, time: Duration) -> Result<Tally, DemoError> {
        let (load, phase) = (self.load, self.load.begin_phase());
        self.stage.watch(self.scene, time)?;
        self.stage.wait(self.scene, "enough requests are answered", |_| {
            Some(load.phase(phase))
                .filter(|tally| tally.answered >= ANSWERS_LEAST || !tally.is_clean())
        })
    }

    fn write(&self, text: &str) -> Result<(), DemoError> {
        let written = write_route(&self.scene.config(), text);
        written.map_err(DemoError::system(format!("writing {ROUTE_FILE}")))
    }

    /// Runs a command and shows it, as in a shell.
    fn command(&self, command: &str) -> Result<(), DemoError> {
        self.stage.say(format!("\n$ lateen {command}"))?;
        self.stage.say(self.scene.control.run(command)?)
    }

    fn status(&mut self) -> Result<StatusResponse, DemoError> {
        self.stage.wait(self.scene, "the control plane answers", |scene| scene.control.status())
    }

    fn live_revision(&mut self) -> Result<u64, DemoError> {
        Ok(revision_of(&self.status()?))
    }
}

fn revision_of(status: &StatusResponse) -> u64 {
    status.control.live_revision.unwrap_or_default()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}

fn split_of(tally: &Tally) -> String {
    let (answers, of_v2) = tally.greetings();
    let percent = 100.0 * of_v2 as f64 / answers.max(1) as f64;
    format!(
        "{answers} answers, {:.1} % {SERVICE1} and {percent:.1} % {SERVICE1_V2}",
        100.0 - percent
    )
}

/// Whether a measured split is what a route asks for, but for chance: five standard deviations, and one
/// percent.
fn is_split(tally: &Tally, route: Route) -> bool {
    let (answers, of_v2) = tally.greetings();
    let wanted = route.share_of_v2();
    let deviation = (wanted * (1.0 - wanted) / answers.max(1) as f64).sqrt();
    let share = of_v2 as f64 / answers.max(1) as f64;
    answers > 0 && of_v2 > 0 && (share - wanted).abs() <= 0.01 + 5.0 * deviation
}
