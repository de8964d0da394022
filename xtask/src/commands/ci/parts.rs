//! What the pipeline consists of.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use xshell::cmd;

use super::github;
use crate::commands::verify;
use crate::config::environment;
use crate::context::Context;
use crate::error::Failure;
use crate::exec::Step;
use crate::image;
use crate::testing::{Host, Purpose, TestImage, Throwaway};

/// The tests that make every fault of a deploy: a suite of their own.
pub(super) const EVERY_FAULT: &str = "every_fault";

/// One part of the pipeline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) what: &'static str,
    /// Seconds that it usually takes: by itself on two cores, with the images there.
    pub(super) usual: u64,
    pub(super) work: Work,
}

/// What a part runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Work {
    /// A program of this machine.
    Here(&'static [&'static str]),
    /// xtask itself, as a person would run it, and whether that needs the images.
    Xtask(&'static [&'static str], bool),
    /// A program of the test image on this checkout, without a network.
    InImage(&'static [&'static str]),
    /// The same, with files of the checkout as its last arguments.
    OnFiles(&'static [&'static str], Files),
    /// A program of the test image beside a MariaDB and a Postgres of its own.
    BesideDatabases(&'static [&'static str]),
    /// Tests of `xtask/tests` that cargo leaves alone by itself: the file, and the
    /// chapter of one that has many.
    OnContainers(&'static str, &'static str),
    /// The image of this tree, made once more by a newer engine.
    Elsewhere,
}

/// Files that git knows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Files {
    /// Shell scripts: by their names, or by their first lines.
    Shell,
    Dockerfiles,
    /// Of GitHub Actions.
    Workflows,
}

const fn part(what: &'static str, usual: u64, work: Work) -> Part {
    Part { what, usual, work }
}

/// What looks at files and disturbs nobody: it goes on beside the first of [`STACKS`].
pub(super) const CHECKS: [Part; 13] = [
    part(
        "format (rustfmt)",
        2,
        Work::Here(&["cargo", "fmt", "--check"]),
    ),
    part(
        "lint (clippy)",
        45,
        Work::Here(&[
            "cargo",
            "clippy",
            "--quiet",
            "--all-targets",
            "--locked",
            "--",
            "--deny",
            "warnings",
        ]),
    ),
    part(
        "unit and command-line tests (Rust)",
        90,
        Work::Here(&["cargo", "test", "--quiet", "--locked"]),
    ),
    part(
        "reference of the command line",
        2,
        Work::Xtask(&["reference", "--check"], false),
    ),
    part(
        "format (ruff)",
        2,
        Work::InImage(&["ruff", "format", "--check", "--no-cache", "."]),
    ),
    part(
        "lint (ruff)",
        2,
        Work::InImage(&[
            "ruff",
            "check",
            "--no-cache",
            "--output-format",
            "concise",
            ".",
        ]),
    ),
    part(
        "lint (sqlfluff)",
        30,
        Work::InImage(&[
            "sqlfluff",
            "lint",
            "--disable-progress-bar",
            "dbt_dental_models",
        ]),
    ),
    part(
        "lint (shellcheck)",
        3,
        Work::OnFiles(&["shellcheck", "--format", "gcc"], Files::Shell),
    ),
    part(
        "lint (hadolint)",
        2,
        Work::OnFiles(&["hadolint", "--format", "gnu"], Files::Dockerfiles),
    ),
    part(
        "lint (zizmor)",
        2,
        Work::OnFiles(&["zizmor", "--offline", "--quiet"], Files::Workflows),
    ),
    part("locks", 40, Work::Xtask(&["lock", "--check"], true)),
    part("advisories", 60, Work::Xtask(&["audit"], true)),
    part(
        "image, twice from nothing",
        90,
        Work::Xtask(&["build", "--verify"], true),
    ),
];

/// What runs databases, stacks and hosts, two at once. What has the last word on a
/// stack comes first, for --within may leave out the rest.
pub(super) const STACKS: [Part; 13] = [
    part(
        "ETL tests (MariaDB, Postgres)",
        250,
        Work::BesideDatabases(&[
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "etl_pipeline/tests",
        ]),
    ),
    part(
        "DAG and bootstrap tests (Airflow)",
        280,
        Work::BesideDatabases(&["pytest", "-q", "-p", "no:cacheprovider", "airflow/tests"]),
    ),
    part(
        "one night, end to end",
        450,
        Work::OnContainers("night", ""),
    ),
    part(
        "deploy, changes and rollback",
        260,
        Work::OnContainers("deploy", "life::"),
    ),
    part(
        "deploy, one fault of each kind",
        430,
        Work::OnContainers("deploy", "faults::"),
    ),
    part(
        "deploy, work with a host",
        150,
        Work::OnContainers("deploy", "operate::"),
    ),
    part(
        "deploy, copies and secrets",
        330,
        Work::OnContainers("deploy", "data::"),
    ),
    part(
        "deploy, a newer Airflow and back",
        330,
        Work::OnContainers("deploy", "schema::"),
    ),
    part(
        "deploy, how a host is reached",
        180,
        Work::OnContainers("deploy", "reach::"),
    ),
    part(
        "deploy, other transports",
        180,
        Work::OnContainers("deploy", "transports::"),
    ),
    part("hosts, over ssh", 300, Work::OnContainers("hosts", "")),
    part(
        "image, to real registries",
        90,
        Work::OnContainers("push", ""),
    ),
    part(
        "image, on another machine with a newer engine",
        150,
        Work::Elsewhere,
    ),
];

impl Part {
    /// Whether it stands on the images: the bases, Airflow's and that of the tests.
    pub(super) fn needs_images(&self) -> bool {
        !matches!(self.work, Work::Here(_) | Work::Xtask(_, false))
    }

    /// Whether it is one command, whose words can be kept until it ends.
    pub(super) fn is_one_command(&self) -> bool {
        !matches!(self.work, Work::BesideDatabases(_) | Work::Elsewhere)
    }

    /// Runs it; what it says appears as it comes.
    pub(super) fn show(&self, context: &Context, image: Option<&TestImage>) -> Result<()> {
        let step = match self.work {
            Work::Elsewhere => return elsewhere(context),
            Work::BesideDatabases(command) => {
                let databases = context.term.task("two databases", || {
                    Throwaway::start(context, Purpose::Tests)
                })?;
                let step = databases.join(context, there(image)?, self.what, command);
                return context.machine.show(&step);
            }
            _ => self.step(context, image)?,
        };
        context.machine.show(&step)
    }

    /// The command of a part that is nothing more.
    pub(super) fn step(&self, context: &Context, image: Option<&TestImage>) -> Result<Step> {
        let sh = context.machine.sh();
        let what = format!("pass {}", self.what);
        let command = match self.work {
            Work::Here(command) => {
                let (program, rest) = command.split_first().context("failed to find a command")?;
                let command = cmd!(sh, "{program} {rest...}");
                return Ok(aside(Step::new(what, command)));
            }
            Work::Xtask(rest, _) => {
                let program = this_program()?;
                cmd!(sh, "{program} {rest...}")
            }
            Work::InImage(command) => {
                return Ok(there(image)?.alone(context, self.what, &github::spoken(command)));
            }
            Work::OnFiles(command, files) => {
                let files = files.list(context)?;
                let command: Vec<&str> = command
                    .iter()
                    .copied()
                    .chain(files.iter().map(String::as_str))
                    .collect();
                return Ok(there(image)?.alone(context, self.what, &command));
            }
            Work::OnContainers(test, chapter) => {
                return Ok(on_containers(
                    context,
                    self.what,
                    test,
                    &["--skip", EVERY_FAULT, chapter],
                ));
            }
            Work::BesideDatabases(_) | Work::Elsewhere => {
                bail!("failed to make one command of {}", self.what)
            }
        };
        Ok(Step::new(what, command))
    }
}

/// Where this program lies, or what cargo has linked in its place meanwhile: tests have
/// other features of its crates.
fn this_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("failed to find this program")?;
    let text = path.to_string_lossy();
    Ok(match text.strip_suffix(" (deleted)") {
        Some(same) if !path.exists() => PathBuf::from(same),
        _ => path,
    })
}

fn there(image: Option<&TestImage>) -> Result<&TestImage> {
    image.context("failed to find the test image")
}

/// What tests deploy and push is no news for the page of the run that they are part of.
fn aside(step: Step) -> Step {
    step.without([environment::GITHUB_SUMMARY])
}

/// Tests of a file that cargo leaves alone by itself, as `which` says to its harness.
pub(super) fn on_containers(context: &Context, what: &str, test: &str, which: &[&str]) -> Step {
    let sh = context.machine.sh();
    let which = which.iter().filter(|word| !word.is_empty());
    let tests = cmd!(
        sh,
        "cargo test --quiet --locked --test {test} -- --ignored --nocapture --test-threads=1 {which...}"
    );
    aside(Step::new(format!("pass {what}"), tests))
}

impl Files {
    fn list(self, context: &Context) -> Result<Vec<String>> {
        let machine = &context.machine;
        let asked = Step::new("list the files", cmd!(machine.sh(), "git ls-files"));
        let all = machine.read(&asked)?;
        let root = context.workspace.root();
        let kept = all.lines().filter(|path| {
            let name = path.rsplit('/').next().unwrap_or(path);
            match self {
                Self::Shell => {
                    path.ends_with(".sh")
                        || (!name.contains('.') && {
                            let text = std::fs::read(root.join(path)).unwrap_or_default();
                            let first =
                                text.split(|byte| *byte == b'\n').next().unwrap_or_default();
                            let first = String::from_utf8_lossy(first);
                            first.starts_with("#!") && first.ends_with("sh")
                        })
                }
                Self::Dockerfiles => name.starts_with("Dockerfile") && !name.ends_with("ignore"),
                Self::Workflows => path.starts_with(".github/workflows/"),
            }
        });
        let kept: Vec<String> = kept.map(str::to_owned).collect();
        ensure!(
            !kept.is_empty(),
            "failed to find a file to look at: {self:?}"
        );
        Ok(kept)
    }
}

/// A newer engine makes one image of the same inputs, digest and all, and its
/// files are those that this machine's engine made.
fn elsewhere(context: &Context) -> Result<()> {
    let (deploy, engine) = (context.deploy()?, context.engine()?);
    let facts = image::observe(&engine, &context.workspace, &deploy)?;
    let base = facts
        .base
        .as_ref()
        .context("failed to find the Airflow base, which the image stands on")?;
    let host = Host::start(context)?;
    let term = &context.term;
    term.task("the base, brought there", || host.load(&base.reference))?;
    for arguments in [&["build"][..], &["build", "--verify"]] {
        context.machine.show(&host.xtask(arguments))?;
    }
    let name = facts.image();
    let differences = term.task("files of both images compared", || -> Result<_> {
        let archives = [
            host.save(&name, "here.tar")?,
            host.fetch(&name, "there.tar")?,
        ];
        let found = engine.raw_images(&[&base.reference, &name])?;
        let layers: Vec<usize> = found
            .iter()
            .map(|image| verify::layers(image).len())
            .collect();
        let &[below, all] = layers.as_slice() else {
            bail!("failed to find both {} and {name} here", base.reference);
        };
        let own: Vec<usize> = (below..all).collect();
        ensure!(!own.is_empty(), "failed to find a layer of ours in {name}");
        image::differences(&archives[0], &archives[1], &own)
    })?;
    for difference in &differences {
        term.say(&format!("  {difference}"));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::tool(format!(
        "failed to make the same files on two engines: {} differ",
        differences.len()
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use xshell::Shell;

    use super::*;

    #[test]
    fn what_tests_deploy_is_not_told_on_the_page_of_their_run() {
        let sh = Shell::new().unwrap();
        let step = aside(Step::new("pass tests", cmd!(sh, "cargo test")));
        assert_eq!(step.line(), "env -u GITHUB_STEP_SUMMARY cargo test");
    }
}
