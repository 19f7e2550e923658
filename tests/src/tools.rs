//! Real clients and servers: curl, wrk, nginx, and a WebSocket library. `tests/run` installs them;
//! where one is missing the test fails and says so.

use crate::binary::repository;
use crate::proxy::lines_of;
use crate::upstream::free_address;
use crate::wait::{PATIENCE, eventually};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What a finished client said.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

impl Outcome {
    /// Stdout of a client that ended well.
    ///
    /// # Panics
    /// When it did not.
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it is not installed.
pub fn run(command: &mut Command) -> Outcome {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (tests/run tools installs it)"));
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs curl, which ignores its own configuration file and any proxy of the environment.
pub fn curl<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Outcome {
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]);
    run(command.args(arguments))
}

/// The SHA-256 of a file in hex, by coreutils.
pub fn sha256(path: &Path) -> String {
    let text = run(Command::new("sha256sum").arg(path)).expect_success();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What a run of wrk counted.
#[derive(Debug)]
pub struct Load {
    /// Answered requests.
    pub requests: u64,
    /// Answers other than 2xx and 3xx.
    pub not_2xx_or_3xx: u64,
    /// Connections that did not come up.
    pub connect_errors: u64,
    /// Connections that broke while an answer was awaited.
    pub read_errors: u64,
    /// Connections that broke while a request was sent; refused ones are among them.
    pub write_errors: u64,
    /// Answers that took longer than two seconds.
    pub timeouts: u64,
}

/// A wrk at work.
#[derive(Debug)]
pub struct Wrk(Child);

impl Wrk {
    /// Starts one thread with this many connections, for this long.
    pub fn start(url: &str, connections: usize, seconds: u64) -> Self {
        let child = Command::new("wrk")
            .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("wrk: {error} (tests/run tools installs it)")))
    }

    /// Waits for its end and reads what it counted.
    ///
    /// # Panics
    /// When it ended badly.
    pub fn finish(self) -> Load {
        let output = self.0.wait_with_output().expect("wrk is our child");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        Load::parse(&text)
    }
}

impl Load {
    fn parse(text: &str) -> Self {
        let number_before = |marker: &str| {
            let before = text.split(marker).next().filter(|before| before.len() < text.len())?;
            before.split_whitespace().next_back()?.parse().ok()
        };
        // "Socket errors: connect 0, read 0, write 0, timeout 0"; no line where all are 0.
        let errors = text.lines().find_map(|line| line.trim().strip_prefix("Socket errors: "));
        let error = |kind: &str| {
            let found = errors?.split(", ").find_map(|part| part.strip_prefix(kind));
            found?.trim().parse().ok()
        };
        // "Non-2xx or 3xx responses: 12"
        let bad =
            text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "));
        Self {
            requests: number_before(" requests in ")
                .unwrap_or_else(|| panic!("not of wrk: {text}")),
            not_2xx_or_3xx: bad.map_or(0, |count| count.parse().expect("wrk counts in numbers")),
            connect_errors: error("connect").unwrap_or(0),
            read_errors: error("read").unwrap_or(0),
            write_errors: error("write").unwrap_or(0),
            timeouts: error("timeout").unwrap_or(0),
        }
    }
}

/// A server process; killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    _folder: Option<TempDir>,
}

impl Server {
    /// nginx in one process, which answers everything with 200 and `body`.
    ///
    /// # Panics
    /// When it is not installed or does not come up.
    pub fn nginx(body: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = free_address();
        let path = folder.path().to_str().expect("temporary folders have plain names");
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/pid; error_log stderr;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {path}/b;\n\
             proxy_temp_path {path}/p; fastcgi_temp_path {path}/f; uwsgi_temp_path {path}/u;\n\
             scgi_temp_path {path}/s;\n\
             server {{ listen {address}; location / {{ return 200 \"{body}\"; }} }} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config).expect("the temporary folder can be written");
        let mut command = Command::new(if Path::new("/usr/sbin/nginx").exists() {
            "/usr/sbin/nginx"
        } else {
            "nginx"
        });
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let child =
            child.unwrap_or_else(|error| panic!("nginx: {error} (tests/run tools installs it)"));
        let mut server = Self { child, address, _folder: Some(folder) };
        eventually("nginx listens", || {
            let ended = server.child.try_wait().expect("nginx is our child");
            assert!(ended.is_none(), "nginx ended: {ended:?}");
            TcpStream::connect_timeout(&address, PATIENCE).ok()
        });
        server
    }

    /// A WebSocket server that echoes.
    ///
    /// # Panics
    /// When it does not start.
    pub fn websocket() -> Self {
        let mut child = websocket_script()
            .arg("serve")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/usr/bin/python3 is installed (tests/run tools)");
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let line = lines.recv_timeout(PATIENCE);
        let line = line.expect("python3-websockets is installed (tests/run tools)");
        let port: u16 = line.parse().expect("the server prints its port");
        Self { child, address: ([127, 0, 0, 1], port).into(), _folder: None }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server still runs");
        self.child.wait().expect("the server is our child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends messages of several sizes to a WebSocket server and compares what comes back.
pub fn websocket_client(url: &str) -> Outcome {
    run(websocket_script().args(["connect", url]))
}

/// Debian's own Python: another one first in the path lacks Debian's packages.
fn websocket_script() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.arg(repository().join("tests/clients/websocket.py"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_counted() {
        let load = Load::parse(
            "Running 1s test @ http://x/\n  9041 requests in 1.00s, 1.19MB read\n\
             \x20 Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n",
        );
        assert_eq!((load.requests, load.not_2xx_or_3xx), (9041, 5));
        assert_eq!((load.connect_errors, load.read_errors), (1, 2));
        assert_eq!((load.write_errors, load.timeouts), (3, 4));
    }

    #[test]
    fn a_real_load_on_a_real_server_is_answered() {
        let server = Server::nginx("hello");
        let load = Wrk::start(&format!("http://{}/", server.address()), 2, 1).finish();
        assert!(load.requests > 100, "{load:?}");
        assert_eq!(load.not_2xx_or_3xx + load.read_errors + load.timeouts, 0, "{load:?}");
    }

    #[test]
    fn the_websocket_client_and_server_understand_each_other() {
        let server = Server::websocket();
        websocket_client(&format!("ws://{}/", server.address())).expect_success();
    }
}
