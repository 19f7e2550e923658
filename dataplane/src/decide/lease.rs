//! Shares of what the process may do as a whole, lent to workers in batches.
//!
//! Before: a policy limits a rate ([`rate`], [`keyed`]) or how much there is at a time ([`count`]); the
//! total is one for the process, whatever the number of workers. After: a worker spends what it was
//! lent, touching nothing that another worker touches, and comes for more when that is gone; what was
//! refused stays refused until it can't be refused any more, without asking again.
//!
//! Nothing here reads a clock or takes a lock: who holds a total puts it behind one, which is taken when
//! something is lent and never for what is spent or refused in between.

pub mod count;
pub mod keyed;
pub mod rate;

#[cfg(test)]
mod tests;
