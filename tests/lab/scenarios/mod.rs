//! What is promised, one file per kind of fault. [`stage`] is what they share.

mod bad_input;
mod power_loss;
mod stage;
mod without_cas;
