//! haproxy, with its defaults and with what those who tune it for large answers set.

use super::{
    CONNECTIONS_MAX, ConfigFile, Found, Launch, Proxy, REVISION_HEADER, Reload, Setting,
    UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_S, given_or, on_path, releases, text_of,
};
use crate::compare::processes::output_of;
use crate::compare::scenarios::Family;
use crate::results::Profile;
use rustix::process::Signal;
use std::path::PathBuf;

const MISSING: &str = "haproxy is not installed (Debian: apt-get install haproxy)";

/// haproxy with one set of settings.
#[derive(Debug)]
pub struct Haproxy {
    /// Whether it has more than its defaults.
    pub tuned: bool,
    /// The program, if it was named.
    pub program: Option<PathBuf>,
}

impl Haproxy {
    fn program(&self) -> Result<PathBuf, String> {
        given_or(self.program.as_deref(), || on_path("haproxy"), MISSING)
    }
}

impl Proxy for Haproxy {
    fn name(&self) -> &str {
        if self.tuned { "haproxy-tuned" } else { "haproxy" }
    }

    fn about(&self) -> String {
        let settings = if self.tuned {
            "splice-auto with pipes of 1 MiB, http-reuse always"
        } else {
            "default buffers and reuse of connections"
        };
        format!(
            "haproxy, one process with one thread (under a master process where the config changes), \
             {settings}; up to {UPSTREAM_IDLE_MAX} kept connections to the upstream, for an hour; in the \
             profile mesh it writes each line of its log by itself, unbuffered, as it can't do otherwise \
             to a file"
        )
    }

    fn find(&self) -> Result<Found, String> {
        let program = self.program()?;
        let said = output_of(&[&program.to_string_lossy(), "-v"]);
        Ok(releases::found("haproxy", said.and_then(|text| Some(text.lines().next()?.to_owned()))))
    }

    fn launch(&self, setting: &Setting) -> Result<Launch, String> {
        let program = self.program()?;
        let file = ConfigFile { path: setting.path("haproxy.cfg"), text: self.config(setting) };
        let mode = if setting.revision.is_some() { "-W" } else { "-db" };
        let mesh = setting.profile == Profile::Mesh;
        // It writes to no file by itself: its log is its standard output, which is one.
        let access_log = mesh.then(|| setting.path("access.log"));
        Ok(Launch {
            command: vec![text_of(&program), mode.to_owned(), "-f".to_owned(), text_of(&file.path)],
            files: vec![file],
            stdout: access_log.clone(),
            access_log,
            reload: setting.revision.map(|_| Reload::Signal(Signal::USR2)),
            ..Launch::default()
        })
    }
}

impl Haproxy {
    fn config(&self, setting: &Setting) -> String {
        let http = setting.family == Family::Http1;
        let mesh = setting.profile == Profile::Mesh && http;
        let mut lines = vec![
            "global".to_owned(),
            format!("  nbthread {}", setting.workers),
            format!("  maxconn {CONNECTIONS_MAX}"),
            // Many clients share few upstream connections, and it would want two descriptors for each.
            "  no strict-limits".to_owned(),
        ];
        if mesh {
            lines.push("  log stdout format raw local0".to_owned());
        }
        if self.tuned {
            lines.push("  tune.pipesize 1048576".to_owned());
        }
        lines.push("defaults".to_owned());
        lines.push(format!("  mode {}", if http { "http" } else { "tcp" }));
        lines.extend(
            ["  timeout connect 5s", "  timeout client 600s", "  timeout server 600s"]
                .map(str::to_owned),
        );
        if self.tuned {
            lines.push("  option splice-auto".to_owned());
            if http {
                lines.push("  http-reuse always".to_owned());
            }
        }
        if mesh {
            lines.extend(metrics(setting.admin_port));
        }
        lines.push("listen proxy".to_owned());
        lines.push(format!("  bind 127.0.0.1:{} backlog 4096", setting.listen_port));
        if mesh {
            lines.extend(ids_and_log());
        }
        if let Some(revision) = setting.revision {
            lines.push(format!("  http-response set-header {REVISION_HEADER} {revision}"));
        }
        let server = format!("  server upstream 127.0.0.1:{}", setting.upstream_port);
        let pool =
            format!(" pool-max-conn {UPSTREAM_IDLE_MAX} pool-purge-delay {UPSTREAM_IDLE_S}s");
        lines.push(server + if http { &pool } else { "" });
        lines.join("\n") + "\n"
    }
}

fn metrics(port: u16) -> [String; 3] {
    [
        "frontend metrics".to_owned(),
        format!("  bind 127.0.0.1:{port}"),
        "  http-request use-service prometheus-exporter if { path /metrics }".to_owned(),
    ]
}

/// What a client chooses is escaped: with a quotation mark in a path a line would be no JSON.
fn ids_and_log() -> [String; 5] {
    [
        "  log global",
        "  option forwardfor",
        "  unique-id-format %[uuid()]",
        "  unique-id-header X-Request-Id",
        "  log-format '{\"time\":\"%tr\",\"client\":\"%ci:%cp\",\"method\":\
         \"%[capture.req.method,json(utf8s)]\",\"path\":\"%[capture.req.uri,json(utf8s)]\",\"status\":%ST,\"bytes\":%B,\"duration_ms\":%Ta,\"request_id\":\"%ID\",\"upstream\":\"%si:%sp\"}'",
    ]
    .map(str::to_owned)
}
