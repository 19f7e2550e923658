//! What the owner of the control plane can be asked for, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use lateen_snapshot::model::Epoch;
use tokio::sync::{mpsc, oneshot};

use crate::language::diagnostic::Diagnostic;
use crate::language::place::SourceFile;
use crate::serve::intent::Content;
use crate::serve::overrides::Held;
use crate::serve::overrides::names::{EndpointName, RouteName, ServiceName};
use crate::serve::preview::ProxyChange;
use crate::serve::refusal::Refusal;
use crate::serve::view::OverrideView;
use crate::store::diff::{Change as ObjectChange, ChangeKind};
use crate::store::revision::Key;

/// Orders that wait for the owner; then callers wait.
pub const ORDERS_QUEUED_MAX: usize = 64;

/// One order, and where its answer goes.
#[derive(Debug)]
pub enum Order {
    /// Change the set of objects.
    Change(Change, Answer<Done>),
    /// Say what a change would do.
    Preview(Proposal, Answer<Preview>),
    /// Say what is live.
    Look(Answer<(u64, Content)>),
    /// Pin an accepted revision.
    Rollback(u64, Answer<Done>),
    /// Let the latest revision be live again.
    Resume(Answer<Done>),
    /// Take a revision back, if it is still the latest.
    Undo(Undo, Answer<Option<Done>>),
    /// Hold what runs to an order, or no longer.
    Override(OverrideOrder, Answer<OverrideDone>),
}

/// Where an answer goes. Nobody may be there to hear it.
pub type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// Objects to put in the place of those with the same key.
#[derive(Debug)]
pub struct Proposal {
    /// They declare the objects.
    pub files: Vec<Arc<SourceFile>>,
    /// They are all there are: the others go.
    pub prune: bool,
}

/// A change to the set of objects.
#[derive(Debug)]
pub struct Change {
    /// Which.
    pub what: What,
    /// Only if this is the latest revision (0: none yet).
    pub if_revision: Option<u64>,
    /// Check everything, change nothing.
    pub dry_run: bool,
    /// Who.
    pub author: String,
    /// Why, in their words.
    pub message: String,
}

/// Which change.
#[derive(Debug)]
pub enum What {
    /// Put these objects in.
    Apply(Proposal),
    /// Take one out.
    Delete(ObjectName),
}

/// How a user names an object.
#[derive(Debug)]
pub struct ObjectName {
    /// Its kind in any case, with its group after a dot where one is needed: `service.core`.
    pub kind: String,
    /// `default` if `None`.
    pub namespace: Option<String>,
    /// Within both.
    pub name: String,
}

/// Takes a revision back.
#[derive(Debug)]
pub struct Undo {
    /// Which.
    pub revision: u64,
    /// What was before it.
    pub before: Content,
    /// Who applied it.
    pub author: String,
    /// Why it goes.
    pub why: String,
}

/// An operator's order about what runs.
#[derive(Debug)]
pub struct OverrideOrder {
    /// Which.
    pub what: OverrideWhat,
    /// Who.
    pub author: String,
    /// Why, in their words.
    pub message: String,
    /// For so many milliseconds; `None`: until it is taken back.
    pub for_ms: Option<u64>,
}

/// Which order.
#[derive(Debug)]
pub enum OverrideWhat {
    /// An endpoint gets no new requests.
    Eject {
        /// Whose.
        service: ServiceName,
        /// Which.
        endpoint: EndpointName,
        /// Also if it is the last one.
        force: bool,
    },
    /// It gets some again.
    Readmit {
        /// Whose.
        service: ServiceName,
        /// Which.
        endpoint: EndpointName,
    },
    /// The breaker of a route is open, or closed.
    Hold {
        /// Of which route.
        route: RouteName,
        /// Which of both.
        held: Held,
    },
    /// It decides by itself again.
    LetGo {
        /// Of which route.
        route: RouteName,
    },
}

/// What became of an order.
#[derive(Debug)]
pub struct OverrideDone {
    /// The one that stands now; `None`: one was taken back.
    pub order: Option<OverrideView>,
    /// What proxies should run.
    pub done: Done,
}

/// A change that was made, or would be.
#[derive(Debug)]
pub struct Done {
    /// The latest revision now; 0: none.
    pub revision: u64,
    /// Whether it was made by this.
    pub is_new: bool,
    /// Objects that changed.
    pub changes: Vec<(Key, ChangeKind)>,
    /// What is probably not what was meant.
    pub warnings: Vec<Diagnostic>,
    /// The revision that is pinned.
    pub pinned: Option<u64>,
    /// Whether it is what runs, and does not wait behind the pin.
    pub is_live: bool,
    /// What proxies should run now.
    pub published: Option<Published>,
    /// What was there before.
    pub before: Content,
}

/// What proxies should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The same for all of them.
    pub epoch: Epoch,
    /// Their names, and whether they were connected when they were told.
    pub proxies: BTreeMap<String, bool>,
    /// Connected proxies that are not declared any more since: they keep what they run.
    pub orphans: Vec<String>,
}

/// What a change would do.
#[derive(Debug)]
pub struct Preview {
    /// To the objects.
    pub objects: Vec<ObjectChange>,
    /// To each proxy that would get something else.
    pub proxies: Vec<ProxyChange>,
    /// What is probably not what was meant.
    pub warnings: Vec<Diagnostic>,
    /// The revision that is pinned: until `resume` nothing of this would run.
    pub pinned: Option<u64>,
}

/// The way to the owner.
#[derive(Clone, Debug)]
pub struct Orders(mpsc::Sender<Order>);

impl Orders {
    /// A way, and its end.
    pub fn channel() -> (Self, mpsc::Receiver<Order>) {
        let (sender, receiver) = mpsc::channel(ORDERS_QUEUED_MAX);
        (Self(sender), receiver)
    }

    /// Sends an order and waits for its answer. Once sent, it is done even if this is dropped.
    ///
    /// # Errors
    /// The owner's, or [`Refusal::Stopping`] if it is gone.
    pub async fn ask<T>(&self, order: impl FnOnce(Answer<T>) -> Order) -> Result<T, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.send(order(answer)).await.map_err(|_| Refusal::Stopping)?;
        answered.await.map_err(|_| Refusal::Stopping)?
    }
}
