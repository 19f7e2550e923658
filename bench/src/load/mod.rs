//! The load generator: makes requests as fast as answers come (closed loop) or at a constant rate
//! (open loop), and says what came back and when.
//!
//! 1. [`arguments`]: what can be asked for. `target`, `plan`: what of it makes sense.
//! 2. [`run`]: the command. `worker`: one of its threads.
//! 3. `schedule`: when a request is due. `watch`: when its answer is.
//! 4. `connect`, `connection`, `answer`: a request's way there and back.
//! 5. `tally`: what a thread counts. `percentiles`, [`summary`], `show`: what is told of it.

pub mod arguments;
mod target;
mod plan;
pub mod run;
mod worker;
mod schedule;
mod watch;
mod connect;
mod connection;
mod answer;
mod tally;
mod percentiles;
pub mod summary;
mod show;
mod output;
