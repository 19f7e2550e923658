//! The last good snapshot on disk: what a proxy begins with when the control plane is not there.
//!
//! Before: every worker switched to it. After: the next start of the process. Written to a file beside
//! it, flushed, then renamed, so that there is always a whole one; an unreadable one is set aside and
//! said, never run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use lateen_snapshot::encoding::{DecodeError, decode_with};
use lateen_snapshot::limits::ENCODED_BYTES_MAX;
use lateen_snapshot::model::{Epoch, Snapshot};
use lateen_snapshot::validate::patterns::Patterns;

const NAME: &str = "snapshot";
const NAME_WHILE_WRITTEN: &str = "snapshot.new";
const NAME_OF_UNREADABLE: &str = "snapshot.unreadable";

/// Why the folder can't be used, or what is in it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder or file can't be read or made.
    #[error("{0}")]
    System(#[from] io::Error),
    /// The file is no snapshot; it was set aside.
    #[error("{NAME} is no snapshot ({0}); it was renamed to {NAME_OF_UNREADABLE}")]
    Unreadable(DecodeError),
}

/// Reads the last good snapshot, its regular expressions into `patterns`; `None`: there is none yet.
/// Makes the folder.
///
/// # Errors
/// [`LoadError`]; the proxy can begin without.
pub fn load(
    folder: &Path,
    patterns: &mut Patterns,
) -> Result<Option<(Epoch, Snapshot)>, LoadError> {
    fs::create_dir_all(folder)?;
    let path = folder.join(NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    // One more than allowed shows that it is too long.
    file.take(ENCODED_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    match decode_with(&bytes, patterns) {
        Ok((epoch, _, snapshot)) => Ok(Some((epoch, snapshot))),
        Err(error) => {
            fs::rename(&path, folder.join(NAME_OF_UNREADABLE))?;
            Err(LoadError::Unreadable(error))
        }
    }
}

/// Replaces the last good snapshot.
///
/// # Errors
/// Of the disk; the one before it is still there.
pub fn save(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = folder.join(NAME_WHILE_WRITTEN);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&new, folder.join(NAME))?;
    // The rename is durable once the folder is.
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use lateen_snapshot::encoding::{VERSION, encode};

    use super::*;

    fn encoded(number: u64) -> Vec<u8> {
        let epoch = Epoch { store: 9, number };
        encode(epoch, &Snapshot::default(), VERSION).expect("an empty one is valid").bytes
    }

    fn number(folder: &Path) -> Option<u64> {
        load(folder, &mut Patterns::default()).expect("readable").map(|(epoch, _)| epoch.number)
    }

    #[test]
    fn the_last_one_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path().join("made/here");
        assert_eq!(number(&folder), None);
        for expected in [1, 2] {
            save(&folder, &encoded(expected)).expect("saved");
            assert_eq!(number(&folder), Some(expected));
        }
    }

    #[test]
    fn a_write_that_was_cut_off_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        save(folder.path(), &encoded(1)).expect("saved");
        fs::write(folder.path().join(NAME_WHILE_WRITTEN), &encoded(2)[..20]).expect("written");
        assert_eq!(number(folder.path()), Some(1));
    }

    #[test]
    fn a_damaged_one_is_set_aside_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut bytes = encoded(1);
        bytes[20] ^= 1;
        save(folder.path(), &bytes).expect("saved");
        let error =
            load(folder.path(), &mut Patterns::default()).expect_err("a bit is wrong").to_string();
        assert!(error.contains(NAME_OF_UNREADABLE), "{error}");
        assert_eq!(number(folder.path()), None, "the next start has none");
        assert!(folder.path().join(NAME_OF_UNREADABLE).exists());
    }
}
