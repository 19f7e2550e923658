//! Lateen's data plane.

pub mod bootstrap;
pub mod failure;
pub mod limits;
pub mod codec;
pub mod decide;
pub mod observe;
