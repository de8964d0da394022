//! The Airflow image plus pytest, ruff and sqlfluff.

use anyhow::Result;
use xshell::cmd;

use crate::config::environment;
use crate::context::Context;
use crate::engine::Engine;
use crate::exec::Step;
use crate::image::{BuildFacts, Fingerprint, files_fingerprint};

const DOCKERFILE: &str = "airflow/tests/Dockerfile";
const INPUTS: [&str; 3] = [
    DOCKERFILE,
    "airflow/tests/Dockerfile.dockerignore",
    "requirements-dev.lock",
];
/// Where the checkout is mounted, read-only: the container's project root.
const ROOT: &str = "/opt/airflow/dbt_dental_clinic";

/// An image that can run the Python tests of this tree.
#[derive(Debug)]
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
    ) -> Result<Self> {
        let base = facts.image();
        let (reference, inputs) = Self::of(context, facts)?;
        let image = Self {
            docker: engine.docker().clone(),
            reference,
        };
        if engine.image(&image.reference)?.is_none() {
            context.machine.show(&image.build(engine, &base, &inputs))?;
        }
        Ok(image)
    }

    /// The name of this tree's test image, and the hash in it.
    pub(crate) fn of(context: &Context, facts: &BuildFacts) -> Result<(String, Fingerprint)> {
        let base = facts.image();
        let inputs = files_fingerprint(context.workspace.root(), &INPUTS, &[("base", &base)])?;
        Ok((format!("{}-test:{}", facts.name, inputs.tag()), inputs))
    }

    fn build(&self, engine: &Engine<'_>, base: &str, inputs: &Fingerprint) -> Step {
        let (docker, reference) = (&self.docker, &self.reference);
        let argument = format!("BASE_IMAGE={base}");
        let label = format!("dental.image.test={inputs}");
        let mut step = Step::new(
            "build the test image",
            cmd!(
                engine.sh(),
                "{docker} build --file {DOCKERFILE} --tag {reference} --label {label} --build-arg {argument}"
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
            format!("pass {what}"),
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
        self.run(context, what, program)
            .args(["--network", "none", self.reference.as_str()])
            .args(rest.iter().copied())
    }

    /// Its name.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }
}
