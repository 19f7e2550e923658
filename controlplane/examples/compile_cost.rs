//! How long compiling takes: a mesh of many services, and one proxy that reaches them all.
//!
//! `cargo run --release -p lateen-control --example compile_cost -- [SERVICES [ENDPOINTS [ROUNDS]]]`
//! declares SERVICES services (10,000) of ENDPOINTS endpoints each (10) in twenty namespaces, and
//! prints the median and the longest of ROUNDS (9) for each step: reading the text, resolving it,
//! resolving it after one endpoint changed, the snapshot, and its validation.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lateen_control::compile::{Mesh, resolve, resolve_after};
use lateen_control::language::object::{Declared, Object};
use lateen_control::language::parse::parse;
use lateen_control::language::place::SourceFile;
use lateen_control::resolver::Addresses;
use lateen_snapshot::validate::{Origin, validate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let services: usize = arguments.next().map_or(Ok(10_000), |n| n.parse())?;
    let endpoints: usize = arguments.next().map_or(Ok(10), |n| n.parse())?;
    let rounds: usize = arguments.next().map_or(Ok(9), |n| n.parse())?;

    let file = Arc::new(SourceFile::new("mesh.yaml", text(services, endpoints)?));
    let mut steps = Steps::default();
    let parsed = steps.time("read the text", || parse(&[Arc::clone(&file)]));
    let objects = parsed.declared;
    let mut changed = objects.clone();
    change_one_endpoint(&mut changed);
    let none = Addresses::default();
    let mut mesh = Mesh::default();
    for round in 0..rounds {
        let before = steps.time("resolve", || resolve(&objects)).map_err(|_| "refused")?;
        let after = steps.time("resolve after a change", || resolve_after(&changed, &before));
        mesh = after.map_err(|_| format!("refused in round {round}"))?;
        let snapshot = steps.time("snapshot", || mesh.snapshot("all", &none));
        let snapshot = snapshot.ok_or("no proxy")?;
        steps.time("validate", || validate(&snapshot, Origin::Store))?;
    }
    let clusters = mesh.snapshot("all", &none).ok_or("no proxy")?.clusters.len();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{clusters} clusters; {} objects", objects.len())?;
    for (name, times) in &mut steps.times {
        times.sort();
        let median = times[times.len() / 2].as_secs_f64() * 1e3;
        let longest = times[times.len() - 1].as_secs_f64() * 1e3;
        writeln!(out, "{name:24} median {median:8.1} ms, longest {longest:8.1} ms")?;
    }
    Ok(())
}

fn text(services: usize, endpoints: usize) -> Result<String, std::fmt::Error> {
    let mut text = "{apiVersion: lateen.dev/v1alpha1, kind: Proxy, metadata: {name: all}, spec: \
                    {listeners: [{name: out, type: Outbound, port: 15001, protocol: HTTP}], \
                    outbound: {namespaces: ['*']}}}\n"
        .to_owned();
    for n in 0..services {
        write!(
            text,
            "---\napiVersion: lateen.dev/v1alpha1\nkind: Service\nmetadata: {{name: service-{n}, \
             namespace: team-{}}}\nspec:\n  ports: [{{port: 80}}]\n  endpoints:\n",
            n % 20
        )?;
        for endpoint in 0..endpoints {
            let address = n * endpoints + endpoint;
            let [_, a, b, c] = u32::try_from(address).unwrap_or(0).to_be_bytes();
            writeln!(text, "  - {{address: 10.{a}.{b}.{c}, port: 8080}}")?;
        }
    }
    Ok(text)
}

fn change_one_endpoint(objects: &mut [Arc<Declared>]) {
    for shared in objects {
        let mut declared = Declared::clone(shared);
        if let Object::Service(service) = &mut declared.object
            && let Some(endpoint) = service.endpoints.iter_mut().flatten().next()
        {
            endpoint.port = Some(8081);
            *shared = Arc::new(declared);
            return;
        }
    }
}

#[derive(Default)]
struct Steps {
    times: Vec<(&'static str, Vec<Duration>)>,
}

impl Steps {
    fn time<T>(&mut self, name: &'static str, step: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = step();
        let took = began.elapsed();
        match self.times.iter_mut().find(|one| one.0 == name) {
            Some((_, times)) => times.push(took),
            None => self.times.push((name, vec![took])),
        }
        result
    }
}
