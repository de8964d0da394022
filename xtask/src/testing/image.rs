//! The Airflow image plus what tests and benchmarks need.

use anyhow::Result;
use xshell::cmd;

use crate::config::environment;
use crate::context::Context;
use crate::engine::Engine;
use crate::exec::Step;
use crate::image::{BuildFacts, Fingerprint, files_fingerprint};

/// What stands on the Airflow image, and where it is written down.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// What it is for: a part of the image's name.
    kind: &'static str,
    dockerfile: &'static str,
    inputs: &'static [&'static str],
}

/// pytest, ruff and sqlfluff.
pub(crate) const TESTS: Recipe = Recipe {
    kind: "test",
    dockerfile: "airflow/tests/Dockerfile",
    inputs: &[
        "airflow/tests/Dockerfile",
        "airflow/tests/Dockerfile.dockerignore",
        "requirements-dev.lock",
    ],
};
/// The copiers that the loader is measured against.
pub(crate) const RIVALS: Recipe = Recipe {
    kind: "bench",
    dockerfile: "etl_pipeline/bench/Dockerfile",
    inputs: &[
        "etl_pipeline/bench/Dockerfile",
        "etl_pipeline/bench/Dockerfile.dockerignore",
        "etl_pipeline/bench/requirements.lock",
    ],
};
/// Where the checkout is mounted, read-only: the container's project root.
const ROOT: &str = "/opt/airflow/dbt_dental_clinic";

/// An image that can run the Python of this tree beside its tools.
#[derive(Debug, Clone)]
pub(crate) struct TestImage {
    docker: std::path::PathBuf,
    reference: String,
}

impl TestImage {
    /// Builds it unless the engine has it.
    pub(crate) fn ensure(
        context: &Context,
        engine: &Engine<'_>,
        facts: &BuildFacts,
        recipe: Recipe,
    ) -> Result<Self> {
        let base = facts.image();
        let (reference, inputs) = Self::of(context, facts, recipe)?;
        let image = Self {
            docker: engine.docker().clone(),
            reference,
        };
        if engine.image(&image.reference)?.is_none() {
            let build = image.build(engine, &base, recipe, &inputs);
            context.machine.show(&build)?;
        }
        Ok(image)
    }

    /// The name of this tree's image of a recipe, and the hash in it.
    pub(crate) fn of(
        context: &Context,
        facts: &BuildFacts,
        recipe: Recipe,
    ) -> Result<(String, Fingerprint)> {
        let (base, kind) = (facts.image(), recipe.kind);
        let root = context.workspace.root();
        let inputs = files_fingerprint(root, recipe.inputs, &[("base", &base)])?;
        Ok((format!("{}-{kind}:{}", facts.name, inputs.tag()), inputs))
    }

    fn build(&self, engine: &Engine<'_>, base: &str, recipe: Recipe, inputs: &Fingerprint) -> Step {
        let Recipe {
            kind, dockerfile, ..
        } = recipe;
        let (docker, reference) = (&self.docker, &self.reference);
        let argument = format!("BASE_IMAGE={base}");
        let label = format!("dental.image.{kind}={inputs}");
        let mut step = Step::new(
            format!("build the {kind} image"),
            cmd!(
                engine.sh(),
                "{docker} build --file {dockerfile} --tag {reference} --label {label} --build-arg {argument}"
            ),
        )
        .env("DOCKER_BUILDKIT", "1");
        if let Some(ca) = environment::ca_bundle() {
            step = step
                .arg("--secret")
                .arg(format!("id=ca,src={}", ca.display()));
        }
        step.arg(".")
    }

    /// `docker run` up to the image's name: [`TestImage::alone`] and
    /// [`super::Throwaway::join`] end it.
    pub(super) fn run(&self, context: &Context, what: &str, program: &str) -> Step {
        let docker = &self.docker;
        let mount = format!("{}:{ROOT}:ro", context.workspace.root().display());
        Step::new(
            what,
            cmd!(
                context.machine.sh(),
                "{docker} run --rm --init --volume {mount} --workdir {ROOT} --entrypoint {program}
                 --tmpfs /opt/airflow/logs:mode=0777 --tmpfs /opt/airflow/state:mode=0777"
            ),
        )
        .arg("--env")
        .arg(format!("PYTHONPATH={ROOT}/etl_pipeline"))
        .args(["--env", "PYTHONDONTWRITEBYTECODE=1"])
    }

    /// Runs a command on the checkout, with no network.
    pub(crate) fn alone(&self, context: &Context, what: &str, command: &[&str]) -> Step {
        let (program, rest) = command.split_first().unwrap_or((&"true", &[]));
        self.run(context, &format!("pass {what}"), program)
            .args(["--network", "none", self.reference.as_str()])
            .args(rest.iter().copied())
    }

    /// Its name.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }
}
