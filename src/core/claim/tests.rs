//! Rules of the claim, as plain values.
