//! All processes of the demo, and the folder they live in.
//!
//! Before: a [`Plan`]. After: requests go through, and [`acts`](super::acts) change what they meet.
//! Dropping it ends every process and removes the folder, unless it is to be kept.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lateen_control::api::address::Address;
use tempfile::TempDir;

use super::config;
use super::control::{Control, laggards};
use super::figures::{Figures, is_connected};
use super::plan::{EDGE, NAMESPACE, Plan, Replica, SERVICE2};
use super::problem::DemoError;
use super::process::Process;
use super::stage::Stage;

/// The demo's processes.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) plan: Plan,
    /// The way to the control plane.
    pub(super) control: Control,
    /// `None` while it is dead.
    control_plane: Option<Process>,
    proxies: Vec<(Process, SocketAddr)>,
    apps: Vec<Process>,
    // After the processes, which write into it.
    folder: TempDir,
}

impl Scene {
    /// A folder and a plan; nobody is there yet.
    ///
    /// # Errors
    /// The system's, or too few ports are free.
    pub(super) fn new() -> Result<Self, DemoError> {
        let folder = tempfile::Builder::new().prefix("lateen-demo-").tempdir();
        let folder = folder.map_err(DemoError::system("making a temporary folder"))?;
        for name in ["config", "logs", "state"] {
            let making = fs::create_dir(folder.path().join(name));
            making.map_err(DemoError::system(format!("making the folder {name}")))?;
        }
        let program = std::env::current_exe();
        let program = program.map_err(DemoError::system("finding this program"))?;
        let api = Address::Unix(folder.path().join("api.sock"));
        Ok(Self {
            plan: Plan::new()?,
            control: Control { program, api },
            control_plane: None,
            proxies: Vec::new(),
            apps: Vec::new(),
            folder,
        })
    }

    /// Starts everything, and waits until every proxy runs its config.
    ///
    /// # Errors
    /// What could not be started, or did not come up.
    pub(super) fn set(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        self.start_apps(stage)?;
        let written = config::write_all(&self.config(), &self.plan);
        written.map_err(DemoError::system("writing the config"))?;
        self.start_control_plane(stage)?;
        self.start_proxies(stage)?;
        self.settle(stage)
    }

    /// Where everything is.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder of the config's files.
    pub(super) fn config(&self) -> PathBuf {
        self.folder().join("config")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.folder().join("logs")
    }

    /// Where clients come in.
    pub(super) fn edge(&self) -> SocketAddr {
        local(self.plan.edge)
    }

    /// Where the proxy of this name serves its metrics.
    pub(super) fn admin(&self, proxy: &str) -> SocketAddr {
        let position = self.plan.proxies().position(|name| name == proxy);
        self.proxies[position.expect("it is one of the plan's")].1
    }

    /// The metrics of all proxies.
    pub(super) fn figures(&self) -> Figures {
        let mut services = vec![(EDGE, vec![self.admin(EDGE)])];
        for service in Plan::services() {
            let replicas = self.plan.replicas.iter().filter(|replica| replica.service == service);
            services.push((service, replicas.map(|replica| self.admin(&replica.name)).collect()));
        }
        Figures::new(services)
    }

    /// How many proxies hear from the control plane, as their metrics say.
    pub(super) fn connected_count(&self) -> usize {
        self.proxies.iter().filter(|(_, admin)| is_connected(*admin)).count()
    }

    /// How many processes there are.
    pub(super) fn process_count(&self) -> usize {
        self.apps.len() + self.proxies.len() + usize::from(self.control_plane.is_some())
    }

    /// That everything runs that should.
    ///
    /// # Errors
    /// [`DemoError::Ended`].
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        let proxies = self.proxies.iter_mut().map(|(proxy, _)| proxy);
        let mut all = self.control_plane.iter_mut().chain(proxies).chain(&mut self.apps);
        all.try_for_each(Process::check)
    }

    /// `kill -9`, from one moment to the next; returns the pid that is gone.
    pub(super) fn kill_control_plane(&mut self) -> Option<u32> {
        self.control_plane.take().map(|control_plane| control_plane.pid())
    }

    /// Starts it, again if it is dead, and waits until it can be asked.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start_control_plane(&mut self, stage: &mut Stage) -> Result<u32, DemoError> {
        let path = |name: &str| self.folder().join(name).to_string_lossy().into_owned();
        let (config, socket, state) = (path("config"), path("control.sock"), path("state/control"));
        let api = self.control.api.to_string();
        let arguments =
            ["serve", "--config", &config, "--socket", &socket, "--state", &state, "--api", &api];
        let process = self.start("control", arguments)?;
        let pid = process.pid();
        self.control_plane = Some(process);
        let control = self.control.clone();
        stage.wait(self, "the control plane answers", |_| control.status())?;
        Ok(pid)
    }

    /// Waits until every proxy runs what it should.
    ///
    /// # Errors
    /// [`DemoError::NotInTime`], with who does not.
    pub(super) fn settle(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        let settled = stage.wait(self, "all proxies run the config", |scene| {
            scene.control.settled(&scene.plan).map(drop)
        });
        settled.map_err(|error| match error {
            DemoError::NotInTime { what, limit, logs, .. } => {
                let status = self.control.status();
                let late = status.map(|status| laggards(&status, &self.plan)).unwrap_or_default();
                let detail = format!(" ({})", late.join("; "));
                DemoError::NotInTime { what, detail, limit, logs }
            }
            other => other,
        })
    }

    /// Leaves the folder where it is, when everything has ended.
    pub(super) fn keep_folder(&mut self) {
        self.folder.disable_cleanup(true);
    }

    fn start_apps(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        let host = format!("{SERVICE2}.{NAMESPACE}");
        for index in 0..self.plan.replicas.len() {
            let Replica { name, outbound, .. } = &self.plan.replicas[index];
            let sidecar = outbound.map(|port| local(port).to_string());
            let mut arguments = vec!["demo-app", "--name", name, "--host", &host];
            if let Some(sidecar) = &sidecar {
                arguments.extend(["--calls", sidecar]);
            }
            let app = self.start(&format!("app-{name}"), arguments)?;
            self.apps.push(app);
        }
        let ports = stage.wait(self, "the apps listen", |scene| {
            let addresses = scene.apps.iter().map(|app| app.said("listening")?.parse().ok());
            addresses
                .map(|address| address.map(|a: SocketAddr| a.port()))
                .collect::<Option<Vec<_>>>()
        })?;
        for (replica, port) in self.plan.replicas.iter_mut().zip(ports) {
            replica.app = port;
        }
        Ok(())
    }

    fn start_proxies(&mut self, stage: &mut Stage) -> Result<(), DemoError> {
        let path = |name: &str| self.folder().join(name).to_string_lossy().into_owned();
        let control = path("control.sock");
        let mut started = Vec::new();
        for name in self.plan.proxies() {
            let state = path(&format!("state/{name}"));
            let arguments = [
                "proxy",
                "run",
                "--name",
                name,
                "--control",
                &control,
                "--state",
                &state,
                "--workers",
                "1",
            ];
            started.push((self.start(&format!("proxy-{name}"), arguments)?, local(0)));
        }
        self.proxies = started;
        let admins = stage.wait(self, "the proxies start", |scene| {
            let admins = scene.proxies.iter().map(|(proxy, _)| proxy.said("admin")?.parse().ok());
            admins.collect::<Option<Vec<SocketAddr>>>()
        })?;
        self.proxies.iter_mut().zip(admins).for_each(|((_, known), admin)| *known = admin);
        Ok(())
    }

    fn start<'a>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Process, DemoError> {
        Process::start(&self.control.program, &self.logs(), name, arguments)
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
