//! Finds the programs that belong to this test run, building them where they are stale.
//!
//! Cargo tells a test where its own package's binaries are, but not those of another package. So
//! the first test that asks runs `cargo build` for the same target folder and profile, which costs
//! little when nothing changed. `LATEEN_PROXY`, `LATEEN` and `LATEEN_BENCH` name finished binaries
//! instead.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Path of the proxy's binary.
///
/// # Panics
/// When it does not build, or `LATEEN_PROXY` names no file: the message says which.
pub fn proxy() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("lateen-proxy", "LATEEN_PROXY"))
}

/// Path of the CLI's binary.
///
/// # Panics
/// When it does not build, or `LATEEN` names no file: the message says which.
pub fn lateen() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("lateen", "LATEEN"))
}

/// Path of the measuring tool's binary.
///
/// # Panics
/// When it does not build, or `LATEEN_BENCH` names no file: the message says which.
pub fn bench() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| find("lateen-bench", "LATEEN_BENCH"))
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests' folder has a parent")
}

fn find(program: &str, variable: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(path) => given(path.into(), variable),
        None => build(program),
    }
}

fn given(path: PathBuf, variable: &str) -> PathBuf {
    // Cargo runs tests in the folder of their package; a relative path means the repository's root.
    let path = repository().join(path);
    assert!(path.is_file(), "{variable}: {} is not there", path.display());
    path
}

fn build(program: &str) -> PathBuf {
    let test = env::current_exe().expect("a test knows its own path");
    // <target>/<profile's folder>/deps/<test>
    let folder = test.ancestors().nth(2).expect("tests lie two folders deep");
    let target = folder.parent().expect("the profile's folder lies in the target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "test",
        Some(name) => name,
        None => panic!("{} is not in a target folder", test.display()),
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--workspace", "--bin", program, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{program} does not build, so there is nothing to test:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let path = folder.join(program);
    assert!(path.is_file(), "cargo built {program}, but not as {}", path.display());
    path
}
