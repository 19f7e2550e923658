//! The session persistence of an HTTPRoute's rule, in the words of the snapshot.

use gateway_api::apis::experimental::httproutes::{
    HttpRouteRulesSessionPersistence as Written,
    HttpRouteRulesSessionPersistenceCookieConfigLifetimeType as Lifetime,
    HttpRouteRulesSessionPersistenceType as Type,
};
use lateen_snapshot::limits::DURATION_MS_MAX;
use lateen_snapshot::model::session::Session;

use crate::language::text::duration_ms;

/// `route` names the rule; a session that has no name gets one of it.
pub(super) fn session_of(written: &Written, route: &str) -> Box<Session> {
    let in_header = written.r#type == Some(Type::Header);
    let name = match &written.session_name {
        Some(name) if in_header => name.to_ascii_lowercase(),
        Some(name) => name.clone(),
        None => format!("lateen-session-{:08x}", mark(route)),
    };
    let lifetime = written.cookie_config.as_ref().and_then(|config| config.lifetime_type.as_ref());
    let timeout_ms = |text: &Option<String>| {
        let timeout_ms = duration_ms(text.as_deref()?)?;
        Some(timeout_ms.min(DURATION_MS_MAX.into()) as u32)
    };
    Box::new(Session {
        name,
        in_header,
        absolute_timeout_ms: timeout_ms(&written.absolute_timeout),
        idle_timeout_ms: timeout_ms(&written.idle_timeout),
        is_permanent: lifetime == Some(&Lifetime::Permanent),
    })
}

/// FNV-1a: rules of one host must not share a name by accident, and that is all.
fn mark(text: &str) -> u32 {
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    text.bytes().fold(0x811c_9dc5, mix)
}
