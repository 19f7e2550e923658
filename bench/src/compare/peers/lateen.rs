//! Lateen on one of its engines: from flags alone, or under a control plane where its config changes.

use super::{
    Companion, ConfigFile, Found, Launch, Proxy, REVISION_HEADER, Reload, Setting,
    UPSTREAM_IDLE_MAX, UPSTREAM_IDLE_S, built_here, given_or, on_path, text_of, words,
};
use crate::compare::processes::output_of;
use crate::compare::scenarios::Family;
use crate::results::Profile;
use serde_json::{Value, json};
use std::path::PathBuf;

const FOLDERS: [&str; 2] = ["target/dist", "target/release"];
const MISSING: &str = "lateen-proxy is not there (cargo build --profile dist -p lateen-proxy, or \
                       --peer-bin lateen=PATH)";
const CONTROL_MISSING: &str = "its config changes by way of its control plane, and lateen is not beside \
                               lateen-proxy (cargo build --profile dist --bin lateen)";
/// The proxy's name to its control plane.
const NAME: &str = "compared";

/// Lateen on one engine.
#[derive(Debug)]
pub struct Lateen {
    /// In results.
    pub name: &'static str,
    /// For `--engine`.
    pub engine: &'static str,
    /// The proxy, if it was named.
    pub program: Option<PathBuf>,
}

impl Lateen {
    fn program(&self) -> Result<PathBuf, String> {
        let search = || built_here("lateen-proxy", &FOLDERS).or_else(|| on_path("lateen-proxy"));
        given_or(self.program.as_deref(), search, MISSING)
    }
}

impl Proxy for Lateen {
    fn name(&self) -> &str {
        self.name
    }

    fn about(&self) -> String {
        format!(
            "Lateen on {}, one worker, its defaults, but for up to {UPSTREAM_IDLE_MAX} kept connections \
             to the upstream, for an hour; X-Forwarded-For, a request id, metrics and the \
             admin endpoint are on in the profile bare too, as they can't be turned off",
            if self.engine == "uring" { "io_uring" } else { self.engine }
        )
    }

    fn find(&self) -> Result<Found, String> {
        let program = self.program()?;
        let version = output_of(&[&program.to_string_lossy(), "--version"]);
        Ok(Found { version, ..Found::default() })
    }

    fn launch(&self, setting: &Setting) -> Result<Launch, String> {
        let program = text_of(&self.program()?);
        let mut command = vec![program.clone()];
        let mut launch = Launch::default();
        if setting.revision.is_some() {
            launch = under_control(&program, setting)?;
            command.extend(words(["run", "--name", NAME, "--control"]));
            command.extend([setting.path_text("proxies.sock"), "--state".to_owned()]);
            command.push(setting.path_text("proxy-state"));
        } else {
            command.extend(words(["quick", "--listen"]));
            command.push(format!("127.0.0.1:{}", setting.listen_port));
            command
                .extend(["--upstream".to_owned(), format!("127.0.0.1:{}", setting.upstream_port)]);
            if setting.family == Family::Tcp {
                command.extend(words(["--protocol", "tcp"]));
            }
        }
        command.extend(["--workers".to_owned(), setting.workers.to_string()]);
        command.extend(["--pool-idle-max".to_owned(), UPSTREAM_IDLE_MAX.to_string()]);
        command.extend(["--pool-idle-timeout".to_owned(), format!("{UPSTREAM_IDLE_S}s")]);
        // The process has its CPUs already.
        command.extend(words(["--engine", self.engine, "--pin", "off", "--admin"]));
        command.push(format!("127.0.0.1:{}", setting.admin_port));
        if setting.profile == Profile::Mesh {
            let log = setting.path("access.log");
            command.extend(["--access-log".to_owned(), text_of(&log)]);
            launch.access_log = Some(log);
        }
        Ok(Launch { command, ..launch })
    }
}

/// What is beside the proxy when its config changes: `lateen serve`, told by `lateen apply`.
fn under_control(program: &str, setting: &Setting) -> Result<Launch, String> {
    let beside = PathBuf::from(program).with_file_name("lateen");
    let lateen = if beside.exists() { Some(beside) } else { built_here("lateen", &FOLDERS) };
    let lateen = text_of(&lateen.ok_or(CONTROL_MISSING)?);
    let file = ConfigFile { path: setting.path("lateen.yaml"), text: config(setting) };
    let api = format!("unix:{}", setting.path_text("api.sock"));
    let apply = |wait: &str| {
        let mut command = vec![lateen.clone()];
        command.extend(words(["apply", "--file"]));
        command.push(text_of(&file.path));
        command.extend(["--api".to_owned(), api.clone(), "--wait".to_owned(), wait.to_owned()]);
        command
    };
    let (prepare, change) = (apply("0"), apply("30"));
    let mut serve = vec![lateen.clone()];
    serve.extend(["serve".to_owned(), "--socket".to_owned(), setting.path_text("proxies.sock")]);
    serve.extend(["--api".to_owned(), api.clone(), "--state".to_owned()]);
    serve.push(setting.path_text("store"));
    Ok(Launch {
        companion: Some(Companion { command: serve, prepare }),
        reload: Some(Reload::Run(change)),
        files: vec![file],
        ..Launch::default()
    })
}

/// One gateway with one route to one service; JSON is YAML too.
fn config(setting: &Setting) -> String {
    let gateway = object(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        "edge",
        json!({
            "gatewayClassName": "lateen",
            "listeners": [{ "name": "http", "port": setting.listen_port, "protocol": "HTTP" }],
        }),
    );
    let proxy = object(
        "lateen.dev/v1alpha1",
        "Proxy",
        NAME,
        json!({
            "listeners": [{
                "name": "http",
                "type": "Gateway",
                "address": "127.0.0.1",
                "gateway": { "name": "edge" },
            }],
        }),
    );
    let service = object(
        "lateen.dev/v1alpha1",
        "Service",
        "upstream",
        json!({
            "ports": [{ "name": "http", "port": 80, "protocol": "HTTP" }],
            "endpoints": [{ "address": "127.0.0.1", "port": setting.upstream_port }],
        }),
    );
    let revision = setting.revision.unwrap_or_default().to_string();
    let route = object(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        "all",
        json!({
            "parentRefs": [{ "name": "edge" }],
            "rules": [{
                "filters": [{
                    "type": "ResponseHeaderModifier",
                    "responseHeaderModifier": { "set": [{ "name": REVISION_HEADER, "value": revision }] },
                }],
                "backendRefs": [{ "name": "upstream", "port": 80 }],
            }],
        }),
    );
    [gateway, proxy, service, route].map(|object| format!("{object:#}\n")).join("---\n")
}

fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": { "name": name, "namespace": "default" },
        "spec": spec,
    })
}
