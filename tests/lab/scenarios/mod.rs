//! What is promised, one file per kind of fault. [`stage`] is what they share.

mod bad_input;
mod both_lost;
mod databases;
mod hindrances;
mod keys;
mod leader;
mod manual;
mod points;
mod power_loss;
mod recover;
mod restore;
mod stage;
mod vault_away;
mod without_cas;
