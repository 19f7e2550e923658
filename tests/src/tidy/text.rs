//! Checks on any text file, and on the shape of the tree.

/// Top-level folders; those that begin with a dot are allowed as well.
const FOLDERS: &[&str] = &["bench", "controlplane", "dataplane", "deploy", "perf", "tests"];

/// Endings of the files whose text is checked. The corpus of the fuzz targets is bytes, not text.
const ENDINGS: &[&str] = &["html", "json", "md", "py", "rs", "sh", "toml", "yaml", "yml"];

/// Paths that exist on one machine only. Written in halves: this file is checked as well.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// True for files whose text [`check`] should see.
pub fn is_checked(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ending =
        name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, ending)| ending);
    !path.contains("/__fuzz__/")
        && ending.map_or(name != "LICENSE", |ending| ENDINGS.contains(&ending))
}

/// Complaints about one text file.
pub fn check(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut complain =
            |what: &str| complaints.push(format!("{path}: line {}: {what}", index + 1));
        if line.ends_with(char::is_whitespace) {
            complain("whitespace at the end");
        }
        if line.contains('\t') {
            complain("a tab");
        }
        if let Some(found) = MACHINE_PATHS.iter().find(|banned| line.contains(*banned)) {
            complain(&format!("`{found}` is a path of one machine"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        complaints.push(format!("{path}: no newline at the end"));
    }
    complaints
}

/// Complaints about top-level folders that the design does not know.
pub fn check_folders(paths: &[String]) -> Vec<String> {
    let mut folders: Vec<&str> =
        paths.iter().filter_map(|path| path.split_once('/').map(|(folder, _)| folder)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders
        .iter()
        .filter(|folder| !folder.starts_with('.') && !FOLDERS.contains(folder))
        .map(|folder| format!("{folder}/: not a folder of this tree ({})", FOLDERS.join(", ")))
        .collect()
}
