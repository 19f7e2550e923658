//! The demo's way to its control plane: the API for what it waits for, commands for what it shows.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use lateen_control::api::address::Address;
use lateen_control::api::messages::StatusResponse;
use lateen_control::status::ProxyState;
use lateen_snapshot::model::Epoch;

use super::plan::Plan;
use super::problem::DemoError;
use super::process::TOKEN_VARIABLE;
use crate::arguments::{Api, Form, Output};
use crate::client::Client;

/// The way to the control plane.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// This program.
    pub(super) program: PathBuf,
    /// Where its API is.
    pub(super) api: Address,
}

impl Control {
    /// What it says of itself; `None` while it is not there.
    pub(super) fn status(&self) -> Option<StatusResponse> {
        let api = Api { api: Some(self.api.clone()), api_token_file: None };
        let client = Client::new(&api, &Form { output: Output::Text }).ok()?;
        client.get("/v1/status").ok()
    }

    /// The same, once every proxy runs what it should.
    pub(super) fn settled(&self, plan: &Plan) -> Option<StatusResponse> {
        self.status().filter(|status| laggards(status, plan).is_empty())
    }

    /// Runs `lateen COMMAND` as one would in a shell; what it says.
    ///
    /// # Errors
    /// [`DemoError::Command`].
    pub(super) fn run(&self, command: &str) -> Result<String, DemoError> {
        let output = Command::new(&self.program)
            .args(command.split(' '))
            .args(["--api", &self.api.to_string()])
            .env_remove(TOKEN_VARIABLE)
            .stdin(Stdio::null())
            .output()
            .map_err(DemoError::system(format!("running `lateen {command}`")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(DemoError::Command {
                command: command.to_owned(),
                said: text(&output.stdout) + &text(&output.stderr),
            }),
        }
    }
}

/// The proxies that do not run what they should, each with a word on it.
pub(super) fn laggards(status: &StatusResponse, plan: &Plan) -> Vec<String> {
    let runs = |name: &str, epoch: Epoch| {
        let proxies = &status.proxies.proxies;
        match proxies.iter().find(|proxy| proxy.name == name) {
            None => Some(format!("{name} is unknown")),
            Some(proxy) if proxy.state == ProxyState::Current && proxy.running == Some(epoch) => {
                None
            }
            Some(proxy) => Some(match &proxy.last_rejection {
                Some(rejection) if proxy.state == ProxyState::Rejected => {
                    format!("{name} refuses it: {}", rejection.reason)
                }
                _ => format!("{name} is {:?}", proxy.state),
            }),
        }
    };
    match status.control.epoch {
        None => vec!["nothing is published".to_owned()],
        Some(epoch) => plan.proxies().filter_map(|name| runs(name, epoch)).collect(),
    }
}
