//! The config language: text in, typed objects out, or errors that say where and what instead.
//!
//! Before: files, or texts from the store and the API. After: `compile` resolves the references
//! between the objects. Nothing here knows what an object means for a proxy.

pub mod parse;
pub mod place;
pub mod diagnostic;
pub mod document;
pub mod kinds;
pub mod object;
pub mod schema;
pub mod text;
mod rules;
mod typed;
