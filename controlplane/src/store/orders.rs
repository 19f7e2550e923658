//! What operators have ordered of what runs: kept beside the revisions, and no part of any.
//!
//! Before: the owner of the control plane took an order. After: the next run has it still. What an order is
//! about and what it says are texts here; their meaning is others' business.

use rusqlite::{Row, params};

use crate::store::database::Store;
use crate::store::error::StoreError;
use crate::store::limits;

/// An order, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    /// What it is about; there is one about each.
    pub target: String,
    /// What it says.
    pub said: String,
    /// Who gave it.
    pub author: String,
    /// Why, in their words.
    pub message: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: Option<u64>,
}

impl Store {
    /// All orders, the oldest first.
    ///
    /// # Errors
    /// The machine's.
    pub fn orders(&self) -> Result<Vec<StoredOrder>, StoreError> {
        let mut query = self.connection().prepare_cached(
            "SELECT target, said, author, message, since_ms, until_ms FROM operator_order
             ORDER BY since_ms, target",
        )?;
        let mut rows = query.query([])?;
        let mut orders = Vec::new();
        while let Some(row) = rows.next()? {
            orders.push(read_order(row)?);
        }
        Ok(orders)
    }

    /// Takes the orders about these targets out, and puts one in; both or neither. On the disk when it
    /// returns.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`]; the machine's.
    pub fn change_orders(
        &mut self,
        gone: &[String],
        new: Option<&StoredOrder>,
    ) -> Result<(), StoreError> {
        if let Some(order) = new {
            check(order)?;
        }
        let step = self.begin()?;
        for target in gone {
            step.prepare_cached("DELETE FROM operator_order WHERE target = ?1")?
                .execute([target])?;
        }
        if let Some(StoredOrder { target, said, author, message, since_ms, until_ms }) = new {
            step.prepare_cached(
                "INSERT OR REPLACE INTO operator_order VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                target,
                said,
                author,
                message,
                since_ms.cast_signed(),
                until_ms.map(u64::cast_signed)
            ])?;
        }
        Ok(step.commit()?)
    }
}

fn check(order: &StoredOrder) -> Result<(), StoreError> {
    let bounds = [
        ("what the order is about", &order.target, limits::ORDER_TEXT_BYTES_MAX),
        ("the order", &order.said, limits::ORDER_TEXT_BYTES_MAX),
        ("the author", &order.author, limits::AUTHOR_BYTES_MAX),
        ("the message", &order.message, limits::MESSAGE_BYTES_MAX),
    ];
    match bounds.into_iter().find(|(_, text, max)| text.len() > *max) {
        None => Ok(()),
        Some((what, text, max)) => {
            Err(StoreError::TooLarge { what: what.to_owned(), size: text.len(), max })
        }
    }
}

fn read_order(row: &Row<'_>) -> Result<StoredOrder, StoreError> {
    let time = |ms: i64| {
        u64::try_from(ms).map_err(|_| StoreError::damaged(format!("an order is of the time {ms}")))
    };
    Ok(StoredOrder {
        target: row.get(0)?,
        said: row.get(1)?,
        author: row.get(2)?,
        message: row.get(3)?,
        since_ms: time(row.get(4)?)?,
        until_ms: row.get::<_, Option<i64>>(5)?.map(time).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::open;
    use crate::store::retention::Retention;

    fn order(target: &str, since_ms: u64) -> StoredOrder {
        StoredOrder {
            target: target.to_owned(),
            said: "{}".to_owned(),
            author: "ann".to_owned(),
            message: String::new(),
            since_ms,
            until_ms: since_ms.is_multiple_of(2).then_some(since_ms + 1),
        }
    }

    #[test]
    fn orders_outlive_the_process_and_change_as_one() {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("s.db");
        let reopen = || open(&path, Retention::default(), 0).expect("it opens").store;
        let mut store = reopen();
        assert_eq!(store.orders().expect("it reads"), []);
        let (one, two, three) = (order("b", 1), order("a", 2), order("c", 3));
        for new in [&one, &two] {
            store.change_orders(&[], Some(new)).expect("it is kept");
        }
        drop(store);
        let mut store = reopen();
        assert_eq!(store.orders().expect("it reads"), [one.clone(), two.clone()]);
        let gone = ["a".to_owned(), "no such".to_owned()];
        store.change_orders(&gone, Some(&three)).expect("it is kept");
        let later = StoredOrder { since_ms: 9, ..one };
        store.change_orders(&[], Some(&later)).expect("it takes the place");
        assert_eq!(store.orders().expect("it reads"), [three.clone(), later.clone()]);
        let long = "x".repeat(limits::MESSAGE_BYTES_MAX + 1);
        let wrong = StoredOrder { message: long, ..order("d", 4) };
        let error = store.change_orders(&["c".to_owned()], Some(&wrong)).expect_err("too long");
        assert!(error.to_string().contains("the message is 16385 long"), "{error}");
        assert_eq!(store.orders().expect("it reads"), [three, later], "nothing of it was done");
    }
}
