//! The publisher among proxies that misbehave: nobody else notices, and nothing is left behind.
//!
//! One test alone in its process, because it counts the process's descriptors and threads.
//! `LATEEN_SEED=n` replays one random crowd.

#[path = "publisher/fake_proxy.rs"]
mod fake_proxy;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fake_proxy::{Control, FakeProxy, LONG, STORE, epoch, hello, snapshot, wait_until};
use lateen_control::publish::Options;
use lateen_control::status::ProxyState;
use lateen_snapshot::frame::Frame;
use lateen_snapshot::message::ToControl;
use lateen_snapshot::model::Epoch;

const INSTANT: Duration = Duration::from_millis(1);

#[test]
fn a_crowd_harms_nobody_and_leaves_nothing_behind() {
    let cases: [(&str, fn()); 9] = [
        ("a silent crowd", a_silent_crowd_makes_room),
        ("silence", whoever_says_nothing_is_sent_away),
        ("a full house", a_full_house_refuses),
        ("garbage", garbage_ends_only_its_own_connection),
        ("half frames", half_frames_are_not_waited_for),
        ("floods", floods_end),
        ("deaf proxies", who_never_reads_is_given_up),
        ("a storm of connections", a_storm_of_connections_passes),
        ("random crowds", random_crowds_end_on_the_latest),
    ];
    let before = open();
    for (name, case) in cases {
        case();
        // The last thing that a thread does is to say that it is done; then it ends.
        let deadline = Instant::now() + LONG;
        while open() != before {
            let open = open();
            assert!(Instant::now() < deadline, "{before:?} were open, {open:?} are after {name}");
            thread::yield_now();
        }
    }
}

/// Descriptors and threads.
fn open() -> (usize, usize) {
    let count = |folder| std::fs::read_dir(folder).expect("Linux").count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

fn options() -> Options {
    Options {
        hello_timeout: LONG,
        frame_timeout: LONG,
        answer_timeout: LONG,
        ..Options::new(STORE)
    }
}

/// A proxy that behaves, and must not notice anything.
struct Good<'c> {
    control: &'c Control,
    proxy: FakeProxy,
    number: u64,
}

impl<'c> Good<'c> {
    fn connect(control: &'c Control) -> Self {
        Self { control, proxy: control.connect("good"), number: 0 }
    }

    fn still_gets_snapshots(&mut self) {
        self.number += 1;
        self.control.publisher.publish("good", snapshot(1), epoch(self.number));
        assert_eq!(self.proxy.next_epoch(), epoch(self.number));
        assert!(self.proxy.apply(epoch(self.number)));
        self.control.wait_for("good", |proxy| proxy.running == Some(epoch(self.number)));
    }
}

/// Waits until the other side has closed, whatever it said before.
fn wait_for_the_end(mut stream: &UnixStream) {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

fn connect(socket: &Path) -> UnixStream {
    UnixStream::connect(socket).expect("listening")
}

fn a_silent_crowd_makes_room() {
    let control = Control::start(Options { connections_max: 16, ..options() });
    let mut good = Good::connect(&control);
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.extend((0..20).map(|_| connect(&control.socket())));
        good.still_gets_snapshots();
        // Whoever has something to say is heard.
        drop(control.connect("newcomer"));
    }
    control.wait_for_refusal("no Hello had come when others needed the place");
    wait_for_the_end(&crowd[0]);
}

fn whoever_says_nothing_is_sent_away() {
    let control = Control::start(Options { hello_timeout: INSTANT, ..options() });
    let silent = connect(&control.socket());
    let mut slow = connect(&control.socket());
    slow.write_all(b"\x05\0\0").expect("room");
    wait_for_the_end(&silent);
    wait_for_the_end(&slow);
    control.wait_for_refusal("no Hello came within 1 ms");
}

fn a_full_house_refuses() {
    let control = Control::start(Options { connections_max: 3, ..options() });
    let mut good = Good::connect(&control);
    let one = control.connect("one");
    let _another = control.connect("another");
    assert!(FakeProxy::connect(&control.socket(), hello("late")).is_err());
    control.wait_for_refusal("has 3 connections, which is all that it takes");
    good.still_gets_snapshots();
    drop(one);
    wait_until(|| FakeProxy::connect(&control.socket(), hello("late")).is_ok());
}

fn garbage_ends_only_its_own_connection() {
    let control = Control::start(options());
    let mut good = Good::connect(&control);
    let cases: [(&[u8], &str); 7] = [
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of 542393671 bytes"),
        (b"\xff\xff\xff\xff\x01", "a frame of 4294967295 bytes"),
        (b"\x01\0\0\0\x63x", "a message of unknown kind 99"),
        (b"\x01\0\0\0\x43x", "a message of unknown kind 67"),
        (b"\x01\0\0\0\x81x", "a descriptor was announced"),
        (b"\0\0\0\0\x01", "a Hello message can't be decoded"),
        (b"\x01\0\0\0\x02x", "an Applied message can't be decoded"),
    ];
    for (bytes, reason) in cases {
        let mut stream = connect(&control.socket());
        stream.write_all(bytes).expect("room");
        wait_for_the_end(&stream);
        control.wait_for_refusal(reason.trim_start_matches("an Applied "));
        good.still_gets_snapshots();
    }
    // From one that was welcome.
    let hello_frame = || ToControl::Hello(hello("bad")).into_frame().expect("within bounds");
    let cases = [
        (Frame { kind: 99, payload: vec![], descriptor: None }, "unknown kind 99"),
        (Frame { kind: 3, payload: vec![255; 50], descriptor: None }, "a Rejected message"),
        (hello_frame(), "no other may be one"),
    ];
    for (frame, reason) in cases {
        let mut proxy = control.connect("bad");
        assert!(proxy.send(&frame));
        assert!(proxy.next().is_none());
        control.wait_for_refusal(reason);
        good.still_gets_snapshots();
    }
    // And an answer before the Hello.
    let mut proxy = FakeProxy::open(&control.socket()).expect("listening");
    assert!(proxy.reject(epoch(1), "no"));
    assert!(format!("{:?}", proxy.hear()).contains("the first message must be a Hello"));
}

fn half_frames_are_not_waited_for() {
    let control = Control::start(Options { frame_timeout: Duration::from_millis(20), ..options() });
    let mut good = Good::connect(&control);
    let frame = ToControl::Hello(hello("half")).into_frame().expect("within bounds");
    let length = (frame.payload.len() as u32).to_le_bytes();
    let bytes = [&length[..], &[frame.kind], &frame.payload].concat();
    // Whoever closes in the middle is gone at once.
    for length in 0..bytes.len() {
        let mut stream = connect(&control.socket());
        stream.write_all(&bytes[..length]).expect("room");
        stream.shutdown(Shutdown::Write).expect("open");
        wait_for_the_end(&stream);
    }
    // Whoever stops in the middle, after a while.
    let mut stream = connect(&control.socket());
    stream.write_all(&bytes).expect("room");
    stream.write_all(b"\x09\0\0\0\x02abc").expect("room");
    wait_for_the_end(&stream);
    control.wait_for_refusal("the peer took longer than allowed for a frame");
    wait_until(|| control.proxy("half").is_none());
    good.still_gets_snapshots();
}

fn floods_end() {
    let control = Control::start(options());
    let mut good = Good::connect(&control);
    let mut applies = control.connect("applies");
    let mut rejects = control.connect("rejects");
    wait_until(|| !applies.apply(epoch(1)));
    wait_until(|| !rejects.reject(epoch(1), &"no\n".repeat(1000)));
    control.wait_for_refusal("answers again and again what it was never sent");
    wait_until(|| control.publisher.status().proxies.len() == 1);
    good.still_gets_snapshots();
}

fn who_never_reads_is_given_up() {
    let few = Duration::from_millis(20);
    let control =
        Control::start(Options { frame_timeout: few, answer_timeout: INSTANT, ..options() });
    let mut good = Good::connect(&control);
    let (inline, beside) = (snapshot(1_000), snapshot(20_000));
    let mut deaf =
        [control.connect("deaf"), control.connect("liar"), control.connect("large-liar")];
    for number in 1.. {
        control.publisher.publish("deaf", inline.clone(), epoch(number));
        control.publisher.publish("liar", inline.clone(), epoch(number));
        control.publisher.publish("large-liar", beside.clone(), epoch(number));
        // As if it had read it.
        deaf[1].apply(epoch(number));
        deaf[2].apply(epoch(number));
        good.still_gets_snapshots();
        let is_there = |name| control.proxy(name).expect("known").connection.is_some();
        if !["deaf", "liar", "large-liar"].into_iter().any(is_there) {
            break;
        }
    }
    control.wait_for_refusal("the peer took longer than allowed for a frame");
}

fn a_storm_of_connections_passes() {
    let control = Control::start(Options { connections_max: 16, ..options() });
    let mut good = Good::connect(&control);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    drop(connect(&control.socket()));
                }
            });
        }
        for _ in 0..20 {
            good.still_gets_snapshots();
        }
    });
    control.connect("newcomer");
}

fn random_crowds_end_on_the_latest() {
    let replayed = std::env::var("LATEEN_SEED").ok();
    let replayed = replayed.map(|seed| seed.parse().expect("LATEEN_SEED is a number"));
    for seed in replayed.map_or_else(|| (1..=8).collect(), |seed: u64| vec![seed]) {
        let ended = catch_unwind(|| random_crowd(seed));
        assert!(ended.is_ok(), "LATEEN_SEED={seed} replays it");
    }
}

/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a crowd does.
#[derive(Default)]
struct Mood {
    /// From now on everyone applies what it gets.
    is_calm: AtomicBool,
    is_over: AtomicBool,
}

fn random_crowd(seed: u64) {
    const PROXIES: u64 = 24;
    const LAST: u64 = 300;
    let answer_timeout = Duration::from_millis(3);
    let control = Control::start(Options { answer_timeout, ..options() });
    let socket = control.socket();
    let mood = Mood::default();
    let name = |n: u64| format!("proxy-{n}");
    thread::scope(|scope| {
        let (mood, socket) = (&mood, &*socket);
        let spawn = |n| scope.spawn(move || random_proxy(socket, &name(n), seed ^ (n << 32), mood));
        let proxies: Vec<_> = (0..PROXIES).map(spawn).collect();
        let mut random = SplitMix(seed);
        let contents = [snapshot(1), snapshot(100), snapshot(20_000)];
        for number in 1..LAST {
            let content = &contents[random.below(40).saturating_sub(37) as usize];
            for n in 0..PROXIES {
                match random.below(20) {
                    0..10 => {}
                    10 => drop(control.publisher.withdraw(&name(n))),
                    _ => drop(control.publisher.publish(&name(n), content.clone(), epoch(number))),
                }
            }
            thread::yield_now();
        }
        mood.is_calm.store(true, Ordering::SeqCst);
        let content = Arc::clone(&contents[0]);
        for n in 0..PROXIES {
            control.publisher.publish(&name(n), content.clone(), epoch(LAST));
        }
        wait_until(|| {
            let status = control.publisher.status();
            let is_current = |n| status.proxies.iter().any(|p| is_on(p, &name(n), epoch(LAST)));
            (0..PROXIES).all(is_current)
        });
        mood.is_over.store(true, Ordering::SeqCst);
        drop(control);
        for proxy in proxies {
            assert_eq!(proxy.join().expect("no panic"), Some(epoch(LAST)));
        }
    });
}

fn is_on(proxy: &lateen_control::status::ProxyStatus, name: &str, wanted: Epoch) -> bool {
    let is_it = proxy.name == name && proxy.state == ProxyState::Current;
    is_it && (proxy.wanted, proxy.running) == (Some(wanted), Some(wanted))
}

/// Applies, rejects, ignores and dies as chance will have it; returns what it runs in the end.
fn random_proxy(socket: &Path, name: &str, seed: u64, mood: &Mood) -> Option<Epoch> {
    let mut random = SplitMix(seed);
    let mut running = None;
    while !mood.is_over.load(Ordering::SeqCst) {
        let mut hello = hello(name);
        hello.running = running;
        let proxy = FakeProxy::connect(socket, hello);
        let Ok(mut proxy) = proxy else {
            assert!(mood.is_over.load(Ordering::SeqCst), "{:?}", proxy.err());
            break;
        };
        let mut last = running;
        while let Some((epoch, _)) = proxy.next() {
            assert!(last.is_none_or(|last| last.number < epoch.number), "{last:?} {epoch}");
            last = Some(epoch);
            let is_calm = mood.is_calm.load(Ordering::SeqCst);
            match if is_calm { 0 } else { random.below(20) } {
                0..10 => {
                    // What it runs is on its disk, also if the answer does not get through.
                    running = Some(epoch);
                    proxy.apply(epoch);
                }
                10..13 => {
                    proxy.reject(epoch, "by chance");
                }
                13..16 => {}
                16 => {
                    proxy.send(&Frame { kind: 99, payload: vec![], descriptor: None });
                }
                _ => break,
            }
        }
    }
    running
}
