//! The control plane as it runs: one owner of all that changes.
//!
//! Before: a folder's files or orders of the [`api`](crate::api), and answers of DNS. After: the store
//! has what was accepted, and the proxies what should run. In reading order:
//!
//! 1. [`run`]: starts everything, and ends it.
//! 2. [`control`]: the owner: what becomes of a change. [`order`]: how one asks it,
//!    and [`names`]: how one names an object.
//! 3. [`intent`]: a set of objects, and [`text`] as the store keeps it.
//! 4. [`plan`]: a set compiled for each proxy, checked before it is accepted.
//! 5. [`overrides`]: what operators ordered of what runs, beside what is declared.
//! 6. [`remembered`]: the last answers of DNS, for the next start.
//! 7. [`preview`]: what would change for which proxy, pure.
//! 8. [`view`]: what operators see of all this; [`refusal`]: why something was not done.
//! 9. [`author`]: who made a change.

pub mod run;
pub mod order;
pub mod names;
pub mod control;
pub mod intent;
pub mod text;
pub mod plan;
pub mod overrides;
pub mod remembered;
pub mod preview;
pub mod view;
pub mod refusal;
pub mod author;
