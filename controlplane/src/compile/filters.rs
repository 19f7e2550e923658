//! The filters of an HTTPRoute's rules and backends, in the words of the snapshot.
//!
//! The language checked that each filter has the field of its type, and which of them go together.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesBackendRefsFilters, HttpRouteRulesFilters, HttpRouteRulesFiltersRequestMirror,
    HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersRequestRedirectScheme as Scheme,
    HttpRouteRulesFiltersUrlRewrite,
};
use lateen_snapshot::limits::DENOMINATOR_MAX;
use lateen_snapshot::model::{Cors, HeaderEdits, Mirror, PathRewrite, Redirect, Rewrite};
use lateen_snapshot::validate::text::{CORS_FIELDS, why_reserved};

use crate::compile::cors::compile_cors;
use crate::compile::findings::Findings;
use crate::compile::references::{References, Wanted};
use crate::language::object::Declared;

/// What the filters of a rule come to.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) request_headers: HeaderEdits,
    pub(super) response_headers: HeaderEdits,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) redirect: Option<Redirect>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) cors: Option<Cors>,
}

/// The modifiers of requests and responses, on rules and on backends, are four types of one form.
macro_rules! header_edits {
    ($modifier:expr, $route:expr, $path:expr, $findings:expr) => {{
        let fields = |written: &[(&String, &String)]| {
            written
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), (*value).clone()))
                .collect()
        };
        let (set, add): (Vec<_>, Vec<_>) = (
            $modifier.set.iter().flatten().map(|field| (&field.name, &field.value)).collect(),
            $modifier.add.iter().flatten().map(|field| (&field.name, &field.value)).collect(),
        );
        let remove = $modifier.remove.iter().flatten().map(|name| name.to_ascii_lowercase());
        let edits = HeaderEdits { set: fields(&set), add: fields(&add), remove: remove.collect() };
        check_edits($route, $path, &edits, $findings);
        edits
    }};
}

/// Compiles the filters of the rule at `path`.
pub(super) fn compile_filters(
    route: &Declared,
    path: &str,
    filters: &[HttpRouteRulesFilters],
    references: &References<'_, '_>,
    findings: &mut Findings,
) -> Filters {
    let mut compiled = Filters::default();
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{index}]");
        if let Some(modifier) = &filter.request_header_modifier {
            let path = format!("{path}.requestHeaderModifier");
            compiled.request_headers = header_edits!(modifier, route, &path, findings);
        }
        if let Some(modifier) = &filter.response_header_modifier {
            let path = format!("{path}.responseHeaderModifier");
            compiled.response_headers = header_edits!(modifier, route, &path, findings);
        }
        if let Some(mirror) = &filter.request_mirror {
            let path = format!("{path}.requestMirror");
            compiled.mirrors.extend(compile_mirror(route, &path, mirror, references, findings));
        }
        if let Some(redirect) = &filter.request_redirect {
            compiled.redirect = Some(compile_redirect(redirect));
        }
        if let Some(rewrite) = &filter.url_rewrite {
            compiled.rewrite = compile_rewrite(rewrite);
        }
        if let Some(cors) = &filter.cors {
            compiled.cors = Some(compile_cors(route, &format!("{path}.cors"), cors, findings));
        }
    }
    if compiled.cors.is_some() {
        leave_to_cors(route, path, &compiled.response_headers, findings);
    }
    compiled
}

/// What a rule with a CORS filter says of a response is the filter's alone: edits of the rule or of a
/// backend, whose filters stand at `path`, would be passed over.
pub(super) fn leave_to_cors(
    route: &Declared,
    path: &str,
    edits: &HeaderEdits,
    findings: &mut Findings,
) {
    let set = edits.set.iter().chain(&edits.add).map(|(name, _)| name);
    for name in set.chain(&edits.remove) {
        if CORS_FIELDS.contains(&name.as_str()) {
            let message = format!("the header `{name}` can't be changed beside a CORS filter");
            let help = "the CORS filter of this rule decides on it; take it out of \
                        `responseHeaderModifier`";
            findings.error_with_help(route, &format!("{path}.filters"), message, help);
        }
    }
}

/// Compiles the filters of the backend at `path`: changes to requests, and to responses.
pub(super) fn compile_backend_filters(
    route: &Declared,
    path: &str,
    filters: &[HttpRouteRulesBackendRefsFilters],
    findings: &mut Findings,
) -> (HeaderEdits, HeaderEdits) {
    let mut edits = (HeaderEdits::default(), HeaderEdits::default());
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{index}]");
        if let Some(modifier) = &filter.request_header_modifier {
            let path = format!("{path}.requestHeaderModifier");
            edits.0 = header_edits!(modifier, route, &path, findings);
        }
        if let Some(modifier) = &filter.response_header_modifier {
            let path = format!("{path}.responseHeaderModifier");
            edits.1 = header_edits!(modifier, route, &path, findings);
        }
    }
    edits
}

fn check_edits(route: &Declared, path: &str, edits: &HeaderEdits, findings: &mut Findings) {
    let named = |fields: &[(String, String)], list: &str| -> Vec<(String, String)> {
        let named = fields.iter().enumerate();
        named.map(|(index, (name, _))| (name.clone(), format!("{list}[{index}].name"))).collect()
    };
    let removed = edits.remove.iter().enumerate();
    let removed = removed.map(|(index, name)| (name.clone(), format!("remove[{index}]")));
    let names = named(&edits.set, "set").into_iter().chain(named(&edits.add, "add")).chain(removed);
    for (name, field) in names {
        if let Some(why) = why_reserved(&name) {
            let message = format!("the header `{name}` can't be changed");
            findings.error_with_help(route, &format!("{path}.{field}"), message, why);
        }
    }
}

fn compile_mirror(
    route: &Declared,
    path: &str,
    mirror: &HttpRouteRulesFiltersRequestMirror,
    references: &References<'_, '_>,
    findings: &mut Findings,
) -> Option<Mirror> {
    let reference = (&mirror.backend_ref).into();
    let backend_path = format!("{path}.backendRef");
    let found = references.backend(route, &backend_path, reference, Wanted::Http, findings);
    let (numerator, denominator) = match (&mirror.fraction, mirror.percent) {
        (Some(fraction), _) => (fraction.numerator, fraction.denominator.unwrap_or(100)),
        (None, Some(percent)) => (percent, 100),
        (None, None) => (100, 100),
    };
    let (numerator, denominator) = reduce(numerator.unsigned_abs(), denominator.unsigned_abs());
    if denominator > DENOMINATOR_MAX {
        let message = format!("a share of {numerator} in {denominator} is too fine");
        let help = format!("in lowest terms the denominator is at most {DENOMINATOR_MAX}");
        findings.error_with_help(route, &format!("{path}.fraction"), message, help);
        return None;
    }
    let (_, port) = found?;
    // A share of nothing is none; the reference is held to be right all the same.
    (numerator > 0).then_some(Mirror { cluster: port.cluster, numerator, denominator })
}

fn reduce(numerator: u32, denominator: u32) -> (u32, u32) {
    let (mut divisor, mut rest) = (denominator.max(1), numerator);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (numerator / divisor, denominator.max(1) / divisor)
}

fn compile_redirect(written: &HttpRouteRulesFiltersRequestRedirect) -> Redirect {
    let path = written.path.as_ref();
    let path = path.map(|path| (&path.replace_full_path, &path.replace_prefix_match));
    Redirect {
        status: written.status_code.and_then(|code| u16::try_from(code).ok()).unwrap_or(302),
        scheme: written.scheme.as_ref().map(|scheme| match scheme {
            Scheme::Http => "http".to_owned(),
            Scheme::Https => "https".to_owned(),
        }),
        host: written.hostname.clone(),
        port: written.port.and_then(|port| u16::try_from(port).ok()),
        path: path.and_then(|(full, prefix)| path_rewrite(full, prefix)),
    }
}

fn compile_rewrite(written: &HttpRouteRulesFiltersUrlRewrite) -> Option<Rewrite> {
    let path = written.path.as_ref();
    let path = path.map(|path| (&path.replace_full_path, &path.replace_prefix_match));
    let path = path.and_then(|(full, prefix)| path_rewrite(full, prefix));
    let rewrite = Rewrite { host: written.hostname.clone(), path };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

/// The language checked that the one that the type names is there, and only that.
fn path_rewrite(full: &Option<String>, prefix: &Option<String>) -> Option<PathRewrite> {
    let full = full.clone().map(PathRewrite::Full);
    full.or_else(|| prefix.clone().map(PathRewrite::Prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_in_lowest_terms() {
        for ((numerator, denominator), expected) in [
            ((0, 100), (0, 1)),
            ((100, 100), (1, 1)),
            ((42, 100), (21, 50)),
            ((1, 3), (1, 3)),
            ((2_000_000_000, 2_000_000_000), (1, 1)),
            ((1, 2_000_000), (1, 2_000_000)),
        ] {
            assert_eq!(reduce(numerator, denominator), expected);
        }
    }
}
