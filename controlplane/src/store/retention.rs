//! Which revisions stay, and how one goes with all that only it needed.

use rusqlite::{Transaction, params};

use crate::store::database::{number, sql};
use crate::store::error::StoreError;
use crate::store::limits;

/// Which revisions stay. The latest and the pinned one stay whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// No more than this many.
    pub count: usize,
    /// None that is older than this, in milliseconds; `None`: age does not matter.
    pub age_ms: Option<u64>,
    /// While more bytes of the file than this are in use, the oldest goes.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { count: limits::REVISIONS_KEPT, age_ms: None, bytes: limits::STORE_BYTES_KEPT }
    }
}

/// Drops what need not stay, oldest first. Returns how many revisions went.
///
/// # Errors
/// SQLite's; the caller's transaction is void then.
pub(super) fn prune(
    step: &Transaction<'_>,
    retention: Retention,
    keep: [u64; 2],
    now_ms: u64,
) -> Result<usize, StoreError> {
    let left: i64 =
        step.prepare_cached("SELECT count(*) FROM revision")?.query_row([], |row| row.get(0))?;
    let mut left = number(left)?;
    let mut dropped = 0;
    while let Some(oldest) = oldest_but(step, keep)? {
        let too_old =
            retention.age_ms.is_some_and(|age| oldest.time_ms < now_ms.saturating_sub(age));
        if left <= retention.count as u64 && !too_old && bytes_in_use(step)? <= retention.bytes {
            break;
        }
        drop_revision(step, oldest.number)?;
        left -= 1;
        dropped += 1;
    }
    Ok(dropped)
}

struct Oldest {
    number: u64,
    time_ms: u64,
}

fn oldest_but(step: &Transaction<'_>, keep: [u64; 2]) -> Result<Option<Oldest>, StoreError> {
    let mut query = step.prepare_cached(
        "SELECT number, time_ms FROM revision WHERE number NOT IN (?1, ?2) ORDER BY number LIMIT 1",
    )?;
    let mut rows = query.query(params![sql(keep[0]), sql(keep[1])])?;
    match rows.next()? {
        Some(row) => {
            Ok(Some(Oldest { number: number(row.get(0)?)?, time_ms: number(row.get(1)?)? }))
        }
        None => Ok(None),
    }
}

fn bytes_in_use(step: &Transaction<'_>) -> Result<u64, StoreError> {
    let value = |name: &str| -> Result<u64, StoreError> {
        number(step.pragma_query_value(None, name, |row| row.get(0))?)
    };
    Ok((value("page_count")?.saturating_sub(value("freelist_count")?)) * value("page_size")?)
}

/// An object's row goes when no revision that stays lies within it; a text when no row refers to it.
/// There is always a later revision: the latest stays.
fn drop_revision(step: &Transaction<'_>, gone: u64) -> Result<(), StoreError> {
    let gone = sql(gone);
    let (before, after): (i64, i64) = step
        .prepare_cached(
            "SELECT coalesce((SELECT max(number) FROM revision WHERE number < ?1), 0),
                    (SELECT min(number) FROM revision WHERE number > ?1)",
        )?
        .query_row([gone], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let within = params![gone, after, before];
    let texts: Vec<i64> = step
        .prepare_cached(
            "SELECT DISTINCT text FROM object WHERE until > ?1 AND until <= ?2 AND since > ?3",
        )?
        .query_map(within, |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    step.prepare_cached("DELETE FROM object WHERE until > ?1 AND until <= ?2 AND since > ?3")?
        .execute(within)?;
    let mut forget = step.prepare_cached(
        "DELETE FROM text WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM object WHERE text = ?1)",
    )?;
    for text in texts {
        forget.execute([text])?;
    }
    step.prepare_cached("DELETE FROM revision WHERE number = ?1")?.execute([gone])?;
    Ok(())
}
