//! Rules of lists of ports: names tell them apart where there are several.

use crate::language::rules::findings::Findings;

/// `ports` are names and what makes a port's number unique (some number protocols apart).
pub(super) fn check_ports<'a>(
    list_path: &str,
    ports: impl Iterator<Item = (Option<&'a String>, (i64, &'a str))> + Clone,
    findings: &mut Findings<'_>,
) {
    let has_several = ports.clone().nth(1).is_some();
    for (index, (name, _)) in ports.clone().enumerate() {
        if has_several && name.is_none_or(String::is_empty) {
            let message = "each of several ports must have a `name`";
            findings.error(&format!("{list_path}[{index}]"), message);
        }
    }
    let names = ports.clone().enumerate().filter_map(|(index, (name, _))| {
        let name = name.filter(|name| !name.is_empty())?.clone();
        Some((format!("{list_path}[{index}].name"), name.clone(), name))
    });
    findings.unique("the port", names);
    let numbers = ports
        .enumerate()
        .map(|(index, (_, key))| (format!("{list_path}[{index}].port"), key, key.0.to_string()));
    findings.unique("the port", numbers);
}
