//! The declared files of one folder, read whole whenever they change.
//!
//! Before: someone's editor, or the kubelet, which swaps a link named `..data` under the files of a
//! ConfigMap. After: the language, which gets names and texts. The folder itself is watched, because
//! files that are replaced by a rename are other files afterwards. Nothing here knows what a file says.

pub mod folder;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::source::folder::{File, SourceError, read};

/// What was read last: the files in the order of their names, or why there are none to be had.
/// `None`: nothing was read yet.
pub type Reading = Option<Result<Arc<[File]>, SourceError>>;

/// Nothing must have changed for this long before the folder is read: whoever writes several files
/// should be done.
const QUIET: Duration = Duration::from_millis(50);

/// But a folder that never rests is read this long after it first moved.
const QUIET_WAITED_MAX: Duration = Duration::from_millis(500);

/// The folder is looked at this often even if nothing is said to have changed: network file systems say
/// nothing, and neither does a file elsewhere that a link of this folder leads to.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The same while it cannot be read, or is not watched; and whether its name leads elsewhere.
const LOOK_AGAIN_FAILING: Duration = Duration::from_secs(1);

/// Reads `folder` now and after every change, and tells `readings` when what it says is not what was
/// told last. Ends when nobody receives any more.
pub async fn run(folder: PathBuf, readings: watch::Sender<Reading>) {
    // One wake is enough: all that came before a reading is in it.
    let (wake, mut wakes) = mpsc::channel(1);
    let mut watched: Option<Watched> = None;
    loop {
        // Watched before it is read, so that what changes in between is seen.
        let identity = folder::identity(&folder);
        if watched.as_ref().is_none_or(|watched| Some(watched.identity) != identity) {
            watched = identity.and_then(|identity| {
                Some(Watched { _watcher: begin(&folder, wake.clone())?, identity })
            });
        }
        let reading = read_aside(folder.clone()).await;
        let look_again = match (&reading, &watched) {
            (Ok(_), Some(_)) => LOOK_AGAIN,
            _ => LOOK_AGAIN_FAILING,
        };
        readings.send_if_modified(|told| {
            let is_new = told.as_ref() != Some(&reading);
            if is_new {
                *told = Some(reading);
            }
            is_new
        });
        tokio::select! {
            () = readings.closed() => return,
            _ = timeout(look_again, wakes.recv()) => {}
            () = leads_elsewhere(&folder, identity) => {}
        }
        settle(&mut wakes).await;
    }
}

/// Where the folder's own name is a link, nobody is told that it leads elsewhere.
async fn leads_elsewhere(folder: &Path, identity: Option<(u64, u64)>) {
    while folder::identity(folder) == identity {
        sleep(LOOK_AGAIN_FAILING).await;
    }
}

/// The kernel watches what the name led to when it was asked; `identity` says what that was.
struct Watched {
    _watcher: RecommendedWatcher,
    identity: (u64, u64),
}

fn begin(folder: &Path, wake: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // An error may mean that events were lost: look.
        if event.map_or(true, |event| changes_something(event.kind)) {
            let _ = wake.try_send(());
        }
    });
    let begun = watcher.and_then(|mut watcher| {
        watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher)
    });
    // The reading says what is wrong with the folder; what is wrong with watching it is said here.
    begun
        .inspect_err(|error| {
            tracing::warn!(folder = %folder.display(), %error, "cannot be watched, is read every second");
        })
        .ok()
}

/// Reading is an event too; woken by it, this would never rest.
const fn changes_something(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if !matches!(access, AccessKind::Close(AccessMode::Write)))
}

async fn settle(wakes: &mut mpsc::Receiver<()>) {
    let end = Instant::now() + QUIET_WAITED_MAX;
    while let Ok(Some(())) = timeout_at(end.min(Instant::now() + QUIET), wakes.recv()).await {}
}

/// Files are read on a thread that may wait for the disk.
async fn read_aside(folder: PathBuf) -> Result<Arc<[File]>, SourceError> {
    tokio::task::spawn_blocking(move || read(&folder).map(Arc::from))
        .await
        .expect("reading does not panic, and the runtime is there while this runs on it")
}
