//! What the tests in `tests/tests/` are made of.
//!
//! In reading order: `tidy` holds the checks on the tree itself; the other modules run the built
//! `lateen-proxy` between real or scripted clients and upstreams. Nothing here is linked into the
//! product.

pub mod tidy;
