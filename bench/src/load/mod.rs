//! The load generator: makes requests as fast as answers come (closed loop) or at a constant rate
//! (open loop), and says what came back and when.
//!
//! 1. [`arguments`]: what can be asked for. `target`, `plan`: what of it makes sense.
//! 2. [`run`]: the command. `worker`: one of its threads.
//! 3. `schedule`: when a request is due. `watch`: when its answer is.
//! 4. `connect`, `connection`, `answer`: a request's way there and back.
//! 5. `tally`: what a thread counts. `percentiles`, [`summary`], `show`: what is told of it.
//! 6. `output`: the files that it goes to. `barrier`: where a staged load waits.
//!
//! `--staged`, which the help doesn't tell, is for tools that measure something else before and after
//! the load, without the connecting. The load then
//!
//! 1. opens all its connections, and does the warm-up: for the time that `--warmup` asks for, and
//!    without it one request on each connection if a number of requests is asked for;
//! 2. prints `ready`, and waits for a line on stdin;
//! 3. makes the requests that count, and awaits their answers;
//! 4. prints `done`, and waits for a line on stdin, its connections still open;
//! 5. prints what it always prints.
//!
//! A connection that could not be made is tried again in 3, and its errors count there. With
//! `--no-keepalive` there is nothing to open in 1, and nothing is open in 4.

pub mod arguments;
mod target;
mod plan;
pub mod run;
mod worker;
mod schedule;
mod watch;
mod barrier;
mod connect;
mod connection;
mod answer;
mod tally;
mod percentiles;
pub mod summary;
mod show;
mod output;
