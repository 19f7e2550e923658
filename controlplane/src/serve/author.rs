//! Who made a change, as far as the system knows.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::store::limits::AUTHOR_BYTES_MAX;

/// The name of a user of this machine; `uid 1000` if it has none.
pub fn of_uid(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// The owner of the file of a folder that was written last.
pub fn of_folder<'a>(folder: &Path, files: impl Iterator<Item = &'a str>) -> String {
    let newest = files
        .filter_map(|name| fs::metadata(folder.join(name)).ok())
        .max_by_key(|file| (file.mtime(), file.mtime_nsec()));
    match newest.or_else(|| fs::metadata(folder).ok()) {
        Some(file) => of_uid(file.uid()),
        None => "unknown".to_owned(),
    }
}

/// In the lines of passwd(5): `name:password:uid:…`
fn name_in(users: &str, uid: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| (1..=AUTHOR_BYTES_MAX).contains(&name.len()))?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_users_by_number() {
        let users = "root:x:0:0::/root:/bin/sh\n\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(name_in(users, 1000).as_deref(), Some("ann"));
        assert_eq!(name_in(users, 0).as_deref(), Some("root"));
        assert_eq!(name_in(users, 7), None);
        assert_eq!(of_uid(3_999_999_999), "uid 3999999999");
    }
}
