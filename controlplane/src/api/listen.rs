//! Serving the API where it is, and who calls.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, UnixListener};

use crate::api::address::Address;
use crate::api::limits::TOKEN_BYTES_MAX;
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

/// Reads the token of a file: all of it, but for white space at its end.
///
/// # Errors
/// [`ListenError::Token`].
pub fn read_token(path: &Path) -> Result<String, ListenError> {
    let wrong = |why: String| ListenError::Token { path: path.to_owned(), why };
    let token = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
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

    /// Answers requests until this is dropped.
    ///
    /// # Errors
    /// The system's.
    pub async fn serve(self, routes: Router) -> io::Result<()> {
        match self {
            Self::Unix(listener, _file) => {
                axum::serve(listener, routes.into_make_service_with_connect_info::<Caller>()).await
            }
            Self::Tcp(listener) => {
                axum::serve(listener, routes.into_make_service_with_connect_info::<Caller>()).await
            }
        }
    }
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

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::User(stream.io().peer_cred().ok().map(|credentials| credentials.uid()))
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self::Token
    }
}
