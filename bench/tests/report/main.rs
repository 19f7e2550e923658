//! What the report says of results that nobody measured, whether it is sound as HTML and Markdown, and
//! whether a real browser shows it whole.

mod synthetic;
mod says;
mod summary;
mod written;
mod command;
mod browser;
