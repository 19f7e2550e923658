//! How a store is found, made, refused, or set aside.
//!
//! ```text
//! lock file ── taken ──► InUse
//!    │ ours
//!    ▼
//! no file, or an empty one ──► Created
//! another program's database ──► Foreign      a later schema ──► Newer      (both left as they are)
//! damaged ──► renamed to NAME.corrupt-TIME ──► SetAside, a new store with a new id
//! sound ──► migrated ──► Found
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::status::UnixMs;
use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::retention::Retention;
use crate::store::schema;

/// A store, and how it came.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// How it came; the operator should hear of anything but `Found`.
    pub how: How,
}

/// How a store came to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It was there, and sound.
    Found,
    /// There was none.
    Created,
    /// There was one, damaged; there is a new one now, with a new id and without revisions.
    SetAside {
        /// Where the damaged file is now.
        to: PathBuf,
        /// How the damage showed.
        why: String,
    },
}

/// Opens the store in the file `path`, whose folder must exist. Reads the whole file once to check it.
///
/// `now_ms`, in milliseconds since 1970, names a file that must be set aside.
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::Foreign`], and what the machine may
/// fail at. Damage is none: see [`How::SetAside`].
pub fn open(path: &Path, retention: Retention, now_ms: u64) -> Result<Opened, StoreError> {
    let lock = lock(path)?;
    let existed = fs::metadata(path).is_ok_and(|file| file.len() > 0);
    let (parts, how) = match connect(path).and_then(load) {
        Ok(parts) => (parts, if existed { How::Found } else { How::Created }),
        Err(StoreError::Damaged { what }) => {
            let to = set_aside(path, now_ms)?;
            (connect(path).and_then(load)?, How::SetAside { to, why: what })
        }
        Err(error) => return Err(error),
    };
    // A new file must be in its folder for good before anything in it is promised.
    sync_folder(path)?;
    Ok(Opened { store: Store::new(parts, retention, lock), how })
}

/// The lock is a file beside the store: it must be held before anything is known of the store, and
/// while a damaged one is renamed. It is never removed, or two processes could hold two of them.
fn lock(path: &Path) -> Result<File, StoreError> {
    let at = beside(path, ".lock");
    let io = |cause| StoreError::Io { path: at.clone(), cause };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&at)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // The owner writes its number after it has the lock: what is there may be old or half.
            let _ = Read::by_ref(&mut file).take(16).read_to_string(&mut owner);
            return Err(StoreError::InUse {
                path: path.to_owned(),
                owner: owner.trim().parse().ok(),
            });
        }
        Err(fs::TryLockError::Error(cause)) => return Err(io(cause)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(io)?;
    Ok(file)
}

/// A connection to a file that is a store of this version.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Made here, not by SQLite: what is declared may hold secrets, and its log gets the same mode.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| StoreError::Io { path: path.to_owned(), cause })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // Until it is known to be sound, closing it must not write into it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    // Before the first read: then the log's index is in memory and needs no third file.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    refuse_what_is_not_ours(&connection, path).map_err(|error| in_use(error, path))?;
    check(&connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Io {
            path: path.to_owned(),
            cause: io::Error::other(format!(
                "SQLite keeps its journal as {mode}, not as WAL, here"
            )),
        });
    }
    // Each commit waits for the disk: what was accepted survives a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    connection.set_prepared_statement_cache_capacity(32);
    schema::migrate(&mut connection, schema::MIGRATIONS)?;
    Ok(connection)
}

/// The log is cut back to this after a checkpoint; without it, it stays as long as it ever was.
const LOG_BYTES_KEPT: i64 = 16 * 1024 * 1024;

fn refuse_what_is_not_ours(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let found = schema::version(connection)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let known = schema::MIGRATIONS.len() as i64;
    match application {
        schema::APPLICATION_ID if found > known => {
            Err(StoreError::Newer { path: path.to_owned(), found, known })
        }
        schema::APPLICATION_ID if found < 1 => {
            Err(StoreError::damaged(format!("its schema version is {found}")))
        }
        schema::APPLICATION_ID => Ok(()),
        0 if found == 0 && tables == 0 => Ok(()),
        _ => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

/// A foreign tool holds SQLite's own lock, though nobody has ours.
fn in_use(error: StoreError, path: &Path) -> StoreError {
    match error {
        StoreError::Database(rusqlite::Error::SqliteFailure(failure, _))
            if failure.code == rusqlite::ErrorCode::DatabaseBusy =>
        {
            StoreError::InUse { path: path.to_owned(), owner: None }
        }
        error => error,
    }
}

/// Walks every page. Whether the texts are the ones that were stored, [`load`] checks by digest.
fn check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::damaged(verdict.replace('\n', " "))),
    }
}

fn load(connection: Connection) -> Result<crate::store::database::Parts, StoreError> {
    let parts = crate::store::database::load(connection)?;
    parts.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(parts)
}

/// Renames a damaged file and its log. The file goes first: a log that is left alone is dropped by
/// SQLite at the next start, a file that is left alone might look sound and lack what was in the log.
fn set_aside(path: &Path, now_ms: u64) -> Result<PathBuf, StoreError> {
    let stamp = format!(".corrupt-{}", stamp(now_ms));
    let to = (1..)
        .map(|n| if n == 1 { stamp.clone() } else { format!("{stamp}-{n}") })
        .map(|suffix| beside(path, &suffix))
        .find(|to| !to.exists())
        .expect("a folder does not have every name there is");
    let io = |cause| StoreError::Io { path: path.to_owned(), cause };
    fs::rename(path, &to).map_err(io)?;
    match fs::rename(beside(path, "-wal"), beside(&to, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    sync_folder(path)?;
    Ok(to)
}

fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|cause| StoreError::Io { path: folder.to_owned(), cause })
}

/// `path` with `suffix` at its end.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// `20260131T235959Z`
fn stamp(now_ms: u64) -> String {
    UnixMs(now_ms).to_string().replace(['-', ':'], "")
}
