//! A control plane process in a folder of its own, and commands to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use lateen_control::api::messages::StatusResponse;

use crate::fake_proxy::FakeProxy;

/// Longer than anything takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// One service with one endpoint, and one proxy that calls it.
pub(crate) fn mesh(port: u16) -> String {
    format!("{}---\n{}", service("cart", port), proxy("edge", 15001))
}

pub(crate) fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
         ports: [{{name: http, port: 80}}]\n  \
         endpoints: [{{address: 127.0.0.1, port: {port}}}]\n"
    )
}

pub(crate) fn proxy(name: &str, port: u16) -> String {
    format!(
        "apiVersion: lateen.dev/v1alpha1\nkind: Proxy\nmetadata: {{name: {name}}}\nspec:\n  \
         listeners:\n  - {{name: outbound, type: Outbound, port: {port}, protocol: HTTP}}\n"
    )
}

/// Where one control plane is, whether it runs or not.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("there is room") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
        fs::write(&path, text).expect("there is room");
        path
    }

    /// Starts a control plane here, and waits until it serves.
    pub(crate) fn serve(&self, more: &[&str]) -> Serve<'_> {
        self.try_to_serve(more).unwrap_or_else(|log| panic!("it ended: {log}"))
    }

    /// Starts a control plane here; its log, if it ends before it serves.
    pub(crate) fn try_to_serve(&self, more: &[&str]) -> Result<Serve<'_>, String> {
        let api = format!("unix:{}", self.path("api.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
        command.arg("serve").arg("--socket").arg(self.path("control.sock"));
        command.arg("--state").arg(self.path("state")).args(more);
        command.env("LATEEN_API", &api).env("RUST_LOG", "info").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it is built");
        let stderr = process.stderr.take().expect("it is piped");
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Read to the end whether anyone listens or not: a full pipe would stop it.
                let _ = tell.send(line);
            }
        });
        let mut serve = Serve { place: self, process, lines, api, log: String::new() };
        match serve.find_in_log("serving") {
            Some(line) => {
                if let Some((_, port)) = line.split_once("api=127.0.0.1:") {
                    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
                    serve.api = format!("127.0.0.1:{port}");
                }
                Ok(serve)
            }
            None => Err(serve.log.clone()),
        }
    }

    /// Runs a command that needs no control plane.
    pub(crate) fn lateen(&self, arguments: &[&str]) -> Ran {
        self.run("unix:nowhere", arguments, "")
    }

    fn run(&self, api: &str, arguments: &[&str], stdin: &str) -> Ran {
        let mut process = self.start(api, arguments);
        let mut pipe = process.stdin.take().expect("it is piped");
        // It may not want it.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        let output = process.wait_with_output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes UTF-8");
        Ran {
            code: output.status.code().unwrap_or_else(|| -output.status.signal().unwrap_or(1)),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            folder: self.folder.path().display().to_string(),
        }
    }

    fn start(&self, api: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
        command.args(arguments).current_dir(self.folder.path()).env("LATEEN_API", api);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("LATEEN_API_TOKEN_FILE").env("NO_COLOR", "1").env("COLUMNS", "100");
        command.spawn().expect("it is built")
    }
}

/// A control plane that runs.
pub(crate) struct Serve<'p> {
    place: &'p Place,
    process: Child,
    lines: Receiver<String>,
    /// As `--api` takes it.
    pub(crate) api: String,
    log: String,
}

impl Serve<'_> {
    /// Gives a command.
    pub(crate) fn lateen(&self, arguments: &[&str]) -> Ran {
        self.place.run(&self.api, arguments, "")
    }

    /// Gives a command with something on its stdin.
    pub(crate) fn lateen_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        self.place.run(&self.api, arguments, stdin)
    }

    /// Gives a command and does not wait for it.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.place.start(&self.api, arguments)
    }

    /// Applies a text, which must succeed.
    #[track_caller]
    pub(crate) fn apply(&self, text: &str) -> Ran {
        let ran = self.lateen_with(&["apply", "-f", "-"], text);
        assert_eq!(ran.code, 0, "{ran:?}");
        ran
    }

    pub(crate) fn connect(&self, name: &str) -> FakeProxy {
        FakeProxy::connect(&self.socket(), name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.place.path("control.sock")
    }

    #[track_caller]
    pub(crate) fn status(&self) -> StatusResponse {
        let ran = self.lateen(&["status", "--output", "json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).expect("it is a status")
    }

    /// Waits until that is so of the status.
    #[track_caller]
    pub(crate) fn wait_for(&self, is_so: impl Fn(&StatusResponse) -> bool) -> StatusResponse {
        let end = Instant::now() + LONG;
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < end, "it is never so: {status:#?}");
        }
    }

    /// Waits for a line of the log with these words; `None`: it ended.
    fn find_in_log(&mut self, words: &str) -> Option<String> {
        loop {
            let line = self.lines.recv_timeout(LONG).ok()?;
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(words) {
                return Some(line);
            }
        }
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    /// SIGTERM; how it ended.
    pub(crate) fn stop(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.process.wait().expect("it ends").code().unwrap_or(-1)
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Serve<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    folder: String,
}

impl Ran {
    /// All that it said, without what is another each time.
    pub(crate) fn said(&self) -> String {
        let mut text = format!("exit code {}\n", self.code);
        for (title, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !output.is_empty() {
                text.push_str(&format!("--- {title}\n{output}"));
            }
        }
        steady(&text.replace(&self.folder, "[FOLDER]"))
    }

    #[track_caller]
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Times, process numbers, users, stores and the width of columns are another each time.
fn steady(text: &str) -> String {
    let user = lateen_control::serve::author::of_uid(rustix::process::geteuid().as_raw());
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = Vec::new();
        let mut before = "";
        for word in line.split(' ') {
            let bare = word.trim_matches(|c: char| "():;,".contains(c));
            let steady = if is_epoch(bare) {
                format!("[STORE]-{}", bare.split_once('-').expect("it has one").1)
            } else if is_time(bare) {
                "[TIME]".to_owned()
            } else if before == "process" {
                "[PID]".to_owned()
            } else if bare == env!("CARGO_PKG_VERSION") {
                "[VERSION]".to_owned()
            } else if bare == user {
                "[USER]".to_owned()
            } else {
                bare.to_owned()
            };
            words.push(if bare.is_empty() { word.to_owned() } else { word.replace(bare, &steady) });
            before = bare;
        }
        columns(&words.join(" "))
    });
    lines.map(|line| line + "\n").collect()
}

/// Columns two spaces apart, whatever was replaced in them; indentation stays.
fn columns(line: &str) -> String {
    let indentation = line.len() - line.trim_start().len();
    let mut text = line[indentation..].to_owned();
    while text.contains("   ") {
        text = text.replace("   ", "  ");
    }
    format!("{}{text}", &line[..indentation])
}

fn is_epoch(word: &str) -> bool {
    word.split_once('-').is_some_and(|(store, number)| {
        store.len() == 8
            && store.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_time(word: &str) -> bool {
    word.len() == 20 && word.ends_with('Z') && word.as_bytes()[10] == b'T'
}

/// Whether a file is there, with this mode.
pub(crate) fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}
