//! The tables, and how an older file comes to have them. A migration that has shipped never changes.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::error::StoreError;

/// In the file's header: "LTEN". Tells a store from any other SQLite file.
pub(super) const APPLICATION_ID: i64 = 0x4c54_454e;

/// `until` of an object that is still in the latest revision.
pub(super) const STILL_THERE: i64 = i64::MAX;

/// Migration `n` leads from version `n` (`user_version`) to `n + 1`.
pub(super) const MIGRATIONS: &[&str] = &[
    // An object's text is in every revision from `since` up to but not including `until`, so that a
    // revision costs as many rows as it changes, and not as many as it has objects.
    "CREATE TABLE text (
        id INTEGER PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
        body TEXT NOT NULL
    ) STRICT;
    CREATE TABLE revision (
        number INTEGER PRIMARY KEY CHECK (number > 0),
        time_ms INTEGER NOT NULL,
        author TEXT NOT NULL,
        message TEXT NOT NULL,
        source TEXT NOT NULL,
        digest BLOB NOT NULL CHECK (length(digest) = 32),
        object_count INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE object (
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL CHECK (until > since),
        text INTEGER NOT NULL REFERENCES text (id),
        PRIMARY KEY (kind, namespace, name, since)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX object_by_until ON object (until);
    CREATE INDEX object_by_text ON object (text);
    CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        id INTEGER NOT NULL CHECK (id != 0),
        epoch_leased INTEGER NOT NULL,
        pinned INTEGER REFERENCES revision (number)
    ) STRICT;
    INSERT INTO store (one, id, epoch_leased) SELECT 1, CASE r WHEN 0 THEN 1 ELSE r END, 0
        FROM (SELECT random() AS r);",
    // What operators have ordered of what runs: `said` is the language's business, as objects are.
    "CREATE TABLE operator_order (
        target TEXT PRIMARY KEY,
        said TEXT NOT NULL,
        author TEXT NOT NULL,
        message TEXT NOT NULL,
        since_ms INTEGER NOT NULL,
        until_ms INTEGER
    ) STRICT, WITHOUT ROWID;",
];

/// Takes the file from its version to the latest, each step whole or not at all.
///
/// # Errors
/// SQLite's. What was reached until then stays.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    let version = version(connection)?;
    for (index, step) in steps.iter().enumerate().skip(usize::try_from(version).unwrap_or(0)) {
        let step_in = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step_in.execute_batch(step)?;
        step_in.pragma_update(None, "user_version", index as i64 + 1)?;
        step_in.pragma_update(None, "application_id", APPLICATION_ID)?;
        step_in.commit()?;
    }
    Ok(())
}

/// How many migrations the file has seen.
pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrates_from_each_version_once() {
        let steps = ["CREATE TABLE a (x) STRICT", "CREATE TABLE b (x)", "INSERT INTO b VALUES (1)"];
        let steps = [&steps[0].replace("(x)", "(x INTEGER)"), steps[1], steps[2]];
        for start in 0..=steps.len() {
            let mut connection = Connection::open_in_memory().expect("memory is there");
            migrate(&mut connection, &steps[..start]).expect("the steps are sound");
            migrate(&mut connection, &steps).expect("the steps are sound");
            migrate(&mut connection, &steps).expect("nothing is left to do");
            let rows: i64 = connection
                .query_row("SELECT count(*) FROM b", [], |row| row.get(0))
                .expect("the table is there");
            assert_eq!((version(&connection).expect("it has one"), rows), (3, 1));
        }
    }

    #[test]
    fn leaves_nothing_of_a_migration_that_fails() {
        let mut connection = Connection::open_in_memory().expect("memory is there");
        let steps = ["CREATE TABLE a (x)", "CREATE TABLE b (x); SELECT no_such_thing"];
        migrate(&mut connection, &steps).expect_err("the second step is wrong");
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .expect("it can be read");
        assert_eq!((version(&connection).expect("it has one"), tables), (1, 1));
    }

    #[test]
    fn gives_each_new_store_an_id_of_its_own() {
        let id = || -> i64 {
            let mut connection = Connection::open_in_memory().expect("memory is there");
            migrate(&mut connection, MIGRATIONS).expect("the steps are sound");
            connection.query_row("SELECT id FROM store", [], |row| row.get(0)).expect("one row")
        };
        assert_ne!(id(), id());
    }
}
