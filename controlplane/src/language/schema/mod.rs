//! The JSON Schemas of the accepted kinds, and how a document is held against them.
//!
//! They come from the types ([`catalog`]), tightened by what the types can't say ([`constraints`]).
//! What is checked is what is published: [`shape`] reads the same schemas, [`check`] walks a document
//! along them.

pub mod catalog;
pub mod check;
mod constraints;
pub mod shape;
