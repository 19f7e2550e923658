//! What can be asked for of what runs: orders of operators.

use clap::{Args, ValueEnum};
use lateen_control::language::text::duration_ms;
use lateen_control::serve::overrides::names::{EndpointName, RouteName, ServiceName};

use super::{Api, Form, Wait};

/// Keep new requests away from an endpoint, by order.
///
/// It gets no new request from any proxy, whatever becomes of the others, until the time is over or
/// `lateen readmit`; what it is working on it may finish, its connections stay, and it is still checked. The
/// last endpoint that gets requests is ejected only with --force: then they are answered 503. An order is no
/// part of what is declared: it holds under a rollback as well, and outlives the control plane. Succeeds when
/// every core of every connected proxy keeps to it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen eject --service shop/cart --endpoint 10.0.0.7:8080 --for 10m -m 'memory of pod 7 is full'
  lateen eject --service shop/cart:http --endpoint 10.0.0.7
  lateen get overrides

Endpoints are named as the access log names them; for one that is not there those that are are listed. A bare
address stands for all of the service's endpoints at it.")]
pub(crate) struct Eject {
    #[command(flatten)]
    pub(crate) which: EndpointArguments,
    /// Also if nobody else is left.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) how: OrderArguments,
}

/// Let an endpoint that was ejected by order have requests again.
///
/// What a proxy ejected by itself, because it failed, comes back by itself. Succeeds when every core of every
/// connected proxy knows.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lateen readmit --service shop/cart --endpoint 10.0.0.7:8080")]
pub(crate) struct Readmit {
    #[command(flatten)]
    pub(crate) which: EndpointArguments,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Which endpoint.
#[derive(Debug, Args)]
pub(crate) struct EndpointArguments {
    /// Of this service, or only of this port of it, by number or name. Without a namespace it is in
    /// `default`.
    #[arg(long, value_name = "[NAMESPACE/]NAME[:PORT]")]
    pub(crate) service: ServiceName,
    /// This one; without a port, all at that address.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub(crate) endpoint: EndpointName,
}

/// Hold a route's circuit breaker open or closed by order, or let it decide by itself again.
///
/// `open`: nothing is forwarded; requests are answered as the breaker's fallback says, else 503 with the flag
/// UO. `close`: everything is forwarded, whatever fails. `auto`: as declared. A route without a breaker can be
/// held too. Whoever orders last counts; an order about a whole route takes the place of those about its
/// rules. It is no part of what is declared: it holds under a rollback as well, and outlives the control plane.
/// Succeeds when every core of every connected proxy keeps to it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lateen breaker open --route HTTPRoute/shop/cart --for 10m -m 'the database is being moved'
  lateen breaker close --route HTTPRoute/shop/cart/pay
  lateen breaker auto --route HTTPRoute/shop/cart
  lateen breaker open --route Service/shop/stock     # which no HTTPRoute is attached to

Routes are named as the log of a proxy and `lateen diff` name them. `lateen get policies --route cart -n shop`
shows what is declared of one, and what is ordered.")]
pub(crate) struct Breaker {
    /// What it is to do.
    #[arg(value_enum)]
    pub(crate) to: To,
    /// Of this route; or only of one rule of an HTTPRoute, or one port of a Service, by number or name.
    #[arg(long, value_name = "KIND/NAMESPACE/NAME[/PART]")]
    pub(crate) route: RouteName,
    #[command(flatten)]
    pub(crate) how: OrderArguments,
}

/// What a breaker is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum To {
    /// Let nothing through.
    Open,
    /// Let everything through.
    Close,
    /// Decide by itself.
    Auto,
}

/// How long an order stands, and why.
#[derive(Debug, Args)]
pub(crate) struct OrderArguments {
    /// Only for so long, such as 90s, 10m or 1h30m; else until it is taken back.
    #[arg(long = "for", value_name = "TIME", value_parser = span_ms)]
    pub(crate) for_ms: Option<u64>,
    /// Why, for who looks at the orders that stand.
    #[arg(long, short, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) message: String,
    #[command(flatten)]
    pub(crate) wait: Wait,
    #[command(flatten)]
    pub(crate) api: Api,
    #[command(flatten)]
    pub(crate) form: Form,
}

fn span_ms(text: &str) -> Result<u64, String> {
    duration_ms(text).ok_or_else(|| "write a time such as 90s, 10m or 1h30m".to_owned())
}
