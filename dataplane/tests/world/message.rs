//! A case's messages as bytes: what its client sends, and what its upstream answers.

use crate::case::{Body, Case, Form};
use crate::pattern::{self, Lane};
use crate::tunnel::early_bytes;
use crate::wire::encode_chunked;

impl Case {
    /// The request's bytes, and how many of them are its head.
    pub(crate) fn request_bytes(&self) -> Vec<u8> {
        self.request().0
    }

    pub(crate) fn request(&self) -> (Vec<u8>, usize) {
        let id = self.id;
        if let Form::Refused(malformed) = self.form {
            let bytes = malformed.bytes(id);
            let length = bytes.len();
            return (bytes, length);
        }
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut text = format!("{} /r/{id} HTTP/{version}\r\nHost: case{id}.test\r\n", self.method);
        if let Form::Upgrade { .. } = self.form {
            text.push_str("Connection: upgrade\r\nUpgrade: echo\r\n");
        } else if self.nominates {
            text.push_str("Connection: x-hop\r\nX-Hop: ends here\r\nKeep-Alive: timeout=5\r\n");
        }
        if self.close && !self.http10 {
            text.push_str("Connection: close\r\n");
        } else if !self.close && self.http10 {
            text.push_str("Connection: keep-alive\r\n");
        }
        if self.expects {
            text.push_str("Expect: 100-continue\r\n");
        }
        match self.body {
            Body::Length(bytes) => text.push_str(&format!("Content-Length: {bytes}\r\n")),
            Body::Chunked(_) => text.push_str("Transfer-Encoding: chunked\r\n"),
            Body::None | Body::UntilClose(_) => {}
        }
        text.push_str(&format!("X-Case: {id}\r\nX-Forwarded-For: 192.0.2.{}\r\n\r\n", id % 250));
        let mut bytes = text.into_bytes();
        let head = bytes.len();
        if let Form::Upgrade { up, early: true, .. } = self.form {
            pattern::append(&mut bytes, id, Lane::Up, 0, early_bytes(up));
        }
        match self.body {
            Body::Chunked(length) => {
                let sizes = [id % 700 + 1, 4_096, 17 + length / 3];
                encode_chunked(&mut bytes, id, Lane::Request, length, &sizes);
            }
            body => pattern::append(&mut bytes, id, Lane::Request, 0, body.bytes()),
        }
        (bytes, head)
    }

    /// The answer's bytes without interim ones, as the upstream sends them.
    pub(crate) fn answer_bytes(&self) -> Vec<u8> {
        let (id, answer) = (self.id, &self.answer);
        let version = if answer.http10 { "1.0" } else { "1.1" };
        let mut text = format!("HTTP/{version} {} Well\r\nX-Answer: {id}\r\n", answer.status);
        if answer.nominates {
            text.push_str("Connection: x-hop\r\nX-Hop: ends here\r\nKeep-Alive: timeout=5\r\n");
        }
        if answer.close {
            text.push_str("Connection: close\r\n");
        } else if answer.http10 {
            text.push_str("Connection: keep-alive\r\n");
        }
        let bodyless = !self.has_answer_body();
        match answer.body {
            _ if answer.status == 204 => {}
            Body::Length(bytes) => text.push_str(&format!("Content-Length: {bytes}\r\n")),
            Body::Chunked(_) => text.push_str("Transfer-Encoding: chunked\r\n"),
            Body::None | Body::UntilClose(_) => {}
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        match answer.body {
            _ if bodyless => {}
            Body::Chunked(length) => {
                let sizes = [id % 900 + 3, 9_000, 29 + length / 5];
                encode_chunked(&mut bytes, id, Lane::Answer, length, &sizes);
            }
            body => pattern::append(&mut bytes, id, Lane::Answer, 0, body.bytes()),
        }
        bytes
    }
}
