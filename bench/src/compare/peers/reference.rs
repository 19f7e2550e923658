//! The reference programs of `perf/floor`: how little a forwarder can cost, which none of the proxies
//! reaches, as each of them does more.

use super::{Found, Launch, Proxy, Setting, built_here, given_or, text_of, words};
use crate::compare::scenarios::Family;
use std::path::PathBuf;

const FOLDERS: [&str; 2] = ["perf/target/dist", "perf/target/release"];
const MISSING: &str = "the reference programs are not there (cargo build --profile dist \
                       --manifest-path perf/Cargo.toml, or --peer-bin floor=PATH)";
/// From here on splicing costs less than copying, and the floor splices.
const SPLICE_BYTES: u64 = 1 << 20;

/// `floor`, and its fellows for bytes and for large answers.
#[derive(Debug)]
pub struct Floor {
    /// The program, if it was named; its fellows are beside it.
    pub program: Option<PathBuf>,
}

impl Floor {
    fn program(&self) -> Result<PathBuf, String> {
        given_or(self.program.as_deref(), || built_here("floor", &FOLDERS), MISSING)
    }
}

impl Proxy for Floor {
    fn name(&self) -> &str {
        "floor"
    }

    fn about(&self) -> String {
        "the reference programs of perf/floor, one thread: a forwarder with no limits, timeouts, metrics \
         or ids (a bare pipe for TCP; those that splice for messages and answers of 1 MiB)"
            .to_owned()
    }

    fn find(&self) -> Result<Found, String> {
        self.program().map(|_| Found::default())
    }

    fn launch(&self, setting: &Setting) -> Result<Launch, String> {
        if setting.workers > 1 {
            return Err("it has one thread".to_owned());
        }
        if setting.revision.is_some() {
            return Err("it has no config".to_owned());
        }
        if setting.profile == crate::results::Profile::Mesh {
            return Err("it has no logs, ids or metrics".to_owned());
        }
        let floor = self.program()?;
        let (program, more) = match setting.family {
            Family::Tcp if setting.body_bytes >= SPLICE_BYTES => {
                (floor.with_file_name("pipe"), words(["--mode", "splice"]).to_vec())
            }
            Family::Tcp => (floor.with_file_name("pipe"), words(["--mode", "copy"]).to_vec()),
            Family::Http1 if setting.body_bytes >= SPLICE_BYTES => {
                (floor.with_file_name("floor_splice"), Vec::new())
            }
            Family::Http1 => (floor, Vec::new()),
        };
        let mut command = vec![text_of(&program)];
        command.extend(more);
        command.extend(["--listen".to_owned(), format!("127.0.0.1:{}", setting.listen_port)]);
        command.extend(["--upstream".to_owned(), format!("127.0.0.1:{}", setting.upstream_port)]);
        Ok(Launch { command, ..Launch::default() })
    }
}
