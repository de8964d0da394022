//! `bench deploy`: what a deploy costs, on a real host: a whole machine in a
//! container, reached by ssh. Bytes are those of its network card, both ways, with
//! the headers of all packets.

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::Value;
use xshell::cmd;

use super::{Figure, bytes, figure, seconds, time};
use crate::commands::build;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::Step;
use crate::image::BaseName;
use crate::testing::{NAME, Registry, Remote};

const DAG: &str = "airflow/dags/etl_pipeline_dag.py";
/// What a layer of each changed image holds: bytes that cannot be packed.
const LAYER: u64 = 1_000_000;

/// A command that was measured.
struct Measured {
    seconds: f64,
    bytes: u64,
    told: String,
}

pub(super) fn figures(context: &Context, runs: usize) -> Result<Vec<Figure>> {
    let deploy = context.deploy()?;
    let engine = context.engine()?;
    let facts = build::ensure(context, &engine, &deploy, &BaseName::ALL, false)?;
    let remote = Remote::start(context, "containerd")?;
    // What takes seconds is measured a few times.
    let few = runs.div_ceil(4);
    let mut figures = Vec::new();

    let first = measured(context, &remote, "first deploy", &deploy_step(&remote))?;
    figures.push(seconds("first deploy", vec![first.seconds], String::new()));
    figures.push(bytes("  bytes", &[first.bytes], "three images".to_owned()));
    nothing_to_do(context, &remote, runs, &mut figures)?;
    one_line(context, &remote, few, &mut figures)?;
    back(context, &remote, &mut figures)?;
    let mut images = Vec::new();
    let done = transports(context, &remote, &facts.image(), &mut images, &mut figures);
    // Whatever became of it.
    forget(context, &images)?;
    done?;
    Ok(figures)
}

fn deploy_step(remote: &Remote<'_>) -> Step {
    remote.xtask(&["deploy", "--host", NAME, "--json"])
}

/// Runs a step that must succeed.
fn measured(context: &Context, remote: &Remote<'_>, what: &str, step: &Step) -> Result<Measured> {
    context.term.task(what, || {
        let (before, started) = (remote.wire()?, Instant::now());
        let told = context.machine.read(step)?;
        Ok(Measured {
            seconds: started.elapsed().as_secs_f64(),
            bytes: remote.wire()? - before,
            told,
        })
    })
}

fn nothing_to_do(
    context: &Context,
    remote: &Remote<'_>,
    runs: usize,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let args = ["deploy", "--host", NAME];
    let counted = remote.xtask(&["deploy", "--host", NAME, "-v"]);
    let said = context.machine.capture(&counted)?.stderr;
    let lead = format!("{NAME}$ ");
    let commands = said.lines().filter(|line| line.starts_with(&lead)).count();
    let (mut shared, mut anew) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let own = remote.xtask_anew(&args, run)?;
        anew.push(measured(
            context,
            remote,
            "nothing to do, by a new connection",
            &own,
        )?);
        let own = remote.xtask(&args);
        shared.push(measured(context, remote, "nothing to do", &own)?);
    }
    let note = match commands {
        1 => "1 command on the host, over the connection of the command before".to_owned(),
        n => format!("{n} commands on the host, over the connection of the command before"),
    };
    let of = |all: &[Measured]| all.iter().map(|m| m.seconds).collect();
    let wire = |all: &[Measured]| -> Vec<u64> { all.iter().map(|m| m.bytes).collect() };
    figures.push(seconds("deploy with nothing to do", of(&shared), note));
    figures.push(bytes("  bytes", &wire(&shared), String::new()));
    figures.push(seconds("  by a new connection", of(&anew), String::new()));
    figures.push(bytes("  bytes", &wire(&anew), String::new()));
    Ok(())
}

fn one_line(
    context: &Context,
    remote: &Remote<'_>,
    runs: usize,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let (mut all, mut live, mut wire) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..runs {
        remote.change(DAG, |text| {
            text.replacen("tags=[", &format!("tags=[\"bench{run}\", "), 1)
        })?;
        remote.commit()?;
        let edit = measured(context, remote, "one line of a DAG", &deploy_step(remote))?;
        live.push(phase(&edit.told, "live")?);
        all.push(edit.seconds);
        wire.push(edit.bytes);
    }
    let note = "the scheduler has read it".to_owned();
    figures.push(seconds(
        "one line of a DAG, from the switch to live",
        live,
        note,
    ));
    figures.push(seconds("  in all", all, String::new()));
    figures.push(bytes("  bytes", &wire, String::new()));
    Ok(())
}

/// Seconds of a phase, by the host's own account.
fn phase(told: &str, name: &str) -> Result<f64> {
    let told: Value = serde_json::from_str(told).context("failed to read what deploy told")?;
    let phases = told["phases"].as_array();
    phases
        .and_then(|all| all.iter().find(|phase| phase["phase"] == name))
        .and_then(|phase| phase["ms"].as_f64())
        .map(|ms| ms / 1000.0)
        .with_context(|| format!("failed to find how long the phase {name} took"))
}

fn back(context: &Context, remote: &Remote<'_>, figures: &mut Vec<Figure>) -> Result<()> {
    let rollback = remote.xtask(&["rollback", "--host", NAME]);
    let code = measured(context, remote, "rollback", &rollback)?;
    figures.push(seconds(
        "rollback of code",
        vec![code.seconds],
        String::new(),
    ));
    figures.push(bytes("  bytes", &[code.bytes], String::new()));
    remote.change(".env.bench", |text| {
        text + "ETL_PIPELINE_SCHEDULE='30 21 * * *'\n"
    })?;
    let settings = measured(context, remote, "changed settings", &deploy_step(remote))?;
    let note = "Airflow restarts".to_owned();
    figures.push(seconds(
        "changed settings",
        vec![settings.seconds],
        note.clone(),
    ));
    let code = measured(context, remote, "rollback with a restart", &rollback)?;
    figures.push(seconds("rollback of settings", vec![code.seconds], note));
    figures.push(bytes(
        "  bytes",
        &[code.bytes],
        "nothing is pulled".to_owned(),
    ));
    Ok(())
}

/// The image with another layer of a megabyte, by each way.
fn transports(
    context: &Context,
    remote: &Remote<'_>,
    image: &str,
    images: &mut Vec<String>,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let push = remote.xtask(&["push", "--host", NAME, "--allow-dirty", "--json"]);
    let built = remote.xtask(&["build"]);
    let change = |which: &str| -> Result<()> {
        remote.change("Dockerfile.airflow", |text| {
            let kept: Vec<&str> = text
                .lines()
                .filter(|l| !l.starts_with("RUN head "))
                .collect();
            format!(
                "{}\nRUN head -c {LAYER} /dev/urandom >/opt/airflow/{which}\n",
                kept.join("\n")
            )
        })
    };
    let note = |m: &Measured| format!("{:.2} of the changed layer", m.bytes as f64 / LAYER as f64);
    let mut told = |what, m: &Measured, note: String| {
        figures.push(seconds(what, vec![m.seconds], String::new()));
        figures.push(bytes("  bytes", &[m.bytes], note));
    };

    change("ssh")?;
    time(context, &built)?;
    let by_ssh = measured(context, remote, "a changed image over ssh", &push)?;
    images.push(named(&by_ssh.told)?);
    told("changed image over ssh", &by_ssh, note(&by_ssh));

    let registry = Registry::start(context)?;
    // One name for both machines: what is sent to it there goes to the registry.
    let (port, to) = (
        registry.host.rsplit(':').next().unwrap_or_default(),
        registry.address()?,
    );
    remote.there(&format!(
        "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet && \
         iptables -t nat -A OUTPUT -d 127.0.0.1 -p tcp --dport {port} -j DNAT --to {to}:5000 && \
         iptables -t nat -A POSTROUTING -d {to} -j MASQUERADE"
    ))?;
    let team = format!("registry = \"{}/team\"\n", registry.host);
    remote.know(&format!("transport = \"registry\"\n{team}"))?;
    for (which, what) in [
        ("registry1", "first image by a registry"),
        ("registry2", "changed image by a registry"),
    ] {
        change(which)?;
        time(context, &built)?;
        let by_registry = measured(context, remote, what, &push)?;
        let name = named(&by_registry.told)?;
        images.push(format!("{}/team/{name}", registry.host));
        images.push(name);
        told(what, &by_registry, note(&by_registry));
    }

    remote.know("transport = \"build\"\n")?;
    for (which, what) in [
        ("build1", "first image built there"),
        ("build2", "changed image built there"),
    ] {
        change(which)?;
        let by_build = measured(context, remote, what, &push)?;
        told(what, &by_build, String::new());
    }

    let sh = context.machine.sh();
    let (ssh, docker) = (remote.ssh(), context.engine()?.docker().clone());
    let script =
        "image=$1 docker=$2; shift 2; \"$docker\" save \"$image\" | \"$@\" docker load --quiet";
    let plain = Step::new(
        "save and load by hand",
        cmd!(sh, "sh -c {script} plain {image} {docker} {ssh...}"),
    );
    let plain = measured(context, remote, "docker save | ssh docker load", &plain)?;
    told("docker save | ssh docker load", &plain, String::new());
    figures.push(figure(
        "  of the first way's bytes",
        "",
        vec![plain.bytes as f64 / by_ssh.bytes as f64],
        "times".to_owned(),
    ));
    Ok(())
}

/// The image that `push --json` told of.
fn named(told: &str) -> Result<String> {
    let told: Value = serde_json::from_str(told).context("failed to read what push told")?;
    let image = told["image"].as_str().map(str::to_owned);
    Ok(image.ok_or_else(|| Failure::tool("failed to find the image that push told of"))?)
}

/// Every build moves `latest`: it goes back, and what was built goes.
fn forget(context: &Context, images: &[String]) -> Result<()> {
    let (engine, sh) = (context.engine()?, context.machine.sh());
    let docker = engine.docker();
    let remove = cmd!(sh, "{docker} image rm --force {images...}");
    context
        .machine
        .capture(&Step::new("remove the images of the benchmark", remove))?;
    let deploy = context.deploy()?;
    build::ensure(context, &engine, &deploy, &[BaseName::Airflow], false).map(drop)
}
