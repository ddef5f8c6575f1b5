//! What is promised, one file per kind of fault. [`stage`] is what they share.

mod bad_input;
mod block;
mod both_lost;
mod copies;
mod databases;
mod group;
mod hindrances;
mod hooks;
mod keys;
mod leader;
mod manual;
mod mariadb;
mod mishaps;
mod points;
mod power_loss;
mod recover;
mod rehearsal;
mod restore;
mod restore_elsewhere;
mod restore_parts;
mod rights;
mod stage;
mod thief;
mod vault_away;
mod warm;
mod without_cas;
