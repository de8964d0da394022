//! Waiting until services are what they have to be.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Stack;
use crate::engine::Container;
use crate::error::Failure;

const POLL: Duration = Duration::from_millis(250);
/// Log lines that a failure repeats.
const LAST_LINES: usize = 20;

/// Waits until each service runs and is healthy.
///
/// # Errors
/// At once where a service has ended or keeps restarting, else after `limit`;
/// with the service's last log lines.
pub(crate) fn wait_healthy(stack: &Stack<'_>, services: &[&str], limit: Duration) -> Result<()> {
    let started = Instant::now();
    let mut hushed = None;
    loop {
        let containers = stack.containers()?;
        let of = |name: &str| {
            containers
                .iter()
                .find(|c| c.service() == name && !c.is_one_off())
        };
        let waiting: Vec<&str> = services
            .iter()
            .copied()
            .filter(|name| !of(name).is_some_and(Container::is_up))
            .collect();
        let Some(first) = waiting.first() else {
            return Ok(());
        };
        for name in &waiting {
            if let Some(container) = of(name).filter(|c| has_failed(c)) {
                return Err(failure(stack, name, Some(container)));
            }
        }
        if started.elapsed() > limit {
            return Err(failure(stack, first, of(first)));
        }
        hushed.get_or_insert_with(|| stack.engine().machine().hush());
        thread::sleep(POLL);
    }
}

fn has_failed(container: &Container) -> bool {
    ["exited", "dead", "restarting"].contains(&container.state.status.as_str())
        || container.condition() == "unhealthy"
}

fn failure(stack: &Stack<'_>, service: &str, container: Option<&Container>) -> anyhow::Error {
    let condition = container.map_or_else(|| "not created".to_owned(), Container::condition);
    let mut message = format!("failed to start {service}: it is {condition}");
    let lines = container
        .and_then(|c| stack.engine().last_lines(&c.id, LAST_LINES).ok())
        .unwrap_or_default();
    for line in lines {
        message.push_str("\n  | ");
        message.push_str(&line);
    }
    Failure::tool(message)
        .hint(format!("cargo xtask logs {service}"))
        .into()
}
