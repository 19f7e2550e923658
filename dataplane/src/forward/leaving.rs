//! Notices that a client leaves while its request waits for something that is not the client.
//!
//! Before: nothing is read from the client for a while, and nothing is sent. After: who waits is told, and
//! gives up. A client that only closed its direction has not left: it may still want its answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use crate::client::Connection;
use crate::failure::{Failure, Stage};
use crate::observe::metrics::CloseReason;

/// Waits for `waiting`, unless the client leaves first. What need not wait costs nothing beside.
///
/// # Errors
/// The client left; the future has been dropped.
pub async fn unless_gone<F: Future>(
    connection: &Connection,
    waiting: F,
) -> Result<F::Output, Failure> {
    let mut waiting = pin!(waiting);
    let mut client = ClientWatch::new(connection);
    poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending if client.poll_gone(cx) => {
            Poll::Ready(Err(Failure::client_gone(Stage::Decide)))
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Looks after a client.
#[derive(Debug)]
pub struct ClientWatch<'a> {
    connection: &'a Connection,
    /// It has said something or closed its direction: a receive has no more to tell.
    is_heard: bool,
}

impl<'a> ClientWatch<'a> {
    /// Of this client.
    pub fn new(connection: &'a Connection) -> Self {
        Self { connection, is_heard: false }
    }

    /// Whether it has left; else the task is woken when it does.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let client = &self.connection.stream;
        if !self.is_heard && client.is_receiving() && client.poll_news(cx).is_ready() {
            self.is_heard = true;
        }
        let is_gone =
            client.has_failed() || (!client.is_receiving() && client.poll_hung_up(cx).is_ready());
        if is_gone {
            self.connection.closes_for(CloseReason::ConnectionReset);
        }
        is_gone
    }
}
