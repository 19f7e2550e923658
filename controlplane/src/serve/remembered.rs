//! The last answers of DNS, kept on the disk: a control plane that starts while DNS is down must not
//! take the endpoints of its proxies away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::resolver::Addresses;
use crate::resolver::answers::Known;

/// Where they are, in the folder of the state.
pub const FILE_NAME: &str = "addresses.json";

/// The last answer for each name.
#[derive(Debug, Default)]
pub struct Remembered {
    path: PathBuf,
    answers: BTreeMap<Arc<str>, Arc<[IpAddr]>>,
}

impl Remembered {
    /// Reads what the last run wrote. What cannot be read is as good as nothing: DNS is asked anyway.
    pub fn load(state: &Path) -> Self {
        let path = state.join(FILE_NAME);
        let read = fs::read(&path).and_then(|bytes| {
            let answers: BTreeMap<String, Vec<IpAddr>> =
                serde_json::from_slice(&bytes).map_err(io::Error::other)?;
            Ok(answers
                .into_iter()
                .map(|(name, addresses)| (name.into(), addresses.into()))
                .collect())
        });
        let answers = read.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "no DNS answers of the last run");
            }
            BTreeMap::new()
        });
        Self { path, answers }
    }

    /// Whether there is an answer for this name.
    pub fn has(&self, name: &str) -> bool {
        self.answers.contains_key(name)
    }

    /// What DNS says, and where it says nothing, what it said last.
    pub fn beside(&self, known: &Addresses) -> Addresses {
        let mut all: Addresses = self
            .answers
            .iter()
            .map(|(name, addresses)| {
                (name.clone(), Known { addresses: Some(addresses.clone()), problem: None })
            })
            .collect();
        for (name, known) in known {
            let of_name = all.entry(name.clone()).or_default();
            let addresses = known.addresses.clone().or_else(|| of_name.addresses.take());
            *of_name = Known { addresses, problem: known.problem.clone() };
        }
        all
    }

    /// Notes what DNS says of the names that are wanted, and writes it if that is new. Blocks.
    pub fn note(&mut self, known: &Addresses, wanted: &BTreeSet<Arc<str>>) {
        let mut answers = self.answers.clone();
        answers.retain(|name, _| wanted.contains(name));
        for (name, known) in known.iter().filter(|(name, _)| wanted.contains(*name)) {
            if let Some(addresses) = &known.addresses {
                answers.insert(name.clone(), addresses.clone());
            }
        }
        if answers == self.answers {
            return;
        }
        self.answers = answers;
        if let Err(error) = self.write() {
            tracing::warn!(path = %self.path.display(), %error, "DNS answers are not kept for the next start");
        }
    }

    fn write(&self) -> io::Result<()> {
        let answers: BTreeMap<&str, &[IpAddr]> =
            self.answers.iter().map(|(name, addresses)| (&**name, &**addresses)).collect();
        let beside = self.path.with_extension("json.new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(&answers)?)?;
        file.sync_data()?;
        fs::rename(beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(address: Option<[u8; 4]>, problem: Option<&str>) -> Known {
        let addresses = address.map(|address| Arc::from([IpAddr::from(address)]));
        Known { addresses, problem: problem.map(str::to_owned) }
    }

    #[test]
    fn an_answer_outlives_the_process_and_is_used_while_dns_is_down() {
        let state = tempfile::tempdir().expect("there is room");
        let wanted: BTreeSet<Arc<str>> = ["a".into(), "b".into()].into();
        let mut first = Remembered::load(state.path());
        let said = Addresses::from([
            ("a".into(), known(Some([10, 0, 0, 1]), None)),
            ("b".into(), known(None, Some("down"))),
            ("gone".into(), known(Some([10, 0, 0, 9]), None)),
        ]);
        first.note(&said, &wanted);

        let second = Remembered::load(state.path());
        assert!(second.has("a") && !second.has("b") && !second.has("gone"));
        let down = Addresses::from([("a".into(), known(None, Some("down")))]);
        assert_eq!(second.beside(&down)["a"], known(Some([10, 0, 0, 1]), Some("down")));
        let moved = Addresses::from([("a".into(), known(Some([10, 0, 0, 2]), None))]);
        assert_eq!(second.beside(&moved)["a"], known(Some([10, 0, 0, 2]), None));
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let state = tempfile::tempdir().expect("there is room");
        fs::write(state.path().join(FILE_NAME), "{").expect("there is room");
        let remembered = Remembered::load(state.path());
        assert_eq!(remembered.beside(&Addresses::new()), Addresses::new());
    }
}
