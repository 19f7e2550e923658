//! Shows what a comparison found: one HTML page that needs nothing else, and the same in brief as
//! Markdown.
//!
//! In the order in which results pass through:
//!
//! - `arguments` are those of the command line;
//! - `reading` takes the files in, within bounds;
//! - `model` is all that the page says, made by `sections`, `findings`, `behind`, `baseline`, `method` and
//!   `conclusions`;
//! - `plots` draws, `page` and `markdown` write.
//!
//! Nothing here measures, and no sentence is written that the data does not make.

pub mod arguments;
pub mod reading;
pub mod series;
pub mod charts;
pub mod sections;
pub mod overview;
pub mod findings;
pub mod behind;
pub mod baseline;
pub mod conclusions;
pub mod method;
pub mod machine;
pub mod model;
pub mod plots;
pub mod page;
pub mod markdown;
pub mod run;
