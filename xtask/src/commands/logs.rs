//! `logs`: what the services say.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;

use super::exit_code;
use crate::cli;
use crate::context::Context;
use crate::error::Failure;

pub(crate) fn run(context: &Context, args: &cli::Logs) -> Result<ExitCode> {
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let containers = stack.containers()?;
    if containers.is_empty() {
        return Err(Failure::user(format!(
            "failed to read the logs: {} has no containers",
            settings.project()
        ))
        .hint("cargo xtask up")
        .into());
    }
    let tail = args.tail.to_string();
    let mut arguments = vec!["logs", "--timestamps", "--tail", tail.as_str()];
    if !std::io::stdout().is_terminal() {
        // v1 colours its output even into a file.
        arguments.push("--no-color");
    }
    if args.follow {
        arguments.push("--follow");
    }
    arguments.extend(args.services.iter().map(String::as_str));
    let step = stack.compose("read the logs", &arguments);
    let status = context.machine.hand_over_lines(&step, is_news)?;
    Ok(exit_code(status))
}

/// Not the healthchecks of webserver and scheduler, which come from inside their
/// containers and say the same every 5 seconds.
fn is_news(line: &str) -> bool {
    !(line.contains(" 127.0.0.1 - - [") && line.contains("] \"GET /health HTTP/1.1\" 200 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_healthchecks_that_went_well_are_left_out() {
        let line = |from: &str, what: &str, status: u16| {
            format!(
                "airflow-scheduler_1  | 2026-01-01T00:00:00Z {from} - - [01/Jan/2026:00:00:00 \
                 +0000] \"GET {what} HTTP/1.1\" {status} 318 \"-\" \"curl/7.88.1\""
            )
        };
        assert!(!is_news(&line("127.0.0.1", "/health", 200)));
        assert!(is_news(&line("127.0.0.1", "/health", 500)));
        assert!(is_news(&line("172.18.0.1", "/health", 200)));
        assert!(is_news(&line("127.0.0.1", "/home", 200)));
    }
}
