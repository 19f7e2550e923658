//! Checks limits of rates.

use super::text::{self, Problem};
use super::{at_most, positive_duration};
use crate::limits::*;
use crate::model::rate_limit::{LimitKey, RateLimit, RateLimits};

pub(super) fn check_rate_limits(limits: Option<&RateLimits>) -> Result<(), Problem> {
    let Some(RateLimits { requests, connections, bytes }) = limits else { return Ok(()) };
    let all = [
        ("requests", requests.iter().collect::<Vec<_>>(), RATE_UNITS_MAX),
        ("connections", connections.iter().collect(), RATE_UNITS_MAX),
        ("bytes", bytes.iter().map(|of| &of.limit).collect(), RATE_BYTES_MAX),
    ];
    if let Some(small) = bytes.iter().find(|of| of.limit.burst < RATE_BYTES_BURST_LEAST) {
        let wanted = format!("at least {RATE_BYTES_BURST_LEAST}");
        return Err(Problem::new("rate_limits.bytes.burst", small.limit.burst, wanted));
    }
    for (field, limits, most) in all {
        at_most(limits.len(), RATE_LIMITS_MAX, field)?;
        for (index, limit) in limits.into_iter().enumerate() {
            check_limit(limit, most)
                .map_err(|problem| problem.inside(format_args!("rate_limits.{field}[{index}]")))?;
        }
    }
    let needs_head = |limit: &&RateLimit| match &limit.key {
        Some(LimitKey::SourceAddress(source)) => source.trusted_hops > 0,
        key => key.is_some(),
    };
    match connections.iter().find(needs_head) {
        None => Ok(()),
        Some(limit) => {
            let wanted = "a connection has no header fields to be counted by";
            Err(Problem::quoted("rate_limits.connections", &limit.name, wanted))
        }
    }
}

fn check_limit(limit: &RateLimit, most: u64) -> Result<(), Problem> {
    text::limit_name(&limit.name)?;
    text::limit_label(&limit.label)?;
    positive_duration("span_ms", limit.span_ms)?;
    in_bounds("units", limit.units, most)?;
    in_bounds("burst", limit.burst, most)?;
    in_bounds("keys_max", limit.keys_max.into(), RATE_KEYS_MAX.into())?;
    match &limit.key {
        None => Ok(()),
        Some(LimitKey::Header(name)) => text::field_name("key.header", name),
        Some(LimitKey::Cookie(name)) => text::cookie_name("key.cookie", name),
        Some(LimitKey::SourceAddress(source)) => {
            at_most(source.v4_bits.into(), 32, "key.v4_bits")?;
            at_most(source.v6_bits.into(), 128, "key.v6_bits")?;
            at_most(source.trusted_hops.into(), TRUSTED_HOPS_MAX.into(), "key.trusted_hops")
        }
    }
}

fn in_bounds(field: &'static str, value: u64, most: u64) -> Result<(), Problem> {
    match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(Problem::new(field, value, format!("from 1 to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rate_limit::{ByteDirection, ByteLimit, SourcePrefix};

    fn limit() -> RateLimit {
        RateLimit {
            name: "Service/shop/cart/all".into(),
            label: "all".into(),
            units: 100,
            span_ms: 1_000,
            burst: 50,
            key: None,
            keys_max: 10,
            is_told: false,
            dry_run: false,
        }
    }

    fn source(v4_bits: u8, v6_bits: u8, trusted_hops: u8) -> Option<LimitKey> {
        Some(LimitKey::SourceAddress(SourcePrefix { v4_bits, v6_bits, trusted_hops }))
    }

    fn refusal(limits: &RateLimits) -> String {
        let invalid = check_rate_limits(Some(limits)).expect_err("refused").at(&"route 0");
        invalid.to_string()
    }

    type Change = fn(&mut RateLimit);

    #[test]
    fn refuses_bad_limits() {
        let cases: [(Change, &str); 10] = [
            (|it| it.name.clear(), "name: \"\": a name that is not empty"),
            (|it| it.label = "a b".into(), "label: \"a b\": letters, digits and hyphens"),
            (|it| it.units = 0, "units: 0: from 1 to 1000000000"),
            (|it| it.span_ms = 0, "span_ms: 0: at least 1"),
            (|it| it.burst = 1_000_000_001, "burst: 1000000001: from 1 to 1000000000"),
            (|it| it.keys_max = 0, "keys_max: 0: from 1 to 1000000"),
            (|it| it.key = Some(LimitKey::Header("A".into())), "key.header: \"A\":"),
            (|it| it.key = Some(LimitKey::Cookie("a b".into())), "key.cookie: \"a b\":"),
            (|it| it.key = source(33, 64, 0), "key.v4_bits: 33: at most 32"),
            (|it| it.key = source(32, 64, 17), "key.trusted_hops: 17: at most 16"),
        ];
        for (index, (change, expected)) in cases.into_iter().enumerate() {
            let mut limit = limit();
            change(&mut limit);
            let requests = vec![limit];
            let message = refusal(&RateLimits { requests, ..RateLimits::default() });
            let expected = format!("route 0: rate_limits.requests[0].{expected}");
            assert!(message.starts_with(&expected), "case {index}: {message}, not {expected}");
        }
        let many = RateLimits { requests: vec![limit(); 9], ..RateLimits::default() };
        assert!(refusal(&many).starts_with("route 0: requests: 9: at most 8"));
    }

    #[test]
    fn there_may_be_more_bytes_than_requests() {
        let of = |units| {
            let limit = RateLimit { units, burst: 1_024, ..limit() };
            let bytes = vec![ByteLimit { limit, direction: ByteDirection::Both }];
            RateLimits { bytes, ..RateLimits::default() }
        };
        assert!(check_rate_limits(Some(&of(RATE_BYTES_MAX))).is_ok());
        let expected =
            "route 0: rate_limits.bytes[0].units: 1000000000001: from 1 to 1000000000000";
        assert!(refusal(&of(RATE_BYTES_MAX + 1)).starts_with(expected));
        let mut small = of(1);
        small.bytes[0].limit.burst = 1_023;
        let expected = "route 0: rate_limits.bytes.burst: 1023: at least 1024";
        assert!(refusal(&small).starts_with(expected));
    }

    #[test]
    fn connections_are_counted_by_what_they_have() {
        let with = |key| RateLimits {
            connections: vec![RateLimit { key, ..limit() }],
            ..RateLimits::default()
        };
        assert!(check_rate_limits(Some(&with(None))).is_ok());
        assert!(check_rate_limits(Some(&with(source(24, 64, 0)))).is_ok());
        let expected = "rate_limits.connections: \"Service/shop/cart/all\": a connection has no";
        for key in [source(24, 64, 1), Some(LimitKey::Header("a".into()))] {
            assert!(refusal(&with(key)).contains(expected));
        }
    }
}
