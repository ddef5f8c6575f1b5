//! The decisions. No client, no clock, no `async`, no input or output.
//!
//! Everything here is a function of plain values: `decide(&object, &observed, now) -> Decision`. What it wants done
//! is an `Effect`, which `operator::perform` carries out.

pub mod claim;
pub mod point;
