//! nginx, as its packages bring it and with what those who tune it for large answers set.

use super::{
    CONNECTIONS_MAX, ConfigFile, Found, Launch, Proxy, REVISION_HEADER, Reload, Setting,
    UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_S, given_or, on_path, releases, text_of, words,
};
use crate::compare::processes::output_of;
use crate::compare::scenarios::Family;
use crate::results::Profile;
use rustix::process::Signal;
use std::path::{Path, PathBuf};

const MISSING: &str = "nginx is not installed (Debian: apt-get install nginx-light)";
const STREAM_MODULE: &str = "nginx/modules/ngx_stream_module.so";
const STREAM_MISSING: &str =
    "nginx's stream module is not installed (Debian: apt-get install libnginx-mod-stream)";

/// nginx with one set of settings.
#[derive(Debug)]
pub struct Nginx {
    /// Whether it has more than its defaults.
    pub tuned: bool,
    /// The program, if it was named.
    pub program: Option<PathBuf>,
}

impl Nginx {
    fn program(&self) -> Result<PathBuf, String> {
        given_or(self.program.as_deref(), || on_path("nginx"), MISSING)
    }
}

impl Proxy for Nginx {
    fn name(&self) -> &str {
        if self.tuned { "nginx-tuned" } else { "nginx" }
    }

    fn about(&self) -> String {
        let settings = if self.tuned {
            "proxy_buffers 8 16k, no temporary files, request bodies passed on as they come, buffered \
             access log in the profile mesh; for TCP its config is the same as that of nginx"
        } else {
            "default buffers"
        };
        format!(
            "nginx, one worker without a master process (with one where the config changes or two \
             workers run), {settings}; HTTP/1.1 with up to {UPSTREAM_IDLE_MAX} \
             kept connections to the upstream, for an hour; two workers listen each for itself \
             (reuseport); room for {} connections, which it takes when it starts",
            2 * CONNECTIONS_MAX
        )
    }

    fn find(&self) -> Result<Found, String> {
        let program = self.program()?;
        Ok(releases::found("nginx", output_of(&[&program.to_string_lossy(), "-v"])))
    }

    fn launch(&self, setting: &Setting) -> Result<Launch, String> {
        let program = self.program()?;
        let text = match setting.family {
            Family::Http1 => self.http_config(setting),
            Family::Tcp => tcp_config(setting, &stream_module().ok_or(STREAM_MISSING)?),
        };
        let file = ConfigFile { path: setting.path("nginx.conf"), text };
        Ok(Launch {
            command: [text_of(&program)]
                .into_iter()
                .chain(words(["-e", "stderr", "-p"]))
                .chain([text_of(setting.directory), "-c".to_owned(), text_of(&file.path)])
                .collect(),
            files: vec![file],
            access_log: (setting.profile == Profile::Mesh).then(|| setting.path("access.log")),
            reload: setting.revision.map(|_| Reload::Signal(Signal::HUP)),
            ..Launch::default()
        })
    }
}

impl Nginx {
    fn http_config(&self, setting: &Setting) -> String {
        let (listen, upstream) = (setting.listen_port, setting.upstream_port);
        let directory = setting.directory.display();
        let tuned = if self.tuned {
            "proxy_buffers 8 16k; proxy_max_temp_file_size 0; proxy_request_buffering off;"
        } else {
            ""
        };
        let mesh = setting.profile == Profile::Mesh;
        let log = if mesh { self.access_log(setting) } else { "access_log off;".to_owned() };
        let ids = if mesh {
            "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
             proxy_set_header X-Request-Id $request_id;"
        } else {
            ""
        };
        let status = if mesh {
            let port = setting.admin_port;
            format!("server {{ listen 127.0.0.1:{port}; location = /status {{ stub_status; }} }}")
        } else {
            String::new()
        };
        let revision = setting.revision.map_or_else(String::new, |revision| {
            format!("add_header {REVISION_HEADER} {revision} always;")
        });
        format!(
            "{head}
http {{
  {log}
  keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {directory}/nginx-body; proxy_temp_path {directory}/nginx-proxy;
  fastcgi_temp_path {directory}/nginx-f; uwsgi_temp_path {directory}/nginx-u; scgi_temp_path {directory}/nginx-s;
  upstream application {{
    server 127.0.0.1:{upstream};
    keepalive {UPSTREAM_IDLE_MAX}; keepalive_requests 1000000000; keepalive_timeout {UPSTREAM_IDLE_S}s;
  }}
  server {{
    listen 127.0.0.1:{listen} backlog=4096{reuseport};
    location / {{
      proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection \"\";
      {ids}
      {tuned}
      {revision}
    }}
  }}
  {status}
}}
",
            head = head(setting),
            reuseport = reuseport(setting),
        )
    }

    /// Without a buffer each request is a write to the log, as nginx has it by default.
    fn access_log(&self, setting: &Setting) -> String {
        let buffer = if self.tuned { " buffer=64k flush=1s" } else { "" };
        format!(
            "log_format json escape=json '{{\"time\":\"$time_iso8601\",\"client\":\"$remote_addr\",\
             \"method\":\"$request_method\",\"path\":\"$request_uri\",\"status\":$status,\
             \"bytes\":$body_bytes_sent,\"duration_s\":$request_time,\"request_id\":\"$request_id\",\
             \"upstream\":\"$upstream_addr\"}}';
  access_log {} json{buffer};",
            setting.path_text("access.log")
        )
    }
}

fn tcp_config(setting: &Setting, module: &Path) -> String {
    format!(
        "load_module {};
{}
stream {{
  server {{
    listen 127.0.0.1:{} backlog=4096{};
    proxy_pass 127.0.0.1:{}; proxy_timeout 600s;
  }}
}}
",
        module.display(),
        head(setting),
        setting.listen_port,
        reuseport(setting),
        setting.upstream_port
    )
}

/// Workers that share a socket leave most connections to one of them.
fn reuseport(setting: &Setting) -> &'static str {
    if setting.workers > 1 { " reuseport" } else { "" }
}

fn head(setting: &Setting) -> String {
    let master = if setting.workers > 1 || setting.revision.is_some() { "on" } else { "off" };
    // Its workers would else become a user who may not enter this run's folder.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "worker_processes {}; daemon off; master_process {master}; {user}
pid {}; error_log stderr;
events {{ worker_connections {}; }}",
        setting.workers,
        setting.path_text("nginx.pid"),
        2 * CONNECTIONS_MAX
    )
}

fn stream_module() -> Option<PathBuf> {
    ["/usr/lib", "/usr/lib64"]
        .map(|folder| Path::new(folder).join(STREAM_MODULE))
        .into_iter()
        .find(|path| path.exists())
}
