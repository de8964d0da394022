//! `cargo xtask`: turns this checkout into a running Airflow.

mod airflow;
mod audit;
mod cli;
mod commands;
mod config;
mod context;
mod engine;
mod error;
mod exec;
mod host;
mod image;
mod preflight;
mod release;
mod stack;
mod testing;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match std::env::args_os().len() {
        // Who types nothing more wants to know where to begin, as --help says.
        0 | 1 => cli::Cli::parse_from(["cargo xtask", "--help"]),
        _ => cli::Cli::parse(),
    };
    match exec::forward_interrupts().and_then(|()| commands::run(cli)) {
        Ok(code) => code,
        Err(error) => {
            let shown = error::show(&error);
            // Nobody is left to tell when standard error is gone.
            write!(std::io::stderr(), "{}", shown.text).ok();
            match exec::interrupted() {
                Some(word) => {
                    writeln!(std::io::stderr(), "{word}").ok();
                    ExitCode::from(exec::INTERRUPTED)
                }
                None => ExitCode::from(shown.status),
            }
        }
    }
}
