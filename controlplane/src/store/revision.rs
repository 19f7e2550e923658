//! What the store holds: sets of objects, each accepted as one revision. Plain values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::store::error::StoreError;
use crate::store::limits;

/// What one object is called. Two objects of a set never have the same. A clone shares the texts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Such as `HTTPRoute`.
    pub kind: Arc<str>,
    /// Empty for a kind without.
    pub namespace: Arc<str>,
    /// Within both.
    pub name: Arc<str>,
}

impl Key {
    /// A key of these parts.
    pub fn new(
        kind: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
    ) -> Self {
        Self { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

/// `kind/namespace/name`
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// All objects of a revision with their texts, in the order of their keys. A clone shares the texts.
pub type Objects = BTreeMap<Key, Arc<str>>;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of one object's text.
    pub fn of_text(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Of a set, from its keys in ascending order and the digests of their texts. Each part of a key
    /// goes in with its length (u64, little endian) before it, so that no two sets read alike.
    pub fn of_set<'a>(objects: impl Iterator<Item = (&'a Key, Self)>) -> Self {
        let mut hash = Sha256::new();
        for (key, text) in objects {
            for part in [&key.kind, &key.namespace, &key.name] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
            hash.update(text.0);
        }
        Self(hash.finalize().into())
    }

    /// Of a set with its texts. Hashes all of them.
    pub fn of_objects(objects: &Objects) -> Self {
        Self::of_set(objects.iter().map(|(key, text)| (key, Self::of_text(text))))
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        let is_right = digits.len() == 64
            && bytes.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| {
                let value = |digit: u8| char::from(digit).to_digit(16);
                match (value(pair[0]), value(pair[1])) {
                    (Some(high), Some(low)) => {
                        *byte = (high << 4 | low) as u8;
                        true
                    }
                    _ => false,
                }
            });
        match is_right {
            true => Ok(Self(bytes)),
            false => Err(serde::de::Error::custom("a digest is 64 hexadecimal digits")),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How a revision came to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who.
    pub author: String,
    /// Why, in their words; may be empty.
    pub message: String,
    /// By which way: `apply`, `files DIR`, `restore of 17`, …
    pub source: String,
}

/// One accepted revision, without its objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// From 1, only up; a number is never used twice.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// Who.
    pub author: String,
    /// Why, in their words; may be empty.
    pub message: String,
    /// By which way.
    pub source: String,
    /// [`Digest::of_set`] of its objects.
    pub digest: Digest,
    /// How many objects it has.
    pub object_count: u64,
}

/// What became of a set that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored under this number.
    New(u64),
    /// It is what the latest revision, of this number, already says.
    Unchanged(u64),
}

impl Accepted {
    /// The revision that says what was handed in.
    pub const fn number(self) -> u64 {
        match self {
            Self::New(number) | Self::Unchanged(number) => number,
        }
    }
}

/// Refuses what is past the [`limits`].
///
/// # Errors
/// [`StoreError::TooLarge`], the caller's fault.
pub fn check(objects: &Objects, meta: &Meta) -> Result<(), StoreError> {
    let bound = |what: &dyn Fn() -> String, size: usize, max: usize| {
        if size <= max { Ok(()) } else { Err(StoreError::TooLarge { what: what(), size, max }) }
    };
    bound(&|| "the author".into(), meta.author.len(), limits::AUTHOR_BYTES_MAX)?;
    bound(&|| "the message".into(), meta.message.len(), limits::MESSAGE_BYTES_MAX)?;
    bound(&|| "the source".into(), meta.source.len(), limits::SOURCE_BYTES_MAX)?;
    bound(&|| "the set of objects".into(), objects.len(), limits::OBJECTS_MAX)?;
    let mut bytes = 0;
    for (key, text) in objects {
        for part in [&key.kind, &key.namespace, &key.name] {
            bound(&|| format!("the key {key}"), part.len(), limits::KEY_PART_BYTES_MAX)?;
            bytes += part.len();
        }
        bound(&|| format!("the text of {key}"), text.len(), limits::TEXT_BYTES_MAX)?;
        bytes += text.len();
    }
    bound(&|| "the revision".into(), bytes, limits::REVISION_BYTES_MAX)
}
