//! What changes a store's file: groups of writes, and chores between them. The thread that does so is in [`super::threads`].

use rusqlite::{Connection, TransactionBehavior};

use super::{
    chores::{self, Purging},
    error::Fault,
    group::{Group, Outcome},
    rows::Totals,
};
use crate::results::{Retention, backend::Write};
use crate::wire::StoreRefusal;

/// Writes a store's file.
pub(super) struct Writer {
    connection: Connection,
    retention: Retention,
    totals: Totals,
    /// Why no new jobs are taken, if that is so.
    refusal: Option<String>,
    /// To how many pages the file may grow, as on a disk that is full then; 0: without end.
    #[cfg(test)]
    pub pages_max: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

impl Writer {
    pub fn new(connection: Connection, retention: Retention) -> Result<Self, Fault> {
        let totals = Totals::load(&connection)?;
        Ok(Self {
            connection,
            retention,
            totals,
            refusal: None,
            #[cfg(test)]
            pages_max: std::sync::Arc::default(),
        })
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether more is kept than is to be.
    pub fn is_over(&self) -> bool {
        self.totals.bytes > self.retention.bytes
    }

    /// Keeps all of them, or none. They are on disk when this returns.
    pub fn commit<'w>(&mut self, writes: impl Iterator<Item = &'w Write>, now_us: u64) -> Result<Vec<Outcome>, Fault> {
        #[cfg(test)]
        self.limit_pages();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut group = Group::new(&transaction, self.totals, now_us, self.refusal.as_deref());
        let outcomes = writes.map(|write| group.apply(write)).collect::<Result<Vec<_>, _>>()?;
        let totals = group.finish()?;
        transaction.commit()?;
        self.totals = totals;
        Ok(outcomes)
    }

    /// Does a part of a purge. Returns the answer once it is done.
    pub fn purge(&mut self, purging: &mut Purging) -> Result<Option<Result<u64, StoreRefusal>>, Fault> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut totals = self.totals;
        let answer = purging.step(&transaction, &mut totals)?;
        totals.write(&transaction)?;
        transaction.commit()?;
        self.totals = totals;
        Ok(answer)
    }

    /// Drops some of what is too old or too much. Returns whether there may be more of it.
    pub fn retain(&mut self, now_us: u64) -> Result<bool, Fault> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut totals = self.totals;
        let dropped = chores::retain(&transaction, &mut totals, &self.retention, now_us)?;
        totals.write(&transaction)?;
        transaction.commit()?;
        self.totals = totals;
        self.refusal = (self.is_over() && !dropped).then(|| {
            format!(
                "the result store holds {} MiB, more than the {} MiB that it may, and nobody has fetched them yet: fetch or purge \
                 results, or raise the store's bytes in config.toml",
                self.totals.bytes >> 20,
                self.retention.bytes >> 20
            )
        });
        Ok(dropped)
    }

    #[cfg(test)]
    fn limit_pages(&self) {
        let pages = self.pages_max.load(std::sync::atomic::Ordering::Relaxed);
        let pages = if pages == 0 { u32::MAX - 1 } else { pages };
        self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    }

    #[cfg(test)]
    pub fn pages(&self) -> u32 {
        self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    }
}
