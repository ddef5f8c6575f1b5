//! The shell: what runs the decisions against the world.

pub mod watch;
