//! How a client's session stays at one endpoint.

use serde::{Deserialize, Serialize};

/// Session persistence (GEP-1619): the client brings back what a response gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session {
    /// Of the cookie or header field; lower case for a field, and none that frames a message.
    pub name: String,
    /// It is a header field, not a cookie.
    pub in_header: bool,
    /// A session ends so long after it began, in milliseconds; `None`: never.
    pub absolute_timeout_ms: Option<u32>,
    /// A session ends so long after it was used, in milliseconds; `None`: never.
    pub idle_timeout_ms: Option<u32>,
    /// The client keeps the cookie when it ends, as long as the session lasts.
    pub is_permanent: bool,
}
