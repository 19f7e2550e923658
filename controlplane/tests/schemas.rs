//! The JSON Schemas in `controlplane/schemas` are those that the types give.

use std::path::PathBuf;

use lateen_control::language::object::ObjectKind;
use lateen_control::language::schema::catalog::json_schema;

/// Writes the schemas instead of comparing them: `LATEEN_WRITE_SCHEMAS=1 cargo test -p lateen-control
/// --test schemas`.
const WRITE: &str = "LATEEN_WRITE_SCHEMAS";

#[test]
fn committed_schemas_are_those_of_the_types() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut stale = Vec::new();
    for kind in ObjectKind::ALL {
        let path = folder.join(file_name(kind));
        let wanted = serde_json::to_string_pretty(&json_schema(kind)).expect("it is JSON") + "\n";
        if std::env::var_os(WRITE).is_some() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, wanted).expect("the schema can be written");
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(&wanted) {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "not as the types have it: {stale:?}; run `{WRITE}=1 cargo test -p lateen-control --test schemas`"
    );
}

#[test]
fn every_committed_schema_is_of_a_kind() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder is committed")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut wanted = ObjectKind::ALL.map(file_name).to_vec();
    wanted.sort();
    assert_eq!(names, wanted);
}

/// `lateen.dev.Service.json`, `core.Service.json`.
fn file_name(kind: ObjectKind) -> String {
    let group = match kind.group() {
        "" => "core",
        group => group,
    };
    format!("{group}.{}.json", kind.name())
}
