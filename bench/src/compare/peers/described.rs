//! Further proxies, each described by a file: how it is started, configured, and known to work.
//!
//! ```toml
//! name = "haproxy-no-reuse"
//! about = "haproxy that keeps no upstream connection"
//! command = ["haproxy", "-db", "-f", "{config}"]
//! install = "apt-get install haproxy"          # said where the program is missing
//! version = ["haproxy", "-v"]                  # its first line is kept
//! ready = { path = "/", status = 200 }         # what is asked for first; this is the default
//! config_name = "haproxy.cfg"                  # of the file {config}
//!
//! [bare]                                       # what it does in a profile: a config for each family
//! http1 = "…"
//! tcp = "…"
//! ```
//!
//! A program without a slash in its name is looked for on the path; a relative path with one is relative to
//! the folder that the comparison is started in. A program that takes flags alone has empty configs. In `command` and in configs are replaced:
//! `{listen_port}` and `{upstream_port}` (both on 127.0.0.1), `{admin_port}` (free, for metrics),
//! `{config}` (the config's path), `{dir}` (a folder of its own) and `{cpus}` (the CPUs that it is held
//! to, as `0,1`). An access log belongs into `{dir}/access.log`: it is emptied after each load.

use super::{ConfigFile, Found, Launch, Proxy, Ready, Setting, on_path, runs, text_of};
use crate::compare::processes::output_of;
use crate::results::Profile;
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PLACEHOLDERS: [&str; 6] =
    ["listen_port", "upstream_port", "admin_port", "config", "dir", "cpus"];
const FAMILIES: [&str; 2] = ["http1", "tcp"];

/// A proxy as its file describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    name: String,
    about: String,
    command: Vec<String>,
    install: Option<String>,
    #[serde(default)]
    version: Vec<String>,
    ready: Option<DescribedReady>,
    #[serde(default = "default_config_name")]
    config_name: String,
    #[serde(default)]
    bare: BTreeMap<String, String>,
    #[serde(default)]
    mesh: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct DescribedReady {
    path: String,
    status: u16,
}

fn default_config_name() -> String {
    "config".to_owned()
}

impl Described {
    /// Reads a file. The error names the file, the place in it, and what would be right.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--peer-file {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("--peer-file {}", path.display()))
    }

    /// Reads a file's text.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let peer: Self = toml::from_str(text)?;
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        ensure!(
            !peer.name.is_empty() && peer.name.chars().all(allowed),
            "name = {:?}: letters, digits, `-`, `_` and `.` only, as it names files",
            peer.name
        );
        ensure!(!peer.command.is_empty(), "command = []: a program is needed, with its arguments");
        ensure!(
            peer.config_name.chars().all(allowed) && !peer.config_name.starts_with('.'),
            "config_name = {:?}: a file's name alone is needed",
            peer.config_name
        );
        ensure!(
            !peer.bare.is_empty() || !peer.mesh.is_empty(),
            "neither [bare] nor [mesh] is there: at least one needs a config for http1 or tcp (an empty \
             one, for a program that takes flags alone)"
        );
        for (profile, configs) in [("bare", &peer.bare), ("mesh", &peer.mesh)] {
            for (family, config) in configs {
                ensure!(
                    FAMILIES.contains(&family.as_str()),
                    "[{profile}] {family}: known are {}",
                    FAMILIES.join(", ")
                );
                check_placeholders(config).with_context(|| format!("[{profile}] {family}"))?;
            }
        }
        for word in &peer.command {
            check_placeholders(word).with_context(|| format!("command: {word:?}"))?;
        }
        Ok(peer)
    }
}

impl Described {
    /// Where the program is, absolute.
    fn program(&self) -> Result<PathBuf, String> {
        let program = &self.command[0];
        let how = self.install.as_ref().map(|how| format!(" ({how})")).unwrap_or_default();
        if !program.contains('/') {
            let found = on_path(program).ok_or(format!("{program} is not installed{how}"))?;
            return std::path::absolute(found).map_err(|error| error.to_string());
        }
        let path = std::path::absolute(program).map_err(|error| error.to_string())?;
        if runs(&path) {
            return Ok(path);
        }
        let from = if program.starts_with('/') {
            ""
        } else {
            "; a path is relative to the folder that the comparison is started in"
        };
        Err(format!("{program}: {} is no program{from}{how}", path.display()))
    }
}

impl Proxy for Described {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> String {
        self.about.clone()
    }

    fn find(&self) -> Result<Found, String> {
        let program = self.program()?;
        let version = self.version.split_first().and_then(|(word, rest)| {
            // The same program as the one that is measured, also where the path has another.
            let first = if *word == self.command[0] { text_of(&program) } else { word.clone() };
            let command: Vec<&str> =
                [first.as_str()].into_iter().chain(rest.iter().map(String::as_str)).collect();
            Some(output_of(&command)?.lines().next()?.to_owned())
        });
        Ok(Found { version, ..Found::default() })
    }

    fn launch(&self, setting: &Setting) -> Result<Launch, String> {
        if setting.revision.is_some() {
            return Err("its description says nothing of changes of its config".to_owned());
        }
        if setting.workers > 1 {
            return Err("its description is for one worker".to_owned());
        }
        let profile = setting.profile.name();
        let configs = match setting.profile {
            Profile::Bare => &self.bare,
            Profile::Mesh => &self.mesh,
        };
        let family = setting.family.name();
        let config = configs
            .get(family)
            .ok_or_else(|| format!("its description has no config {family} in [{profile}]"))?;
        let program = self.program()?;
        let path = setting.path(&self.config_name);
        let value = |name: &str| match name {
            "listen_port" => setting.listen_port.to_string(),
            "upstream_port" => setting.upstream_port.to_string(),
            "admin_port" => setting.admin_port.to_string(),
            "config" => path.to_string_lossy().into_owned(),
            "dir" => setting.directory.to_string_lossy().into_owned(),
            _ => setting.cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
        };
        let fill = |text: &str| {
            PLACEHOLDERS.iter().fold(text.to_owned(), |text, name| {
                text.replace(&format!("{{{name}}}"), &value(name))
            })
        };
        Ok(Launch {
            command: [text_of(&program)]
                .into_iter()
                .chain(self.command[1..].iter().map(|word| fill(word)))
                .collect(),
            files: vec![ConfigFile { text: fill(config), path: path.clone() }],
            access_log: Some(setting.path("access.log")),
            ready: self
                .ready
                .as_ref()
                .map(|ready| Ready { path: ready.path.clone(), status: ready.status }),
            ..Launch::default()
        })
    }
}

/// A word of small letters in braces is a placeholder, unless a `$` comes before it: configs are full of
/// braces, but not of those.
fn check_placeholders(text: &str) -> anyhow::Result<()> {
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let variable = rest[..open].ends_with('$');
        rest = &rest[open + 1..];
        let end = rest.find(|letter: char| !(letter.is_ascii_lowercase() || letter == '_'));
        let word = &rest[..end.unwrap_or(rest.len())];
        let closed = rest[word.len()..].starts_with('}');
        if closed && !word.is_empty() && !variable && !PLACEHOLDERS.contains(&word) {
            let known = PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ");
            bail!("{{{word}}} is no placeholder: known are {known}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
