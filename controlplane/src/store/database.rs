//! The store: accepts revisions, gives them back, pins one, counts epochs.
//!
//! One connection, used by one thread ([`thread`](crate::store::thread)). Every order that changes
//! something is one transaction that is on the disk when it returns; what is kept in memory (the
//! latest set, the pin, the epoch) changes only after that.

use std::fs::File;
use std::sync::Arc;

use lateen_snapshot::model::Epoch;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

use crate::store::error::StoreError;
use crate::store::limits;
use crate::store::retention::{self, Retention};
use crate::store::revision::{self, Accepted, Digest, Key, Meta, Objects, Revision};
use crate::store::schema::STILL_THERE;

/// An open store. See [`open`](crate::store::open::open).
#[derive(Debug)]
pub struct Store {
    parts: Parts,
    retention: Retention,
    /// Given back after the connection is closed: fields are dropped in this order.
    _lock: File,
}

/// What a store is made of, read from the file once.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) connection: Connection,
    id: u64,
    latest: Option<Latest>,
    pinned: Option<u64>,
    /// The last epoch that was given out, and the last that may be without a further write.
    epoch: u64,
    epoch_leased: u64,
}

/// The latest revision, in memory: the next one is compared with it.
#[derive(Debug)]
struct Latest {
    revision: Revision,
    objects: Arc<Objects>,
    /// Of the texts, in the order of the keys.
    digests: Vec<Digest>,
}

/// The revision that proxies should run.
#[derive(Clone, Debug)]
pub struct Live {
    /// Which one.
    pub revision: Revision,
    /// What it says.
    pub objects: Arc<Objects>,
    /// Whether a rollback holds it, so that later revisions wait.
    pub pinned: bool,
}

impl Store {
    pub(super) const fn new(parts: Parts, retention: Retention, lock: File) -> Self {
        Self { parts, retention, _lock: lock }
    }

    /// What tells this store from any other; never 0. The `store` of every epoch of it.
    pub const fn id(&self) -> u64 {
        self.parts.id
    }

    /// Stores `objects` as the next revision, unless they are what the latest says already. On the
    /// disk when it returns. Costs a hash and a row for each object that changed, a comparison for
    /// each that did not (by pointer where the `Arc` is the same).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the latest revision is not `if_revision` (0: none yet);
    /// [`StoreError::TooLarge`]; the machine's.
    pub fn accept(
        &mut self,
        objects: Arc<Objects>,
        meta: &Meta,
        if_revision: Option<u64>,
    ) -> Result<Accepted, StoreError> {
        let parts = &mut self.parts;
        let current = parts.latest.as_ref().map_or(0, |latest| latest.revision.number);
        if let Some(expected) = if_revision
            && expected != current
        {
            return Err(StoreError::Conflict { expected, current });
        }
        revision::check(&objects, meta)?;
        let changes = Changes::since(parts.latest.as_ref(), &objects);
        if current != 0 && changes.are_none() {
            return Ok(Accepted::Unchanged(current));
        }
        let revision = Revision {
            number: current + 1,
            time_ms: meta.time_ms,
            author: meta.author.clone(),
            message: meta.message.clone(),
            source: meta.source.clone(),
            digest: Digest::of_set(objects.keys().zip(changes.digests.iter().copied())),
            object_count: objects.len() as u64,
        };
        let step = begin(&mut parts.connection)?;
        write_revision(&step, &revision)?;
        write_changes(&step, &changes, revision.number)?;
        let keep = [revision.number, parts.pinned.unwrap_or(0)];
        retention::prune(&step, self.retention, keep, meta.time_ms)?;
        step.commit()?;
        let digests = changes.digests;
        let number = revision.number;
        parts.latest = Some(Latest { revision, objects, digests });
        Ok(Accepted::New(number))
    }

    /// The last accepted revision, live or not.
    pub fn latest(&self) -> Option<(&Revision, &Arc<Objects>)> {
        self.parts.latest.as_ref().map(|latest| (&latest.revision, &latest.objects))
    }

    /// The revision that should run: the pinned one, else the latest. `None` while nothing was
    /// accepted. Reads the disk only under a pin.
    ///
    /// # Errors
    /// Those of [`Store::show`].
    pub fn live(&self) -> Result<Option<Live>, StoreError> {
        let pinned = self.parts.pinned.is_some();
        let Some(number) = self.parts.pinned.or_else(|| Some(self.latest()?.0.number)) else {
            return Ok(None);
        };
        let (revision, objects) = self.show(number)?;
        Ok(Some(Live { revision, objects, pinned }))
    }

    /// The revision that a rollback holds.
    pub const fn pinned(&self) -> Option<u64> {
        self.parts.pinned
    }

    /// Makes `number` the live revision until [`Store::resume`], whatever is accepted meanwhile.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRevision`]; the machine's.
    pub fn pin(&mut self, number: u64) -> Result<(), StoreError> {
        self.revision(number)?;
        self.write_pin(Some(number))
    }

    /// Lets the latest revision be live again. Nothing happens without a pin.
    ///
    /// # Errors
    /// The machine's.
    pub fn resume(&mut self) -> Result<(), StoreError> {
        if self.parts.pinned.is_some() { self.write_pin(None) } else { Ok(()) }
    }

    /// An epoch that was never given out before and is higher than all that were, across crashes too.
    /// Whatever changes what a proxy should run takes one. Writes once in
    /// [`limits::EPOCHS_PER_LEASE`] calls.
    ///
    /// # Errors
    /// The machine's; the next call tries again.
    pub fn next_epoch(&mut self) -> Result<Epoch, StoreError> {
        let parts = &mut self.parts;
        if parts.epoch == parts.epoch_leased {
            let leased = parts.epoch_leased + limits::EPOCHS_PER_LEASE;
            parts
                .connection
                .prepare_cached("UPDATE store SET epoch_leased = ?1")?
                .execute([sql(leased)])?;
            parts.epoch_leased = leased;
        }
        parts.epoch += 1;
        Ok(Epoch { store: parts.id, number: parts.epoch })
    }

    /// Makes the next epoch higher than `number`, which somebody has seen. Returns whether it was not:
    /// then this file is an older copy of itself.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a number that no store comes to; the machine's.
    pub fn raise_epoch(&mut self, number: u64) -> Result<bool, StoreError> {
        if number > limits::EPOCH_MAX {
            return Err(StoreError::damaged(format!("somebody has seen epoch {number} of it")));
        }
        let parts = &mut self.parts;
        if number > parts.epoch_leased {
            parts
                .connection
                .prepare_cached("UPDATE store SET epoch_leased = ?1")?
                .execute([sql(number)])?;
            parts.epoch_leased = number;
        }
        let is_raised = number > parts.epoch;
        parts.epoch = parts.epoch.max(number);
        Ok(is_raised)
    }

    /// At most `limit` (and [`limits::HISTORY_PAGE_MAX`]) revisions below `before`, newest first.
    ///
    /// # Errors
    /// The machine's.
    pub fn history(&self, limit: usize, before: Option<u64>) -> Result<Vec<Revision>, StoreError> {
        let mut query = self.parts.connection.prepare_cached(concat!(
            "SELECT number, time_ms, author, message, source, digest, object_count FROM revision ",
            "WHERE number < ?1 ORDER BY number DESC LIMIT ?2"
        ))?;
        let limit = limit.min(limits::HISTORY_PAGE_MAX) as i64;
        let mut rows = query.query(params![before.map_or(i64::MAX, sql), limit])?;
        let mut revisions = Vec::new();
        while let Some(row) = rows.next()? {
            revisions.push(read_revision(row)?);
        }
        Ok(revisions)
    }

    /// A revision with its objects, which are checked against its digest.
    ///
    /// # Errors
    /// [`StoreError::NoSuchRevision`]; [`StoreError::Damaged`] if the texts are not those that were
    /// accepted; the machine's.
    pub fn show(&self, number: u64) -> Result<(Revision, Arc<Objects>), StoreError> {
        match &self.parts.latest {
            Some(latest) if latest.revision.number == number => {
                Ok((latest.revision.clone(), Arc::clone(&latest.objects)))
            }
            _ => {
                let revision = self.revision(number)?;
                let (objects, _) = read_objects(&self.parts.connection, &revision)?;
                Ok((revision, Arc::new(objects)))
            }
        }
    }

    /// Drops what the retention no longer keeps; [`Store::accept`] does it too, but age comes without.
    /// Returns how many revisions went.
    ///
    /// # Errors
    /// The machine's; nothing went then.
    pub fn prune(&mut self, now_ms: u64) -> Result<usize, StoreError> {
        let parts = &mut self.parts;
        let latest = parts.latest.as_ref().map_or(0, |latest| latest.revision.number);
        let keep = [latest, parts.pinned.unwrap_or(0)];
        let step = begin(&mut parts.connection)?;
        let dropped = retention::prune(&step, self.retention, keep, now_ms)?;
        step.commit()?;
        Ok(dropped)
    }

    fn revision(&self, number: u64) -> Result<Revision, StoreError> {
        if let Some(revision) = find_revision(&self.parts.connection, number)? {
            return Ok(revision);
        }
        let oldest: i64 = self
            .parts
            .connection
            .prepare_cached("SELECT coalesce(min(number), 0) FROM revision")?
            .query_row([], |row| row.get(0))?;
        let latest = self.latest().map_or(0, |(revision, _)| revision.number);
        Err(StoreError::NoSuchRevision { number, oldest: self::number(oldest)?, latest })
    }

    fn write_pin(&mut self, pinned: Option<u64>) -> Result<(), StoreError> {
        self.parts
            .connection
            .prepare_cached("UPDATE store SET pinned = ?1")?
            .execute([pinned.map(sql)])?;
        self.parts.pinned = pinned;
        Ok(())
    }

    /// The connection; in tests also to look behind the store's back.
    pub(super) const fn connection(&self) -> &Connection {
        &self.parts.connection
    }

    /// Begins something that is done whole or not at all.
    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, StoreError> {
        begin(&mut self.parts.connection)
    }
}

/// What a new set changes. Borrows keys and texts from both sets.
struct Changes<'a> {
    /// No longer there, or there with another text.
    ended: Vec<&'a Key>,
    /// New, or with another text.
    begun: Vec<(&'a Key, &'a Arc<str>, Digest)>,
    /// Of all texts of the new set, in the order of the keys.
    digests: Vec<Digest>,
}

impl<'a> Changes<'a> {
    fn since(latest: Option<&'a Latest>, objects: &'a Objects) -> Self {
        let mut changes = Self {
            ended: Vec::new(),
            begun: Vec::new(),
            digests: Vec::with_capacity(objects.len()),
        };
        let mut old = latest
            .into_iter()
            .flat_map(|latest| latest.objects.iter().zip(&latest.digests))
            .peekable();
        for (key, text) in objects {
            while let Some(((gone, _), _)) = old.next_if(|((before, _), _)| *before < key) {
                changes.ended.push(gone);
            }
            let before = old.next_if(|((before, _), _)| *before == key);
            let digest = match before {
                Some(((_, same), digest)) if Arc::ptr_eq(same, text) || same == text => *digest,
                other => {
                    let digest = Digest::of_text(text);
                    changes.ended.extend(other.map(|((key, _), _)| key));
                    changes.begun.push((key, text, digest));
                    digest
                }
            };
            changes.digests.push(digest);
        }
        changes.ended.extend(old.map(|((gone, _), _)| gone));
        changes
    }

    const fn are_none(&self) -> bool {
        self.ended.is_empty() && self.begun.is_empty()
    }
}

/// Everything that the file says about the present. Checks the latest and the pinned revision
/// against their digests.
pub(super) fn load(connection: Connection) -> Result<Parts, StoreError> {
    let (id, epoch_leased, pinned): (i64, i64, Option<i64>) =
        connection.query_row("SELECT id, epoch_leased, pinned FROM store", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    if id == 0 {
        return Err(StoreError::damaged("its id is 0".to_owned()));
    }
    let last: Option<i64> =
        connection.query_row("SELECT max(number) FROM revision", [], |row| row.get(0))?;
    let read = |wanted: i64| {
        let revision = find_revision(&connection, number(wanted)?)?
            .ok_or_else(|| StoreError::damaged(format!("revision {wanted} is not there")))?;
        let (objects, digests) = read_objects(&connection, &revision)?;
        Ok::<_, StoreError>(Latest { revision, objects: Arc::new(objects), digests })
    };
    let latest = last.map(read).transpose()?;
    if let Some(pinned) = pinned.filter(|pinned| Some(*pinned) != last) {
        read(pinned)?;
    }
    let pinned = pinned.map(number).transpose()?;
    let epoch = number(epoch_leased)?;
    let id = id.cast_unsigned();
    // What is left of the last block may have been given out: it is skipped.
    Ok(Parts { connection, id, latest, pinned, epoch, epoch_leased: epoch })
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

fn write_revision(step: &Transaction<'_>, revision: &Revision) -> Result<(), StoreError> {
    step.prepare_cached("INSERT INTO revision VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(
        params![
            sql(revision.number),
            sql(revision.time_ms),
            revision.author,
            revision.message,
            revision.source,
            revision.digest.0,
            sql(revision.object_count),
        ],
    )?;
    Ok(())
}

fn write_changes(step: &Transaction<'_>, changes: &Changes<'_>, at: u64) -> Result<(), StoreError> {
    let at = sql(at);
    let mut end = step.prepare_cached(
        "UPDATE object SET until = ?1
         WHERE kind = ?2 AND namespace = ?3 AND name = ?4 AND until = ?5",
    )?;
    for key in &changes.ended {
        let ended = end.execute(params![at, key.kind, key.namespace, key.name, STILL_THERE])?;
        if ended != 1 {
            return Err(StoreError::damaged(format!("{key} is there {ended} times")));
        }
    }
    let mut keep = step.prepare_cached(
        "INSERT INTO text (digest, body) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING",
    )?;
    let mut find = step.prepare_cached("SELECT id FROM text WHERE digest = ?1")?;
    let mut begin = step.prepare_cached("INSERT INTO object VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for (key, text, digest) in &changes.begun {
        keep.execute(params![digest.0, &***text])?;
        let text: i64 = find.query_row([digest.0], |row| row.get(0))?;
        begin.execute(params![key.kind, key.namespace, key.name, at, STILL_THERE, text])?;
    }
    Ok(())
}

fn find_revision(connection: &Connection, wanted: u64) -> Result<Option<Revision>, StoreError> {
    let mut query = connection.prepare_cached(concat!(
        "SELECT number, time_ms, author, message, source, digest, object_count FROM revision ",
        "WHERE number = ?1"
    ))?;
    let mut rows = query.query([sql(wanted)])?;
    rows.next()?.map(read_revision).transpose()
}

fn read_revision(row: &Row<'_>) -> Result<Revision, StoreError> {
    Ok(Revision {
        number: number(row.get(0)?)?,
        time_ms: number(row.get(1)?)?,
        author: row.get(2)?,
        message: row.get(3)?,
        source: row.get(4)?,
        digest: Digest(row.get(5)?),
        object_count: number(row.get(6)?)?,
    })
}

/// The objects of a revision, and the digests of their texts in the order of the keys.
fn read_objects(
    connection: &Connection,
    revision: &Revision,
) -> Result<(Objects, Vec<Digest>), StoreError> {
    let mut query = connection.prepare_cached(
        "SELECT kind, namespace, name, body FROM object JOIN text ON text.id = object.text
         WHERE since <= ?1 AND until > ?1",
    )?;
    let mut rows = query.query([sql(revision.number)])?;
    let mut objects = Objects::new();
    while let Some(row) = rows.next()? {
        let key = Key { kind: row.get(0)?, namespace: row.get(1)?, name: row.get(2)? };
        let text: Arc<str> = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?.into();
        objects.insert(key, text);
    }
    let digests: Vec<Digest> = objects.values().map(|text| Digest::of_text(text)).collect();
    let found = Digest::of_set(objects.keys().zip(digests.iter().copied()));
    if found != revision.digest {
        return Err(StoreError::digest_differs(revision.number, revision.digest, found));
    }
    Ok((objects, digests))
}

/// SQLite's integers have a sign. No number that the store makes comes near the end of them.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(sql: i64) -> Result<u64, StoreError> {
    u64::try_from(sql).map_err(|_| StoreError::damaged(format!("a negative number: {sql}")))
}
