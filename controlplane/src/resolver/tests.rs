//! Against a small DNS server on loopback.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::resolver::answers::{Known, Reply};
use crate::resolver::{Addresses, Names, Resolver, run};

/// Longer than any of this takes, so that only a test that would hang fails by it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the server says to a question for IPv4 addresses; to any other it says that there are none.
#[derive(Clone)]
enum Says {
    Addresses(Vec<Ipv4Addr>, u32),
    /// An alias with this TTL leads to the address with that one.
    Alias {
        alias_ttl: u32,
        ttl: u32,
    },
    Code(u8),
    Garbage,
}

const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

struct Server {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
}

impl Server {
    async fn start(says: Says) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("there is a port");
        let address = socket.local_addr().expect("it is bound");
        let says = Arc::new(Mutex::new(says));
        let server = Self { address, says: Arc::clone(&says) };
        tokio::spawn(async move {
            let mut question = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut question).await {
                let says = says.lock().expect("no test panics with it").clone();
                let reply = reply(&question[..length], &says);
                socket.send_to(&reply, client).await.expect("the client is there");
            }
        });
        server
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("no test panics with it") = says;
    }

    fn resolver(&self) -> Resolver {
        Resolver::with_servers(&[self.address]).expect("it can be built")
    }
}

/// A reply message (RFC 1035, 4.1) to the one question of `question`.
fn reply(question: &[u8], says: &Says) -> Vec<u8> {
    let name_length = question[12..].iter().position(|byte| *byte == 0).expect("a name ends") + 1;
    let asked = &question[12..12 + name_length + 4];
    let is_ipv4 = asked[name_length..name_length + 2] == [0, 1];
    let (code, records) = match says {
        Says::Garbage => return b"garbage".repeat(5),
        Says::Code(code) => (*code, Vec::new()),
        _ if !is_ipv4 => (0, Vec::new()),
        Says::Addresses(addresses, ttl) => {
            let record = |address: &Ipv4Addr| record(&[0xc0, 12], 1, *ttl, &address.octets());
            (0, addresses.iter().map(record).collect())
        }
        Says::Alias { alias_ttl, ttl } => {
            let target = b"\x06target\x00";
            let alias = record(&[0xc0, 12], 5, *alias_ttl, target);
            (0, vec![alias, record(target, 1, *ttl, &[10, 0, 0, 9])])
        }
    };
    let mut reply = question[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    reply.extend(asked);
    reply.extend(records.concat());
    reply
}

fn record(name: &[u8], kind: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = name.to_vec();
    record.extend([0, kind, 0, 1]);
    record.extend(ttl.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

fn hosts(hosts: &[u8]) -> Vec<Ipv4Addr> {
    hosts.iter().map(|host| Ipv4Addr::new(10, 0, 0, *host)).collect()
}

fn wanted(names: &[&str]) -> Names {
    Arc::new(names.iter().map(|name| (*name).into()).collect::<BTreeSet<_>>())
}

/// Waits until what is known satisfies `holds`.
async fn wait_for(known: &mut watch::Receiver<Addresses>, holds: impl FnMut(&Addresses) -> bool) {
    let waited = timeout(DEADLINE, known.wait_for(holds)).await;
    drop(waited.expect("it comes").expect("the resolver runs"));
}

fn has(known: &Addresses, name: &str, expected: &[u8]) -> bool {
    let expected: Vec<IpAddr> = hosts(expected).into_iter().map(IpAddr::from).collect();
    let found = known.get(name).and_then(|known| known.addresses.as_deref());
    found == Some(&expected)
}

#[tokio::test]
async fn reads_addresses_and_their_ttl() {
    let server = Server::start(Says::Addresses(hosts(&[1, 2]), 17)).await;
    let addresses = hosts(&[1, 2]).into_iter().map(IpAddr::from).collect();
    let expected = Reply::Addresses { addresses, ttl: Duration::from_secs(17) };
    assert_eq!(server.resolver().ask("cart.internal.").await, expected);
}

#[tokio::test]
async fn the_least_ttl_on_the_way_counts() {
    for (alias_ttl, ttl) in [(5, 100), (100, 5)] {
        let server = Server::start(Says::Alias { alias_ttl, ttl }).await;
        let addresses = hosts(&[9]).into_iter().map(IpAddr::from).collect();
        let expected = Reply::Addresses { addresses, ttl: Duration::from_secs(5) };
        assert_eq!(server.resolver().ask("cart.internal.").await, expected);
    }
}

#[tokio::test]
async fn an_address_is_its_own_answer() {
    let server = Server::start(Says::Code(SERVER_FAILURE)).await;
    let reply = server.resolver().ask("10.0.0.4").await;
    let Reply::Addresses { addresses, .. } = reply else { panic!("{reply:?}") };
    assert_eq!(addresses, [IpAddr::from([10, 0, 0, 4])]);
}

#[tokio::test]
async fn tells_no_such_name_from_no_answer() {
    let server = Server::start(Says::Code(NO_SUCH_NAME)).await;
    let ask = async || server.resolver().ask("cart.internal.").await;
    let reply = ask().await;
    assert!(matches!(&reply, Reply::Absent(why) if why.contains("cart.internal")), "{reply:?}");
    server.say(Says::Addresses(Vec::new(), 0));
    assert!(matches!(ask().await, Reply::Absent(_)), "a name without addresses");
    server.say(Says::Code(SERVER_FAILURE));
    assert!(matches!(ask().await, Reply::Failed(_)));
    server.say(Says::Garbage);
    assert!(matches!(ask().await, Reply::Failed(_)));
    let reply = server.resolver().ask("not a name..").await;
    assert!(matches!(reply, Reply::Failed(_)), "{reply:?}");
}

#[tokio::test]
async fn follows_a_name_through_changes_and_failures() {
    let server = Server::start(Says::Addresses(hosts(&[1]), 1)).await;
    let (names, wanted_names) = watch::channel(wanted(&["a.internal.", "b.internal."]));
    let (known, mut changes) = watch::channel(Addresses::new());
    let running = tokio::spawn(run(server.resolver(), wanted_names, known, 1));

    wait_for(&mut changes, |known| {
        has(known, "a.internal.", &[1]) && has(known, "b.internal.", &[1])
    })
    .await;
    server.say(Says::Addresses(hosts(&[2, 3]), 1));
    wait_for(&mut changes, |known| has(known, "a.internal.", &[2, 3])).await;
    server.say(Says::Code(SERVER_FAILURE));
    wait_for(&mut changes, |known| {
        let Known { problem, .. } = &known["a.internal."];
        problem.is_some() && has(known, "a.internal.", &[2, 3])
    })
    .await;
    names.send_replace(wanted(&["b.internal.", "c.internal."]));
    wait_for(&mut changes, |known| !known.contains_key("a.internal.")).await;
    server.say(Says::Addresses(hosts(&[4]), 1));
    wait_for(&mut changes, |known| {
        has(known, "b.internal.", &[4]) && has(known, "c.internal.", &[4])
    })
    .await;

    drop(names);
    timeout(DEADLINE, running).await.expect("it ends with its names").expect("it did not panic");
}
