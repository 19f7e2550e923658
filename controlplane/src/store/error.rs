//! Why the store did not do what it was asked for.

use std::io;
use std::path::PathBuf;

use crate::store::revision::Digest;

/// Why the store did not do what it was asked for. Nothing of the order was done then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The machine's fault.
    #[error("{}: {cause}", path.display())]
    Io {
        /// What was tried on.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Someone else has it open.
    #[error(
        "{} is in use by {}; one control plane owns a store: stop that one, or give this one a --state of its own",
        path.display(), owner.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The store.
        path: PathBuf,
        /// Who said so in the lock file.
        owner: Option<u32>,
    },
    /// A later release wrote it.
    #[error(
        "{} has schema version {found}, and this release knows up to {known}: run the release that wrote it, or a later one; nothing was changed",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The latest that this program knows.
        known: i64,
    },
    /// A sound database, but of something else.
    #[error("{} is a database of another program, not a store of Lateen's; nothing was changed", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// What the disk gives back is not what was written.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Where it showed.
        what: String,
    },
    /// Never accepted, or dropped since.
    #[error("no revision {number} in the store{}", kept(*oldest, *latest))]
    NoSuchRevision {
        /// What was asked for.
        number: u64,
        /// The first that is kept; 0: none.
        oldest: u64,
        /// The last; 0: none.
        latest: u64,
    },
    /// Someone else was faster.
    #[error(
        "the latest revision is {current}, not {expected}: look at what changed, then try again"
    )]
    Conflict {
        /// What the caller took for the latest; 0: none.
        expected: u64,
        /// What is; 0: none.
        current: u64,
    },
    /// Past a bound of [`limits`](crate::store::limits).
    #[error("{what} is {size} long or many, and the store takes at most {max}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// How large.
        size: usize,
        /// How large it may be.
        max: usize,
    },
    /// Anything else that SQLite says: a full disk, an I/O error.
    #[error("the store cannot be read or written: {0}")]
    Database(rusqlite::Error),
    /// The store's thread has ended.
    #[error("the store has stopped")]
    Stopped,
}

fn kept(oldest: u64, latest: u64) -> String {
    match latest {
        0 => ": it is empty".to_owned(),
        _ => format!(": it keeps some of {oldest} to {latest}"),
    }
}

impl StoreError {
    /// That a revision's objects do not hash to what was noted when it was accepted.
    pub(crate) fn digest_differs(number: u64, noted: Digest, found: Digest) -> Self {
        Self::damaged(format!("revision {number} was {noted} when stored and is {found} now"))
    }

    pub(crate) const fn damaged(what: String) -> Self {
        Self::Damaged { what }
    }
}

/// SQLite's word for damage, whichever way it shows, becomes [`StoreError::Damaged`].
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        use rusqlite::ErrorCode;
        match &error {
            E::SqliteFailure(failure, _) | E::SqlInputError { error: failure, .. } => {
                match failure.code {
                    ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    // Rows that break what the schema promises, or a schema that is not the one
                    // that its version promises.
                    | ErrorCode::ConstraintViolation
                    | ErrorCode::TypeMismatch
                    | ErrorCode::Unknown => Self::damaged(error.to_string()),
                    _ => Self::Database(error),
                }
            }
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::Utf8Error(..)
            | E::InvalidColumnType(..)
            | E::InvalidColumnIndex(_)
            | E::InvalidColumnName(_)
            | E::QueryReturnedNoRows
            | E::QueryReturnedMoreThanOneRow
            | E::StatementChangedRows(_) => Self::damaged(error.to_string()),
            _ => Self::Database(error),
        }
    }
}
