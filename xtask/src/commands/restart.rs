//! `restart`: stops and starts services as they are configured.

use std::time::Duration;

use anyhow::Result;

use super::phases;
use crate::cli;
use crate::context::Context;
use crate::error::Failure;
use crate::stack::wait_healthy;

const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn run(context: &Context, args: &cli::Services) -> Result<()> {
    let settings = context.settings()?;
    let engine = context.engine()?;
    let stack = context.stack(&engine, &settings)?;
    let _alone = context.alone()?;
    let named: Vec<&str> = if args.services.is_empty() {
        vec!["airflow-webserver", "airflow-scheduler"]
    } else {
        args.services.iter().map(String::as_str).collect()
    };
    for service in &named {
        context.running(&stack, service)?;
    }
    let containers = stack.containers()?;
    let stranded = engine.stranded(&containers)?;
    if let Some(service) = stranded.first() {
        return Err(
            Failure::user(format!("failed to restart {service}: its network is gone"))
                .hint("cargo xtask up")
                .into(),
        );
    }
    for file in phases::changed_since_up(context, &settings, &containers)? {
        context.term.warn(&format!(
            "{file} changed since the stack started; a restart does not take that over: cargo xtask up"
        ));
    }
    let mut arguments = vec!["restart"];
    arguments.extend(&named);
    let step = stack.compose("restart services", &arguments);
    if args.dry.dry_run {
        context.term.say(&format!("would run: {}", step.line()));
        return Ok(());
    }
    // The scheduler waits for its running tasks, up to its grace of two minutes.
    context
        .term
        .task(&format!("{} restarted", named.join(", ")), || {
            context.machine.run(&step)?;
            wait_healthy(&stack, &named, LIMIT)
        })
}
