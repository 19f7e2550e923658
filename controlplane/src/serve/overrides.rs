//! What operators have ordered of what runs, beside what is declared: endpoints that get no requests, and
//! breakers that are open or closed whatever happens.
//!
//! Before: somebody ordered it. After: [`plan`](crate::serve::plan) holds every snapshot to it. Orders are no
//! part of a revision: they hold under a rollback as well, until their time is over or they are taken back,
//! and outlive the process in the store. Names are looked up anew for each set of objects, so that an order
//! follows what it is about; about what is gone it stands, and does nothing. Pure: takes `now`.
//!
//! - [`names`]: what an order is about, as people say it. [`lookup`]: what that is in a set of objects.
//! - [`standing`]: what of them is about the same. [`applied`]: orders in a snapshot.
//! - [`refusal`]: why one is not taken.

pub mod names;
pub mod lookup;
pub mod standing;
pub mod applied;
pub mod refusal;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::serve::intent::Content;
use crate::serve::overrides::names::{EndpointName, RouteName, ServiceName};
use crate::serve::overrides::refusal::OrderRefusal;
use crate::serve::overrides::standing::{canonical, still_held};
use crate::serve::plan::Plan;
use crate::status::UnixMs;

/// Orders that stand at a time. Who needs more declares it.
pub const OVERRIDES_MAX: usize = 256;

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordered {
    /// An endpoint of a service gets no new requests.
    Ejected {
        /// Whose.
        service: ServiceName,
        /// Which.
        endpoint: EndpointName,
    },
    /// The breaker of a route is held.
    Breaker {
        /// Of which route.
        route: RouteName,
        /// How.
        held: Held,
    },
}

/// How a breaker is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Nothing is let through.
    Open,
    /// Everything is.
    Closed,
}

impl Held {
    /// In a message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// `10.0.0.7:8080 of Service/shop/cart:80 is ejected`
impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ejected { service, endpoint } => write!(f, "{endpoint} of {service} is ejected"),
            Self::Breaker { route, held } => {
                write!(f, "the breaker of {route} is {}", held.as_str())
            }
        }
    }
}

impl Ordered {
    /// What it is about, whatever it says: there is one order about each such thing.
    pub fn target(&self) -> String {
        match self {
            Self::Ejected { service, endpoint } => format!("endpoint {service} {endpoint}"),
            Self::Breaker { route, .. } => format!("breaker {route}"),
        }
    }

    /// What it is about, in a message.
    pub fn subject(&self) -> String {
        match self {
            Self::Ejected { service, endpoint } => format!("{endpoint} of {service}"),
            Self::Breaker { route, .. } => format!("the breaker of {route}"),
        }
    }

    /// The command that ends what is ordered of it.
    pub fn end_command(&self) -> String {
        match self {
            Self::Ejected { service, endpoint } => {
                format!("lateen readmit --service {service} --endpoint {endpoint}")
            }
            Self::Breaker { route, .. } => format!("lateen breaker auto --route {route}"),
        }
    }

    /// Whether an order about the same is covered by this one: about a part of it, or about all of it.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Ejected { service, endpoint },
                Self::Ejected { service: of_service, endpoint: of_endpoint },
            ) => service.covers(of_service) && endpoint.covers(of_endpoint),
            (Self::Breaker { route, .. }, Self::Breaker { route: of_route, .. }) => {
                route.covers(of_route)
            }
            _ => false,
        }
    }
}

/// An order that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What.
    pub ordered: Ordered,
    /// Who ordered it.
    pub author: String,
    /// Why, in their words.
    pub message: String,
    /// Since when.
    pub since: UnixMs,
    /// Until when; `None`: until it is taken back.
    pub until: Option<UnixMs>,
}

impl Override {
    fn is_over(&self, now: UnixMs) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// All orders that stand, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(Vec<Override>);

/// What a change of orders leaves, and the targets of those that it takes away.
pub type Changed = (Overrides, Vec<String>);

impl Overrides {
    /// Those of an earlier run.
    pub fn restored(mut orders: Vec<Override>) -> Self {
        orders.sort_by_key(|order| order.since);
        Self(orders)
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Override> {
        self.0.iter()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When one that is given at `now` stands since: after all others, whatever became of the clock meanwhile,
    /// for a later start sorts them by that.
    pub fn since(&self, now: UnixMs) -> UnixMs {
        let after = self.0.last().map_or(0, |last| last.since.0.saturating_add(1));
        UnixMs(now.0.max(after))
    }

    /// With one more, which takes the place of those that it covers: what was ordered last counts.
    ///
    /// # Errors
    /// [`OrderRefusal::TooMany`].
    pub fn with(&self, order: Override, content: &Content) -> Result<Changed, OrderRefusal> {
        let (mut after, gone) = self.split(&order.ordered, content);
        if after.0.len() >= OVERRIDES_MAX {
            return Err(OrderRefusal::TooMany);
        }
        after.0.push(order);
        Ok((after, gone))
    }

    /// Without those that are about this, or about a part of it.
    ///
    /// # Errors
    /// [`OrderRefusal::StillHeld`]: other orders hold it all the same; [`OrderRefusal::NotOrdered`].
    pub fn without(&self, about: &Ordered, plan: &Plan) -> Result<Changed, OrderRefusal> {
        let (after, gone) = self.split(about, &plan.content);
        if let Some(held) = still_held(&after, about, plan) {
            return Err(OrderRefusal::StillHeld {
                about: about.subject(),
                orders: held.orders.iter().map(ToString::to_string).collect(),
                command: held.all.end_command(),
            });
        }
        if gone.is_empty() {
            return Err(OrderRefusal::NotOrdered { about: about.subject() });
        }
        Ok((after, gone))
    }

    /// Those that `about` does not cover, and the targets of the others.
    fn split(&self, about: &Ordered, content: &Content) -> Changed {
        let about = canonical(about, content);
        let is_gone = |order: &Override| about.covers(&canonical(&order.ordered, content));
        let (gone, after): (Vec<Override>, Vec<Override>) =
            self.0.iter().cloned().partition(is_gone);
        (Self(after), gone.iter().map(|order| order.ordered.target()).collect())
    }

    /// Takes out those whose time is over.
    pub fn expire(&mut self, now: UnixMs) -> Vec<Override> {
        let (over, left) = self.0.drain(..).partition(|order| order.is_over(now));
        self.0 = left;
        over
    }

    /// When the next one's time is over.
    pub fn next_end(&self) -> Option<UnixMs> {
        self.0.iter().filter_map(|order| order.until).min()
    }
}

#[cfg(test)]
mod tests;
