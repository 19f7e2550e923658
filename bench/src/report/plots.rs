//! Draws the charts as SVG that takes its colours from the page.

pub mod canvas;
pub mod bars;
pub mod lines;
