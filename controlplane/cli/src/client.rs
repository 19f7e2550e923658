//! The way to the control plane: one request, one answer.
//!
//! Before: a command knows what it asks for. After: it has the answer as a value, or a word on why not.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use lateen_control::api::address::Address;
use lateen_control::api::listen::read_token;
use lateen_control::api::messages::ErrorResponse;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::arguments::{Api, Form, Output};
use crate::problem::Problem;
use crate::show::print_json;

/// Beyond what a request waits for on purpose: compiling and storing the largest config takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The way to one control plane.
pub(crate) struct Client {
    address: Address,
    token: Option<String>,
    output: Output,
}

impl Client {
    pub(crate) fn new(api: &Api, form: &Form) -> Result<Self, Problem> {
        let token = api.api_token_file.as_deref().map(read_token).transpose();
        Ok(Self {
            address: address(api)?,
            token: token.map_err(Problem::new)?,
            output: form.output,
        })
    }

    /// Asks for something.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.ask(Method::GET, path, Bytes::new(), Duration::ZERO)
    }

    /// Asks for something to be done, and waits so long for what is waited for on purpose.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        request: &impl Serialize,
        wait_s: u64,
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(request).map_err(Problem::new)?;
        self.ask(Method::POST, path, body.into(), Duration::from_secs(wait_s))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        wait: Duration,
    ) -> Result<T, Problem> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Problem::new)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body)).map_err(Problem::new)?;
        let asking = async {
            // What is taken back is waited for once more.
            tokio::time::timeout(PATIENCE + 2 * wait, self.exchange(request)).await.unwrap_or_else(
                |_| Err(Problem::new(format_args!("{} does not answer", self.address))),
            )
        };
        let (is_success, bytes) = runtime.block_on(asking)?;
        if is_success {
            return serde_json::from_slice(&bytes).map_err(|error| self.is_no_answer(error));
        }
        let error: ErrorResponse =
            serde_json::from_slice(&bytes).map_err(|error| self.is_no_answer(error))?;
        if self.output == Output::Json {
            print_json(&error)?;
        }
        let problem = Problem::new(&error.error);
        let problem = match &error.help {
            Some(help) => problem.with_help(help),
            None => problem,
        };
        Err(problem.after(&error.diagnostics))
    }

    fn is_no_answer(&self, error: serde_json::Error) -> Problem {
        let message =
            format!("{} gives an answer that this release does not know: {error}", self.address);
        Problem::new(message).with_help("is it a control plane of Lateen's, and of this release?")
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(bool, Bytes), Problem> {
        match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                send(stream.map_err(|error| self.is_not_there(&error))?, request).await
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await;
                send(stream.map_err(|error| self.is_not_there(&error))?, request).await
            }
        }
        .map_err(|error| {
            Problem::new(format_args!("{} went away before it answered: {error}", self.address))
                .with_help("`lateen history` shows whether a change was stored")
        })
    }

    fn is_not_there(&self, error: &io::Error) -> Problem {
        let message = format!("no control plane at {}: {error}", self.address);
        Problem::new(message).with_help(match error.kind() {
            io::ErrorKind::PermissionDenied => "only its owner may use it, and root",
            _ => "start one with `lateen serve`, or say where it is with --api or LATEEN_API",
        })
    }
}

/// Where the API is: as told, or the usual place.
pub(crate) fn address(api: &Api) -> Result<Address, Problem> {
    api.api.clone().or_else(Address::usual).ok_or_else(|| {
        Problem::new(
            "it is not said where the control plane's API is, and $XDG_RUNTIME_DIR is not set",
        )
        .with_help("say it with --api unix:PATH or LATEEN_API")
    })
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(bool, Bytes), hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It moves the bytes; what goes wrong with it, the request is told.
    let moving = tokio::spawn(connection);
    let response: Response<_> = sender.send_request(request).await?;
    let is_success = response.status().is_success();
    let bytes = response.into_body().collect().await?.to_bytes();
    moving.abort();
    Ok((is_success, bytes))
}
