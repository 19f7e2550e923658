//! The command line, end to end: a `lateen serve` process, proxies that answer as they are told, and
//! commands as people give them.

mod support;
mod fake_proxy;
mod fake_dns;
mod changes;
mod refusals;
mod pins;
mod overrides;
mod looking;
mod folder;
mod dns;
mod crashes;
mod api;
mod real_proxy;
mod offline;
