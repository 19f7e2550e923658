//! What proxies are compared in. Names are stable: results of different days are put side by side by
//! them.

use crate::results::{Kind, Profile};

/// What a proxy is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// HTTP/1 requests.
    Http1,
    /// Bytes both ways, whatever they are.
    Tcp,
}

impl Family {
    /// As it stands in results and in descriptions of peers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Tcp => "tcp",
        }
    }
}

/// What a client does, and its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Connections that are kept busy.
    pub connections: u32,
    /// Of all header fields that are added to a request.
    pub head_bytes: usize,
    /// Of an answer's body.
    pub body_bytes: u64,
    /// Of a request's body.
    pub upload_bytes: u64,
    /// The upstream closes after each answer.
    pub upstream_closes: bool,
    /// Each request has a client connection of its own.
    pub new_connection: bool,
    /// No HTTP: a message is sent, and comes back.
    pub echo: bool,
}

const SMALL: Work = Work {
    connections: 64,
    head_bytes: 0,
    body_bytes: 100,
    upload_bytes: 0,
    upstream_closes: false,
    new_connection: false,
    echo: false,
};

/// A message both ways.
const fn echoed(bytes: u64) -> Work {
    Work { body_bytes: bytes, upload_bytes: bytes, echo: true, ..SMALL }
}

/// What is done in a row, beside its [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As fast as it goes.
    Closed,
    /// At fixed rates.
    Rates,
    /// Idle connections come and leave.
    Memory,
    /// The config changes meanwhile.
    Change,
    /// As fast as it goes, with one worker and with two.
    Workers,
}

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scenario {
    /// On the command line and in results.
    pub name: &'static str,
    /// In one sentence.
    pub title: &'static str,
    /// What the proxies are configured for.
    pub family: Family,
    /// What the client does.
    pub work: Work,
    /// How it is measured.
    pub method: Method,
    /// What cost is divided by.
    pub unit: &'static str,
    /// Whether `--quick` has it.
    pub quick: bool,
}

impl Scenario {
    /// What of its samples is read.
    pub fn kind(&self) -> Kind {
        match self.method {
            Method::Closed | Method::Workers => Kind::Throughput,
            Method::Rates => Kind::Latency,
            Method::Memory => Kind::Memory,
            Method::Change => Kind::Change,
        }
    }

    /// Whether it can be run under a profile; TCP has no ids and no request log.
    pub fn has(&self, profile: Profile) -> bool {
        self.family == Family::Http1 || profile == Profile::Bare
    }

    /// Why it says nothing where a nanosecond is an instruction.
    pub fn not_by_instructions(&self) -> Option<&'static str> {
        match self.method {
            Method::Rates | Method::Memory | Method::Change => Some("times mean nothing there"),
            Method::Workers => Some("there is one CPU"),
            // `rep movs` counts once for each turn there, and once in all on hardware.
            Method::Closed if self.work.body_bytes.max(self.work.upload_bytes) > 4_096 => {
                Some("an emulator counts a copy of memory by its bytes")
            }
            Method::Closed => None,
        }
    }
}

/// All of them, in the order in which they run.
pub const SCENARIOS: [Scenario; 17] = [
    Scenario {
        quick: true,
        ..http1("http1-keepalive-64", "HTTP/1 keep-alive, 64 connections, 100 B answers", SMALL)
    },
    http1(
        "http1-keepalive-1",
        "HTTP/1 keep-alive, 1 connection, 100 B answers",
        Work { connections: 1, ..SMALL },
    ),
    http1(
        "http1-keepalive-512",
        "HTTP/1 keep-alive, 512 connections, 100 B answers",
        Work { connections: 512, ..SMALL },
    ),
    http1(
        "http1-new-connection",
        "a new client connection for each request, 64 at a time, 100 B answers",
        Work { new_connection: true, ..SMALL },
    ),
    http1(
        "http1-upstream-closes",
        "an upstream that closes its connection after each answer, 64 connections, 100 B answers",
        Work { upstream_closes: true, ..SMALL },
    ),
    http1(
        "http1-heads-2k",
        "2 KiB of request head in 30 fields, 64 connections, 100 B answers",
        Work { head_bytes: 2 << 10, ..SMALL },
    ),
    http1(
        "http1-heads-8k",
        "8 KiB of request head in 30 fields, 64 connections, 100 B answers",
        Work { head_bytes: 8 << 10, ..SMALL },
    ),
    Scenario {
        quick: true,
        ..http1(
            "http1-body-64k",
            "64 KiB answers, 64 connections",
            Work { body_bytes: 64 << 10, ..SMALL },
        )
    },
    Scenario {
        unit: "MiB",
        ..http1(
            "http1-body-1m",
            "1 MiB answers, 16 connections",
            Work { body_bytes: 1 << 20, connections: 16, ..SMALL },
        )
    },
    http1(
        "http1-upload-64k",
        "64 KiB request bodies, 64 connections, 100 B answers",
        Work { upload_bytes: 64 << 10, ..SMALL },
    ),
    Scenario {
        family: Family::Tcp,
        unit: "message",
        quick: true,
        ..http1(
            "tcp-64",
            "TCP: bytes of the first scenario's requests and answers, passed on unread",
            SMALL,
        )
    },
    Scenario {
        family: Family::Tcp,
        unit: "MiB",
        ..http1(
            "tcp-bulk",
            "TCP: messages of 1 MiB that come back, 16 connections; a MiB here is one each way",
            Work { connections: 16, ..echoed(1 << 20) },
        )
    },
    Scenario {
        family: Family::Tcp,
        unit: "connection",
        ..http1(
            "tcp-connect",
            "TCP: a new connection for each message of 64 bytes that comes back, 64 at a time",
            Work { new_connection: true, ..echoed(64) },
        )
    },
    Scenario {
        method: Method::Rates,
        ..http1(
            "http1-rates",
            "latency and cost at fixed rates: 25, 50 and 75 % of the slowest proxy's capacity, and 50, 75 \
             and 90 % of each one's own; 64 connections, 100 B answers",
            SMALL,
        )
    },
    Scenario {
        method: Method::Memory,
        unit: "connection",
        ..http1(
            "memory",
            "idle, with 1,000 and 10,000 idle connections after one request each, after they left, \
             and after each of five times that they came and left again",
            SMALL,
        )
    },
    Scenario {
        method: Method::Change,
        ..http1(
            "config-change",
            "the config changes once a second under 64 busy connections: failed requests, time until an \
             answer shows it, processes, memory",
            SMALL,
        )
    },
    Scenario {
        method: Method::Workers,
        ..http1(
            "workers-2",
            "1 worker and 2 workers: HTTP/1 keep-alive, 64 connections, 100 B answers",
            SMALL,
        )
    },
];

const fn http1(name: &'static str, title: &'static str, work: Work) -> Scenario {
    Scenario {
        name,
        title,
        family: Family::Http1,
        work,
        method: Method::Closed,
        unit: "request",
        quick: false,
    }
}

/// What there is not yet, and why.
pub const NOT_THERE_YET: [(&str, &str); 1] =
    [("tls-*", "TLS on the client's side: not there yet, as the proxy has no TLS")];

/// Scenarios by name, in the order of [`SCENARIOS`]. The error names what is wrong and what would be
/// right.
pub fn chosen(names: &[String], quick: bool) -> anyhow::Result<Vec<&'static Scenario>> {
    for name in names {
        if SCENARIOS.iter().all(|scenario| scenario.name != name) {
            let known: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            anyhow::bail!("--scenarios {name}: known are {}", known.join(", "));
        }
    }
    let wanted = |scenario: &&Scenario| match names {
        [] => !quick || scenario.quick,
        names => names.iter().any(|name| name == scenario.name),
    };
    Ok(SCENARIOS.iter().filter(wanted).collect())
}

/// Header fields that make a request's head so many bytes longer, in 30 fields.
pub fn fields(head_bytes: usize) -> Vec<String> {
    const COUNT: usize = 30;
    let count = if head_bytes == 0 { 0 } else { COUNT };
    let of = |index: usize| {
        let name = format!("x-field-{index:02}");
        let value_bytes = (head_bytes / COUNT).saturating_sub(name.len() + ": \r\n".len());
        format!("{name}: {}", "v".repeat(value_bytes))
    };
    (0..count).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn a_choice_keeps_the_order_and_refuses_what_is_unknown() {
        let names = ["tcp-64".to_owned(), "http1-keepalive-1".to_owned()];
        let chosen_names = |names: &[String], quick| -> Vec<&str> {
            chosen(names, quick).expect("known").iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(chosen_names(&names, false), ["http1-keepalive-1", "tcp-64"]);
        assert_eq!(chosen_names(&[], true), ["http1-keepalive-64", "http1-body-64k", "tcp-64"]);
        let error = chosen(&["http2".to_owned()], false).expect_err("unknown").to_string();
        assert!(error.contains("http2") && error.contains("http1-keepalive-64"), "{error}");
    }

    #[test]
    fn heads_have_the_length_they_are_asked_for() {
        for bytes in [2_048, 8_192] {
            let sum: usize = fields(bytes).iter().map(|field| field.len() + 2).sum();
            assert!(sum <= bytes && sum + 30 > bytes, "{sum} of {bytes}");
        }
        assert!(fields(0).is_empty());
    }
}
