//! The thread that decides which endpoints are out of service, for all workers.
//!
//! Before: workers rang, a snapshot was published, a time came, or a probe was answered. After: what is
//! decided stands on the board of the cluster. It sleeps while nothing is ejected, compared or checked.
//! It never touches a packet of a client's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use lateen_snapshot::model::Cluster;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};

use crate::health::board::{Desk, Notice};
use crate::health::breaking::Breaking;
use crate::health::checking::Checking;
use crate::health::ejecting::Ejecting;
use crate::health::orders;
use crate::health::probe::{Found, Lane, Probes, Wanted, What};
use crate::loaded::{Loaded, Published};
use crate::observe::metrics::Metrics;
use crate::totals::ClusterTotals;

/// Starts it. It ends with the process.
///
/// # Errors
/// The kernel refuses a thread or a descriptor.
pub fn start(published: Arc<Published>, metrics: Arc<Metrics>) -> io::Result<()> {
    let desk = published.loaded().totals.desk.clone();
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    // Rung once: it begins by looking at what the process starts on.
    if desk.take_up(rustix::event::eventfd(1, flags)?) {
        let health = Health::new(desk, published, metrics);
        thread::Builder::new().name("health".to_owned()).spawn(move || health.run())?;
    }
    Ok(())
}

/// Something that is due some time. What it was for may be over by then, which is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    at_ns: u64,
    /// Its name, or that of a route for a breaker.
    cluster: Arc<str>,
    due: Due,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// Endpoints are compared, unless that is done under another number.
    Sweep(u64),
    /// The time of some ejections is over.
    Return,
    /// An ejected endpoint is connected to, unless that is no longer done under this number.
    Reconnect(SocketAddr, u64),
    /// An endpoint is checked, unless it is no longer checked under this number.
    Check(SocketAddr, u64),
    /// A breaker's turn of this number is over.
    Breaker(u64),
}

/// Why a probe was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The endpoint is ejected, and connected to under this number.
    Reconnect(u64),
    /// It is checked, under this number.
    Check(u64),
}

/// What the parts of it share while something is decided.
pub(super) struct Desktop {
    /// The time, from the thread's start.
    pub(super) now_ns: u64,
    pub(super) metrics: Arc<Metrics>,
    timers: BinaryHeap<Reverse<Timer>>,
    probes: Probes<(usize, Purpose)>,
    /// The clusters that probes are of, by the number in their tag.
    probed: Vec<Option<Arc<str>>>,
    /// Numbers that no tag has.
    free: Vec<usize>,
    /// Given out so far.
    numbers: u64,
}

impl Desktop {
    pub(super) const fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            now_ns: 0,
            metrics,
            timers: BinaryHeap::new(),
            probes: Probes::new(),
            probed: Vec::new(),
            free: Vec::new(),
            numbers: 0,
        }
    }

    /// Evenly spread bits.
    pub(super) fn random(&self) -> u64 {
        RandomState::new().hash_one(self.now_ns)
    }

    /// A number that was not given out before.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Something will be due.
    pub(super) fn set_timer(&mut self, cluster: &Arc<str>, after_ns: u64, due: Due) {
        let at_ns = self.now_ns.saturating_add(after_ns);
        self.timers.push(Reverse(Timer { at_ns, cluster: cluster.clone(), due }));
    }

    /// An endpoint is probed.
    pub(super) fn probe(
        &mut self,
        cluster: &Arc<str>,
        address: SocketAddr,
        (purpose, what): (Purpose, What),
        timeout_ns: u64,
    ) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.probed.push(None);
            self.probed.len() - 1
        });
        self.probed[place] = Some(cluster.clone());
        let tag = (place, purpose);
        let lane = match purpose {
            Purpose::Reconnect(_) => Lane::Reconnect,
            Purpose::Check(_) => Lane::Check,
        };
        self.probes.want(Wanted { address, what, timeout_ns, lane, tag }, self.now_ns);
    }
}

/// A cluster that there is something to decide of.
pub(super) struct Ward {
    pub(super) name: Arc<str>,
    pub(super) spec: Arc<Cluster>,
    pub(super) totals: Arc<ClusterTotals>,
    pub(super) ejecting: Ejecting,
    pub(super) checking: Checking,
}

impl Ward {
    pub(super) fn new(spec: &Arc<Cluster>, totals: Arc<ClusterTotals>) -> Self {
        Self {
            name: Arc::from(&*spec.name),
            spec: Arc::clone(spec),
            totals,
            ejecting: Ejecting::default(),
            checking: Checking::default(),
        }
    }
}

struct Health {
    desk: Arc<Desk>,
    published: Arc<Published>,
    began: Instant,
    /// Of the snapshot that the clusters are of.
    serial: u64,
    clusters: HashMap<Arc<str>, Ward>,
    breaking: Breaking,
    top: Desktop,
}

impl Health {
    fn new(desk: Arc<Desk>, published: Arc<Published>, metrics: Arc<Metrics>) -> Self {
        let top = Desktop::new(metrics);
        let began = Instant::now();
        Self {
            desk,
            published,
            began,
            serial: 0,
            clusters: HashMap::new(),
            breaking: Breaking::default(),
            top,
        }
    }

    fn run(mut self) {
        loop {
            self.wait();
            self.top.now_ns = self.began.elapsed().as_nanos() as u64;
            let loaded = self.published.loaded();
            if loaded.serial != self.serial {
                self.adopt(&loaded);
            }
            // Never the last to let go of a snapshot that others have done with.
            drop(loaded);
            for notice in self.desk.take() {
                self.hear(notice);
            }
            for notice in self.desk.take_breakers() {
                self.breaking.hear(&mut self.top, notice);
            }
            for ((place, purpose), address, found) in self.top.probes.take_done(self.top.now_ns) {
                let of = self.top.probed[place].take();
                self.top.free.push(place);
                self.found(of, purpose, address, found);
            }
            while let Some(timer) = self.next_due() {
                self.is_due(&timer);
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self) {
        let bell = self.desk.bell().expect("it was taken up before the thread began");
        let mut watched = vec![PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        watched.extend(self.top.probes.watched());
        let of_timers = self.top.timers.peek().map(|Reverse(timer)| timer.at_ns);
        let next_ns = of_timers.into_iter().chain(self.top.probes.next_ns()).min();
        let timeout = next_ns.map(|next_ns| {
            let left_ns = next_ns.saturating_sub(self.began.elapsed().as_nanos() as u64);
            Timespec {
                tv_sec: (left_ns / 1_000_000_000) as i64,
                tv_nsec: (left_ns % 1_000_000_000) as i64,
            }
        });
        // EINTR: then it looks once too often.
        let _ = rustix::event::poll(&mut watched, timeout.as_ref());
        // EAGAIN: nobody rang.
        let _ = rustix::io::read(bell, &mut [0; 8]);
    }

    /// Goes on with what a new snapshot has.
    fn adopt(&mut self, loaded: &Loaded) {
        self.breaking.tidy(&mut self.top, &loaded.snapshot.routes);
        orders::count(&self.top.metrics.health, &loaded.snapshot);
        self.serial = loaded.serial;
        let mut there: HashMap<&str, &Arc<Cluster>> = HashMap::new();
        for cluster in &loaded.snapshot.clusters {
            let is_checked = cluster.policy.health_check.is_some();
            if is_checked && !self.clusters.contains_key(&*cluster.name) {
                let ward = Ward::new(cluster, loaded.totals.of_cluster(&cluster.name));
                self.clusters.insert(ward.name.clone(), ward);
            }
            if self.clusters.contains_key(&*cluster.name) {
                there.insert(&cluster.name, cluster);
            }
        }
        let top = &mut self.top;
        self.clusters.retain(|name, ward| {
            let spec = there.get(&**name);
            if let Some(spec) = spec {
                ward.spec = Arc::clone(spec);
            }
            ward.ejecting_tidy(top, spec.is_some());
            ward.check_as_told(top, spec.is_some());
            spec.is_some() && ward.is_needed()
        });
    }

    fn hear(&mut self, notice: Notice) {
        let Notice { cluster, totals, failing } = notice;
        let ward = match self.clusters.get_mut(&*cluster.name) {
            Some(ward) => ward,
            None => {
                // The worker's may be of an older snapshot.
                let loaded = self.published.loaded();
                let mut clusters = loaded.snapshot.clusters.iter();
                let Some(spec) = clusters.find(|of| of.name == cluster.name) else { return };
                let ward = Ward::new(spec, totals);
                self.clusters.entry(ward.name.clone()).or_insert(ward)
            }
        };
        match failing {
            Some(address) => ward.endpoint_fails(&mut self.top, address),
            None => ward.begin_comparing(&mut self.top),
        }
    }

    fn found(&mut self, of: Option<Arc<str>>, purpose: Purpose, address: SocketAddr, found: Found) {
        let Some(ward) = of.and_then(|name| self.clusters.get_mut(&name)) else { return };
        match purpose {
            Purpose::Reconnect(number) => {
                ward.reconnected(&mut self.top, address, number, found);
            }
            Purpose::Check(number) => ward.checked(&mut self.top, address, number, found),
        }
    }

    fn next_due(&mut self) -> Option<Timer> {
        let Reverse(timer) = self.top.timers.peek()?;
        if timer.at_ns > self.top.now_ns {
            return None;
        }
        self.top.timers.pop().map(|Reverse(timer)| timer)
    }

    fn is_due(&mut self, timer: &Timer) {
        if let Due::Breaker(turn) = timer.due {
            return self.breaking.elapsed(&mut self.top, &timer.cluster, turn);
        }
        let Some(ward) = self.clusters.get_mut(&timer.cluster) else { return };
        match timer.due {
            Due::Sweep(number) => ward.compare(&mut self.top, number),
            Due::Return => ward.end_ejections(&mut self.top),
            Due::Reconnect(address, number) => ward.reconnect(&mut self.top, address, number),
            Due::Check(address, number) => ward.check(&mut self.top, address, number),
            Due::Breaker(_) => unreachable!("that is of a route"),
        }
    }
}
