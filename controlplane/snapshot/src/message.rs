//! What a proxy and its control plane say to each other.
//!
//! ```text
//! proxy                                control plane
//!   Hello ────────────────────────────▶  who I am, what I read, what I run on
//!   ◀──────────────── Welcome, or Refused and the end
//!   ◀──────────────────────────── Publish  a snapshot, inside or beside the message
//!   Applied, or Rejected ─────────────▶  by every worker, or by none
//!   …
//! ```
//!
//! Before: one side has something to say, or [`frame`](crate::frame) received a frame. After: a
//! frame, or a message within its bounds; whatever else arrives is an error and ends the connection.
//!
//! A message's kind is the frame's, its fields are postcard's. `Hello` begins with the protocol's
//! number and `Refused` never changes, so that two sides that don't understand each other can say so.
//! A new message gets a new kind; a changed one raises [`PROTOCOL`].

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::encoding::{DecodeError, Digest, Encoded, decode_with};
use crate::frame::Frame;
use crate::limits::*;
use crate::model::{Epoch, Snapshot};
use crate::sealed::{self, SealedError};
use crate::validate::patterns::Patterns;
use crate::validate::text::clip;

/// The number of this conversation.
pub const PROTOCOL: u16 = 1;

const HELLO: u8 = 1;
const APPLIED: u8 = 2;
const REJECTED: u8 = 3;
const WELCOME: u8 = 65;
const REFUSED: u8 = 66;
const PUBLISH: u8 = 67;

/// What a proxy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToControl {
    /// First of all.
    Hello(Hello),
    /// Every worker runs on that snapshot.
    Applied {
        /// Which.
        epoch: Epoch,
        /// How long it took each.
        workers: Vec<WorkerSwitch>,
    },
    /// No worker runs on that snapshot, all stay with what they had.
    Rejected {
        /// Which.
        epoch: Epoch,
        /// Why, for the operator.
        reason: String,
    },
}

/// Who a proxy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u16,
    /// The lowest and the highest version of a snapshot that it reads.
    pub snapshot_versions: (u16, u16),
    /// The `Proxy` object that it runs as.
    pub name: String,
    /// Of its program.
    pub program_version: String,
    /// Of its process, as it sees it.
    pub pid: u32,
    /// How many workers it has.
    pub workers: u32,
    /// What it runs on already, from its copy on disk or from before the connection broke.
    pub running: Option<Epoch>,
}

/// How long it took one worker to change to a snapshot, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSwitch {
    /// Building its own state beside the traffic.
    pub prepare_us: u32,
    /// From the commit until it ran on it.
    pub switch_us: u32,
}

/// What a control plane says.
#[derive(Debug)]
pub enum ToProxy {
    /// The answer to a Hello.
    Welcome {
        /// Of this control plane; see [`Epoch::store`].
        store: u64,
    },
    /// The other answer to a Hello; then the connection ends.
    Refused {
        /// Why, for the operator.
        reason: String,
    },
    /// Change to this snapshot.
    Publish(Publish),
}

/// A snapshot on its way.
#[derive(Debug)]
pub struct Publish {
    /// Which.
    pub epoch: Epoch,
    /// Of its payload.
    pub digest: Digest,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Inline(Vec<u8>),
    Sealed { memory: OwnedFd, bytes: u64 },
}

/// A snapshot that arrived whole.
#[derive(Debug)]
pub struct Arrived {
    /// Which.
    pub epoch: Epoch,
    /// Of its payload.
    pub digest: Digest,
    /// Valid.
    pub snapshot: Snapshot,
    /// What it was decoded from, for the copy on disk.
    pub bytes: Vec<u8>,
}

/// Why a snapshot that was published can't be used; the fault of the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ArriveError {
    /// Its bytes can't be had.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Its bytes are no snapshot.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is another one than the message says.
    #[error("snapshot {announced} was announced, snapshot {actual} came")]
    Mismatch {
        /// By the message.
        announced: Epoch,
        /// By the snapshot.
        actual: Epoch,
    },
    /// It has other content than the message says.
    #[error("snapshot {epoch} was announced with another digest than it came with")]
    Digest {
        /// By both.
        epoch: Epoch,
    },
}

/// Why a frame is no message, or a message no frame; the fault of whoever made it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not one that this side expects.
    #[error("a message of unknown kind {kind}")]
    Kind {
        /// The frame's.
        kind: u8,
    },
    /// Another conversation than this one.
    #[error("the peer speaks protocol {protocol}, this build speaks {PROTOCOL}")]
    Protocol {
        /// The peer's.
        protocol: u16,
    },
    /// Not the fields of its kind.
    #[error("a {message} message can't be decoded: {error}")]
    Fields {
        /// Its name.
        message: &'static str,
        /// What is wrong.
        error: postcard::Error,
    },
    /// More than the fields of its kind.
    #[error("a {message} message has {bytes} bytes too many")]
    Trailing {
        /// Its name.
        message: &'static str,
        /// How many.
        bytes: usize,
    },
    /// A field out of its bounds.
    #[error("a {message} message has a wrong {field}: {wanted}")]
    Field {
        /// Its name.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
    /// With a descriptor that nobody asked for, or without the one that it needs.
    #[error("a {message} message and a descriptor: {wanted}")]
    Descriptor {
        /// Its name.
        message: &'static str,
        /// What would be right.
        wanted: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct AppliedFields {
    epoch: Epoch,
    workers: Vec<WorkerSwitch>,
}

#[derive(Serialize, Deserialize)]
struct RejectedFields {
    epoch: Epoch,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct PublishFields {
    epoch: Epoch,
    digest: Digest,
    body: BodyField,
}

#[derive(Serialize, Deserialize)]
enum BodyField {
    Inline(Vec<u8>),
    /// In the sealed memory that comes with the frame: so many bytes.
    Sealed(u64),
}

impl ToControl {
    /// The message as a frame. A reason that is too long is cut.
    ///
    /// Errors: a field is out of its bounds; the reader would refuse the message.
    pub fn into_frame(self) -> Result<Frame, MessageError> {
        match self {
            Self::Hello(hello) => {
                hello.check()?;
                Ok(frame(HELLO, &hello, None))
            }
            Self::Applied { epoch, workers } => {
                check_workers(&workers)?;
                Ok(frame(APPLIED, &AppliedFields { epoch, workers }, None))
            }
            Self::Rejected { epoch, reason } => {
                Ok(frame(REJECTED, &RejectedFields { epoch, reason: presentable(&reason) }, None))
            }
        }
    }

    /// The message of a frame that a control plane received.
    pub fn from_frame(frame: Frame) -> Result<Self, MessageError> {
        let Frame { kind, payload, descriptor } = frame;
        match kind {
            HELLO => {
                no_descriptor("Hello", descriptor)?;
                let (protocol, _) = postcard::take_from_bytes::<u16>(&payload)
                    .map_err(|error| MessageError::Fields { message: "Hello", error })?;
                // Before the rest, which may look different then.
                if protocol != PROTOCOL {
                    return Err(MessageError::Protocol { protocol });
                }
                let hello: Hello = fields("Hello", &payload)?;
                hello.check()?;
                Ok(Self::Hello(hello))
            }
            APPLIED => {
                no_descriptor("Applied", descriptor)?;
                let AppliedFields { epoch, workers } = fields("Applied", &payload)?;
                check_workers(&workers)?;
                Ok(Self::Applied { epoch, workers })
            }
            REJECTED => {
                no_descriptor("Rejected", descriptor)?;
                let RejectedFields { epoch, reason } = fields("Rejected", &payload)?;
                check_reason("Rejected", &reason)?;
                Ok(Self::Rejected { epoch, reason })
            }
            kind => Err(MessageError::Kind { kind }),
        }
    }
}

impl ToProxy {
    /// The message as a frame. A reason that is too long is cut.
    pub fn into_frame(self) -> Frame {
        match self {
            Self::Welcome { store } => frame(WELCOME, &store, None),
            Self::Refused { reason } => frame(REFUSED, &presentable(&reason), None),
            Self::Publish(Publish { epoch, digest, body }) => {
                let (body, memory) = match body {
                    Body::Inline(bytes) => (BodyField::Inline(bytes), None),
                    Body::Sealed { memory, bytes } => (BodyField::Sealed(bytes), Some(memory)),
                };
                frame(PUBLISH, &PublishFields { epoch, digest, body }, memory)
            }
        }
    }

    /// The message of a frame that a proxy received.
    pub fn from_frame(frame: Frame) -> Result<Self, MessageError> {
        let Frame { kind, payload, descriptor } = frame;
        match kind {
            WELCOME => {
                no_descriptor("Welcome", descriptor)?;
                Ok(Self::Welcome { store: fields("Welcome", &payload)? })
            }
            REFUSED => {
                no_descriptor("Refused", descriptor)?;
                let reason: String = fields("Refused", &payload)?;
                check_reason("Refused", &reason)?;
                Ok(Self::Refused { reason })
            }
            PUBLISH => {
                let PublishFields { epoch, digest, body } = fields("Publish", &payload)?;
                let body = match (body, descriptor) {
                    (BodyField::Inline(bytes), None) => Body::Inline(bytes),
                    (BodyField::Sealed(bytes), Some(memory)) => Body::Sealed { memory, bytes },
                    (BodyField::Inline(_), Some(_)) => return Err(UNASKED_WITH_PUBLISH),
                    (BodyField::Sealed(_), None) => return Err(MISSING_WITH_PUBLISH),
                };
                Ok(Self::Publish(Publish { epoch, digest, body }))
            }
            kind => Err(MessageError::Kind { kind }),
        }
    }
}

const UNASKED_WITH_PUBLISH: MessageError =
    MessageError::Descriptor { message: "Publish", wanted: "the snapshot is in the message" };
const MISSING_WITH_PUBLISH: MessageError =
    MessageError::Descriptor { message: "Publish", wanted: "the snapshot should be beside it" };

impl Publish {
    /// Puts a snapshot into a message, or beside it if it is large.
    ///
    /// Errors: those of [`sealed::seal`].
    pub fn new(encoded: &Encoded) -> io::Result<Self> {
        let body = if encoded.bytes.len() <= INLINE_BYTES_MAX {
            Body::Inline(encoded.bytes.clone())
        } else {
            let bytes = encoded.bytes.len() as u64;
            Body::Sealed { memory: sealed::seal(&encoded.bytes)?, bytes }
        };
        Ok(Self { epoch: encoded.epoch, digest: encoded.digest, body })
    }

    /// Reads, decodes and validates the snapshot. The descriptor is closed whatever comes of it.
    pub fn open(self) -> Result<Arrived, ArriveError> {
        self.open_with(&mut Patterns::default())
    }

    /// The same for whoever needs the compiled patterns, or has them from the snapshot before.
    pub fn open_with(self, patterns: &mut Patterns) -> Result<Arrived, ArriveError> {
        let bytes = match self.body {
            Body::Inline(bytes) => bytes,
            Body::Sealed { memory, bytes } => sealed::read(memory, bytes)?,
        };
        let (epoch, digest, snapshot) = decode_with(&bytes, patterns)?;
        if epoch != self.epoch {
            return Err(ArriveError::Mismatch { announced: self.epoch, actual: epoch });
        }
        if digest != self.digest {
            return Err(ArriveError::Digest { epoch });
        }
        Ok(Arrived { epoch, digest, snapshot, bytes })
    }
}

impl Hello {
    fn check(&self) -> Result<(), MessageError> {
        let wrong = |field, wanted| Err(MessageError::Field { message: "Hello", field, wanted });
        let is_word = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if self.snapshot_versions.0 > self.snapshot_versions.1 {
            return wrong("snapshot_versions", "the lowest comes first");
        }
        if !is_word(&self.name) || self.name.len() > PROXY_NAME_BYTES_MAX {
            return wrong("name", "1 to 253 bytes without control characters");
        }
        if !is_word(&self.program_version) || self.program_version.len() > PROGRAM_VERSION_BYTES_MAX
        {
            return wrong("program_version", "1 to 64 bytes without control characters");
        }
        if !(1..=WORKERS_MAX as u32).contains(&self.workers) {
            return wrong("workers", "1 to 1024");
        }
        Ok(())
    }
}

fn check_workers(workers: &[WorkerSwitch]) -> Result<(), MessageError> {
    if (1..=WORKERS_MAX).contains(&workers.len()) {
        return Ok(());
    }
    Err(MessageError::Field { message: "Applied", field: "workers", wanted: "1 to 1024 of them" })
}

/// A reason is shown on terminals and kept in logs.
fn check_reason(message: &'static str, reason: &str) -> Result<(), MessageError> {
    if reason.len() <= REASON_BYTES_MAX && !reason.contains(is_unpresentable) {
        return Ok(());
    }
    let wanted = "at most 4096 bytes, no control characters but line ends and tabs";
    Err(MessageError::Field { message, field: "reason", wanted })
}

fn is_unpresentable(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

fn presentable(reason: &str) -> String {
    let reason = clip(reason, REASON_BYTES_MAX).replace(is_unpresentable, "?");
    // A control character may have taken two bytes: the reason only got shorter.
    debug_assert!(reason.len() <= REASON_BYTES_MAX);
    reason
}

fn frame(kind: u8, fields: &impl Serialize, descriptor: Option<OwnedFd>) -> Frame {
    let payload = postcard::to_allocvec(fields).expect("writing to memory can't fail");
    debug_assert!(payload.len() <= FRAME_BYTES_MAX, "`limits` asserts that what is checked fits");
    Frame { kind, payload, descriptor }
}

fn fields<'f, T: Deserialize<'f>>(
    message: &'static str,
    payload: &'f [u8],
) -> Result<T, MessageError> {
    match postcard::take_from_bytes(payload) {
        Ok((fields, [])) => Ok(fields),
        Ok((_, rest)) => Err(MessageError::Trailing { message, bytes: rest.len() }),
        Err(error) => Err(MessageError::Fields { message, error }),
    }
}

fn no_descriptor(message: &'static str, descriptor: Option<OwnedFd>) -> Result<(), MessageError> {
    match descriptor {
        None => Ok(()),
        Some(_) => Err(MessageError::Descriptor { message, wanted: "none belongs to it" }),
    }
}
