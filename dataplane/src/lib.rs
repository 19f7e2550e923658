//! Lateen's data plane.

pub mod bootstrap;
pub mod decide;
pub mod failure;
pub mod limits;
pub mod observe;
