//! `lateen-bench compare` from outside: real nginx and haproxy, the file it writes, and that no process
//! and no folder of it is left, however it ends.

use lateen_bench::compare::peers::haproxy::Haproxy;
use lateen_bench::compare::peers::nginx::Nginx;
use lateen_bench::compare::peers::{Launch, Proxy, Setting};
use lateen_bench::compare::processes::descendants;
use lateen_bench::compare::scenarios::Family;
use lateen_bench::results::{Cost, Entry, Profile, Results};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
const SHORT: [&str; 6] =
    ["--scenarios", "http1-keepalive-1", "--requests", "200", "--repeats", "0"];

fn compare(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen-bench"));
    command.arg("compare").arg("--out").arg(folder.join("results.json")).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn results(folder: &Path) -> Results {
    let text = fs::read_to_string(folder.join("results.json")).expect("results were written");
    Results::parse(&text).expect("they can be read")
}

fn entry<'a>(results: &'a Results, peer: &str) -> &'a Entry {
    let entries = &results.rows[0].entries;
    entries.iter().find(|entry| entry.peer == peer).expect("the peer has an entry")
}

fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}\n{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

/// Runs it to its end, and notes all processes that it ever had.
fn watched(mut child: Child) -> (Output, BTreeSet<u32>) {
    let mut seen = BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() {
        assert!(Instant::now() < end, "it does not end");
        seen.extend(descendants(child.id()));
        thread::sleep(POLL);
    }
    (child.wait_with_output().expect("its output"), seen)
}

/// A process that is gone, or only waits for a parent that is none of ours to notice.
fn is_gone(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn assert_all_gone(seen: &BTreeSet<u32>) {
    assert!(!seen.is_empty(), "it never had a process");
    let end = Instant::now() + PATIENCE;
    while let Some(pid) = seen.iter().find(|pid| !is_gone(**pid)) {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(Instant::now() < end, "{pid} is left: {line}");
        thread::sleep(POLL);
    }
}

#[test]
fn measures_peers_side_by_side() {
    let folder = tempfile::tempdir().expect("a folder");
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../perf/peers/nginx-unbuffered.toml");
    let peers = "direct,nginx,haproxy-tuned,nginx-unbuffered,envoy";
    let mut arguments = vec!["--peers", peers, "--peer-file", example, "--runs", "2"];
    arguments.extend(["--peer-bin", "envoy=/nowhere/envoy"]);
    arguments.extend(SHORT);
    let (output, seen) = watched(compare(folder.path(), &arguments).spawn().expect("it starts"));
    assert!(output.status.success(), "{}", said(&output));
    assert_all_gone(&seen);

    let results = results(folder.path());
    assert!(!results.interrupted);
    let no_counters = results.environment.no_counters.as_deref();
    let known = ["is not permitted", "no hardware counters"];
    assert!(no_counters.is_none_or(|why| known.iter().any(|known| why.contains(known))));
    for peer in ["direct", "nginx", "haproxy-tuned", "nginx-unbuffered"] {
        let entry = entry(&results, peer);
        assert_eq!(entry.not_run, None, "{peer}");
        let rounds: Vec<u32> = entry.samples.iter().map(|sample| sample.round).collect();
        assert_eq!(rounds, [0, 1], "{peer}");
        for sample in &entry.samples {
            assert_eq!(sample.discarded, None, "{peer}");
            assert_eq!(sample.load.as_ref().map(|load| load.requests), Some(200), "{peer}");
            assert!(sample.busy.is_some());
            let cost = sample.cost.as_ref();
            assert_eq!(cost.is_some(), peer != "direct", "{peer}");
            // What is said to be countable is counted, and nothing else.
            let counted = |cost: &Cost| cost.instructions_user.is_some();
            assert!(cost.is_none_or(|cost| counted(cost) == no_counters.is_none()), "{peer}");
            assert!(
                cost.is_none_or(|cost| cost.cpu_us > 0.0 && cost.resident_kib > 100.0),
                "{peer}"
            );
        }
    }
    let nginx = results.peers.iter().find(|peer| peer.name == "nginx").expect("it is listed");
    assert!(nginx.version.as_deref().is_some_and(|version| version.contains("nginx/")));
    let config = &nginx.configs["bare/http1/nginx.conf"];
    assert!(config.contains("keepalive 1024") && config.contains("{dir}/nginx.pid"), "{config}");
    let envoy = results.peers.iter().find(|peer| peer.name == "envoy").expect("it is listed");
    assert_eq!(envoy.not_run.as_deref(), Some("/nowhere/envoy is no program"));
    assert_eq!(entry(&results, "envoy").not_run, envoy.not_run);
    assert!(said(&output).contains("not run: envoy: /nowhere/envoy is no program"));
    assert!(said(&output).contains("lateen-bench report"));
}

/// Two described proxies that don't do what they should.
fn broken(folder: &Path) -> [PathBuf; 2] {
    let ends = "name = \"ends\"\nabout = \"it ends\"\n\
                command = [\"sh\", \"-c\", \"echo out of luck >&2; exit 3\"]\n[bare]\nhttp1 = \"\"\n";
    let wrong = "name = \"wrong\"\nabout = \"it answers wrongly\"\n\
                 command = [\"nginx\", \"-e\", \"stderr\", \"-c\", \"{config}\"]\n[bare]\nhttp1 = '''\n\
                 daemon off; master_process off; pid {dir}/pid; events {}\n\
                 http { access_log off; server { listen 127.0.0.1:{listen_port}; return 200 'x'; } }\n'''\n";
    [("ends", ends), ("wrong", wrong)].map(|(name, text)| {
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, text).expect("a file");
        path
    })
}

#[test]
fn a_peer_that_never_answers_right_is_an_entry_with_its_last_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = broken(folder.path()).map(|path| path.to_string_lossy().into_owned());
    let mut arguments = vec!["--peers", "ends,wrong,direct", "--runs", "1"];
    arguments.extend(["--peer-file", &files[0], "--peer-file", &files[1]]);
    arguments.extend(SHORT);
    let (output, seen) = watched(compare(folder.path(), &arguments).spawn().expect("it starts"));
    assert!(output.status.success(), "the others are measured: {}", said(&output));
    assert_all_gone(&seen);
    let results = results(folder.path());
    let why = |peer| entry(&results, peer).not_run.clone().expect("it did not run");
    assert!(why("ends").contains("out of luck") && why("ends").contains("exit status: 3"));
    assert!(why("wrong").contains("it answered 200 with 1 bytes"), "{}", why("wrong"));
    assert_eq!(entry(&results, "direct").samples.len(), 1);
}

#[test]
fn passes_bytes_on_unread_and_never_writes_over_results() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["--peers", "direct,nginx,haproxy-tuned", "--runs", "1", "--repeats", "0"];
    let rows = ["--scenarios", "tcp-bulk,tcp-connect", "--requests", "100"];
    let arguments = [arguments.as_slice(), &rows].concat();
    let output = compare(folder.path(), &arguments).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    let results = results(folder.path());
    let units: Vec<&str> = results.rows.iter().map(|row| row.unit.as_str()).collect();
    assert_eq!(units, ["MiB", "connection"]);
    for entry in results.rows.iter().flat_map(|row| &row.entries) {
        assert_eq!((entry.samples.len(), &entry.not_run), (1, &None), "{}", entry.peer);
        assert_eq!(entry.samples[0].discarded, None, "{}", entry.peer);
        let requests = entry.samples[0].load.as_ref().map(|load| load.requests);
        assert_eq!(requests, Some(100), "{}", entry.peer);
    }
    let again = compare(folder.path(), &arguments).output().expect("it runs");
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("it holds results already"), "{}", said(&again));
}

#[test]
fn ctrl_c_writes_what_there_is_and_leaves_nothing() {
    let (folder, child, mut seen) = under_way();
    let temporary = folder_of(&seen);
    signal(child.id(), Signal::INT);
    let (output, more) = watched(child);
    seen.extend(more);
    assert_eq!(output.status.code(), Some(130), "{}", said(&output));
    assert_all_gone(&seen);
    assert!(!temporary.exists(), "its temporary folder is left");
    let results = results(folder.path());
    assert!(results.interrupted);
    assert_eq!(results.rows.len(), 1);
}

#[test]
fn its_death_is_the_end_of_what_it_started() {
    let (_folder, child, mut seen) = under_way();
    seen.extend(descendants(child.id()));
    let folder = folder_of(&seen);
    signal(child.id(), Signal::KILL);
    let (_, more) = watched(child);
    seen.extend(more);
    assert_all_gone(&seen);
    // Who is killed can't tidy up.
    fs::remove_dir_all(folder).expect("its temporary folder is there");
}

/// The temporary folder of a comparison, from nginx's command line: `-p FOLDER/nginx-0`.
fn folder_of(processes: &BTreeSet<u32>) -> PathBuf {
    let folder = processes.iter().find_map(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let prefix = line.split('\0').skip_while(|word| *word != "-p").nth(1)?;
        Some(Path::new(prefix).parent()?.to_owned())
    });
    let folder = folder.expect("nginx runs");
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    assert!(name.starts_with("lateen-compare-"), "{name}");
    folder
}

/// A comparison that would take an hour, and runs its first load on nginx.
fn under_way() -> (TempDir, Child, BTreeSet<u32>) {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["--peers", "nginx", "--scenarios", "http1-keepalive-1", "--duration", "1h"];
    let child = compare(folder.path(), &arguments).spawn().expect("it starts");
    let mut seen = BTreeSet::new();
    let end = Instant::now() + PATIENCE;
    let is = |pid: &u32, word: &str| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').nth(1) == Some(word)
    };
    while !(seen.iter().any(|pid| is(pid, "load")) && seen.iter().any(|pid| is(pid, "-e"))) {
        assert!(Instant::now() < end, "it does not come to its first load");
        seen.extend(descendants(child.id()));
        thread::sleep(POLL);
    }
    (folder, child, seen)
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a pid");
    kill_process(pid, signal).expect("it is there");
}

#[test]
fn wrong_arguments_are_told_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, why) in [
        (["--peers", "apache"], "--peers apache: known are lateen"),
        (["--scenarios", "http9"], "--scenarios http9: known are http1-keepalive-64"),
        (["--peer-file", "/nowhere.toml"], "/nowhere.toml"),
        (["--peer-bin", "nginx"], "NAME=PATH"),
    ] {
        let output = compare(folder.path(), &arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).contains(why), "{}", said(&output));
    }
    assert!(!folder.path().join("results.json").exists());
}

#[test]
fn lists_scenarios_and_peers() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = compare(folder.path(), &["--list"]).output().expect("it runs");
    for word in ["http1-rates", "config-change", "tls-*", "nginx-tuned", "envoy", "direct"] {
        assert!(said(&output).contains(word), "{word}");
    }
    assert!(!folder.path().join("results.json").exists());
}

/// Every config that these two can be given, as the programs themselves judge it.
#[test]
fn programs_accept_their_configs() {
    let nginx = |tuned| Box::new(Nginx { tuned, program: None }) as Box<dyn Proxy>;
    let haproxy = |tuned| Box::new(Haproxy { tuned, program: None }) as Box<dyn Proxy>;
    for (proxy, check) in
        [(nginx(false), "-t"), (nginx(true), "-t"), (haproxy(false), "-c"), (haproxy(true), "-c")]
    {
        for (profile, family, workers, revision) in [
            (Profile::Bare, Family::Http1, 1, None),
            (Profile::Mesh, Family::Http1, 1, None),
            (Profile::Bare, Family::Tcp, 1, None),
            (Profile::Bare, Family::Http1, 2, None),
            (Profile::Bare, Family::Http1, 1, Some(7)),
            (Profile::Mesh, Family::Http1, 1, Some(7)),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let setting = Setting {
                profile,
                family,
                body_bytes: 100,
                workers,
                cpus: &[0],
                listen_port: 40_001,
                upstream_port: 40_002,
                admin_port: 40_003,
                directory: folder.path(),
                revision,
            };
            let launch = proxy.launch(&setting).unwrap_or_else(|why| panic!("{why}"));
            let text = &launch.files[0].text;
            let shares = proxy.name().starts_with("nginx") && workers > 1;
            assert_eq!(text.contains("reuseport"), shares, "{text}");
            let pool = ["keepalive_timeout 3600s", "pool-purge-delay 3600s"];
            let kept = pool.iter().any(|word| text.contains(word));
            assert_eq!(kept, family == Family::Http1, "{text}");
            accept(&launch, check, proxy.name());
        }
    }
}

fn accept(launch: &Launch, check: &str, name: &str) {
    for file in &launch.files {
        fs::write(&file.path, &file.text).expect("a file");
    }
    let output = Command::new(&launch.command[0])
        .args(&launch.command[1..])
        .arg(check)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{name}: {}\n{}", said(&output), launch.files[0].text);
    assert!(!said(&output).contains("[WARNING]"), "{name}: {}", said(&output));
}
