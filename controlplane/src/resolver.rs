//! Addresses of services that are declared by a DNS name, asked for again when their TTL is over.
//!
//! Before: the names that the compiled mesh needs. After: whoever compiles addresses into snapshots.
//! [`answers`] decides, this module asks. It never blocks a thread and never drops an answer because
//! DNS is down.

pub mod answers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::resolver::answers::{Answers, Known, Reply};

/// The names to ask for.
pub type Names = Arc<BTreeSet<Arc<str>>>;

/// What is known of each name that was answered, or failed, at least once.
pub type Addresses = BTreeMap<Arc<str>, Known>;

/// Until a server has answered one question; hickory tries twice.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks DNS servers for addresses.
#[derive(Clone)]
pub struct Resolver {
    dns: TokioResolver,
}

/// DNS cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("the DNS servers of this machine (/etc/resolv.conf) cannot be used: {0}")]
pub struct ResolverError(NetError);

impl Resolver {
    /// Asks the servers that the system asks, with its search list, and its hosts file first.
    ///
    /// # Errors
    /// The system's config cannot be read or makes no sense.
    pub fn system() -> Result<Self, ResolverError> {
        Self::build(TokioResolver::builder_tokio().map_err(ResolverError)?)
    }

    /// Asks these servers, by UDP and by TCP.
    ///
    /// # Errors
    /// Hickory cannot be built, which does not depend on the servers.
    pub fn with_servers(servers: &[SocketAddr]) -> Result<Self, ResolverError> {
        let at = |server: &SocketAddr, mut connection: ConnectionConfig| {
            connection.port = server.port();
            connection
        };
        let servers = servers
            .iter()
            .map(|server| {
                let by = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                let by = by.into_iter().map(|connection| at(server, connection)).collect();
                NameServerConfig::new(server.ip(), true, by)
            })
            .collect();
        let config = ResolverConfig::from_name_servers(servers);
        let provider = TokioRuntimeProvider::default();
        Self::build(TokioResolver::builder_with_config(config, provider))
    }

    fn build(
        mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
    ) -> Result<Self, ResolverError> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = TIMEOUT;
        // What is asked for again is due: an answer from a cache would be the old one.
        options.cache_size = 0;
        // The TTL of an alias counts like that of the address.
        options.preserve_intermediates = true;
        Ok(Self { dns: builder.build().map_err(ResolverError)? })
    }

    /// Asks for the IPv4 and IPv6 addresses of a name. An address is its own answer.
    pub async fn ask(&self, name: &str) -> Reply {
        match self.dns.lookup_ip(name).await {
            Ok(found) => {
                let ttl_s = found.as_lookup().answers().iter().map(|record| record.ttl).min();
                let ttl = Duration::from_secs(ttl_s.unwrap_or(0).into());
                Reply::Addresses { addresses: found.iter().collect(), ttl }
            }
            Err(error) if says_that_there_is_nothing(&error) => {
                Reply::Absent(format!("{name}: DNS says that it has no address"))
            }
            Err(error) => Reply::Failed(format!("{name}: {error}")),
        }
    }
}

fn says_that_there_is_nothing(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(nothing))
        if matches!(nothing.response_code, ResponseCode::NXDomain | ResponseCode::NoError))
}

/// Keeps `addresses` true for whatever `names` says, until nobody can change the names any more.
/// Receivers of `addresses` are told when something changed; a name that went is taken out.
pub async fn run(
    resolver: Resolver,
    mut names: watch::Receiver<Names>,
    addresses: watch::Sender<Addresses>,
    seed: u64,
) {
    let mut answers = Answers::new(seed);
    let mut questions = JoinSet::new();
    names.mark_changed();
    loop {
        let now = Instant::now();
        while let Some(name) = answers.next(now) {
            let resolver = resolver.clone();
            questions.spawn(async move {
                let reply = resolver.ask(&name).await;
                (name, reply)
            });
        }
        let due = answers.due();
        tokio::select! {
            changed = names.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = Arc::clone(&names.borrow_and_update());
                let gone = answers.want(&wanted, Instant::now());
                addresses.send_if_modified(|known| {
                    gone.iter().filter(|name| known.remove(&**name).is_some()).count() > 0
                });
            }
            Some(question) = questions.join_next() => {
                // Whatever else has come in goes out with it, so that many names are one change.
                let mut replies = vec![question];
                replies.extend(std::iter::from_fn(|| questions.try_join_next()));
                let now = Instant::now();
                addresses.send_if_modified(|known| {
                    let before = replies.len();
                    let unchanged = replies.into_iter().filter(|question| {
                        let (name, reply) = question.as_ref().expect("asking does not panic");
                        let changed = answers.hear(name, reply.clone(), now);
                        let is_unchanged = changed.is_none();
                        known.extend(changed.map(|changed| (Arc::clone(name), changed)));
                        is_unchanged
                    });
                    unchanged.count() < before
                });
            }
            () = until(due) => {}
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
