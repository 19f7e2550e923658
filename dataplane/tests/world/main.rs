//! The proxy in small simulated worlds, each drawn from a seed: a few clients, a few upstreams, a
//! network, and what can go wrong with each; a judge checks every byte and every end.
//!
//! `LATEEN_SEED=n` runs one seed and prints what happens in it; `LATEEN_SEEDS=n` says how many run.
//! Half of them are the same in every run, half are fresh; a failure names its seed.

#![expect(clippy::print_stdout, reason = "a run prints its table, a failing seed its history")]

mod run;
mod topology;
mod case;
mod message;
mod malformed;
mod client;
mod reading;
mod upstream;
mod tunnel;
mod oracle;
mod wire;
mod pattern;
mod dice;
mod seeds;
mod plants;
