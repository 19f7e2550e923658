//! Reading an answer: what a client checks of the final response to its case.

use crate::case::{Body, Case, Form, Outcome};
use crate::pattern::Lane;
use crate::wire::{Bad, Delimited, Head, Inbox};

/// Reads what follows a final head, and checks head and body.
pub(crate) async fn read_final(
    case: &Case,
    inbox: &mut Inbox,
    head: &Head,
    status: u16,
    count: &mut usize,
) -> Result<Outcome, Bad> {
    let Some(answers) = head.field("X-Answer") else {
        let length = head.field("Content-Length").and_then(|value| value.parse().ok());
        let length: usize = length.ok_or_else(|| wrong("a reply without a length"))?;
        // A 408 before the head was whole: the proxy does not know the method.
        // So it does not of a client that it turns away at the cap.
        let turned_away = head.field("Retry-After").is_some();
        let bodyless = head_only(case) && status != 408 && !turned_away;
        while !bodyless && inbox.unread().len() < length {
            inbox.more().await?;
        }
        inbox.consume(if bodyless { 0 } else { length });
        return Ok(Outcome::Reply(status));
    };
    if answers != case.id.to_string() {
        return Err(wrong(&format!("the answer to case {answers}")));
    }
    if status != case.answer.status {
        return Err(wrong(&format!("the status {status}")));
    }
    check_head(case, head)?;
    if !case.has_answer_body() {
        return Ok(Outcome::Answered);
    }
    let expected = case.answer.body.bytes();
    let length = head.field("Content-Length").map(str::parse::<usize>);
    let delimited = match (length, head.field("Transfer-Encoding")) {
        (Some(Ok(length)), None) if length == expected => Delimited::Length(length),
        (None, Some("chunked")) if !case.http10 => Delimited::Chunked,
        (None, None) if case.ends_by_close() => Delimited::Close,
        other => return Err(wrong(&format!("the framing {other:?}"))),
    };
    inbox.body(delimited, case.id, Lane::Answer, count).await?;
    if *count != expected {
        return Err(wrong(&format!("{count} of {expected} bytes, which look whole")));
    }
    Ok(Outcome::Answered)
}

/// Whether the proxy's own reply to the case has no body.
fn head_only(case: &Case) -> bool {
    matches!(case.form, Form::Exchange | Form::Upgrade { .. }) && case.method == "HEAD"
}

/// What must and must not stand in a head that came from an upstream.
pub(crate) fn check_head(case: &Case, head: &Head) -> Result<(), Bad> {
    if head.field("X-Hop").is_some() || head.field("Keep-Alive").is_some() {
        return Err(wrong("a field that ends at the proxy"));
    }
    if !head.field("Via").is_some_and(|via| via.ends_with("lateen")) {
        return Err(wrong("no Via"));
    }
    if head.field("Date").is_none() && head.first_line().get(9..12) != Some("101") {
        return Err(wrong("no Date"));
    }
    if matches!(case.answer.body, Body::None) && head.count("Transfer-Encoding") > 0 {
        return Err(wrong("a framing that nobody chose"));
    }
    Ok(())
}

/// What the client has got is not what it may get.
pub(crate) fn wrong(what: &str) -> Bad {
    Bad::Wrong(what.to_owned())
}
