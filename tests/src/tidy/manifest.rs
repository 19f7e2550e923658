//! Checks on `Cargo.toml` and `Cargo.lock`: versions and lints are in a workspace's root only.

/// The roots of the two workspaces: the product's, and that of the reference programs.
const ROOTS: &[&str] = &["Cargo.toml", "perf/Cargo.toml"];

/// Complaints about one `Cargo.toml`.
pub fn check(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut section = "";
    let mut lints = false;
    let mut sections_without_workspace: Vec<&str> = Vec::new();
    let is_root = ROOTS.contains(&path);
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
            if dependency_of_its_own(section) {
                sections_without_workspace.push(section);
            }
            if !is_root && section.starts_with("lints.") {
                complaints.push(format!("{path}: [{section}]: lints are set in the root"));
            }
            continue;
        }
        let inherits = line.contains("workspace = true");
        if inherits && dependency_of_its_own(section) {
            sections_without_workspace.pop();
        }
        if section == "lints" && inherits {
            lints = true;
        }
        if is_dependency_list(section) && !inherits {
            complaints.push(format!("{path}: `{line}`: name it with `workspace = true`"));
        }
        if section == "package" && line.starts_with("version") && !inherits {
            complaints.push(format!("{path}: `{line}`: the version is the workspace's"));
        }
    }
    for section in sections_without_workspace {
        complaints.push(format!("{path}: [{section}]: name it with `workspace = true`"));
    }
    if !is_root && !lints {
        complaints.push(format!("{path}: no `[lints]` with `workspace = true`"));
    }
    complaints
}

/// Complaints about a `Cargo.lock`: every package comes from the one registry or from this tree.
/// Which registry, `deny.toml` has `cargo deny` check.
pub fn check_lock(path: &str, text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .filter(|source| !source.trim_matches('"').starts_with("registry+"))
        .map(|source| format!("{path}: {source}: not from the registry"))
        .collect()
}

/// `[dependencies]`, `[dev-dependencies]`, `[target.'…'.dependencies]`, but not the root's list.
fn is_dependency_list(section: &str) -> bool {
    section.ends_with("dependencies") && !section.starts_with("workspace")
}

/// `[dependencies.name]`
fn dependency_of_its_own(section: &str) -> bool {
    section.rsplit_once('.').is_some_and(|(list, _)| is_dependency_list(list))
        && !section.ends_with("dependencies")
}
