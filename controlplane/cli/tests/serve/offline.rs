//! What needs no control plane.

use insta::assert_snapshot;
use lateen_control::language::diagnostic::Report;

use crate::fake_proxy::addresses;
use crate::support::{Place, mesh};

#[test]
fn check_shows_all_that_is_wrong_or_that_nothing_is() {
    let place = Place::new();
    place.write("good.yaml", &mesh(9001));
    assert_snapshot!("check", place.lateen(&["check", "good.yaml"]).said());
    place.write(
        "bad.yaml",
        &mesh(9001).replace("endpoints", "endpoint").replace("Outbound", "Outbond"),
    );
    assert_snapshot!("check-refused", place.lateen(&["check", "bad.yaml"]).said());
    let twice = place.lateen(&["check", "good.yaml", "good.yaml"]);
    assert!(twice.code == 1 && twice.stderr.contains("is declared twice"), "{twice:?}");
    let ran = place.lateen(&["check", "bad.yaml", "-o", "json"]);
    assert!(ran.code == 1 && ran.json::<Vec<Report>>().len() >= 2, "{ran:?}");
    assert_eq!(place.lateen(&["check"]).code, 2);
}

#[test]
fn help_has_examples_and_names_the_exit_codes() {
    let place = Place::new();
    assert_snapshot!("help", place.lateen(&["--help"]).stdout);
    assert_snapshot!("help-apply", place.lateen(&["apply", "--help"]).stdout);
    for command in [
        "demo", "serve", "check", "delete", "get", "diff", "status", "history", "show", "rollback",
        "resume", "eject", "readmit", "breaker",
    ] {
        let ran = place.lateen(&[command, "--help"]);
        assert!(ran.code == 0 && ran.stdout.contains("Example"), "{ran:?}");
    }
}

#[test]
fn completions_and_pages_are_made_from_the_arguments() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = place.lateen(&["completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains("rollback"), "{shell}: {ran:?}");
    }
    place.write("man/x", "");
    assert_eq!(place.lateen(&["man", "man"]).code, 0);
    for page in ["lateen.1", "lateen-apply.1", "lateen-serve.1"] {
        assert!(place.path("man").join(page).exists(), "{page}");
    }
    assert_snapshot!("man-nowhere", place.lateen(&["man", "nowhere"]).said());
}

#[test]
fn the_readme_s_config_is_what_its_proxies_get() {
    let readme = include_str!("../../../../README.md");
    let config = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let config = config.expect("there is one");
    let place = Place::new();
    place.write("shop.yaml", config);
    let ran = place.lateen(&["check", "shop.yaml"]);
    assert_eq!((ran.code, &*ran.stderr), (0, ""), "{ran:?}");

    let serve = place.serve(&[]);
    let (sidecar, edge) = (serve.connect("cart-a"), serve.connect("edge"));
    assert_eq!(serve.apply(config).code, 0);
    assert_eq!(addresses(&sidecar.next().1), ["127.0.0.1:9000"]);
    assert_eq!(addresses(&edge.next().1), ["127.0.0.1:15001"]);
}
