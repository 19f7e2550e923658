//! A snapshot as bytes: the same on the socket and in a proxy's copy on disk.
//!
//! ```text
//! magic      8   "lateen\0s"
//! version    2   of everything that follows, little-endian as all numbers here
//! length     8   of the payload
//! store      8   ┐ the epoch
//! number     8   ┘
//! digest    32   SHA-256 of the payload
//! check      8   the first bytes of the SHA-256 of all of the above
//! payload        the snapshot, by postcard
//! ```
//!
//! Before: the control plane compiled a snapshot, or a proxy received bytes. After: bytes, or a
//! snapshot that [`validate`](crate::validate::validate) passed. The digest says whether two
//! snapshots of one version are the same, whatever their epochs; together with the check it notices
//! any byte that changed on the way or on the disk. It is no signature.
//!
//! # How a version is introduced
//!
//! The bytes of version N are what postcard makes of the structs of that version; any change to a
//! field, its type or its place changes them. [`model`](crate::model) is always the newest version.
//! To introduce version N + 1:
//!
//! 1. `model` as it is freezes: a copy becomes the module `encoding::vN`, of plain structs and
//!    nothing else, with `From<vN::Snapshot> for model::Snapshot` (what is new gets the value under
//!    which a proxy behaves as before) and `TryFrom<&model::Snapshot> for vN::Snapshot` (refused,
//!    naming the feature, if the snapshot uses what version N can't say: an old proxy must not run
//!    on half of a policy).
//! 2. `model` changes, [`VERSION`] becomes N + 1, and [`VERSIONS_READABLE`] and
//!    [`VERSIONS_WRITABLE`] are N and N + 1. `decode` and `encode` get an arm for N in their `match`.
//! 3. `vN−1` goes. The golden bytes of version N in this module's tests stay until version N goes.
//!
//! A proxy's Hello says which versions it reads, and [`version_for`] chooses among them: so a new
//! control plane feeds old proxies, and a new proxy reads its old copy on disk.

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::budget::{Unread, deserialize_within};
use crate::limits::{DECODED_BYTES_MAX, ENCODED_BYTES_MAX};
use crate::model::{Epoch, Snapshot};
use crate::validate::patterns::Patterns;
use crate::validate::{Invalid, Origin, validate_with};

/// The version that [`model`](crate::model) is.
pub const VERSION: u16 = 1;
/// The versions that this build decodes.
pub const VERSIONS_READABLE: RangeInclusive<u16> = 1..=VERSION;
/// The versions that this build encodes.
pub const VERSIONS_WRITABLE: RangeInclusive<u16> = 1..=VERSION;

const MAGIC: &[u8; 8] = b"lateen\0s";
const CHECKED_BYTES: usize = 8 + 2 + 8 + 8 + 8 + 32;
const CHECK_BYTES: usize = 8;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = CHECKED_BYTES + CHECK_BYTES;

/// SHA-256 of a snapshot's payload.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    fn of(payload: &[u8]) -> Self {
        Self(Sha256::digest(payload).into())
    }
}

/// In hexadecimal.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A snapshot as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Header and payload.
    pub bytes: Vec<u8>,
    /// Which state this is.
    pub epoch: Epoch,
    /// Of the payload.
    pub digest: Digest,
}

/// Why a snapshot can't be written; the fault of whoever asks.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Not a version of this build.
    #[error(
        "snapshots of version {version} can't be written, only versions {} to {}",
        VERSIONS_WRITABLE.start(), VERSIONS_WRITABLE.end()
    )]
    Version {
        /// The one asked for.
        version: u16,
    },
    /// A config from flags is not handed on.
    #[error("a snapshot without the epoch of a store can't be written")]
    NoEpoch,
    /// Past [`ENCODED_BYTES_MAX`].
    #[error("the snapshot takes {bytes} bytes, {ENCODED_BYTES_MAX} are allowed")]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
}

/// Why bytes are no snapshot; the fault of whoever wrote or changed them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even the beginning of one.
    #[error("not a snapshot: it does not begin with the magic bytes of one")]
    Magic,
    /// Of another version of Lateen.
    #[error(
        "the snapshot has version {version}, this build reads versions {} to {}",
        VERSIONS_READABLE.start(), VERSIONS_READABLE.end()
    )]
    Version {
        /// What the bytes say.
        version: u16,
    },
    /// The end is missing, or something follows it.
    #[error("the snapshot should have {expected} bytes, it has {bytes}")]
    Length {
        /// By the header; or the header's own length.
        expected: u64,
        /// What there is.
        bytes: usize,
    },
    /// Some byte of the header changed.
    #[error("the snapshot's header is damaged")]
    Header,
    /// Past [`ENCODED_BYTES_MAX`].
    #[error("the snapshot takes {bytes} bytes, {ENCODED_BYTES_MAX} are allowed")]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
    /// It says that it comes from no store.
    #[error("the snapshot has no epoch of a store")]
    NoEpoch,
    /// Some byte of the payload changed.
    #[error("the snapshot is damaged: its digest is {actual}, its header says {expected}")]
    Digest {
        /// By the header.
        expected: Digest,
        /// Of what is there.
        actual: Digest,
    },
    /// Whole, but not a snapshot of its version.
    #[error("the snapshot can't be decoded: {0}")]
    Payload(postcard::Error),
    /// Whole, but something follows it that is not of its version.
    #[error("the snapshot can't be decoded: {bytes} bytes follow what its version knows")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// Its values take more than [`DECODED_BYTES_MAX`].
    #[error("the snapshot can't be decoded: its values take more than {DECODED_BYTES_MAX} bytes")]
    Budget,
    /// Decoded, but not whole.
    #[error("the snapshot is not valid: {0}")]
    Invalid(#[from] Invalid),
}

/// The newest version that this build writes and a reader of `readable` understands.
pub fn version_for(readable: &RangeInclusive<u16>) -> Option<u16> {
    VERSIONS_WRITABLE.rev().find(|version| readable.contains(version))
}

/// Encodes a snapshot in the given version; see [`version_for`]. It does not validate.
pub fn encode(epoch: Epoch, snapshot: &Snapshot, version: u16) -> Result<Encoded, EncodeError> {
    if epoch.store == 0 || epoch.number == 0 {
        return Err(EncodeError::NoEpoch);
    }
    let header = vec![0; HEADER_BYTES];
    let mut bytes = match version {
        VERSION => postcard::to_extend(snapshot, header).expect("writing to memory can't fail"),
        _ => return Err(EncodeError::Version { version }),
    };
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(EncodeError::TooLarge { bytes: bytes.len() });
    }
    let digest = Digest::of(&bytes[HEADER_BYTES..]);
    let header =
        Header { version, payload_bytes: (bytes.len() - HEADER_BYTES) as u64, epoch, digest };
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Ok(Encoded { bytes, epoch, digest })
}

/// Decodes and validates a snapshot.
///
/// Cost: the snapshot's own memory, bounded by [`DECODED_BYTES_MAX`] beside its texts.
pub fn decode(bytes: &[u8]) -> Result<(Epoch, Digest, Snapshot), DecodeError> {
    decode_with(bytes, &mut Patterns::default())
}

/// The same for whoever needs the compiled patterns, or has them from the snapshot before.
pub fn decode_with(
    bytes: &[u8],
    patterns: &mut Patterns,
) -> Result<(Epoch, Digest, Snapshot), DecodeError> {
    if bytes.len() > ENCODED_BYTES_MAX {
        return Err(DecodeError::TooLarge { bytes: bytes.len() });
    }
    let header = Header::from_bytes(bytes)?;
    let payload = &bytes[HEADER_BYTES..];
    if payload.len() as u64 != header.payload_bytes {
        let expected = header.payload_bytes.saturating_add(HEADER_BYTES as u64);
        return Err(DecodeError::Length { expected, bytes: bytes.len() });
    }
    if header.epoch.store == 0 || header.epoch.number == 0 {
        return Err(DecodeError::NoEpoch);
    }
    let actual = Digest::of(payload);
    if actual != header.digest {
        return Err(DecodeError::Digest { expected: header.digest, actual });
    }
    let snapshot = match header.version {
        VERSION => decode_payload(payload)?,
        version => return Err(DecodeError::Version { version }),
    };
    validate_with(&snapshot, Origin::Store, patterns)?;
    Ok((header.epoch, header.digest, snapshot))
}

fn decode_payload(payload: &[u8]) -> Result<Snapshot, DecodeError> {
    let mut deserializer = postcard::Deserializer::from_bytes(payload);
    let snapshot = deserialize_within(&mut deserializer, DECODED_BYTES_MAX);
    let snapshot = snapshot.map_err(|unread| match unread {
        Unread::Budget => DecodeError::Budget,
        Unread::Format(error) => DecodeError::Payload(error),
    })?;
    match deserializer.finalize().map_err(DecodeError::Payload)? {
        [] => Ok(snapshot),
        trailing => Err(DecodeError::Trailing { bytes: trailing.len() }),
    }
}

struct Header {
    version: u16,
    payload_bytes: u64,
    epoch: Epoch,
    digest: Digest,
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let (checked, check) = bytes.split_at_mut(CHECKED_BYTES);
        checked[..8].copy_from_slice(MAGIC);
        checked[8..10].copy_from_slice(&self.version.to_le_bytes());
        checked[10..18].copy_from_slice(&self.payload_bytes.to_le_bytes());
        checked[18..26].copy_from_slice(&self.epoch.store.to_le_bytes());
        checked[26..34].copy_from_slice(&self.epoch.number.to_le_bytes());
        checked[34..].copy_from_slice(&self.digest.0);
        check.copy_from_slice(&check_of(checked));
        bytes
    }

    /// The version is looked at before anything behind it, which another version may lay out
    /// differently.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(DecodeError::Magic)?;
        let short = DecodeError::Length { expected: HEADER_BYTES as u64, bytes: bytes.len() };
        let Some((version, _)) = rest.split_first_chunk() else { return Err(short) };
        let version = u16::from_le_bytes(*version);
        if !VERSIONS_READABLE.contains(&version) {
            return Err(DecodeError::Version { version });
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(short) };
        let (checked, check) = header.split_at(CHECKED_BYTES);
        if check != check_of(checked) {
            return Err(DecodeError::Header);
        }
        let number = |at: usize| {
            let bytes = checked[at..].first_chunk().expect("the header has room for its numbers");
            u64::from_le_bytes(*bytes)
        };
        Ok(Self {
            version,
            payload_bytes: number(10),
            epoch: Epoch { store: number(18), number: number(26) },
            digest: Digest(*checked[34..].first_chunk().expect("the rest of the checked part")),
        })
    }
}

fn check_of(checked: &[u8]) -> [u8; CHECK_BYTES] {
    let Digest(whole) = Digest::of(checked);
    *whole.first_chunk().expect("a digest is longer than the check")
}
