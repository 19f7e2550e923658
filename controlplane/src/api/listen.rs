//! Serving the API where it is, and who calls.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::address::Address;
use crate::api::limits::{CONNECTIONS_MAX, HEAD_TIMEOUT, TOKEN_BYTES_MAX};
use crate::api::routes::TokenDigest;
use crate::publish::socket::{BindError, Bound, Purpose, bind};
use crate::serve::author;

/// Only its owner may open it, and root.
const API: Purpose = Purpose { mode: 0o600, option: "--api" };

/// Why the API is not served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No Unix socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// No TCP port.
    #[error("--api {address}: {cause}")]
    Tcp {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// Everybody on the machine could use it.
    #[error(
        "--api {address} can be used by everyone on this machine: give it a secret with --api-token-file FILE, or use `--api unix:PATH`"
    )]
    NoToken {
        /// Where.
        address: SocketAddr,
    },
    /// No token in the file.
    #[error("--api-token-file {}: {why}", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No folder for the socket.
    #[error("{}: the folder of the API's socket cannot be made: {cause}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The system refused.
    #[error("the API's socket cannot be used: {0}")]
    System(#[from] io::Error),
}

/// Where requests come from.
pub enum Listener {
    /// A Unix socket, and its file.
    Unix(UnixListener, Box<dyn Send>),
    /// A port of loopback.
    Tcp(TcpListener),
}

/// Reads the token of a file: all of it, but for white space at its end. Whoever may write the file, or
/// read it, has the API, so that must be this user alone, or root.
///
/// # Errors
/// [`ListenError::Token`].
pub fn read_token(path: &Path) -> Result<String, ListenError> {
    let wrong = |why: String| ListenError::Token { path: path.to_owned(), why };
    let failed = |error: io::Error| wrong(error.to_string());
    // A pipe is not waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(wrong("it is no file".to_owned()));
    }
    if about.uid() != 0 && about.uid() != geteuid().as_raw() {
        return Err(wrong(format!("it belongs to user {}: make it your own", about.uid())));
    }
    if about.mode() & 0o077 != 0 {
        let mode = about.mode() & 0o777;
        return Err(wrong(format!("others may use it (mode {mode:03o}): `chmod 600` it")));
    }
    let mut token = String::new();
    // White space at the end is no part of it.
    file.take(TOKEN_BYTES_MAX as u64 + 64).read_to_string(&mut token).map_err(failed)?;
    let token = token.trim_end();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(wrong(format!(
            "a token has 1 to {TOKEN_BYTES_MAX} bytes, this has {}",
            token.len()
        )));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("a token is one word of ASCII".to_owned()));
    }
    Ok(token.to_owned())
}

/// What [`routes`](crate::api::routes::routes) compares with.
pub fn digest_of(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}

impl Listener {
    /// Listens. A port needs a token.
    ///
    /// # Errors
    /// Any of [`ListenError`].
    pub async fn open(address: &Address, has_token: bool) -> Result<Self, ListenError> {
        match address {
            Address::Unix(path) => {
                if Address::usual().as_ref() == Some(address) {
                    make_folder(path)?;
                }
                let bound: Bound = bind(path, API)?;
                let listener = bound.listener.try_clone()?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?, Box::new(bound)))
            }
            Address::Tcp(address) if !has_token => Err(ListenError::NoToken { address: *address }),
            Address::Tcp(address) => {
                let failed = |cause| ListenError::Tcp { address: *address, cause };
                Ok(Self::Tcp(TcpListener::bind(address).await.map_err(failed)?))
            }
        }
    }

    /// Where it is, with the port that the kernel chose if it was left to.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self, asked: &Address) -> io::Result<Address> {
        match self {
            Self::Unix(..) => Ok(asked.clone()),
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
        }
    }

    /// Answers requests until this is dropped: those of [`CONNECTIONS_MAX`] callers at a time.
    pub async fn serve(self, routes: Router) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = places.clone().acquire_owned().await.expect("it is never closed");
            let accepted = match &self {
                Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
                    answer(stream, Caller::User(uid), &routes, place);
                }),
                Self::Tcp(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| answer(stream, Caller::Token, &routes, place)),
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// What kept a connection from being accepted (no descriptor is left) is not over at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers the requests of one connection, in a task of its own.
fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    caller: Caller,
    routes: &Router,
    place: OwnedSemaphorePermit,
) {
    let routes = routes.clone().layer(Extension(ConnectInfo(caller)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::spawn(async move {
        // A caller that goes away, or is silent for too long, is nobody's loss.
        let _ = serving.await;
        drop(place);
    });
}

/// The folder of the usual address; others must be there.
fn make_folder(path: &Path) -> Result<(), ListenError> {
    let Some(folder) = path.parent().filter(|folder| !folder.exists()) else { return Ok(()) };
    let failed = |cause| ListenError::Folder { path: folder.to_owned(), cause };
    DirBuilder::new().mode(0o755).recursive(true).create(folder).map_err(failed)
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// This user, as the kernel says; `None`: it does not say.
    User(Option<u32>),
    /// Whoever has the token.
    Token,
}

impl Caller {
    /// For the history.
    pub fn author(self) -> String {
        match self {
            Self::User(Some(uid)) => author::of_uid(uid),
            Self::User(None) => "unknown".to_owned(),
            Self::Token => "holder of the API token".to_owned(),
        }
    }
}
