//! `backup --host`: a copy of a host's metadata database, and which there are.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::json;

use super::{self as on_host, There, phases_of};
use crate::cli;
use crate::commands::{print, print_json};
use crate::config::{Host, environment};
use crate::context::Context;
use crate::error::Failure;
use crate::exec::{Machine, millis};
use crate::release::{self, Dump, Outcome, Task, Work};

pub(crate) fn run(context: &Context, args: &cli::Backup) -> Result<()> {
    let deploy = context.deploy()?;
    let (name, host) = (args.on.host.as_str(), deploy.host(&args.on.host)?);
    let machine = context.over(name, host)?;
    if args.list {
        return list(context, args, host, &machine);
    }
    let started = Instant::now();
    let doing = || format!("failed to copy the metadata database of {name}");
    let observed = context.term.task(&format!("{name}, at {}", host.ssh), || {
        release::observe(&machine, host, None, &[])
    })?;
    on_host::refuse_unready(name, &observed).with_context(doing)?;
    let serving = on_host::serving(name, &observed).with_context(doing)?;
    release::refuse_elsewhere(&machine, host, serving).with_context(doing)?;
    if args.dry.dry_run {
        context.term.say(&format!(
            "would copy the metadata database into {}/backups and restore the copy once beside it",
            host.directory
        ));
        return Ok(());
    }
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let task = Task {
        run: format!("{now}-backup"),
        release: serving.clone(),
        old: None,
        wait: None,
        who: json!({"by": environment::person(), "command": "backup"}),
        work: Work::Backup,
    };
    let there = There {
        name,
        host,
        machine: &machine,
    };
    let (outcome, events) = there.carry_out(context, &task)?;
    if outcome != Outcome::Done {
        return there
            .conclude(context, "backup", &task, outcome, started.elapsed())
            .with_context(doing);
    }
    let made = release::copies(&machine, host)?
        .pop()
        .context("failed to find the copy that was made")?;
    let to = args.to.as_deref().map(|to| place(to, &made.name));
    if let Some(to) = &to {
        release::fetch(&context.machine, &machine, host, &made.name, to)?;
    }
    let place = format!("{}/backups/{}", host.directory, made.name);
    context.term.done(&format!(
        "{place}, {}  ({})",
        size(made.bytes),
        millis(started.elapsed())
    ));
    if let Some(to) = &to {
        context.term.done(&format!("{}, mode 0600", to.display()));
    }
    if args.json {
        print_json(&json!({
            "host": name, "copy": made, "path": place, "here": to,
            "end": outcome.name(), "phases": phases_of(&events),
        }))?;
    }
    Ok(())
}

/// The file that is named, or the copy's own name in the folder that is.
fn place(to: &Path, name: &str) -> PathBuf {
    if to.is_dir() {
        to.join(name)
    } else {
        to.to_owned()
    }
}

fn list(context: &Context, args: &cli::Backup, host: &Host, machine: &Machine) -> Result<()> {
    let copies = release::copies(machine, host)?;
    if args.json {
        return print_json(&copies);
    }
    if copies.is_empty() {
        context.term.say(&format!(
            "{} keeps no copy: cargo xtask backup --host {}",
            args.on.host, args.on.host
        ));
        return Ok(());
    }
    let lines: Vec<String> = copies.iter().rev().map(line).collect();
    print(&lines.join("\n"))
}

/// One copy, for a person.
pub(in crate::commands) fn line(copy: &Dump) -> String {
    format!("{}  {:>8}  {}", copy.name, size(copy.bytes), ago(copy.at))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// How long ago, in the largest unit that says enough.
pub(in crate::commands) fn ago(at: Timestamp) -> String {
    let seconds = Timestamp::now().as_second() - at.as_second();
    let (count, unit) = match seconds.max(0) {
        s @ 0..120 => (s, "s"),
        s @ 120..7200 => (s / 60, "min"),
        s @ 7200..172_800 => (s / 3600, "h"),
        s => (s / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}

/// The copy of that name, with or without its end; the newest without a name.
///
/// # Errors
/// A user failure where there is none.
pub(in crate::commands) fn choose<'c>(
    host: &str,
    copies: &'c [Dump],
    name: Option<&str>,
) -> Result<&'c Dump> {
    let found = match name {
        None => copies.last(),
        Some(name) => copies
            .iter()
            .find(|copy| copy.name == name || copy.name.strip_suffix(".dump") == Some(name)),
    };
    found.ok_or_else(|| {
        let what = name.map_or_else(
            || "no copy is kept there".to_owned(),
            |name| format!("{name} is neither a copy that is kept there nor a file here"),
        );
        Failure::user(what)
            .hint(format!("cargo xtask backup --host {host} --list"))
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_found_by_its_name_or_as_the_newest() {
        let copy = |name: &str| Dump {
            name: name.to_owned(),
            bytes: 1,
            at: Timestamp::UNIX_EPOCH,
        };
        let copies = [copy("1-a.dump"), copy("2-b.dump")];
        let chosen = |name| {
            choose("spare", &copies, name)
                .map(|copy| copy.name.as_str())
                .ok()
        };
        assert_eq!(chosen(None), Some("2-b.dump"));
        assert_eq!(chosen(Some("1-a")), Some("1-a.dump"));
        assert_eq!(chosen(Some("1-a.dump")), Some("1-a.dump"));
        assert_eq!(chosen(Some("1")), None);
    }
}
