//! Puts proxies in place: a lane is one proxy on its CPUs between the load and an upstream, up and known
//! to answer right. All lanes of a row stand at the same time, and each is loaded in turn.

use super::answer::{Expected, free_ports, wait_until_right, with_free_ports};
use super::counters::Countable;
use super::generator::{Generator, Length, expected};
use super::interrupt::Interrupt;
use super::peers::{ConfigFile, Launch, Proxy, Setting};
use super::placement::{Cpu, Placement};
use super::plan::Plan;
use super::processes::{Order, Running, Starter};
use super::progress::Progress;
use super::scenarios::Scenario;
use crate::results::{Profile, Row};
use anyhow::{Context, bail};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Until a control plane has taken its first config.
const PREPARE: Duration = Duration::from_secs(20);

/// What all rows share.
#[derive(Debug)]
pub struct Bench {
    /// Starts programs.
    pub starter: Starter,
    /// Makes loads.
    pub generator: Generator,
    /// Ends all.
    pub interrupt: Interrupt,
    /// The CPUs that may be used.
    pub cpus: Vec<Cpu>,
    /// Where one worker has its place.
    pub placement: Placement,
    /// What can be counted.
    pub countable: Countable,
    /// Of a load.
    pub length: Length,
    /// Rounds of a row.
    pub runs: u32,
    /// Of a disturbed load.
    pub repeats: u32,
    /// Whether time counts instructions.
    pub instruction_clock: bool,
    /// Tells people.
    pub progress: Progress,
    /// Lanes so far, each of which has a folder.
    pub lanes: Cell<u32>,
}

/// One row as it is measured.
#[derive(Debug)]
pub struct Measured<'a> {
    /// What is shared.
    pub bench: &'a Bench,
    /// What is done.
    pub scenario: &'static Scenario,
    /// How much the proxies do.
    pub profile: Profile,
    /// Who does it, in the order of the row's entries.
    pub plan: &'a Plan,
}

/// Configs by peer and file, as they were written.
pub type Configs = BTreeMap<(String, String), String>;

/// What a lane is for, beside its row.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Position of the peer in the plan.
    pub index: usize,
    /// Worker threads.
    pub workers: usize,
    /// CPUs.
    pub placement: &'a Placement,
    /// Where it forwards to.
    pub upstream_port: u16,
    /// The first config's number, where it is going to change.
    pub revision: Option<u32>,
    /// A cgroup for it.
    pub group: Option<&'a Path>,
}

/// A proxy that answers right, or the upstream itself.
#[derive(Debug)]
pub struct Lane {
    /// Position of the peer in the plan, and of its entry in the row.
    pub index: usize,
    /// Its CPUs, and those of its load.
    pub placement: Placement,
    /// Where it listens.
    pub port: u16,
    /// Its processes; `None` for the upstream itself.
    pub running: Option<Running>,
    /// What it has beside it.
    pub companion: Option<Running>,
    /// How it was started.
    pub launch: Launch,
    /// With what, to be configured anew.
    pub revisable: Option<Revisable>,
}

/// What it takes to write a lane's config anew.
#[derive(Debug, Clone)]
pub struct Revisable {
    directory: PathBuf,
    listen_port: u16,
    upstream_port: u16,
    admin_port: u16,
}

impl Lane {
    /// All processes of the proxy; none for the upstream itself.
    pub fn members(&self) -> Vec<u32> {
        self.running.as_ref().map(Running::members).unwrap_or_default()
    }

    /// Empties its access log, which lies in memory where that is possible.
    pub fn empty_access_log(&self) {
        let open = |path: &PathBuf| fs::OpenOptions::new().write(true).open(path).ok();
        if let Some(log) = self.launch.access_log.as_ref().and_then(open) {
            let _ = log.set_len(0);
        }
    }
}

impl Measured<'_> {
    /// Starts a peer and waits until it answers right. The error says why it does not.
    pub fn lane(&self, place: &Place, configs: &mut Configs) -> anyhow::Result<Lane> {
        with_free_ports(|| self.lane_on_free_ports(place, configs))
    }

    fn lane_on_free_ports(&self, place: &Place, configs: &mut Configs) -> anyhow::Result<Lane> {
        let contestant = &self.plan.contestants[place.index];
        if let Some(why) = &contestant.peer.not_run {
            bail!("{why}");
        }
        let Some(proxy) = &contestant.proxy else { return Ok(self.direct(place)) };
        let number = self.bench.lanes.get();
        self.bench.lanes.set(number + 1);
        let name = format!("{}-{number}", contestant.peer.name);
        let directory = self.bench.starter.directory.join(&name);
        fs::create_dir(&directory)?;
        let [listen_port, admin_port] = free_ports()?;
        let upstream_port = place.upstream_port;
        let revisable = Revisable { directory, listen_port, upstream_port, admin_port };
        let setting = self.setting(&revisable, place, place.revision);
        let launch = proxy.launch(&setting).map_err(anyhow::Error::msg)?;
        write(&launch.files)?;
        self.record(proxy.as_ref(), &launch, &setting, configs);
        let companion = self.companion(&launch, &name, place)?;
        let mut running = self.bench.starter.start(&Order {
            name: &name,
            command: &launch.command,
            cpus: &place.placement.proxy,
            group: place.group,
            stdout: launch.stdout.as_deref(),
        })?;
        let ready = self.ready(&launch);
        wait_until_right(&mut running, setting.listen_port, &ready, &self.bench.interrupt)?;
        Ok(Lane {
            index: place.index,
            placement: place.placement.clone(),
            port: setting.listen_port,
            running: Some(running),
            companion,
            launch,
            revisable: Some(revisable),
        })
    }

    /// Writes a lane's config anew, under another number.
    pub fn revise(&self, lane: &Lane, revision: u32) -> anyhow::Result<()> {
        let proxy = self.plan.contestants[lane.index].proxy.as_ref();
        let (Some(proxy), Some(revisable)) = (proxy, &lane.revisable) else {
            bail!("there is no proxy");
        };
        let place = Place {
            index: lane.index,
            workers: 1,
            placement: &lane.placement,
            upstream_port: revisable.upstream_port,
            revision: None,
            group: None,
        };
        let setting = self.setting(revisable, &place, Some(revision));
        write(&proxy.launch(&setting).map_err(anyhow::Error::msg)?.files)
    }

    fn direct(&self, place: &Place) -> Lane {
        Lane {
            index: place.index,
            placement: place.placement.clone(),
            port: place.upstream_port,
            running: None,
            companion: None,
            launch: Launch::default(),
            revisable: None,
        }
    }

    fn setting<'b>(
        &self,
        revisable: &'b Revisable,
        place: &Place<'b>,
        revision: Option<u32>,
    ) -> Setting<'b> {
        Setting {
            profile: self.profile,
            family: self.scenario.family,
            body_bytes: self.scenario.work.body_bytes,
            workers: place.workers,
            cpus: &place.placement.proxy,
            listen_port: revisable.listen_port,
            upstream_port: revisable.upstream_port,
            admin_port: revisable.admin_port,
            directory: &revisable.directory,
            revision,
        }
    }

    fn ready(&self, launch: &Launch) -> Expected {
        let usual = expected(&self.scenario.work);
        match &launch.ready {
            Some(ready) => Expected { path: ready.path.clone(), status: ready.status, ..usual },
            None => usual,
        }
    }

    fn companion(
        &self,
        launch: &Launch,
        name: &str,
        place: &Place,
    ) -> anyhow::Result<Option<Running>> {
        let Some(companion) = &launch.companion else { return Ok(None) };
        let order = |name, command| Order {
            name,
            command,
            cpus: &place.placement.upstream,
            group: None,
            stdout: None,
        };
        let beside = format!("{name}-beside");
        let mut running = self.bench.starter.start(&order(&beside, &companion.command))?;
        let prepare = format!("{name}-prepare");
        let end = std::time::Instant::now() + PREPARE;
        loop {
            let mut once = self.bench.starter.start(&order(&prepare, &companion.prepare))?;
            if once.wait(PREPARE, &self.bench.interrupt)?.success() {
                return Ok(Some(running));
            }
            running.check()?;
            if std::time::Instant::now() > end {
                bail!("its control plane took no config: {}", once.last_lines());
            }
            self.bench.interrupt.sleep(Duration::from_millis(100))?;
        }
    }

    /// Keeps a config as it was written, with the run's folder by a word.
    fn record(&self, proxy: &dyn Proxy, launch: &Launch, setting: &Setting, configs: &mut Configs) {
        let profile = self.profile.name();
        let how = if setting.revision.is_some() { "-change" } else { "" };
        let workers = if setting.workers > 1 { "-2-workers" } else { "" };
        let family = format!("{profile}/{}{how}{workers}", self.scenario.family.name());
        let folder = setting.directory.to_string_lossy().into_owned();
        let mut keep = |name: &str, text: &str| {
            let key = (proxy.name().to_owned(), format!("{family}/{name}"));
            configs.entry(key).or_insert_with(|| text.replace(&folder, "{dir}"));
        };
        keep("command", &launch.command.join(" "));
        if let Some(companion) = &launch.companion {
            keep("command of its control plane", &companion.command.join(" "));
        }
        for file in launch.files.iter().filter(|file| !file.text.is_empty()) {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            keep(&name, &file.text);
        }
    }
}

/// Writes files so that whoever watches them sees each whole or not at all.
fn write(files: &[ConfigFile]) -> anyhow::Result<()> {
    for file in files {
        let beside = file.path.with_extension("new");
        fs::write(&beside, &file.text)
            .and_then(|()| fs::rename(&beside, &file.path))
            .with_context(|| format!("{} can't be written", file.path.display()))?;
    }
    Ok(())
}

/// Says in a row why a peer has no samples in it; the first reason stays.
pub fn not_run(row: &mut Row, index: usize, why: String) {
    let entry = &mut row.entries[index];
    if entry.not_run.is_none() {
        entry.not_run = Some(why);
    }
}
