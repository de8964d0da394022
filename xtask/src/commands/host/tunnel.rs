//! `tunnel`: a host's web page, on this machine's loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;

use anyhow::Result;
use xshell::cmd;

use crate::cli;
use crate::commands::running::Running;
use crate::commands::{print, up};
use crate::config::EnvSource;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{INTERRUPTED, Step};
use crate::preflight::free_from;

pub(crate) fn run(context: &Context, args: &cli::Tunnel) -> Result<ExitCode> {
    let deploy = context.deploy()?;
    let host = deploy.host(&args.on.host)?;
    let name = args.on.host.as_str();
    let stack = Running::of(context, Some(name))?;
    let there = stack.settings.or("AIRFLOW_WEBSERVER_PORT", "8080");
    let port = args.port.unwrap_or(there.parse().unwrap_or(8080));
    refuse_taken(name, port)?;
    let way = stack.web(Some(port))?;
    let url = format!("http://{}", way.address());
    let term = &context.term;
    term.done(&format!("the web page of {name}, until Ctrl-C"));
    print(&url)?;
    let password = match host.env_source()? {
        EnvSource::File(file) => format!("in {file}"),
        EnvSource::Command(_) => "where its env_command reads it".to_owned(),
        EnvSource::There => format!("in {}/.env on {name}", host.directory),
    };
    term.say(&format!(
        "log in as {}; the password is AIRFLOW_ADMIN_PASSWORD {password}",
        stack.settings.or("AIRFLOW_ADMIN_USERNAME", "admin")
    ));
    if args.open {
        up::open(context, &url)?;
    }
    // Keeps the connection, and ends with it.
    let hold = Step::new("hold the tunnel", cmd!(stack.machine().sh(), "cat"));
    let status = stack.machine().hand_over_lines(&hold, |_| None)?;
    Ok(match status.code() == Some(INTERRUPTED.into()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn refuse_taken(name: &str, port: u16) -> Result<()> {
    if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
        return Ok(());
    }
    let failure = Failure::user(format!(
        "failed to open the tunnel: port {port} of this machine is taken"
    ));
    let free = free_from(port.max(1023).saturating_add(1), &[]);
    let free = free.map_or("PORT".to_owned(), |free| free.to_string());
    Err(failure
        .hint(format!("cargo xtask tunnel --host {name} --port {free}"))
        .into())
}
