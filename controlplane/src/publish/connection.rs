//! One proxy's connection: who it is, what it is sent, what it answers.
//!
//! Before: [`accept`](super::accept) gave it a slot and a thread. After: [`registry`](super::registry)
//! knows the proxy for as long as the connection lasts. The thread reads; once the proxy is welcome, a
//! second one writes. Either ends the other by shutting the socket down. A proxy that is slow, silent
//! or hostile keeps these two threads for a while, and nobody else.

use std::os::unix::net::UnixStream;
use std::{io, thread};

use lateen_snapshot::frame::{FrameError, Patience, Receiver, Sender, split};
use lateen_snapshot::message::{Hello, MessageError, ToControl, ToProxy};
use rustix::net::sockopt::set_socket_send_buffer_size;

use super::Options;
use super::encodings::{PrepareError, Turns};
use super::limits::{SEND_BUFFER_BYTES, THREAD_STACK_BYTES};
use super::registry::{Member, Registry, WrongAnswer};
use super::slots::{Link, Slot};

/// What all connections share.
pub(super) struct Desk {
    pub(super) options: Options,
    pub(super) registry: Registry,
    pub(super) turns: Turns,
}

/// Why a connection ends that the peer did not close.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("no Hello came within {timeout_ms} ms")]
    Silent { timeout_ms: u128 },
    #[error("no Hello had come when others needed the place")]
    Evicted,
    #[error("the first message must be a Hello, and no other may be one")]
    Order,
    #[error(
        "user {uid} may not run proxies of this control plane, unless it is told --allow-uid {uid}"
    )]
    User { uid: u32 },
    #[error(transparent)]
    Answer(#[from] WrongAnswer),
    #[error("the control plane can't go on with it: {0}")]
    System(#[from] io::Error),
}

impl Desk {
    /// Serves a connection to its end.
    pub(super) fn serve(&self, slot: &Slot, stream: UnixStream) {
        let link = &slot.link;
        let credentials = link.credentials;
        let (mut sender, mut receiver) = match halves(stream) {
            Ok(halves) => halves,
            Err(error) => {
                return self.registry.refuse(credentials, None, &End::from(error).to_string());
            }
        };
        let hello = match self.greet(link, &mut receiver) {
            Ok(Some(hello)) => hello,
            Ok(None) => return,
            Err(end) => return self.turn_away(link, None, &mut sender, &end),
        };
        if !self.options.trusted_uids.contains(&credentials.uid) {
            let end = End::User { uid: credentials.uid };
            return self.turn_away(link, Some(&hello.name), &mut sender, &end);
        }
        match self.registry.admit(link, hello) {
            Ok(member) => self.keep(&member, sender, receiver),
            // Noted already.
            Err(reason) => self.say_refused(&mut sender, reason),
        }
    }

    /// Waits for the Hello; `None`: the peer left without a word.
    fn greet(&self, link: &Link, receiver: &mut Receiver) -> Result<Option<Hello>, End> {
        let timeout = self.options.hello_timeout;
        let patience = Patience { first_byte: Some(timeout), whole_frame: timeout };
        match receiver.receive(patience) {
            Ok(None) | Err(FrameError::Broken) if link.is_evicted() => Err(End::Evicted),
            Ok(None) | Err(FrameError::Broken) => Ok(None),
            Ok(Some(frame)) => match ToControl::from_frame(frame)? {
                ToControl::Hello(hello) => Ok(Some(hello)),
                ToControl::Applied { .. } | ToControl::Rejected { .. } => Err(End::Order),
            },
            Err(FrameError::TimedOut) => Err(End::Silent { timeout_ms: timeout.as_millis() }),
            Err(error) => Err(error.into()),
        }
    }

    fn turn_away(&self, link: &Link, name: Option<&str>, sender: &mut Sender, end: &End) {
        let reason = end.to_string();
        self.registry.refuse(link.credentials, name, &reason);
        self.say_refused(sender, reason);
    }

    fn say_refused(&self, sender: &mut Sender, reason: String) {
        // The peer may be gone, or not care: it is noted on this side.
        let _ = sender.send(&ToProxy::Refused { reason }.into_frame(), self.options.frame_timeout);
    }

    /// Both threads, until one of them ends.
    fn keep(&self, member: &Member, mut sender: Sender, receiver: Receiver) {
        let kept = thread::scope(|scope| {
            // Ends the writer as well, before the scope waits for it.
            let _leaving = Leaving { registry: &self.registry, member };
            let welcome = ToProxy::Welcome { store: self.options.store };
            sender.send(&welcome.into_frame(), self.options.frame_timeout)?;
            let writer = thread::Builder::new()
                .name("proxy-writer".to_owned())
                .stack_size(THREAD_STACK_BYTES);
            writer.spawn_scoped(scope, || {
                self.note(member, self.write(member, sender));
                member.link.shut_down();
            })?;
            self.read(member, receiver)
        });
        self.note(member, kept);
    }

    /// A peer that closes is an event, not an error.
    fn note(&self, member: &Member, end: Result<(), End>) {
        match end {
            Ok(()) | Err(End::Frame(FrameError::Broken)) => {}
            Err(end) => {
                let credentials = member.link.credentials;
                self.registry.refuse(credentials, Some(&member.name), &end.to_string());
            }
        }
    }

    fn read(&self, member: &Member, mut receiver: Receiver) -> Result<(), End> {
        let patience = Patience { first_byte: None, whole_frame: self.options.frame_timeout };
        while let Some(frame) = receiver.receive(patience)? {
            match ToControl::from_frame(frame)? {
                ToControl::Applied { epoch, workers } => {
                    self.registry.applied(member, epoch, workers)?;
                }
                ToControl::Rejected { epoch, reason } => {
                    self.registry.rejected(member, epoch, reason)?;
                }
                ToControl::Hello(_) => return Err(End::Order),
            }
        }
        Ok(())
    }

    fn write(&self, member: &Member, mut sender: Sender) -> Result<(), End> {
        while let Some(encodings) = self.registry.next(member) {
            let epoch = encodings.epoch;
            let publish = match encodings.prepare(member.version, &self.turns) {
                Ok(publish) => publish,
                // As if the proxy had refused it: it keeps what it has.
                Err(PrepareError::Encode(error)) => {
                    self.registry.rejected(member, epoch, error.to_string())?;
                    continue;
                }
                Err(PrepareError::System(error)) => return Err(error.into()),
            };
            // Its bytes are needed no more, unless another proxy waits for them.
            drop(encodings);
            let frame = ToProxy::Publish(publish).into_frame();
            sender.send(&frame, self.options.frame_timeout)?;
            self.registry.sent(member, epoch);
        }
        Ok(())
    }
}

fn halves(stream: UnixStream) -> io::Result<(Sender, Receiver)> {
    set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
    split(stream)
}

/// Takes the proxy off the registry, also when its thread panics.
struct Leaving<'c> {
    registry: &'c Registry,
    member: &'c Member,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.registry.leave(self.member);
        self.member.link.shut_down();
    }
}
