//! Rules of the session persistence of an HTTPRoute's rule (GEP-1619).

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesSessionPersistence as Session,
    HttpRouteRulesSessionPersistenceCookieConfigLifetimeType as Lifetime,
    HttpRouteRulesSessionPersistenceType as Type,
};

use crate::language::rules::filters::FRAMING_FIELDS;
use crate::language::rules::findings::Findings;
use crate::language::rules::spans::check_length;
use crate::language::text::{duration_ms, is_token};

pub(super) fn check(session: &Session, path: &str, findings: &mut Findings<'_>) {
    let path = format!("{path}.sessionPersistence");
    let in_header = session.r#type == Some(Type::Header);
    if let Some(name) = &session.session_name {
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            let message = format!("`{name}` can't be the name of a header field or a cookie");
            let help = "letters, digits and !#$%&'*+-.^_`|~";
            findings.error_with_help(&format!("{path}.sessionName"), message, help);
        } else if in_header && (FRAMING_FIELDS.contains(&lower.as_str()) || lower == "host") {
            let message = format!("the header field `{name}` is not for sessions");
            let help = "choose a name of its own, such as `x-session`";
            findings.error_with_help(&format!("{path}.sessionName"), message, help);
        }
    }
    for (field, text) in
        [("absoluteTimeout", &session.absolute_timeout), ("idleTimeout", &session.idle_timeout)]
    {
        let is_short = |ms: u64| ms < 1_000;
        if text.as_deref().and_then(duration_ms).is_some_and(is_short) {
            let message = format!("`{field}` is less than a second");
            let help = "at least `1s`; without it a session has no such end";
            findings.error_with_help(&format!("{path}.{field}"), message, help);
        }
        check_length(text.as_deref(), &format!("{path}.{field}"), field, findings);
    }
    let Some(config) = &session.cookie_config else { return };
    if in_header {
        let message = "a session that is kept by a header has no cookie";
        let (at, of) = (format!("{path}.cookieConfig"), format!("{path}.type"));
        findings.conflict(&at, &of, message);
    }
    if config.lifetime_type == Some(Lifetime::Permanent) && session.absolute_timeout.is_none() {
        let help = "say by `absoluteTimeout` how long the client keeps it";
        let at = format!("{path}.cookieConfig.lifetimeType");
        findings.error_with_help(&at, "a permanent cookie without a lifetime", help);
    }
}
