//! One reading of the folder.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files of a folder; what they declare is bounded by the store.
pub const FILES_MAX: usize = 10_000;

/// Bytes of all files together: what a revision may have at most.
pub const BYTES_MAX: u64 = crate::store::limits::REVISION_BYTES_MAX as u64;

/// How often a reading is begun again because the files changed under it.
const TRIES_MAX: u32 = 5;

/// Where a ConfigMap's files are while it is mounted; its files are links through this one.
const SWAPPED_LINK: &str = "..data";

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// One file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name within the folder.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// Why the folder's files cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The system says no.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The folder, or the file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A file's name or text is not UTF-8.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// More than [`FILES_MAX`].
    #[error("{} has more than {FILES_MAX} YAML and JSON files", folder.display())]
    TooMany {
        /// The folder.
        folder: PathBuf,
    },
    /// More than [`BYTES_MAX`].
    #[error("the YAML and JSON files of {} have more than {BYTES_MAX} bytes", folder.display())]
    TooLarge {
        /// The folder.
        folder: PathBuf,
    },
    /// It was never quiet for long enough.
    #[error("the files of {} changed each of the {TRIES_MAX} times they were read", folder.display())]
    Restless {
        /// The folder.
        folder: PathBuf,
    },
}

/// Reads the files of `folder` that end in `.yaml`, `.yml` or `.json` and do not begin with a dot, in
/// the order of their names. Folders in it are left alone. All of one ConfigMap's files are of one
/// version of it. Blocks.
///
/// # Errors
/// What keeps any one of them from being read: half a config is none.
pub fn read(folder: &Path) -> Result<Vec<File>, SourceError> {
    for _ in 0..TRIES_MAX {
        let before = fs::read_link(folder.join(SWAPPED_LINK)).ok();
        let files = read_once(folder)?;
        let after = fs::read_link(folder.join(SWAPPED_LINK)).ok();
        if let Some(files) = files.filter(|_| before == after) {
            return Ok(files);
        }
    }
    Err(SourceError::Restless { folder: folder.to_owned() })
}

/// What the name of the folder leads to now: device and inode. `None`: nothing.
pub(super) fn identity(folder: &Path) -> Option<(u64, u64)> {
    fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()))
}

/// `None`: a file went away meanwhile.
fn read_once(folder: &Path) -> Result<Option<Vec<File>>, SourceError> {
    let mut left = BYTES_MAX;
    let mut files = Vec::new();
    for name in names(folder)? {
        let path = folder.join(&name);
        let mut bytes = Vec::new();
        match read_file(&path, left + 1, &mut bytes) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_dangling(&path) => {
                return Ok(None);
            }
            Err(error) => return Err(unreadable(&path, &error)),
        }
        left = left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| SourceError::TooLarge { folder: folder.to_owned() })?;
        let text = String::from_utf8(bytes).map_err(|_| SourceError::NotText { path })?;
        files.push(File { name, text });
    }
    Ok(Some(files))
}

fn names(folder: &Path) -> Result<Vec<String>, SourceError> {
    let unreadable = |error| unreadable(folder, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let ending = Path::new(&name).extension().and_then(|ending| ending.to_str());
        if !ending.is_some_and(|ending| ENDINGS.contains(&ending))
            || name.as_encoded_bytes().starts_with(b".")
        {
            continue;
        }
        if names.len() == FILES_MAX {
            return Err(SourceError::TooMany { folder: folder.to_owned() });
        }
        let name =
            name.into_string().map_err(|name| SourceError::NotText { path: folder.join(name) })?;
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

/// At most `bytes_max` bytes of a file; `false`: it is none, but a folder, a pipe or the like.
fn read_file(path: &Path, bytes_max: u64, bytes: &mut Vec<u8>) -> io::Result<bool> {
    // Looked at first: to open a pipe would wait for whoever writes into it.
    if !fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    fs::File::open(path)?.take(bytes_max).read_to_end(bytes)?;
    Ok(true)
}

/// A link that leads nowhere, as opposed to a file that is gone.
fn is_dangling(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok() && fs::metadata(path).is_err()
}

fn unreadable(path: &Path, error: &io::Error) -> SourceError {
    SourceError::Unreadable { path: path.to_owned(), why: error.to_string() }
}
