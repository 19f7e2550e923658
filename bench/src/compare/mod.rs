//! Compares proxies on one machine: `lateen-bench compare`.
//!
//! In the order in which a comparison meets them:
//!
//! - `arguments` says what was asked for, and `plan` makes peers and rows of it: `scenarios` are the
//!   rows, `peers` the proxies with their configs;
//! - `machine` describes the machine, `placement` divides its CPUs, `counters` says what can be counted;
//! - `run` takes the rows one after the other and writes what they found;
//! - `lanes` puts an upstream, a proxy and its CPUs in place: `start` and `processes` start and end
//!   programs, `generator` the load and the upstream, `answer` tells that a proxy works;
//! - `closed`, `rates`, `memory` and `change` are the ways in which a row is measured;
//! - `sample` takes one figure, with `usage` for what was used and `disturbance` for what else ran;
//! - `progress` and `outcome` tell people about it.
//!
//! It judges nothing: that is for `statistics` and the report, from the file.

pub mod arguments;
pub mod plan;
pub mod scenarios;
pub mod peers;
pub mod machine;
pub mod placement;
pub mod counters;
pub mod run;
pub mod lanes;
pub mod start;
pub mod processes;
pub mod interrupt;
pub mod generator;
pub mod answer;
pub mod sample;
pub mod usage;
pub mod disturbance;
pub mod closed;
pub mod rates;
pub mod memory;
pub mod change;
pub mod progress;
pub mod outcome;
