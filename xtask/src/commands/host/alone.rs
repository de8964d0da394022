//! `deploy --print-docker-run`: a release without Compose, as commands to paste.

use std::fs;
use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use xshell::cmd;

use crate::commands::print;
use crate::config::{Host, Settings};
use crate::context::Context;
use crate::engine::Engine;
use crate::exec::{Machine, Step, quote};
use crate::release::{ALONE, Calling, Places, alone, write_run_env};
use crate::stack::Compose;

const ANSWER: Duration = Duration::from_secs(60);
/// Each generation of Compose writes YAML, and only the newer one JSON too.
const TO_JSON: &str = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";

/// A host's stack.
pub(in crate::commands) struct Stack<'a> {
    pub(in crate::commands) host: &'a Host,
    pub(in crate::commands) machine: &'a Machine,
    pub(in crate::commands) settings: &'a Settings,
    pub(in crate::commands) calling: &'a Calling<'a>,
}

impl Stack<'_> {
    /// Writes the variables of each service on the host, for its user alone, and
    /// prints what starts it.
    pub(in crate::commands) fn print(
        &self,
        context: &Context,
        engine: &Engine<'_>,
        release: &str,
    ) -> Result<()> {
        let config = self.config(context, engine)?;
        let (directory, project) = (&self.host.directory, self.settings.project());
        let root = context.workspace.root().display().to_string();
        let places = Places {
            project,
            asked: &root,
            there: directory,
        };
        let network = format!("{project}_default");
        let mut lines = vec![
            format!(
                "# Release {release} without Compose, on the host itself. Airflow that runs there has to be stopped first."
            ),
            // Its own shell: a failure ends that, not the one it is pasted into.
            "(set -e".to_owned(),
            format!("cd {}", quote(directory)),
            "mkdir -p airflow/logs airflow/certs".to_owned(),
            format!(
                "ln -sfn {} code/.next && mv -T code/.next code/current",
                quote(format!("releases/{release}"))
            ),
            format!(
                "docker network inspect {network} >/dev/null 2>&1 || docker network create \
                 --label com.docker.compose.project={project} --label com.docker.compose.network=default {network}"
            ),
        ];
        for service in ALONE {
            let path = format!("{directory}/run/{service}.env");
            let one = alone(&config, places, service, &path)?;
            write_run_env(self.machine, &path, &one.env)?;
            lines.push(one.run);
        }
        if !self.settings.databases().is_empty() {
            context.term.warn(&format!(
                "{} are services of Compose: these commands start Airflow alone",
                self.settings.databases().join(" and ")
            ));
        }
        // Then it counts as one that served well: `status` and the next deploy go by that.
        lines.extend([
            format!(
                "for name in {project}-airflow-webserver-alone {project}-airflow-scheduler-alone; do n=0"
            ),
            "until [ \"$(docker inspect --format '{{.State.Health.Status}}' \"$name\")\" = healthy ]; do \
             n=$((n + 1)); [ $n -lt 240 ] || exit 1; sleep 2; done; done"
                .to_owned(),
            format!(
                ": >code/releases/{release}/.release/good && printf %s {release} >good.new && mv good.new good"
            ),
        ]);
        lines.push(")".to_owned());
        print(&lines.join("\n"))
    }

    /// What Compose makes of the files that were shipped.
    fn config(&self, context: &Context, engine: &Engine<'_>) -> Result<Value> {
        let (here, sh) = (&context.machine, context.machine.sh());
        let compose = Compose::find(engine, &[])?;
        let path = context
            .workspace
            .cache()
            .join(format!("run-{}.env", process::id()));
        fs::create_dir_all(context.workspace.cache())?;
        here.write(
            &path,
            self.settings.env().bare().to_string().as_bytes(),
            0o600,
        )?;
        let _gone = Gone(&path);
        let files = self.calling.files().flat_map(|file| ["--file", file]);
        let step = compose
            .step(sh, "let Compose read its files")
            .args(["--project-name", self.settings.project()])
            .arg("--project-directory")
            .arg(context.workspace.root())
            .args(files)
            .arg("--env-file")
            .arg(path.as_os_str())
            .args(["--profile", "init", "config"])
            .without(self.settings.shadowing())
            .envs(self.calling.variables())
            .limit(ANSWER);
        let yaml = here.read(&step)?;
        let image = self
            .calling
            .images
            .first()
            .map(|(_, image)| image)
            .context("no image")?;
        let docker = engine.docker();
        let step = Step::new(
            "read what Compose says",
            cmd!(sh, "{docker} run --rm --interactive --network none --entrypoint python {image} -c {TO_JSON}"),
        )
        .limit(ANSWER);
        let told = here.feed(&step, |to| Ok(to.write_all(yaml.as_bytes())?))?;
        anyhow::ensure!(told.ok(), here.failed(&step, &told));
        serde_json::from_str(&told.stdout).context("failed to read what Compose says")
    }
}

/// A file with secrets, gone when dropped.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        fs::remove_file(self.0).ok();
    }
}
