//! The access log's thread: takes full buffers from the workers and writes them.
//!
//! Before: `access_log` collected lines on each worker. After: a file or standard output, and the
//! emptied buffers go back to the workers. The thread sleeps while there is nothing to write; a
//! slow or full disk blocks it alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, never, select};

use crate::bootstrap::config::AccessLogTarget;
use crate::limits;
use crate::observe::access_log::{AccessLogBuffer, Lines};
use crate::observe::metrics::Metrics;

/// The running access log, held by the main thread.
#[derive(Debug)]
pub struct AccessLog {
    to_writer: Sender<Lines>,
    recycled: Receiver<Vec<u8>>,
    reopen: Sender<()>,
    ended: Receiver<()>,
    metrics: Arc<Metrics>,
    thread: JoinHandle<()>,
}

/// The file could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the access log {path}: {cause}; give --access-log a file that can be written")]
pub struct OpenError {
    path: String,
    cause: io::Error,
}

impl AccessLog {
    /// Opens `target` and starts the writer's thread; `None` when the log is off.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be opened for appending.
    pub fn start(
        target: &AccessLogTarget,
        worker_count: usize,
        metrics: Arc<Metrics>,
    ) -> Result<Option<Self>, OpenError> {
        let output = match target {
            AccessLogTarget::Off => return Ok(None),
            AccessLogTarget::Stdout => Output::Stdout(io::stdout()),
            AccessLogTarget::File(path) => Output::open(path)?,
        };
        Ok(Some(Self::start_on(output, worker_count, metrics)))
    }

    fn start_on(output: Output, worker_count: usize, metrics: Arc<Metrics>) -> Self {
        let queue = limits::ACCESS_LOG_QUEUE_PER_WORKER * worker_count.max(1);
        let (to_writer, from_workers) = bounded(queue);
        let (recycle, recycled) = bounded(queue);
        let (reopen, reopened) = bounded(1);
        let (end, ended) = bounded(0);
        let mut writer = Writer {
            output,
            recycle,
            metrics: Arc::clone(&metrics),
            failing: false,
            line_is_broken: false,
        };
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                writer.run(&from_workers, reopened);
                drop(end);
            })
            .expect("a process that starts its workers next can start a thread");
        Self { to_writer, recycled, reopen, ended, metrics, thread }
    }

    /// The buffer of one worker; to be made once for each.
    pub fn buffer(&self, worker: usize) -> AccessLogBuffer {
        AccessLogBuffer::new(
            worker,
            self.to_writer.clone(),
            self.recycled.clone(),
            Arc::clone(&self.metrics),
        )
    }

    /// Has the file opened anew by its path (SIGUSR1, after a rename). Does not wait. When it
    /// cannot be opened the old one stays in use, and the log says so. Standard output stays as it
    /// is.
    pub fn reopen(&self) {
        match self.reopen.try_send(()) {
            // A request that still waits covers this one.
            Ok(()) | Err(TrySendError::Full(())) => {}
            Err(TrySendError::Disconnected(())) => tracing::error!("the access log's thread ended"),
        }
    }

    /// Waits until every line that was handed over is written, for at most `patience`. To be called
    /// when the workers have ended and their buffers are dropped. Returns whether all was written.
    pub fn close(self, patience: Duration) -> bool {
        let Self { to_writer, ended, thread, reopen, .. } = self;
        drop((to_writer, reopen));
        // Nothing is ever sent: the channel closes when the thread is done.
        let in_time = matches!(
            ended.recv_timeout(patience),
            Err(crossbeam_channel::RecvTimeoutError::Disconnected)
        );
        in_time && thread.join().is_ok()
    }
}

#[derive(Debug)]
enum Output {
    Stdout(io::Stdout),
    File {
        file: File,
        path: PathBuf,
    },
    /// Anything that can be written, for tests of slowness and failure.
    #[cfg(test)]
    Test(Box<dyn TestOutput>),
}

#[cfg(test)]
trait TestOutput: Write + Send + std::fmt::Debug {}

impl Output {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        match file {
            Ok(file) => Ok(Self::File { file, path: path.to_owned() }),
            Err(cause) => Err(OpenError { path: path.display().to_string(), cause }),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => {
                // One lock for both, or another writer's output could come between.
                let mut stdout = stdout.lock();
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File { file, .. } => file.write_all(bytes),
            #[cfg(test)]
            Self::Test(output) => output.write_all(bytes),
        }
    }
}

struct Writer {
    output: Output,
    recycle: Sender<Vec<u8>>,
    metrics: Arc<Metrics>,
    /// The last write failed: said once, not per buffer.
    failing: bool,
    /// A failed write may have left a part of a line behind.
    line_is_broken: bool,
}

impl Writer {
    /// Runs until every sender of lines is gone and the last line is written.
    fn run(&mut self, from_workers: &Receiver<Lines>, mut reopened: Receiver<()>) {
        loop {
            select! {
                recv(from_workers) -> lines => match lines {
                    Ok(lines) => self.write(lines),
                    Err(_) => return,
                },
                recv(reopened) -> request => match request {
                    Ok(()) => self.reopen(),
                    // The main thread let go; workers may still have lines.
                    Err(_) => reopened = never(),
                },
            }
        }
    }

    fn write(&mut self, lines: Lines) {
        match self.write_whole_lines(lines.bytes()) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.metrics.access_log_write_dropped.add(lines.count);
                if !self.failing {
                    tracing::error!(%error, "cannot write the access log; lines are dropped");
                }
                self.failing = true;
                self.line_is_broken = true;
            }
        }
        if let Some(memory) = lines.into_memory() {
            // No room means that enough buffers wait to be used again.
            let _ = self.recycle.try_send(memory);
        }
    }

    fn write_whole_lines(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.line_is_broken {
            self.output.write_all(b"\n")?;
            self.line_is_broken = false;
        }
        self.output.write_all(bytes)
    }

    fn reopen(&mut self) {
        let Output::File { path, .. } = &self.output else { return };
        match Output::open(path) {
            Ok(output) => {
                self.output = output;
                self.line_is_broken = false;
            }
            Err(error) => tracing::error!("{error}; the old file stays in use"),
        }
    }
}

#[cfg(test)]
#[path = "access_log_writer_tests.rs"]
mod tests;
