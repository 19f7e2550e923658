//! Whether answers tell of one config at a time, and never of an older one.
//!
//! Each config under test names itself twice, in `X-Config` (set by the route) and in `X-Backend` (set
//! by the backend), and the proxy adds `X-Lateen-Epoch`, a number that grows, because the request
//! carries `X-Lateen-Debug`.

use std::collections::HashMap;

/// What the answers of one client said.
#[derive(Debug, Default)]
pub struct Epochs {
    newest: u64,
    config_of: HashMap<u64, Vec<u8>>,
    /// Answers in which two configs had a part, or one epoch that stood for two configs.
    pub mixed: u64,
    /// Answers of an older config than one that was read before their request was sent.
    pub back: u64,
}

impl Epochs {
    /// What a request that is sent now must not fall behind.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// How many configs answered.
    pub fn count(&self) -> usize {
        self.config_of.len()
    }

    /// Takes the head of an answer to a request that was sent when [`newest`](Self::newest) was
    /// `newest_before`. `None`: it lacks one of the fields.
    pub fn take(&mut self, head: &[u8], newest_before: u64) -> Option<()> {
        let epoch = field(head, b"x-lateen-epoch")?;
        let number = epoch.rsplit(|byte| *byte == b'-').next()?;
        let number: u64 = str::from_utf8(number).ok()?.parse().ok()?;
        let config = field(head, b"x-config")?;
        let known = self.config_of.entry(number).or_insert_with(|| config.to_vec());
        self.mixed += u64::from(known != config || field(head, b"x-backend")? != config);
        self.back += u64::from(number < newest_before);
        self.newest = self.newest.max(number);
        Some(())
    }
}

/// The value of the first field of that name.
fn field<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (start, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":").filter(|_| start.eq_ignore_ascii_case(name))?;
        Some(value.trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(epoch: u64, config: &str, backend: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nX-Config: {config}\r\nx-backend: {backend}\r\nX-Lateen-Epoch: 1f-{epoch}\r\n\r\n")
            .into_bytes()
    }

    #[test]
    fn tells_mixed_and_old_answers_from_good_ones() {
        let mut epochs = Epochs::default();
        epochs.take(&head(1, "a", "a"), 0).expect("complete");
        epochs.take(&head(2, "b", "b"), 1).expect("complete");
        // It was under way when the second was read.
        epochs.take(&head(1, "a", "a"), 1).expect("complete");
        assert_eq!((epochs.mixed, epochs.back, epochs.newest(), epochs.count()), (0, 0, 2, 2));
        epochs.take(&head(1, "a", "a"), 2).expect("complete");
        assert_eq!((epochs.mixed, epochs.back), (0, 1));
        epochs.take(&head(3, "a", "b"), 2).expect("complete");
        epochs.take(&head(2, "a", "a"), 2).expect("complete");
        assert_eq!((epochs.mixed, epochs.back), (2, 1));
        assert_eq!(epochs.take(b"HTTP/1.1 200 OK\r\nX-Config: a\r\n\r\n", 0), None);
    }
}
