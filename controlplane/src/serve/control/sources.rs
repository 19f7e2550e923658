//! What changes without an order: the folder's files, the answers of DNS, and the start itself.
//!
//! Before: a watch said that something is new. After: [`control`](super) takes it as it takes an order.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use tokio::time::Instant;

use super::{Control, RETRY};
use crate::language::diagnostic::{Diagnostic, Severity};
use crate::language::parse::Parsed;
use crate::serve::author;
use crate::serve::order::Done;
use crate::serve::refusal::Refusal;
use crate::serve::view::SourceRejection;
use crate::source::Reading;
use crate::source::folder::File;
use crate::status::UnixMs;
use crate::store::revision::Meta;

impl Control {
    /// What was live when the last run ended. Without anything accepted, nothing is published: proxies
    /// keep what they have.
    pub(super) async fn restore(&mut self) {
        let Some(latest) = self.latest.clone() else { return };
        let wanted = self.pinned.clone().unwrap_or_else(|| latest.clone());
        let content = match (wanted.content, self.pinned.is_some()) {
            (Ok(content), true) => Ok(content.pinned_beside(&latest.content.unwrap_or_default())),
            (content, _) => content,
        };
        let number = wanted.number;
        let restored = match content {
            Ok(content) => match self.plan(content).await {
                Ok(plan) => self.make_live(plan, number).await,
                Err(refusal) => Err(refusal),
            },
            Err(diagnostics) => Err(Refusal::Stored { number, diagnostics }),
        };
        if let Err(refusal) = restored {
            let problem = format!("revision {number} is not published: {refusal}");
            tracing::error!(revision = number, error = %refusal, "not published; proxies keep what they have");
            for diagnostic in refusal.diagnostics() {
                tracing::error!("{}", diagnostic.message);
            }
            self.parts.view.send_modify(|view| view.problem = Some(problem));
        }
    }

    pub(super) async fn take_reading(&mut self, reading: Reading) {
        let Some(folder) = self.parts.folder.clone() else { return };
        let taken = match reading {
            None => return,
            Some(Err(error)) => Err((error.to_string(), Vec::new())),
            Some(Ok(files)) => match self.take_files(folder, files).await {
                Ok(done) => Ok(Some(done)),
                // The files are right: the rest has been said, and is tried again.
                Err(Refusal::NotPublished { .. }) => Ok(None),
                Err(refusal) => {
                    if matches!(refusal, Refusal::Store(_)) {
                        self.read_again = Some(Instant::now() + RETRY);
                    }
                    Err((refusal.to_string(), refusal.diagnostics().to_vec()))
                }
            },
        };
        match &taken {
            Ok(Some(Done { revision, is_new: true, is_live, .. })) => {
                tracing::info!(revision, is_live, "the folder's files were accepted");
            }
            Ok(_) => {}
            Err((reason, diagnostics)) => {
                tracing::warn!(
                    reason,
                    "the folder's files are not accepted; what was accepted last stays"
                );
                for diagnostic in diagnostics {
                    let place = diagnostic.place.as_ref().map(ToString::to_string);
                    tracing::warn!(place, "{}", diagnostic.message);
                }
            }
        }
        self.parts.view.send_modify(|view| {
            view.source.rejection = taken.err().map(|(reason, diagnostics)| SourceRejection {
                reason,
                diagnostics: diagnostics.iter().map(Diagnostic::report).collect(),
                since: UnixMs::now(),
            });
        });
    }

    pub(super) async fn take_files(
        &mut self,
        folder: PathBuf,
        files: Arc<[File]>,
    ) -> Result<Done, Refusal> {
        let mut cache = std::mem::take(&mut self.cache);
        let reading = spawn_blocking(move || {
            // Called by their whole names, as one would open them.
            let names = files.iter().map(|file| folder.join(&file.name).display().to_string());
            let names: Vec<String> = names.collect();
            let texts = files.iter().map(|file| &*file.text);
            let (parsed, content) = cache.parse(names.iter().map(|name| &**name).zip(texts));
            let author = author::of_folder(&folder, files.iter().map(|file| &*file.name));
            (cache, parsed, content, author, format!("files {}", folder.display()))
        });
        let (cache, parsed, content, author, source) =
            reading.await.expect("reading does not panic");
        self.cache = cache;
        let Parsed { diagnostics, .. } = parsed;
        if diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            return Err(Refusal::Declared(diagnostics));
        }
        // Files that are gone, or not there yet, must not take everything from every proxy.
        if content.objects.is_empty() {
            return Err(Refusal::Nothing);
        }
        let meta = Meta { time_ms: UnixMs::now().0, author, message: String::new(), source };
        self.take(content, meta, None, false).await
    }
}
