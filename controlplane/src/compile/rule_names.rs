//! What the rules of HTTPRoutes are called in snapshots: by their own names, else by their positions.
//!
//! A proxy keeps by that name what it knows of a rule: whether its breaker is open, how long its requests
//! take; sessions are called after it. A position changes when a rule is put in above, a name does not.

use lateen_snapshot::limits::NAME_BYTES_MAX;

/// `HTTPRoute/shop/cart/pay`, or `HTTPRoute/shop/cart/0`. A name of digits could be taken for another
/// rule's position, and one that is too long fits no snapshot: those rules have their positions.
pub(crate) fn rule_name(namespace: &str, route: &str, index: usize, rule: Option<&str>) -> String {
    let name = |part: &str| format!("HTTPRoute/{namespace}/{route}/{part}");
    let is_number = |rule: &str| rule.bytes().all(|byte| byte.is_ascii_digit());
    let own = rule.filter(|rule| !is_number(rule)).map(name);
    own.filter(|own| own.len() <= NAME_BYTES_MAX).unwrap_or_else(|| name(&index.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_for_a_position() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for (rule, expected) in [
            (Some("pay"), "HTTPRoute/shop/cart/pay"),
            (Some("v2"), "HTTPRoute/shop/cart/v2"),
            (Some("0"), "HTTPRoute/shop/cart/3"),
            (Some("17"), "HTTPRoute/shop/cart/3"),
            (Some(&*long), "HTTPRoute/shop/cart/3"),
            (None, "HTTPRoute/shop/cart/3"),
        ] {
            assert_eq!(rule_name("shop", "cart", 3, rule), expected);
        }
    }
}
