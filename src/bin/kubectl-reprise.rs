//! The `kubectl` plugin: `kubectl reprise status | failover | backup | points | restore | key`. What they do stands in `cli`.

use std::process::ExitCode;

use clap::Parser;
use reprise::cli::{self, Arguments};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match cli::run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kubectl reprise: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
