//! The owner of everything that changes: what was declared, what runs, and the way from one to the other.
//!
//! ```text
//! orders, readings ──► compiled whole ──┬─ wrong ──► refused; everything stays as it was
//!                                       └─ right ──► accepted by the store ──┬─ pinned ──► waits
//!                                                                            ▼
//!                         answers of DNS ────────────────────────────► published, a new epoch
//! ```
//!
//! Before: [`run`](crate::serve::run) opened what this owns. After: proxies change. One change at a
//! time, in the order in which they came; whoever only wants to know reads the [`View`] or asks the
//! store. What cannot be done leaves what runs alone: nothing was ever taken from a proxy because
//! something here failed.

mod live;
mod overrides;
mod sources;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::language::diagnostic::Diagnostic;
use crate::language::parse::parse;
use crate::publish::Publisher;
use crate::resolver::{Addresses, Names};
use crate::serve::intent::{Content, FileCache};
use crate::serve::names::find;
use crate::serve::order::{Change, Done, Order, Preview, Proposal, Published, Undo, What};
use crate::serve::overrides::Overrides;
use crate::serve::plan::Plan;
use crate::serve::preview::compare;
use crate::serve::refusal::Refusal;
use crate::serve::remembered::Remembered;
use crate::serve::view::{DnsView, View};
use crate::source::Reading;
use crate::status::UnixMs;
use crate::store::diff::{changed, diff};
use crate::store::error::StoreError;
use crate::store::revision::{Accepted, Meta, Objects};
use crate::store::thread::StoreThread;

/// What failed is tried again after this.
const RETRY: Duration = Duration::from_secs(2);

/// Answers of DNS are taken this long after the first of them, so that many are one change.
const ADDRESSES_GATHERED: Duration = Duration::from_millis(250);

/// Revisions age without anything else happening.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// What the owner is made of.
#[derive(Debug)]
pub struct Parts {
    /// Everything accepted.
    pub store: StoreThread,
    /// Where the config comes from; `None`: orders.
    pub folder: Option<PathBuf>,
    /// The names that DNS is asked for.
    pub names: watch::Sender<Names>,
    /// What it says.
    pub addresses: watch::Receiver<Addresses>,
    /// What it said to the last run.
    pub remembered: Remembered,
    /// What tells the time.
    pub clock: fn() -> UnixMs,
    /// For operators.
    pub view: watch::Sender<View>,
}

/// The owner.
pub struct Control {
    parts: Parts,
    publisher: Arc<Publisher>,
    /// The last accepted set.
    latest: Option<Revision>,
    /// The set that a rollback holds.
    pinned: Option<Revision>,
    /// What should run.
    live: Option<Live>,
    /// What proxies were given last.
    published: Option<Published>,
    /// What operators ordered, and when that is looked at again.
    overrides: Arc<Overrides>,
    override_due: Option<Instant>,
    cache: FileCache,
    /// When what failed is tried again.
    read_again: Option<Instant>,
    /// When what DNS says is taken.
    addresses_due: Option<Instant>,
    publish_again: Option<Instant>,
}

/// An accepted set.
#[derive(Clone, Debug)]
struct Revision {
    number: u64,
    /// Or what this release finds wrong with what an earlier one accepted.
    content: Result<Content, Vec<Diagnostic>>,
}

/// What should run.
#[derive(Clone, Debug)]
struct Live {
    plan: Arc<Plan>,
    /// Whose intent it is.
    revision: u64,
    /// Whether the publisher has it.
    is_published: bool,
}

impl Control {
    /// Takes over. Nothing is published before [`Control::run`].
    ///
    /// # Errors
    /// The store's.
    pub async fn new(parts: Parts, publisher: Arc<Publisher>) -> Result<Self, StoreError> {
        let read = parts.store.run(|store| {
            let latest =
                store.latest().map(|(revision, objects)| (revision.number, objects.clone()));
            let pinned = match store.pinned() {
                Some(number) => Some((number, store.show(number)?.1)),
                None => None,
            };
            Ok((latest, pinned))
        });
        let (latest, pinned) = read.await?;
        let latest = parse_stored(latest).await;
        let pinned = parse_stored(pinned).await;
        let overrides = Arc::new(overrides::restored(&parts.store).await?);
        let cache = FileCache::default();
        Ok(Self {
            parts,
            publisher,
            latest,
            pinned,
            live: None,
            published: None,
            overrides,
            override_due: None,
            cache,
            read_again: None,
            addresses_due: None,
            publish_again: None,
        })
    }

    /// Does what it is asked for, until `stop` is; what was begun is brought to its end. With a folder,
    /// its first reading comes before anything is published, so that a restart is no step back.
    pub async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut readings: Option<watch::Receiver<Reading>>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = std::pin::pin!(stop);
        self.expire().await;
        match &mut readings {
            Some(readings) => {
                // The sender outlives this: it is only dropped after it.
                if readings.changed().await.is_ok() {
                    let reading = readings.borrow_and_update().clone();
                    self.take_reading(reading).await;
                }
                if self.live.is_none() {
                    self.restore().await;
                }
            }
            None => self.restore().await,
        }
        let mut ahead = self.publisher.ahead();
        let mut prune = tokio::time::interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
        loop {
            self.show();
            tokio::select! {
                () = &mut stop => return,
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return,
                },
                Some(reading) = next_reading(&mut readings) => self.take_reading(reading).await,
                Ok(()) = self.parts.addresses.changed() => {
                    self.addresses_due.get_or_insert_with(|| Instant::now() + ADDRESSES_GATHERED);
                }
                () = due(self.addresses_due) => {
                    self.addresses_due = None;
                    self.take_addresses().await;
                }
                Ok(()) = ahead.changed() => {
                    let running = *ahead.borrow_and_update();
                    self.catch_up(running).await;
                }
                () = due(self.override_due) => self.end_overrides().await,
                () = due(self.read_again) => {
                    self.read_again = None;
                    if let Some(readings) = &readings {
                        let reading = readings.borrow().clone();
                        self.take_reading(reading).await;
                    }
                }
                () = due(self.publish_again) => {
                    self.publish_again = None;
                    // It logs, and tries again, itself.
                    drop(self.publish().await);
                }
                _ = prune.tick() => {
                    let now_ms = UnixMs::now().0;
                    if let Err(error) = self.parts.store.run(move |store| store.prune(now_ms)).await {
                        tracing::warn!(%error, "old revisions could not be dropped");
                    }
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        // Nobody may be there to hear an answer.
        match order {
            Order::Change(change, answer) => {
                let _ = answer.send(self.change(change).await);
            }
            Order::Preview(proposal, answer) => {
                let _ = answer.send(self.preview(proposal).await);
            }
            Order::Look(answer) => {
                let revision = self.live.as_ref().map_or(0, |live| live.revision);
                let _ = answer.send(Ok((revision, self.live_plan().content.clone())));
            }
            Order::Override(order, answer) => {
                let done = self.order(order).await;
                // Whoever is told may look at once.
                self.show();
                let _ = answer.send(done);
            }
            Order::Rollback(number, answer) => {
                let _ = answer.send(self.roll_back(number).await);
            }
            Order::Resume(answer) => {
                let _ = answer.send(self.resume().await);
            }
            Order::Undo(undo, answer) => {
                let _ = answer.send(self.undo(undo).await);
            }
        }
    }

    // What orders ask for.

    async fn change(&mut self, change: Change) -> Result<Done, Refusal> {
        if let Some(folder) = &self.parts.folder {
            return Err(Refusal::FolderIsSource { folder: folder.clone() });
        }
        self.check_revision(change.if_revision)?;
        let (after, warnings, source) = match change.what {
            What::Apply(proposal) => {
                let (after, warnings) = self.proposed(proposal).await?;
                (after, warnings, "apply")
            }
            What::Delete(name) => {
                let before = self.latest_content()?;
                let key = find(&before, &name)?;
                (before.without(&key), Vec::new(), "delete")
            }
        };
        let meta = Meta {
            time_ms: UnixMs::now().0,
            author: change.author,
            message: change.message,
            source: source.to_owned(),
        };
        let mut done = self.take(after, meta, change.if_revision, change.dry_run).await?;
        done.warnings.splice(0..0, warnings);
        Ok(done)
    }

    async fn preview(&mut self, proposal: Proposal) -> Result<Preview, Refusal> {
        let (after, mut warnings) = self.proposed(proposal).await?;
        let before = self.latest_content().unwrap_or_default();
        let plan = self.plan(after.clone()).await?;
        warnings.extend_from_slice(plan.mesh.warnings());
        let live = self.live_plan();
        let compared = spawn_blocking(move || {
            (diff(&before.objects, &after.objects), compare(&live.snapshots, &plan.snapshots))
        });
        let (objects, proxies) = compared.await.expect("comparing does not panic");
        Ok(Preview { objects, proxies, warnings, pinned: self.pinned_number() })
    }

    async fn roll_back(&mut self, number: u64) -> Result<Done, Refusal> {
        let (_, objects) = self.parts.store.run(move |store| store.show(number)).await?;
        let read = parse_stored(Some((number, objects))).await.expect("it was given one");
        let content = read.content.clone();
        let content = content.map_err(|diagnostics| Refusal::Stored { number, diagnostics })?;
        let before = self.live_plan().content.clone();
        let plan = self.plan(content.pinned_beside(&self.latest_content()?)).await?;
        self.parts.store.run(move |store| store.pin(number)).await?;
        self.pinned = Some(read);
        self.done_live(before, plan, number).await
    }

    async fn resume(&mut self) -> Result<Done, Refusal> {
        let latest = self.latest.as_ref().ok_or(Refusal::Empty)?.number;
        let before = self.live_plan().content.clone();
        let plan = self.plan(self.latest_content()?).await?;
        self.parts.store.run(|store| store.resume()).await?;
        self.pinned = None;
        self.done_live(before, plan, latest).await
    }

    /// What a rollback and its end have in common.
    async fn done_live(
        &mut self,
        before: Content,
        plan: Plan,
        revision: u64,
    ) -> Result<Done, Refusal> {
        let changes = changed(&before.objects, &plan.content.objects);
        let warnings = plan.mesh.warnings().to_vec();
        let published = self.make_live(plan, revision).await;
        published.map_err(|cause| not_published(revision, cause))?;
        Ok(Done {
            revision: self.latest.as_ref().map_or(0, |latest| latest.number),
            is_new: false,
            changes,
            warnings,
            pinned: self.pinned_number(),
            is_live: true,
            published: self.published(),
            before,
        })
    }

    async fn undo(&mut self, undo: Undo) -> Result<Option<Done>, Refusal> {
        let latest = self.latest.as_ref().map(|latest| latest.number);
        if latest != Some(undo.revision) || self.pinned.is_some() {
            return Ok(None);
        }
        let meta = Meta {
            time_ms: UnixMs::now().0,
            author: undo.author,
            message: undo.why,
            source: format!("undo of {}", undo.revision),
        };
        self.take(undo.before, meta, Some(undo.revision), false).await.map(Some)
    }

    // What every change goes through.

    /// The set that a proposal leads to, and what is probably not meant in it.
    async fn proposed(&self, proposal: Proposal) -> Result<(Content, Vec<Diagnostic>), Refusal> {
        // Whoever brings all objects does not need those that are there.
        let before = if proposal.prune {
            self.latest_content().unwrap_or_default()
        } else {
            self.latest_content()?
        };
        let Proposal { files, prune } = proposal;
        let read = spawn_blocking(move || {
            let parsed = parse(&files);
            if parsed.has_errors() {
                return Err(Refusal::Declared(parsed.diagnostics));
            }
            if parsed.declared.is_empty() {
                return Err(Refusal::Nothing);
            }
            Ok((before.with(&parsed.declared, prune), parsed.diagnostics))
        });
        read.await.expect("reading does not panic")
    }

    /// Compiles a set, stores it, and makes it live unless a pin holds another.
    async fn take(
        &mut self,
        after: Content,
        meta: Meta,
        if_revision: Option<u64>,
        dry_run: bool,
    ) -> Result<Done, Refusal> {
        let before = self.latest_content().unwrap_or_default();
        let plan = self.plan(after.clone()).await?;
        let changes = changed(&before.objects, &after.objects);
        let warnings = plan.mesh.warnings().to_vec();
        let mut done = Done {
            revision: self.latest.as_ref().map_or(0, |latest| latest.number),
            is_new: false,
            changes,
            warnings,
            pinned: self.pinned_number(),
            is_live: false,
            published: self.published(),
            before: before.clone(),
        };
        if dry_run {
            return Ok(done);
        }
        let objects = after.objects.clone();
        let accepted =
            self.parts.store.run(move |store| store.accept(objects, &meta, if_revision)).await?;
        done.revision = accepted.number();
        done.is_new = matches!(accepted, Accepted::New(_));
        let is_from_folder = self.parts.folder.is_some();
        let settled = spawn_blocking(move || match is_from_folder {
            // The files stay: that is where one would mend things.
            true => after,
            false => after.settled(&before),
        });
        let content = settled.await.expect("what was read once can be read again");
        self.latest = Some(Revision { number: done.revision, content: Ok(content.clone()) });
        match &self.pinned {
            None => {
                let is_published = self.published().is_some() && !done.is_new;
                let is_other = self.live_plan().content.objects != content.objects;
                // What a proxy refused, such as a port that was taken, may be possible now.
                if !is_published || is_other || self.publisher.has_failed() {
                    let published = self.make_live(plan, done.revision).await;
                    published.map_err(|cause| not_published(done.revision, cause))?;
                }
                done.is_live = true;
            }
            Some(_) => {
                done.is_live = self.let_endpoints_flow(&content, &done).await?;
            }
        }
        done.published = self.published();
        Ok(done)
    }

    /// Under a pin: endpoints of the latest set come in beside the pinned intent. Returns whether that
    /// was all that the change was about.
    async fn let_endpoints_flow(&mut self, latest: &Content, done: &Done) -> Result<bool, Refusal> {
        let Some(Revision { number, content: Ok(pinned) }) = &self.pinned else { return Ok(false) };
        let (number, combined) = (*number, pinned.pinned_beside(latest));
        if combined.objects != self.live_plan().content.objects {
            let plan = self.plan(combined).await;
            let plan = plan.map_err(|cause| Refusal::Held {
                number: done.revision,
                pinned: number,
                cause: Box::new(cause),
            })?;
            self.make_live(plan, number)
                .await
                .map_err(|cause| not_published(done.revision, cause))?;
        }
        Ok(self.live_plan().content.runs(&done.changes, latest))
    }

    async fn plan(&self, content: Content) -> Result<Plan, Refusal> {
        let before = self.live_plan();
        let (addresses, overrides) = (self.addresses(), Arc::clone(&self.overrides));
        let planning = spawn_blocking(move || Plan::new(content, &before, &addresses, overrides));
        planning.await.expect("compiling does not panic")
    }

    // What is known.

    fn latest_content(&self) -> Result<Content, Refusal> {
        match &self.latest {
            None => Ok(Content::default()),
            Some(Revision { content: Ok(content), .. }) => Ok(content.clone()),
            Some(Revision { number, content: Err(diagnostics) }) => {
                Err(Refusal::Stored { number: *number, diagnostics: diagnostics.clone() })
            }
        }
    }

    fn live_plan(&self) -> Arc<Plan> {
        self.live.as_ref().map_or_else(Arc::default, |live| live.plan.clone())
    }

    /// What proxies should run, if they were told.
    fn published(&self) -> Option<Published> {
        self.published.clone().filter(|_| self.live.as_ref().is_some_and(|live| live.is_published))
    }

    fn pinned_number(&self) -> Option<u64> {
        self.pinned.as_ref().map(|pinned| pinned.number)
    }

    fn addresses(&self) -> Addresses {
        self.parts.remembered.beside(&self.parts.addresses.borrow())
    }

    /// The store checks it again; a dry run does not get that far.
    fn check_revision(&self, expected: Option<u64>) -> Result<(), Refusal> {
        let current = self.latest.as_ref().map_or(0, |latest| latest.number);
        match expected {
            Some(expected) if expected != current => {
                Err(StoreError::Conflict { expected, current }.into())
            }
            _ => Ok(()),
        }
    }

    fn show(&self) {
        let names = self.live_plan().mesh.dns_names();
        let addresses = self.addresses();
        let dns = names.iter().map(|name| {
            let known = addresses.get(name).cloned().unwrap_or_default();
            DnsView {
                name: name.to_string(),
                addresses: known.addresses.as_deref().unwrap_or_default().to_vec(),
                problem: known.problem,
            }
        });
        let dns = dns.collect();
        let overrides = self.override_views();
        self.parts.view.send_modify(|view| {
            view.store.latest = self.latest.as_ref().map(|latest| latest.number);
            view.store.pinned = self.pinned_number();
            view.live_revision = self.live.as_ref().map(|live| live.revision);
            view.epoch = self.published.as_ref().map(|published| published.epoch);
            view.dns = dns;
            view.overrides = overrides;
        });
    }
}

fn not_published(number: u64, cause: Refusal) -> Refusal {
    Refusal::NotPublished { number, cause: Box::new(cause) }
}

async fn parse_stored(stored: Option<(u64, Arc<Objects>)>) -> Option<Revision> {
    let (number, objects) = stored?;
    let parsing = spawn_blocking(move || Content::of_objects(objects));
    Some(Revision { number, content: parsing.await.expect("reading does not panic") })
}

async fn next_reading(readings: &mut Option<watch::Receiver<Reading>>) -> Option<Reading> {
    let readings = readings.as_mut()?;
    readings.changed().await.ok()?;
    Some(readings.borrow_and_update().clone())
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
