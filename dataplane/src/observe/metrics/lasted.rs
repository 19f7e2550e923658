//! Connections that last as long as they may.

/// What kind of connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Lasted {
    /// A client's, after an answer.
    Client,
    /// One to an endpoint that requests share.
    Pooled,
    /// Both of a client that does not speak HTTP, or after a 101 no longer does.
    Tunnel,
}

impl Lasted {
    /// All, at their index.
    pub const ALL: [Self; 3] = [Self::Client, Self::Pooled, Self::Tunnel];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Pooled => "pooled",
            Self::Tunnel => "tunnel",
        }
    }
}
