//! What is going to be measured: peers and rows, made of the arguments. Whatever can be wrong about them
//! is said here, before anything is started.

use super::arguments::CompareArguments;
use super::generator::Length;
use super::peers::Proxy;
use super::peers::described::Described;
use super::peers::envoy::Envoy;
use super::peers::haproxy::Haproxy;
use super::peers::lateen::Lateen;
use super::peers::nginx::Nginx;
use super::peers::reference::Floor;
use super::scenarios::{Scenario, chosen};
use crate::results::{Peer, Profile};
use anyhow::{bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorter than this, a load is its own begin and end.
const DURATION_MIN: Duration = Duration::from_millis(10);

/// The peer that is none: the upstream itself.
pub const DIRECT: &str = "direct";

/// Everything that is going to be measured.
#[derive(Debug)]
pub struct Plan {
    /// In the order of a round.
    pub contestants: Vec<Contestant>,
    /// In the order in which they run.
    pub rows: Vec<(&'static Scenario, Profile)>,
    /// Rounds of a row.
    pub runs: u32,
    /// Of a load.
    pub length: Length,
    /// Of a disturbed load.
    pub repeats: u32,
    /// Whether time counts instructions.
    pub instruction_clock: bool,
    /// What was asked for and won't be there.
    pub remarks: Vec<String>,
}

/// A peer that was asked for.
#[derive(Debug)]
pub struct Contestant {
    /// What the results say of it.
    pub peer: Peer,
    /// What starts it; `None` for `direct`.
    pub proxy: Option<Box<dyn Proxy>>,
}

impl Plan {
    /// Makes it. Errors are the user's, and say which argument they are about.
    pub fn of(arguments: &CompareArguments) -> anyhow::Result<Self> {
        let contestants = contestants_of(arguments)?;
        let mut remarks = Vec::new();
        let mut profiles: Vec<Profile> =
            arguments.profile.iter().map(|one| (*one).into()).collect();
        profiles.sort_unstable();
        profiles.dedup();
        let mut rows = Vec::new();
        for profile in profiles {
            for scenario in chosen(&arguments.scenarios, arguments.quick)? {
                let excluded =
                    scenario.not_by_instructions().filter(|_| arguments.instruction_clock);
                if let Some(why) = excluded {
                    remarks.push(format!(
                        "{} is not run by an instruction clock: {why}.",
                        scenario.name
                    ));
                } else if scenario.has(profile) {
                    rows.push((scenario, profile));
                }
            }
        }
        remarks.dedup();
        ensure!(!rows.is_empty(), "nothing to measure: {}", nothing_because(&remarks));
        let (runs, time_ms, repeats) = if arguments.quick { (3, 1_500, 0) } else { (5, 4_000, 2) };
        let time = arguments.duration.unwrap_or(Duration::from_millis(time_ms));
        ensure!(
            time >= DURATION_MIN,
            "--duration {time:?}: a load takes {DURATION_MIN:?} at least, and says something from 1s on"
        );
        Ok(Self {
            contestants,
            rows,
            runs: arguments.runs.unwrap_or(runs),
            length: arguments.requests.map_or(Length::Time(time), Length::Requests),
            repeats: arguments.repeats.filter(|_| !arguments.instruction_clock).unwrap_or(repeats),
            instruction_clock: arguments.instruction_clock,
            remarks,
        })
    }
}

fn nothing_because(remarks: &[String]) -> String {
    match remarks {
        [] => "TCP has no ids and no request log, so that it has rows in the profile bare only"
            .to_owned(),
        remarks => remarks.join(" "),
    }
}

/// Every proxy that this program knows, in the order of a round.
fn known(given: &BTreeMap<String, PathBuf>) -> Vec<Box<dyn Proxy>> {
    // A variant takes its own name's program, else that of the proxy it is a variant of.
    let program = |names: [&str; 2]| names.iter().find_map(|name| given.get(*name)).cloned();
    let lateen = |name, engine| {
        Box::new(Lateen { name, engine, program: program([name, "lateen"]) }) as Box<dyn Proxy>
    };
    let nginx = |name, tuned| Nginx { tuned, program: program([name, "nginx"]) };
    let haproxy = |name, tuned| Haproxy { tuned, program: program([name, "haproxy"]) };
    vec![
        lateen("lateen", "uring"),
        lateen("lateen-epoll", "epoll"),
        Box::new(nginx("nginx", false)),
        Box::new(nginx("nginx-tuned", true)),
        Box::new(haproxy("haproxy", false)),
        Box::new(haproxy("haproxy-tuned", true)),
        Box::new(Envoy { program: program(["envoy"; 2]) }),
        Box::new(Floor { program: program(["floor"; 2]) }),
    ]
}

fn contestants_of(arguments: &CompareArguments) -> anyhow::Result<Vec<Contestant>> {
    let given = programs_of(&arguments.peer_bin)?;
    let mut proxies = known(&given);
    let built_in: Vec<String> = proxies.iter().map(|proxy| proxy.name().to_owned()).collect();
    if let Some(name) = given.keys().find(|name| !built_in.contains(name)) {
        bail!("--peer-bin {name}=…: known are {}", built_in.join(", "));
    }
    for path in &arguments.peer_file {
        let described = Described::read(path)?;
        let taken = described.name() == DIRECT
            || proxies.iter().any(|proxy| proxy.name() == described.name());
        let name = described.name();
        ensure!(!taken, "--peer-file {}: the name {name} is taken", path.display());
        proxies.push(Box::new(described));
    }
    let mut names: Vec<String> = proxies.iter().map(|proxy| proxy.name().to_owned()).collect();
    names.push(DIRECT.to_owned());
    let wanted = if arguments.peers.is_empty() { names.clone() } else { arguments.peers.clone() };
    let mut contestants: Vec<Contestant> = Vec::new();
    for name in &wanted {
        ensure!(names.contains(name), "--peers {name}: known are {}", names.join(", "));
        if contestants.iter().any(|contestant| contestant.peer.name == *name) {
            continue;
        }
        let position = proxies.iter().position(|proxy| proxy.name() == name);
        contestants.push(contestant(position.map(|position| proxies.swap_remove(position))));
    }
    Ok(contestants)
}

fn contestant(proxy: Option<Box<dyn Proxy>>) -> Contestant {
    let Some(proxy) = proxy else {
        let about = "no proxy: the load asks the upstream itself".to_owned();
        let peer = Peer { name: DIRECT.to_owned(), about, ..Peer::default() };
        return Contestant { peer, proxy: None };
    };
    let mut peer = Peer { name: proxy.name().to_owned(), about: proxy.about(), ..Peer::default() };
    match proxy.find() {
        Ok(found) => {
            (peer.version, peer.released, peer.newer) =
                (found.version, found.released, found.newer);
        }
        Err(why) => peer.not_run = Some(why),
    }
    Contestant { peer, proxy: Some(proxy) }
}

/// Absolute, as a proxy is started in a folder of its own.
fn programs_of(given: &[(String, PathBuf)]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let of = |(name, path): &(String, PathBuf)| {
        Ok((name.clone(), std::path::absolute(Path::new(path))?))
    };
    given.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        compare: CompareArguments,
    }

    fn plan(line: &str) -> anyhow::Result<Plan> {
        let words = ["compare"].into_iter().chain(line.split_whitespace());
        Plan::of(&Line::try_parse_from(words)?.compare)
    }

    fn error(line: &str) -> String {
        format!("{:#}", plan(line).expect_err("it is wrong"))
    }

    #[test]
    fn everyone_takes_part_unless_named() {
        let names = |line: &str| -> Vec<String> {
            let plan = plan(line).expect("it is right");
            plan.contestants.into_iter().map(|contestant| contestant.peer.name).collect()
        };
        assert_eq!(
            names("").join(" "),
            "lateen lateen-epoll nginx nginx-tuned haproxy haproxy-tuned envoy floor direct"
        );
        assert_eq!(names("--peers direct,nginx,direct"), ["direct", "nginx"]);
    }

    #[test]
    fn a_peer_that_is_missing_is_listed_with_how_to_get_it() {
        let plan =
            plan("--peers envoy,nginx --peer-bin envoy=/nowhere/envoy").expect("it is right");
        let why = plan.contestants[0].peer.not_run.as_deref().expect("it is missing");
        assert!(why.contains("/nowhere/envoy is no program"), "{why}");
    }

    #[test]
    fn says_which_argument_is_wrong() {
        for (line, why) in [
            ("--peers apache", "--peers apache: known are lateen, lateen-epoll, nginx"),
            ("--peer-bin apache=/bin/true", "--peer-bin apache=…: known are lateen"),
            ("--peer-file /nowhere.toml", "--peer-file /nowhere.toml"),
            ("--scenarios http9", "--scenarios http9: known are"),
            ("--scenarios tcp-64 --profile mesh", "profile bare only"),
            ("--instruction-clock", "--requests"),
            ("--duration 9ms", "--duration 9ms: a load takes 10ms at least"),
            ("--duration 100us", "--duration 100µs: a load takes 10ms at least"),
            ("--scenarios memory --requests 9 --instruction-clock", "times mean nothing"),
        ] {
            assert!(error(line).contains(why), "{line}: {}", error(line));
        }
    }

    #[test]
    fn rows_are_those_of_each_profile() {
        let plan = plan("--quick --profile mesh,bare").expect("it is right");
        let rows: Vec<(&str, Profile)> =
            plan.rows.iter().map(|(scenario, profile)| (scenario.name, *profile)).collect();
        assert_eq!(
            rows,
            [
                ("http1-keepalive-64", Profile::Bare),
                ("http1-body-64k", Profile::Bare),
                ("tcp-64", Profile::Bare),
                ("http1-keepalive-64", Profile::Mesh),
                ("http1-body-64k", Profile::Mesh),
            ]
        );
        assert_eq!((plan.runs, plan.length), (3, Length::Time(Duration::from_millis(1_500))));
    }
}
