//! What `-f` names: files, folders, stdin.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use lateen_control::api::messages::FileText;
use lateen_control::limits::FILE_BYTES_MAX;
use lateen_control::source::folder;

use crate::problem::Problem;

/// Reads all of them, in their order.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<FileText>, Problem> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            // One byte more than is taken: enough to be told that it is too much.
            let limited = io::stdin().take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
            limited.map_err(|error| Problem::new(format_args!("stdin: {error}")))?;
            files.push(text("stdin".to_owned(), bytes)?);
        } else if path.is_dir() {
            files.extend(read_folder(path)?);
        } else {
            let bytes = fs::read(path)
                .map_err(|error| Problem::new(format_args!("{}: {error}", path.display())))?;
            files.push(text(path.display().to_string(), bytes)?);
        }
    }
    Ok(files)
}

fn read_folder(path: &Path) -> Result<Vec<FileText>, Problem> {
    let files = folder::read(path).map_err(Problem::new)?;
    if files.is_empty() {
        let message = format!("{} has no files that end in .yaml, .yml or .json", path.display());
        return Err(Problem::new(message).with_help("folders in it are not looked into"));
    }
    let named = files.into_iter().map(|file| {
        let name = path.join(file.name).display().to_string();
        FileText { name, text: file.text }
    });
    Ok(named.collect())
}

fn text(name: String, bytes: Vec<u8>) -> Result<FileText, Problem> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(FileText { name, text }),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            Err(Problem::new(format_args!("{name} is not UTF-8 text: byte {at} is wrong")))
        }
    }
}
