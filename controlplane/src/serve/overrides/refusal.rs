//! Why an order of an operator is not taken. Nothing was changed then.

use crate::serve::overrides::OVERRIDES_MAX;

/// Why not; the caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderRefusal {
    /// There is no such object.
    #[error("there is no {wanted}{}", did_you_mean(near))]
    NoSuchObject {
        /// What was asked for.
        wanted: String,
        /// What was probably meant.
        near: Option<String>,
        /// Those of that name in other namespaces.
        elsewhere: Vec<String>,
    },
    /// It has no such rule or port.
    #[error("{whole} has no {what} {wanted}{}", did_you_mean(near))]
    NoSuchPart {
        /// Of what.
        whole: String,
        /// `rule` or `port`.
        what: &'static str,
        /// Which.
        wanted: String,
        /// What was probably meant.
        near: Option<String>,
        /// Those that it has.
        parts: Vec<String>,
    },
    /// It has no rules, or no ports.
    #[error("{0} has nothing that could be held")]
    NothingToHold(String),
    /// It has some, and no proxy forwards by them.
    #[error("no proxy forwards by {route}: there is no breaker to hold")]
    NotForwarded {
        /// What was asked for.
        route: String,
        /// The HTTPRoutes that decide instead.
        attached: Vec<String>,
    },
    /// It has no such endpoint.
    #[error("{service} has no endpoint {wanted}")]
    NoSuchEndpoint {
        /// Which service.
        service: String,
        /// Which endpoint.
        wanted: String,
        /// Those that it has.
        known: Vec<String>,
    },
    /// Nobody would be left.
    #[error("{endpoint} is all that gets requests for {cluster}: without it they are answered 503")]
    LastEndpoint {
        /// Which endpoint.
        endpoint: String,
        /// Of which cluster.
        cluster: String,
    },
    /// No order says so.
    #[error("no order is about {about}")]
    NotOrdered {
        /// What was asked for.
        about: String,
    },
    /// Its time is over, but what runs could not be freed of it yet.
    #[error("the order about {about} is over, and what runs is still held to it")]
    IsOver {
        /// What was asked for.
        about: String,
    },
    /// Without the orders about it, others would hold it.
    #[error("nothing was taken back: {about} would still be held, for {}", orders.join(", and "))]
    StillHeld {
        /// What was asked for.
        about: String,
        /// The others.
        orders: Vec<String>,
        /// What takes back all of that.
        command: String,
    },
    /// There are as many as there may be.
    #[error("{OVERRIDES_MAX} orders stand already, and no more are kept")]
    TooMany,
    /// Its words are too many.
    #[error("the message has {0} bytes, and at most {1} are kept")]
    MessageTooLong(usize, usize),
    /// Its time is nothing, or too long.
    #[error("an order stands from 1 s to 30 days, or without an end; not {0} ms")]
    WrongTime(u64),
}

impl OrderRefusal {
    /// What to do about it, where that is not plain.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::NoSuchObject { elsewhere, .. } if !elsewhere.is_empty() => {
                format!("there is {}", elsewhere.join(", "))
            }
            Self::NoSuchObject { .. } => "`lateen get` lists what there is".to_owned(),
            Self::NoSuchPart { parts, what, .. } if parts.is_empty() => format!("it has no {what}s"),
            Self::NoSuchPart { parts, what, .. } => format!("its {what}s: {}", parts.join(", ")),
            Self::NoSuchEndpoint { known, .. } if known.is_empty() => {
                "it has no endpoints that are known here".to_owned()
            }
            Self::NoSuchEndpoint { known, .. } => format!("its endpoints: {}", shown(known)),
            Self::NotForwarded { attached, .. } if attached.is_empty() => {
                "only what forwards has a breaker, and only where a proxy's listener leads to it".to_owned()
            }
            Self::NotForwarded { attached, .. } => {
                format!("what is attached to it decides instead: hold {}", shown(attached))
            }
            Self::LastEndpoint { .. } => {
                "`--force` ejects it all the same; `lateen breaker open` holds requests off as well, and \
                 answers as the route's fallback says"
                    .to_owned()
            }
            Self::StillHeld { command, .. } => format!("`{command}` takes all of that back"),
            Self::NotOrdered { .. } | Self::TooMany => {
                "`lateen get overrides` lists the orders that stand; what a proxy ejected by itself comes \
                 back by itself"
                    .to_owned()
            }
            Self::IsOver { .. } => {
                "it is freed as soon as what is declared can be published: `lateen status` says what is in \
                 the way"
                    .to_owned()
            }
            Self::NothingToHold(_) | Self::MessageTooLong(..) | Self::WrongTime(_) => return None,
        })
    }
}

/// Not more than one can read.
fn shown(all: &[String]) -> String {
    const SHOWN: usize = 16;
    match all.len().checked_sub(SHOWN) {
        None | Some(0) => all.join(", "),
        Some(more) => format!("{} and {more} more", all[..SHOWN].join(", ")),
    }
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|near| format!("; did you mean {near}?")).unwrap_or_default()
}
