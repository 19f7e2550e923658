//! The files that a result goes to. Opened before the load begins: an hour of load is not to end with
//! a path that can't be written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// One file, open and as it was before.
#[derive(Debug)]
pub(crate) struct Output {
    flag: &'static str,
    path: PathBuf,
    file: File,
}

impl Output {
    /// Opens the file that a flag names, and creates it if there is none.
    ///
    /// # Errors
    /// The user's to mend: the flag, the path, and what the system says.
    pub(crate) fn open(flag: &'static str, path: &Path) -> anyhow::Result<Self> {
        // What it holds is of use until there is something newer.
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.with_context(|| format!("{flag} {}", path.display()))?;
        Ok(Self { flag, path: path.to_owned(), file })
    }

    /// Replaces what the file held.
    ///
    /// # Errors
    /// The disk is full, or fails.
    pub(crate) fn write(mut self, text: &str) -> anyhow::Result<()> {
        let named = || format!("{} {}", self.flag, self.path.display());
        // Pipes and devices have no length.
        if self.file.metadata().with_context(named)?.is_file() {
            self.file.set_len(0).with_context(named)?;
        }
        self.file.write_all(text.as_bytes()).with_context(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_held_stays_until_there_is_something_newer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "older and longer").expect("written");
        let output = Output::open("--json", &path).expect("open");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "older and longer");
        output.write("newer").expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "newer");
        Output::open("--json", Path::new("/dev/null")).expect("open").write("x").expect("gone");
        let error = Output::open("--json", folder.path()).expect_err("a folder");
        assert!(format!("{error:#}").starts_with("--json "), "{error:#}");
    }
}
