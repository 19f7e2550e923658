//! What the proxy tells of itself: metrics, access log, the admin endpoint. Nothing here decides
//! what happens to a request, and nothing here makes a worker wait.

pub mod counter;
pub mod metrics;
mod metrics_text;
mod process;
pub mod json;
pub mod request_id;
pub mod access_log;
pub mod access_log_writer;
pub mod lifecycle;
pub mod admin;
