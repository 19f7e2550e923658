//! Rules of an HTTPRoute's filters.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters, HttpRouteRulesFiltersCors,
    HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirectPathType as RedirectPathType,
    HttpRouteRulesFiltersUrlRewritePathType as RewritePathType,
};

use crate::language::document::{Node, Value};
use crate::language::rules::findings::Findings;
use crate::language::rules::route::check_backend_port;

/// A filter's types, the field that goes with each, and whether there may be more than one of it.
const TYPES: [(&str, &str, bool); 6] = [
    ("RequestHeaderModifier", "requestHeaderModifier", false),
    ("ResponseHeaderModifier", "responseHeaderModifier", false),
    ("RequestMirror", "requestMirror", true),
    ("RequestRedirect", "requestRedirect", false),
    ("URLRewrite", "urlRewrite", false),
    ("CORS", "cors", false),
];

/// Fields that frame a message, or end at a hop (RFC 9110, 7.6.1): the proxy writes them itself.
pub(super) const FRAMING_FIELDS: [&str; 8] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(super) fn check_filters_of_rule(
    filters: &[HttpRouteRulesFilters],
    path: &str,
    findings: &mut Findings<'_>,
) {
    let path = format!("{path}.filters");
    check_types(&path, findings);
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(mirror) = &filter.request_mirror {
            check_mirror(mirror, &format!("{path}.requestMirror"), findings);
        }
        if let Some(cors) = &filter.cors {
            check_cors(cors, &format!("{path}.cors"), findings);
        }
        check_header_changes(&path, findings);
        check_new_path(filter, &path, findings);
    }
}

pub(super) fn check_filters_of_backend(
    filters: &[HttpRouteRulesBackendRefsFilters],
    path: &str,
    findings: &mut Findings<'_>,
) {
    check_types(&format!("{path}.filters"), findings);
    for index in 0..filters.len() {
        check_header_changes(&format!("{path}.filters[{index}]"), findings);
    }
}

/// Each filter has exactly the field of its type, and most are there once. Looks at the document: the
/// types of the filters of rules and of backends differ, their form does not.
fn check_types(path: &str, findings: &mut Findings<'_>) {
    let declared = findings.declared;
    let Some(filters) = declared.node_at(path) else { return };
    let Value::List(filters) = &filters.value else { return };
    let mut singles = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let filter_path = format!("{path}[{index}]");
        let written = text_of(filter, "type");
        let Some((name, field, is_repeatable)) = TYPES.into_iter().find(|of| of.0 == written)
        else {
            continue;
        };
        if !has(filter, field) {
            let message = format!("a filter of type `{name}` needs `{field}`");
            findings.error(&format!("{filter_path}.type"), message);
        }
        for (_, other, _) in TYPES.into_iter().filter(|of| of.1 != field && has(filter, of.1)) {
            let message = format!("a filter of type `{name}` can't have `{other}`");
            let help = "each filter has the field of its `type` alone; make it two filters";
            findings.error_with_help(&format!("{filter_path}.{other}"), message, help);
        }
        if !is_repeatable {
            singles.push((format!("{filter_path}.type"), name.to_owned(), name.to_owned()));
        }
    }
    findings.unique("the filter", singles);
    let position = |name: &str| filters.iter().position(|filter| text_of(filter, "type") == name);
    if let (Some(redirect), Some(rewrite)) = (position("RequestRedirect"), position("URLRewrite")) {
        findings.conflict(
            &format!("{path}[{rewrite}].type"),
            &format!("{path}[{redirect}].type"),
            "a rule redirects or rewrites, not both",
        );
    }
}

fn check_mirror(
    mirror: &HttpRouteRulesFiltersRequestMirror,
    path: &str,
    findings: &mut Findings<'_>,
) {
    check_backend_port(mirror.backend_ref.port, &format!("{path}.backendRef"), findings);
    if mirror.percent.is_some() && mirror.fraction.is_some() {
        let (percent, fraction) = (format!("{path}.percent"), format!("{path}.fraction"));
        findings.conflict(&percent, &fraction, "`percent` or `fraction`, not both");
    }
    let fraction = mirror.fraction.as_ref();
    if fraction.is_some_and(|share| share.numerator > share.denominator.unwrap_or(100)) {
        let message = "a fraction of more than all: `numerator` is more than `denominator`";
        findings.error_with_help(
            &format!("{path}.fraction.numerator"),
            message,
            "`denominator` is 100 unless told otherwise",
        );
    }
}

/// `*` stands for all, so nothing stands beside it.
fn check_cors(cors: &HttpRouteRulesFiltersCors, path: &str, findings: &mut Findings<'_>) {
    let lists = [
        ("allowOrigins", &cors.allow_origins),
        ("allowMethods", &cors.allow_methods),
        ("allowHeaders", &cors.allow_headers),
    ];
    for (name, list) in lists {
        let list = list.as_deref().unwrap_or_default();
        let star = list.iter().position(|item| item == "*");
        if let Some(index) = star.filter(|_| list.len() > 1) {
            let message = format!("`*` in `{name}` stands for all: nothing else can be beside it");
            findings.error(&format!("{path}.{name}[{index}]"), message);
        }
    }
}

/// No header is changed twice in one way, and none that the proxy itself writes.
fn check_header_changes(path: &str, findings: &mut Findings<'_>) {
    let declared = findings.declared;
    for direction in ["requestHeaderModifier", "responseHeaderModifier"] {
        for list in ["set", "add", "remove"] {
            let list_path = format!("{path}.{direction}.{list}");
            let Some(Value::List(items)) = declared.node_at(&list_path).map(|node| &node.value)
            else {
                continue;
            };
            let names: Vec<(String, String, String)> = items
                .iter()
                .enumerate()
                .map(|(index, item)| match item.text() {
                    Some(name) => (format!("{list_path}[{index}]"), name),
                    None => (format!("{list_path}[{index}].name"), text_of(item, "name")),
                })
                .map(|(path, name)| (path, name.to_ascii_lowercase(), name.to_owned()))
                .collect();
            for (path, lower, name) in &names {
                check_changed_name(direction, path, lower, name, findings);
            }
            findings.unique(&format!("in `{list}`, the header"), names);
        }
    }
}

fn check_changed_name(
    direction: &str,
    path: &str,
    lower: &str,
    name: &str,
    findings: &mut Findings<'_>,
) {
    if FRAMING_FIELDS.contains(&lower) {
        let message = format!("the header `{name}` can't be changed");
        let help = "it frames a message or ends at a hop, so the proxy writes it itself";
        findings.error_with_help(path, message, help);
    }
    if lower == "host" && direction == "requestHeaderModifier" {
        let message = format!("the header `{name}` can't be changed like this");
        let help = "use a filter of type `URLRewrite` with `hostname`";
        findings.error_with_help(path, message, help);
    }
}

/// A new path is given in the field of its type, and in that alone.
fn check_new_path(filter: &HttpRouteRulesFilters, path: &str, findings: &mut Findings<'_>) {
    let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    if let Some(new) = redirect {
        let is_full = new.r#type == RedirectPathType::ReplaceFullPath;
        let given = (new.replace_full_path.is_some(), new.replace_prefix_match.is_some());
        check_new_path_fields(is_full, given, &format!("{path}.requestRedirect.path"), findings);
    }
    let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    if let Some(new) = rewrite {
        let is_full = new.r#type == RewritePathType::ReplaceFullPath;
        let given = (new.replace_full_path.is_some(), new.replace_prefix_match.is_some());
        check_new_path_fields(is_full, given, &format!("{path}.urlRewrite.path"), findings);
    }
}

fn check_new_path_fields(
    is_full: bool,
    (has_full, has_prefix): (bool, bool),
    path: &str,
    findings: &mut Findings<'_>,
) {
    let (name, field, other) = match is_full {
        true => ("ReplaceFullPath", "replaceFullPath", "replacePrefixMatch"),
        false => ("ReplacePrefixMatch", "replacePrefixMatch", "replaceFullPath"),
    };
    let (has_field, has_other) =
        if is_full { (has_full, has_prefix) } else { (has_prefix, has_full) };
    if !has_field {
        findings.error(&format!("{path}.type"), format!("a path of type `{name}` needs `{field}`"));
    }
    if has_other {
        let message = format!("a path of type `{name}` can't have `{other}`");
        findings.error(&format!("{path}.{other}"), message);
    }
}

fn has(node: &Node, name: &str) -> bool {
    node.field(name).is_some_and(|field| field.node.value != Value::Null)
}

fn text_of<'a>(node: &'a Node, name: &str) -> &'a str {
    node.field(name).and_then(|field| field.node.text()).unwrap_or_default()
}
