//! A file of `deploy/examples`, applied by a real control plane to a real proxy. Its ports are replaced:
//! 8080 is where the proxy listens, 9001, 9002, … are the instances.

use crate::binary;
use crate::http::{Response, exchange};
use crate::peer::Peer;
use crate::proxy::{Engine, Launch, Proxy};
use crate::tools::{Outcome, run};
use crate::upstream::{LongWork, free_address};
use crate::wait::eventually;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A control plane, a proxy that listens to it, and the example that both run on.
#[derive(Debug)]
pub struct Example {
    /// The proxy.
    pub proxy: Proxy,
    /// Where it listens.
    pub listen: SocketAddr,
    control: Child,
    folder: TempDir,
    /// As it was applied.
    file: PathBuf,
}

impl Example {
    /// Starts both and applies the file `name`, with these instances.
    ///
    /// # Panics
    /// When it is not there, not accepted, or not in force on every worker.
    pub fn apply(engine: Engine, name: &str, instances: &[SocketAddr]) -> Self {
        Self::apply_on(engine, 1, name, instances)
    }

    /// The same on so many workers.
    ///
    /// # Panics
    /// Likewise.
    pub fn apply_on(engine: Engine, workers: usize, name: &str, instances: &[SocketAddr]) -> Self {
        Self::apply_as(engine, name, instances, |launch| launch.workers(workers))
    }

    /// The same with a proxy that is started as `change` says.
    ///
    /// # Panics
    /// Likewise.
    pub fn apply_as(
        engine: Engine,
        name: &str,
        instances: &[SocketAddr],
        change: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("proxies.sock");
        let control = Command::new(binary::lateen())
            .args(["serve", "--api", &api(folder.path())])
            .arg("--socket")
            .arg(&socket)
            .arg("--state")
            .arg(folder.path().join("control"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the control plane starts");
        let mut example = Starting { control: Some(control) };
        // A socket is in its folder a moment before anybody listens there; the proxy tries again.
        eventually("the control plane's sockets", || {
            let listens = UnixStream::connect(folder.path().join("api.sock")).is_ok();
            (listens && socket.exists()).then_some(())
        });
        let launch = Launch::joining(engine, "edge", &socket, &folder.path().join("proxy"));
        let proxy = change(launch).start();
        // Nobody waits for a proxy that is not connected yet: the file would be in force later.
        proxy.await_metric("control_connected", &[], 1.0);
        let listen = free_address();
        let file = written(folder.path(), name, listen, instances);
        apply(folder.path(), &file);
        let control = example.control.take().expect("it was started");
        Self { proxy, listen, control, folder, file }
    }

    /// Changes a part of the file and applies it again.
    ///
    /// # Panics
    /// When the part is not there once, or the file is not in force on every worker afterwards.
    pub fn change(&self, part: &str, to: &str) {
        let text = fs::read_to_string(&self.file).expect("it was written");
        assert_eq!(text.matches(part).count(), 1, "`{part}` in the example");
        fs::write(&self.file, text.replace(part, to)).expect("there is room");
        apply(self.folder.path(), &self.file);
    }

    /// Sends a request of its own connection and reads the answer.
    pub fn ask(&self, request: &str) -> Response {
        exchange(&mut Peer::connect(self.listen), request)
    }

    /// The body of the answer to a GET with these header lines (each with its CRLF).
    pub fn get(&self, lines: &str) -> String {
        let response = self
            .ask(&format!("GET / HTTP/1.1\r\nHost: a.example\r\n{lines}Connection: close\r\n\r\n"));
        assert_eq!(response.status, 200, "{response:?}");
        String::from_utf8_lossy(&response.body).into_owned()
    }

    /// Gives a command to the control plane.
    pub fn lateen(&self, arguments: &[&str]) -> Outcome {
        run(Command::new(binary::lateen()).args(arguments).args(["--api", &api(self.folder())]))
    }

    /// Sends a request for `/long` until it is at the instance that works on it: who is answered, by another
    /// one, asks again. Its answer is still to be read.
    pub fn begin_long(&self, work: &LongWork) -> Peer {
        eventually("a long request at the instance that works long", || {
            let mut peer = Peer::connect(self.listen);
            peer.send("GET /long HTTP/1.1\r\nHost: a.example\r\n\r\n");
            let has_begun = eventually("the request's arrival anywhere", || {
                // In this order: the one that works long doesn't answer before.
                let has_begun = work.has_begun();
                (has_begun || peer.has_heard()).then_some(has_begun)
            });
            has_begun.then_some(peer)
        })
    }

    /// Where the control plane keeps its things.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        end(&mut self.control);
    }
}

/// Ends the control plane if something goes wrong before an [`Example`] has it.
struct Starting {
    control: Option<Child>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(control) = &mut self.control {
            end(control);
        }
    }
}

fn end(control: &mut Child) {
    // It may have ended by itself; the test says why then.
    let _ = control.kill();
    let _ = control.wait();
}

fn apply(folder: &Path, file: &Path) {
    let applied = Command::new(binary::lateen())
        .args(["apply", "--api", &api(folder), "-f"])
        .arg(file)
        .output()
        .expect("the command runs");
    assert!(
        applied.status.success(),
        "{} was not applied:\n{}{}",
        file.display(),
        String::from_utf8_lossy(&applied.stdout),
        String::from_utf8_lossy(&applied.stderr)
    );
}

fn api(folder: &Path) -> String {
    format!("unix:{}", folder.join("api.sock").display())
}

fn written(folder: &Path, name: &str, listen: SocketAddr, instances: &[SocketAddr]) -> PathBuf {
    let path = binary::repository().join("deploy/examples").join(name);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let ports = instances.iter().map(SocketAddr::port).zip(9001..);
    for (port, placeholder) in ports.chain([(listen.port(), 8080)]) {
        let written = format!("port: {placeholder}");
        assert!(text.contains(&written), "{name} has no `{written}`");
        text = text.replace(&written, &format!("port: {port}"));
    }
    assert!(!text.contains("port: 900"), "{name} has an instance that the test has not");
    let file = folder.join(name);
    fs::write(&file, text).expect("there is room");
    file
}
