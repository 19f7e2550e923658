//! Rules of an HTTPRoute.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRules, HttpRouteRulesFiltersRequestRedirectPathType as RedirectPathType,
    HttpRouteRulesFiltersUrlRewritePathType as RewritePathType, HttpRouteRulesMatches,
    HttpRouteRulesMatchesHeadersType as HeaderType, HttpRouteRulesMatchesPathType as PathType,
    HttpRouteRulesMatchesQueryParamsType as QueryType, HttpRouteSpec,
};

use crate::language::rules::filters::{check_filters_of_backend, check_filters_of_rule};
use crate::language::rules::findings::Findings;
use crate::language::rules::route::{check_backend_port, check_parents, check_rule_names};
use crate::language::rules::session;
use crate::language::rules::spans::check_length;
use crate::language::text::{Format, check_regex, duration_ms};

/// Of all rules of a route together.
const MATCHES_MAX: usize = 128;

pub(super) fn check(route: &HttpRouteSpec, findings: &mut Findings<'_>) {
    let rules = route.rules.as_deref().unwrap_or_default();
    check_parents(route.parent_refs.as_deref(), findings);
    check_rule_names(rules.iter().map(|rule| rule.name.as_ref()), findings);
    let matches: usize = rules.iter().map(|rule| rule.matches.as_ref().map_or(0, Vec::len)).sum();
    if matches > MATCHES_MAX {
        let message = format!("{matches} matches in one route; at most {MATCHES_MAX} are allowed");
        findings.error_with_help("spec.rules", message, "spread the rules over several routes");
    }
    for (index, rule) in rules.iter().enumerate() {
        check_rule(rule, &format!("spec.rules[{index}]"), findings);
    }
}

fn check_rule(rule: &HttpRouteRules, path: &str, findings: &mut Findings<'_>) {
    for (index, matches) in rule.matches.iter().flatten().enumerate() {
        check_match(matches, &format!("{path}.matches[{index}]"), findings);
    }
    check_filters_of_rule(rule.filters.as_deref().unwrap_or_default(), path, findings);
    for (index, backend) in rule.backend_refs.iter().flatten().enumerate() {
        let path = format!("{path}.backendRefs[{index}]");
        check_backend_port(backend.port, &path, findings);
        check_filters_of_backend(backend.filters.as_deref().unwrap_or_default(), &path, findings);
    }
    check_redirect(rule, path, findings);
    check_replaced_prefix(rule, path, findings);
    check_timeouts(rule, path, findings);
    let backoff = rule.retry.as_ref().and_then(|retry| retry.backoff.as_deref());
    check_length(backoff, &format!("{path}.retry.backoff"), "backoff", findings);
    if let Some(session) = &rule.session_persistence {
        session::check(session, path, findings);
    }
}

/// What is redirected goes to no backend.
fn check_redirect(rule: &HttpRouteRules, path: &str, findings: &mut Findings<'_>) {
    let redirect =
        rule.filters.iter().flatten().position(|filter| filter.request_redirect.is_some());
    let has_backends = rule.backend_refs.as_ref().is_some_and(|backends| !backends.is_empty());
    if let Some(index) = redirect.filter(|_| has_backends) {
        let message = "a rule that redirects has no `backendRefs`: nothing would be sent to them";
        findings.conflict(
            &format!("{path}.filters[{index}]"),
            &format!("{path}.backendRefs"),
            message,
        );
    }
}

/// The prefix that is replaced is that of the rule's only match.
fn check_replaced_prefix(rule: &HttpRouteRules, path: &str, findings: &mut Findings<'_>) {
    let has_one_prefix = match rule.matches.as_deref().unwrap_or_default() {
        // By default the prefix `/`.
        [] => true,
        [only] => !only
            .path
            .as_ref()
            .and_then(|path| path.r#type.as_ref())
            .is_some_and(|kind| *kind != PathType::PathPrefix),
        _ => false,
    };
    if has_one_prefix {
        return;
    }
    for (index, filter) in rule.filters.iter().flatten().enumerate() {
        let redirect = filter.request_redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
        let rewrite = filter.url_rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
        let field = match (redirect, rewrite) {
            (Some(path), _) if path.r#type == RedirectPathType::ReplacePrefixMatch => {
                "requestRedirect"
            }
            (_, Some(path)) if path.r#type == RewritePathType::ReplacePrefixMatch => "urlRewrite",
            _ => continue,
        };
        findings.error_with_help(
            &format!("{path}.filters[{index}].{field}.path"),
            "a prefix can be replaced only in a rule with one match, of type `PathPrefix`",
            "split the rule, or use `ReplaceFullPath`",
        );
    }
}

fn check_timeouts(rule: &HttpRouteRules, path: &str, findings: &mut Findings<'_>) {
    let Some(timeouts) = &rule.timeouts else { return };
    let ms = |text: &Option<String>| text.as_deref().and_then(duration_ms);
    if let (Some(request_ms), Some(backend_ms)) =
        (ms(&timeouts.request), ms(&timeouts.backend_request))
        && request_ms != 0
        && backend_ms > request_ms
    {
        findings.conflict(
            &format!("{path}.timeouts.backendRequest"),
            &format!("{path}.timeouts.request"),
            "`backendRequest` can't be longer than `request`, which includes it",
        );
    }
}

fn check_match(matches: &HttpRouteRulesMatches, path: &str, findings: &mut Findings<'_>) {
    if let Some(matched) = &matches.path {
        let value_path = format!("{path}.path.value");
        let value = matched.value.as_deref().unwrap_or("/");
        match matched.r#type.as_ref().unwrap_or(&PathType::PathPrefix) {
            PathType::RegularExpression => check_expression(value, &value_path, findings),
            PathType::Exact | PathType::PathPrefix => {
                findings.format(&value_path, value, Format::MatchPath);
            }
        }
    }
    let headers = matches.headers.as_deref().unwrap_or_default();
    let names = headers.iter().enumerate().map(|(index, header)| {
        let path = format!("{path}.headers[{index}].name");
        (path, header.name.to_ascii_lowercase(), header.name.clone())
    });
    findings.unique("the header", names);
    for (index, header) in headers.iter().enumerate() {
        let value_path = format!("{path}.headers[{index}].value");
        match header.r#type.as_ref().unwrap_or(&HeaderType::Exact) {
            HeaderType::RegularExpression => check_expression(&header.value, &value_path, findings),
            HeaderType::Exact => findings.format(&value_path, &header.value, Format::HeaderValue),
        }
    }
    let queries = matches.query_params.as_deref().unwrap_or_default();
    let names = queries.iter().enumerate().map(|(index, query)| {
        (format!("{path}.queryParams[{index}].name"), query.name.clone(), query.name.clone())
    });
    findings.unique("the query parameter", names);
    for (index, query) in queries.iter().enumerate() {
        if query.r#type == Some(QueryType::RegularExpression) {
            check_expression(&query.value, &format!("{path}.queryParams[{index}].value"), findings);
        }
    }
}

fn check_expression(text: &str, path: &str, findings: &mut Findings<'_>) {
    if let Err(reason) = check_regex(text) {
        let message = format!("`{path}` is no regular expression: {reason}");
        let help = "the syntax is https://docs.rs/regex/#syntax, and the whole value must match";
        findings.error_with_help(path, message, help);
    }
}
