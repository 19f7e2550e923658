//! Why the control plane does not do what it was asked for.

use std::path::PathBuf;

use crate::language::diagnostic::Diagnostic;
use crate::serve::overrides::refusal::OrderRefusal;
use crate::store::error::StoreError;

/// Why something was not done. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What was declared is wrong; the caller's fault.
    #[error("{}", what_is_wrong(.0))]
    Declared(Vec<Diagnostic>),
    /// What an earlier release stored is wrong for this one.
    #[error("revision {number} is not what this release takes")]
    Stored {
        /// Which revision.
        number: u64,
        /// What is wrong with it.
        diagnostics: Vec<Diagnostic>,
    },
    /// A snapshot that no proxy would take, such as one past a bound.
    #[error("proxy {proxy} could not run it: {why}")]
    Snapshot {
        /// Whose.
        proxy: String,
        /// What is wrong with it.
        why: String,
    },
    /// A folder is the source.
    #[error("this control plane takes its config from the files of {}", folder.display())]
    FolderIsSource {
        /// Which.
        folder: PathBuf,
    },
    /// No object has that name.
    #[error("there is no {wanted}{}", elsewhere(.others))]
    NoSuchObject {
        /// What was asked for.
        wanted: String,
        /// What has the same kind and name in other namespaces.
        others: Vec<String>,
    },
    /// More than one kind has that name.
    #[error("there are several: {}", .0.join(", "))]
    Ambiguous(Vec<String>),
    /// No kind has that name.
    #[error("there is no kind {0}")]
    NoSuchKind(String),
    /// It was accepted, and proxies could not be told.
    #[error("it was stored as revision {number}, and is not published yet: {cause}")]
    NotPublished {
        /// Under which number.
        number: u64,
        /// Why not.
        cause: Box<Refusal>,
    },
    /// It was accepted under a pin, and what flows past the pin does not fit what is pinned.
    #[error(
        "it was stored as revision {number}; its endpoints can't run beside revision {pinned}, which a \
         rollback holds: {cause}"
    )]
    Held {
        /// Under which number.
        number: u64,
        /// What is pinned.
        pinned: u64,
        /// What is wrong with both together.
        cause: Box<Refusal>,
    },
    /// An operator's order can't be.
    #[error(transparent)]
    Order(#[from] OrderRefusal),
    /// An order was taken, and proxies could not be told.
    #[error("the order is kept, and is not published yet: {cause}")]
    OrderNotPublished {
        /// Why not.
        cause: Box<Refusal>,
    },
    /// Nothing was declared.
    #[error("no object is declared in what was given")]
    Nothing,
    /// A rollback before anything was accepted, and the like.
    #[error("nothing was accepted yet")]
    Empty,
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The control plane ends.
    #[error("the control plane is shutting down")]
    Stopping,
}

impl Refusal {
    /// All that is wrong with what was declared.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Declared(diagnostics) | Self::Stored { diagnostics, .. } => diagnostics,
            Self::NotPublished { cause, .. }
            | Self::Held { cause, .. }
            | Self::OrderNotPublished { cause } => cause.diagnostics(),
            _ => &[],
        }
    }

    /// What to do about it, where that is not plain.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::FolderIsSource { folder } => format!(
                "change the files in {}, they are read at once; `lateen rollback N` and \
                 `lateen resume` work here too; without `--config` the store is the source and \
                 `apply` writes to it",
                folder.display()
            ),
            Self::NoSuchObject { others, .. } if !others.is_empty() => {
                "say which namespace is meant with `-n NAMESPACE`".to_owned()
            }
            Self::NoSuchObject { .. } => "`lateen get` lists what there is".to_owned(),
            Self::Ambiguous(_) => {
                "say which one, as `service.lateen.dev/NAME` or `service.core/NAME`".to_owned()
            }
            Self::NoSuchKind(_) => {
                let kinds = crate::language::object::ObjectKind::ALL.map(|kind| kind.name());
                let mut kinds = kinds.to_vec();
                kinds.sort_unstable();
                kinds.dedup();
                format!("kinds are {}", kinds.join(", "))
            }
            Self::Order(refusal) => return refusal.help(),
            Self::NotPublished { .. } | Self::OrderNotPublished { .. } => {
                "it is tried again every few seconds; `lateen status` shows what comes of it"
                    .to_owned()
            }
            Self::Held { .. } => "`lateen resume` makes the latest revision live".to_owned(),
            Self::Store(StoreError::Conflict { .. }) => {
                "`lateen history` and `lateen diff` show what was changed meanwhile".to_owned()
            }
            Self::Store(StoreError::NoSuchRevision { .. }) => {
                "`lateen history` lists the revisions that are kept".to_owned()
            }
            _ => return None,
        })
    }
}

fn what_is_wrong(diagnostics: &[Diagnostic]) -> String {
    use crate::language::diagnostic::Severity;
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    match errors {
        1 => "1 error: nothing was changed".to_owned(),
        errors => format!("{errors} errors: nothing was changed"),
    }
}

fn elsewhere(others: &[String]) -> String {
    match others {
        [] => String::new(),
        others => format!("; there is {}", others.join(", ")),
    }
}
