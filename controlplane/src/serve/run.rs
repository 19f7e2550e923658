//! `lateen serve`: starts everything, and ends it.
//!
//! ```text
//! store ── owner ── publisher ── proxies
//!            │
//!   folder, DNS, API
//! ```
//!
//! Before: flags. After: nothing that runs depends on this process any more. What keeps it from starting
//! is named, and is nobody's loss but its own: proxies keep what they have.

use std::collections::hash_map::RandomState;
use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{oneshot, watch};

use crate::api::address::Address;
use crate::api::listen::{ListenError, Listener, digest_of, read_token};
use crate::api::routes::{Api, routes};
use crate::publish::socket::BindError;
use crate::publish::{self, Publisher};
use crate::resolver::{self, Resolver, ResolverError};
use crate::serve::control::{Control, Parts};
use crate::serve::order::Orders;
use crate::serve::remembered::Remembered;
use crate::serve::view::{SetAside, SourceView, StoreView, View};
use crate::source;
use crate::status::UnixMs;
use crate::store::error::StoreError;
use crate::store::open::{How, Opened, open};
use crate::store::retention::Retention;
use crate::store::thread::StoreThread;

/// The store's file in the folder of the state.
pub const STORE_FILE_NAME: &str = "store.db";

/// What is served, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Config comes from the files of this folder; `None`: from `apply`.
    pub folder: Option<PathBuf>,
    /// Proxies connect here.
    pub socket: PathBuf,
    /// Where the store and the like are.
    pub state: PathBuf,
    /// Where the API is.
    pub api: Address,
    /// The secret that requests must bring.
    pub api_token_file: Option<PathBuf>,
    /// Users, beside this one and root, whose processes may be proxies.
    pub allowed_uids: Vec<u32>,
    /// Which revisions stay.
    pub retention: Retention,
    /// Whom to ask for addresses; empty: whom the system asks.
    pub dns_servers: Vec<SocketAddr>,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No folder for the state.
    #[error("--state {}: {cause}", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// No store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No socket for proxies.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// No API.
    #[error(transparent)]
    Api(#[from] ListenError),
    /// No DNS.
    #[error(transparent)]
    Dns(#[from] ResolverError),
    /// The system refused.
    #[error("{what}: {cause}")]
    System {
        /// The step.
        what: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

/// Serves until `stop` is.
///
/// # Errors
/// What keeps it from starting, or the API from going on.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    raise_descriptor_limit();
    let state = options.state.clone();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&state)
        .map_err(|cause| ServeError::State { path: state.clone(), cause })?;
    let Opened { store, how } =
        open(&state.join(STORE_FILE_NAME), options.retention, UnixMs::now().0)?;
    let set_aside = tell(how);
    let id = store.id();
    let start = |cause| ServeError::System { what: "starting the store's thread", cause };
    let (store, store_ends) = StoreThread::start(store).map_err(start)?;
    // Whatever may be refused comes before the first proxy is told anything.
    let token = options.api_token_file.as_deref().map(read_token).transpose()?;
    let token = token.map(|token| digest_of(&token));
    let listener = Listener::open(&options.api, token.is_some()).await?;
    let system = |cause| ServeError::System { what: "serving the API", cause };
    let address = listener.address(&options.api).map_err(system)?;
    let publisher = Arc::new(start_publisher(&options, id)?);

    let (names, wanted_names) = watch::channel(resolver::Names::default());
    let (found, addresses) = watch::channel(resolver::Addresses::new());
    let resolver = start_resolver(&options.dns_servers)?;
    let resolving =
        resolver::run(resolver, wanted_names, found, RandomState::new().build_hasher().finish());
    let resolving = tokio::spawn(resolving);

    let view = View {
        source: SourceView { folder: options.folder.clone(), rejection: None },
        store: StoreView { id, set_aside, ..StoreView::default() },
        ..View::default()
    };
    let (view, seen) = watch::channel(view);
    let remembered = Remembered::load(&state);
    let folder = options.folder.clone();
    let clock = UnixMs::now;
    let parts = Parts { store: store.clone(), folder, names, addresses, remembered, clock, view };
    let control = Control::new(parts, publisher.clone()).await?;
    let readings = options.folder.map(|folder| {
        let (reading, readings) = watch::channel(None);
        tokio::spawn(source::run(folder, reading));
        readings
    });
    let (orders, queue) = Orders::channel();
    let (end, ends) = oneshot::channel::<()>();
    let controlling = tokio::spawn(control.run(queue, readings, async {
        // Dropped, too, is the end.
        let _ = ends.await;
    }));

    let api = Api { orders, view: seen, store, publisher };
    tracing::info!(api = %address, socket = %options.socket.display(), "serving");
    tokio::select! {
        () = listener.serve(routes(api, token)) => {}
        () = stop => {}
    }
    tracing::info!("stopping; proxies keep what they run");
    drop(end);
    // What was begun is brought to its end.
    let _ = controlling.await;
    resolving.abort();
    // The store is closed when the last request that may use it is gone, at the latest with the
    // process; everything accepted is on the disk already.
    drop(store_ends);
    Ok(())
}

/// Each proxy takes a few descriptors, and the usual limit of a process is for programs that use select(2).
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

/// A store that was not as expected is named at once.
fn tell(how: How) -> Option<SetAside> {
    match how {
        How::Found => None,
        How::Created => {
            tracing::info!("a new store; nothing is published before something is accepted");
            None
        }
        How::SetAside { to, why } => {
            tracing::error!(
                to = %to.display(),
                why,
                "the store was damaged and was set aside; a new, empty one was begun; proxies keep \
                 what they run until something is accepted"
            );
            Some(SetAside { to, why })
        }
    }
}

fn start_publisher(options: &Options, store: u64) -> Result<Publisher, ServeError> {
    let mut publishing = publish::Options::new(store);
    publishing.trusted_uids.extend(&options.allowed_uids);
    Ok(Publisher::start(&options.socket, publishing)?)
}

/// Without servers every question fails, and what DNS said to the last run is used.
fn start_resolver(servers: &[SocketAddr]) -> Result<Resolver, ServeError> {
    if !servers.is_empty() {
        return Ok(Resolver::with_servers(servers)?);
    }
    match Resolver::system() {
        Ok(resolver) => Ok(resolver),
        Err(error) => {
            tracing::warn!(%error, "no DNS names can be resolved");
            Ok(Resolver::with_servers(&[])?)
        }
    }
}
