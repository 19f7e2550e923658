//! Checks how the sessions of a route stay at an endpoint.

use super::duration;
use super::text::{self, Problem};
use crate::model::session::Session;

pub(super) fn check(session: &Session) -> Result<(), Problem> {
    match session.in_header {
        true => text::editable_name("name", &session.name)?,
        false => text::cookie_name("name", &session.name)?,
    }
    duration("absolute_timeout_ms", session.absolute_timeout_ms)?;
    duration("idle_timeout_ms", session.idle_timeout_ms)?;
    if session.is_permanent && (session.in_header || session.absolute_timeout_ms.is_none()) {
        let wanted = "only for a cookie with an absolute timeout";
        return Err(Problem::new("is_permanent", "true", wanted));
    }
    Ok(())
}
