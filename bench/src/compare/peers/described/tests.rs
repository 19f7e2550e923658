//! What descriptions of peers may say, and what is said about those that are wrong.

use super::*;
use crate::compare::scenarios::Family;

const GOOD: &str = r#"
name = "other"
about = "another"
command = ["sh", "--config", "{config}", "--cpus={cpus}"]

[bare]
http1 = "server { listen {listen_port}; to {upstream_port}; log ${client}; in {dir}; }"
"#;

fn error(text: &str) -> String {
    format!("{:#}", Described::parse(text).expect_err("it is wrong"))
}

fn setting(directory: &Path) -> Setting<'_> {
    Setting {
        profile: Profile::Bare,
        family: Family::Http1,
        body_bytes: 100,
        workers: 1,
        cpus: &[0, 3],
        listen_port: 1001,
        upstream_port: 1002,
        admin_port: 1003,
        directory,
        revision: None,
    }
}

#[test]
fn fills_in_placeholders() {
    let peer = Described::parse(GOOD).expect("it is right");
    let launch = peer.launch(&setting(Path::new("/run/x"))).expect("it can");
    assert_eq!(launch.command[1..], ["--config", "/run/x/config", "--cpus=0,3"]);
    // What was found is what is started: /usr/sbin is not on everybody's path.
    assert!(launch.command[0].starts_with('/') && launch.command[0].ends_with("/sh"));
    assert_eq!(launch.files[0].text, "server { listen 1001; to 1002; log ${client}; in /run/x; }");
}

#[test]
fn says_what_it_can_not_do() {
    let peer = Described::parse(GOOD).expect("it is right");
    let base = setting(Path::new("/run/x"));
    for (setting, why) in [
        (Setting { family: Family::Tcp, ..base.clone() }, "no config tcp in [bare]"),
        (Setting { profile: Profile::Mesh, ..base.clone() }, "no config http1 in [mesh]"),
        (Setting { workers: 2, ..base.clone() }, "one worker"),
        (Setting { revision: Some(1), ..base }, "changes of its config"),
    ] {
        let said = peer.launch(&setting).expect_err("it can't");
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_program_that_is_missing_is_said_with_how_to_get_it() {
    let text = GOOD
        .replace("\"sh\", ", "\"no-such-proxy\", ")
        .replace("[bare]", "install = \"cargo install it\"\n[bare]");
    let said = Described::parse(&text).expect("it is right").find().expect_err("it is missing");
    assert_eq!(said, "no-such-proxy is not installed (cargo install it)");
}

#[test]
fn a_relative_path_is_said_to_be_one() {
    let text = GOOD.replace("\"sh\", ", "\"build/no-such-proxy\", ");
    let said = Described::parse(&text).expect("it is right").find().expect_err("it is missing");
    assert!(said.starts_with("build/no-such-proxy: /") && said.contains("relative to"), "{said}");
}

#[test]
fn refuses_what_it_does_not_know() {
    for (wrong, why) in [
        (
            GOOD.replace("{dir}", "{directory}"),
            "{directory} is no placeholder: known are {listen_port}",
        ),
        (GOOD.replace("{cpus}", "{cpu}"), "{cpu} is no placeholder"),
        (GOOD.replace("http1 =", "http2 ="), "[bare] http2: known are http1, tcp"),
        (GOOD.replace("about =", "abuot ="), "unknown field `abuot`"),
        (GOOD.replace("\"other\"\nabout", "\"../other\"\nabout"), "name = \"../other\""),
        (GOOD.replace("[bare]\n", "config_name = \"../x\"\n[bare]\n"), "config_name = \"../x\""),
        (GOOD.lines().take(4).collect::<Vec<_>>().join("\n"), "neither [bare] nor [mesh]"),
        (
            "name = \"x\"\nabout = \"\"\ncommand = []\n[bare]\nhttp1 = \"\"".to_owned(),
            "command = []",
        ),
    ] {
        assert!(error(&wrong).contains(why), "{}", error(&wrong));
    }
}

#[test]
fn braces_of_configs_are_no_placeholders() {
    for text in ["{ listen 1; }", "{}", "{a: 1}", "%{+Q}o", "{Upper}", "${name}", "{unclosed"] {
        assert!(check_placeholders(text).is_ok(), "{text}");
    }
}
