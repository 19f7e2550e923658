//! `lateen demo`: the mesh at work on one machine, in real processes, under load.
//!
//! ```text
//! client ── edge ── sidecar ─ service1 ─ sidecar ── sidecar ─ service2
//!             └───────┴──── control plane ──┴─────────┘
//! ```
//!
//! Before: flags. After: an exit code, and nothing that was started is left. In reading order:
//!
//! 1. [`run`]: the conductor, from the first process to the summary.
//! 2. [`plan`]: who takes part, and on which ports. [`config`]: the same as files.
//! 3. [`scene`]: the processes of all, and their folder. [`process`]: one of them.
//! 4. [`app`]: the built-in service. [`load`]: the client that counts. [`http1`]: what both speak.
//! 5. [`acts`]: what is shown, on a [`stage`]. [`control`]: how the control plane is asked.
//! 6. [`narration`]: what one sees, with [`figures`] from the proxies' metrics. [`summary`]: the end.
//! 7. [`problem`]: why it could not go on.

pub(crate) mod run;
mod plan;
mod config;
mod scene;
pub(crate) mod process;
pub(crate) mod app;
mod load;
mod http1;
mod stage;
mod acts;
mod control;
mod narration;
mod figures;
mod summary;
mod problem;
