//! The client: constant load on the edge, and an account of every request.
//!
//! Before: the scene answers its first request. After: [`acts`](super::acts) look at the phases they
//! began, and the summary at all of them. A request belongs to the phase in which it was sent, so that
//! one sent after a change was made everywhere is never counted with those before it. Nothing is tried
//! again: what has no answer is lost.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::app::GREETING;
use super::http1::{Message, write_request};
use super::plan::SERVICE1_V2;
use super::problem::DemoError;

/// Connections, each with one request at a time.
const CONNECTIONS: usize = 4;
/// From one request of a connection to its next: 200 a second of all.
const INTERVAL: Duration = Duration::from_millis(20);
/// A request without an answer for so long is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// The client; dropping it stops it.
#[derive(Debug)]
pub(super) struct Load {
    account: Arc<Account>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Account(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    phases: Vec<Tally>,
    is_closed: bool,
}

/// What became of the requests of a phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Given to the edge, or tried to.
    pub(super) sent: u64,
    /// Answered whole, with whatever status.
    pub(super) answered: u64,
    /// Answered with something else than 200 and a greeting.
    pub(super) failed: u64,
    /// Greetings of each replica.
    pub(super) replicas: BTreeMap<String, u64>,
    /// What first went wrong.
    pub(super) trouble: Option<String>,
    /// Of each answer.
    pub(super) latencies_us: Vec<u32>,
}

impl Load {
    /// Begins, with the first phase.
    ///
    /// # Errors
    /// No threads are to be had.
    pub(super) fn start(edge: SocketAddr) -> Result<Self, DemoError> {
        let account = Arc::new(Account::default());
        account.lock().phases.push(Tally::default());
        let mut load = Self { account, threads: Vec::new() };
        for _ in 0..CONNECTIONS {
            let account = Arc::clone(&load.account);
            let thread = thread::Builder::new().name("client".to_owned());
            let thread = thread.spawn(move || drive(&account, edge));
            load.threads.push(thread.map_err(DemoError::system("starting the client"))?);
        }
        Ok(load)
    }

    /// Begins a phase; what is sent from now on belongs to it.
    pub(super) fn begin_phase(&self) -> usize {
        let mut book = self.account.lock();
        book.phases.push(Tally::default());
        book.phases.len() - 1
    }

    /// What is known of a phase.
    pub(super) fn phase(&self, number: usize) -> Tally {
        self.account.lock().phases[number].clone()
    }

    /// Sends no more, waits for what is under way, and sums up.
    pub(super) fn finish(mut self) -> Tally {
        self.stop();
        let book = self.account.lock();
        book.phases.iter().fold(Tally::default(), |sum, phase| sum.and(phase))
    }

    fn stop(&mut self) {
        self.account.lock().is_closed = true;
        for thread in self.threads.drain(..) {
            // A panic there has been reported by the thread, and its request has no answer.
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Tally {
    /// Sent, and not answered yet. Of a finished load: lost.
    pub(super) fn unanswered(&self) -> u64 {
        self.sent - self.answered
    }

    /// Whether nothing went wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.trouble.is_none()
    }

    /// Greetings, and those of the second version among them.
    pub(super) fn greetings(&self) -> (u64, u64) {
        let of_v2 = |replica: &str| replica.starts_with(SERVICE1_V2);
        let v2 = self.replicas.iter().filter(|(replica, _)| of_v2(replica)).map(|(_, count)| count);
        (self.replicas.values().sum(), v2.sum())
    }

    /// The latency that so many percent of the answers stayed below, in milliseconds.
    pub(super) fn latency_ms(&mut self, percent: usize) -> Option<f64> {
        self.latencies_us.sort_unstable();
        let last = self.latencies_us.len().checked_sub(1)?;
        Some(f64::from(self.latencies_us[last * percent / 100]) / 1_000.0)
    }

    fn and(mut self, other: &Self) -> Self {
        self.sent += other.sent;
        self.answered += other.answered;
        self.failed += other.failed;
        for (replica, count) in &other.replicas {
            *self.replicas.entry(replica.clone()).or_default() += count;
        }
        self.trouble = self.trouble.or_else(|| other.trouble.clone());
        self.latencies_us.extend(&other.latencies_us);
        self
    }
}

impl Account {
    /// A client that panics leaves numbers that are right.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request is sent now, and in which phase; `None`: it is not to be sent.
    fn send(&self) -> Option<usize> {
        let mut book = self.lock();
        if book.is_closed {
            return None;
        }
        let current = book.phases.len() - 1;
        book.phases[current].sent += 1;
        Some(current)
    }

    fn note(&self, phase: usize, answer: io::Result<Message>, latency: Duration) {
        let tally = &mut self.lock().phases[phase];
        let trouble = match answer {
            Ok(answer) => {
                tally.answered += 1;
                tally.latencies_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
                match greeter(&answer) {
                    Some(replica) => {
                        *tally.replicas.entry(replica.to_owned()).or_default() += 1;
                        return;
                    }
                    None => {
                        tally.failed += 1;
                        let status = answer.status().unwrap_or_default();
                        format!("status {status}: {}", answer.body.trim_end())
                    }
                }
            }
            Err(error) => format!("no answer: {error}"),
        };
        tally.trouble.get_or_insert(trouble);
    }
}

/// Which replica of the first service answered, if all is as it should be.
fn greeter(answer: &Message) -> Option<&str> {
    let greeting = answer.body.strip_prefix(GREETING).filter(|_| answer.status() == Some(200))?;
    greeting.split_once(" and ").map(|(replica, _)| replica)
}

fn drive(account: &Account, edge: SocketAddr) {
    let mut connection = None;
    let mut due = Instant::now();
    while let Some(phase) = account.send() {
        let began = Instant::now();
        account.note(phase, ask(&mut connection, edge), began.elapsed());
        due = (due + INTERVAL).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Sends one request and reads its answer. A connection that fails is not used again.
fn ask(kept: &mut Option<BufReader<TcpStream>>, edge: SocketAddr) -> io::Result<Message> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect_timeout(&edge, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            BufReader::new(stream)
        }
    };
    write_request(connection.get_ref(), "demo.example", "/")?;
    let answer = Message::read(&mut connection)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if !answer.is_last() {
        *kept = Some(connection);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: &str, body: &str) -> io::Result<Message> {
        let mut bytes = Vec::new();
        super::super::http1::write_response(&mut bytes, status, body)?;
        Ok(Message::read(&mut &bytes[..])?.expect("it was written whole"))
    }

    #[test]
    fn every_request_is_accounted_for_in_its_phase() {
        let account = Account::default();
        account.lock().phases.push(Tally::default());
        let hello = |who: &str| answer("200 OK", &format!("hello from {who} and service2-1\n"));
        let note = |answer| {
            let phase = account.send().expect("it is open");
            account.note(phase, answer, Duration::from_millis(2));
        };
        note(hello("service1-1"));
        let under_way = account.send().expect("it is open");
        account.lock().phases.push(Tally::default());
        note(hello("service1-v2-1"));
        account.note(under_way, hello("service1-2"), Duration::from_millis(4));
        let first = account.lock().phases[0].clone();
        assert_eq!((first.greetings(), first.unanswered(), first.is_clean()), ((2, 0), 0, true));
        note(answer("503 Service Unavailable", ""));
        note(answer("200 OK", "hello from nobody\n"));
        note(Err(io::ErrorKind::ConnectionReset.into()));
        let second = account.lock().phases[1].clone();
        assert_eq!((second.sent, second.answered, second.failed), (4, 3, 2));
        assert_eq!((second.greetings(), second.unanswered()), ((1, 1), 1));
        assert_eq!(second.trouble.as_deref(), Some("status 503: "));
        let mut both = first.and(&second);
        assert_eq!((both.sent, both.unanswered(), both.latency_ms(99)), (6, 1, Some(2.0)));
        account.lock().is_closed = true;
        assert_eq!(account.send(), None);
    }
}
