//! The digest that a registry has for a base's tag, asked without a pull.
//!
//! It is the digest of the whole, an index of platforms where the image has
//! several: what `docker pull` shows, and what a reference is pinned to.

use std::path::{Path, PathBuf};

use anyhow::Result;
use xshell::cmd;

use super::ask::{ANSWER, Inspected, inspect};
use super::fault::{Fault, fault, out_of_reach};
use crate::config::{Reference, is_digest};
use crate::engine::Engine;
use crate::error::Failure;
use crate::exec::{Captured, Step};

/// What came of asking for a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// `sha256:…`, of the whole.
    Digest(String),
    /// The registry cannot be reached, in docker's words.
    OutOfReach(&'static str),
    /// It answered, and this docker does not tell the digest of the whole.
    Untold(String),
}

/// Asks registries through a docker that can.
#[derive(Debug)]
pub(crate) struct Registries<'e> {
    engine: &'e Engine<'e>,
    way: Way,
    /// Those that could not be reached are not asked again.
    unreachable: Vec<(String, &'static str)>,
}

/// By which command, of which program.
#[derive(Debug)]
enum Way {
    /// `buildx imagetools inspect` tells the digest of the whole.
    ImageTools(PathBuf),
    /// `manifest inspect --verbose` tells it of an image for one platform; of an
    /// index it lists the platforms' digests alone.
    ManifestInspect(PathBuf),
}

impl<'e> Registries<'e> {
    /// Through the first docker that has buildx; where none has, through the one
    /// that the engine is spoken to by.
    pub(crate) fn through(engine: &'e Engine<'e>) -> Result<Self> {
        let mut way = Way::ManifestInspect(engine.docker().clone());
        for cli in engine.clis() {
            let docker = &cli.path;
            let asked = engine.machine().capture(
                &Step::new(
                    "ask docker for buildx",
                    cmd!(engine.sh(), "{docker} buildx version"),
                )
                .limit(ANSWER),
            )?;
            if asked.ok() && asked.stdout.contains("buildx") {
                way = Way::ImageTools(docker.clone());
                break;
            }
        }
        Ok(Self {
            engine,
            way,
            unreachable: Vec::new(),
        })
    }

    /// The digest that the registry has for the tag of `of` now, whatever digest
    /// is written in it.
    ///
    /// # Errors
    /// Where the registry refuses: no such tag, no permission, too many requests.
    pub(crate) fn digest(&mut self, of: &Reference<'_>) -> Result<Answer> {
        let known = self.unreachable.iter().find(|(at, _)| at == of.registry());
        if let Some((_, words)) = known {
            return Ok(Answer::OutOfReach(words));
        }
        let answer = match &self.way {
            Way::ImageTools(docker) => self.image_tools(docker, of)?,
            Way::ManifestInspect(docker) => self.manifest(docker, of)?,
        };
        if let Answer::OutOfReach(words) = answer {
            self.unreachable.push((of.registry().to_owned(), words));
        }
        Ok(answer)
    }

    fn image_tools(&self, docker: &Path, of: &Reference<'_>) -> Result<Answer> {
        let (tagged, format) = (of.tagged, "{{.Manifest.Digest}}");
        let step = Step::new(
            format!("ask the registry for the digest of {tagged}"),
            cmd!(
                self.engine.sh(),
                "{docker} buildx imagetools inspect {tagged} --format {format}"
            ),
        )
        .limit(ANSWER);
        let captured = self.engine.machine().capture(&step)?;
        if !captured.ok() {
            return self.refused(&step, &captured);
        }
        let said = captured.stdout.trim();
        Ok(if is_digest(said) {
            Answer::Digest(said.to_owned())
        } else {
            Answer::Untold(format!("buildx told no digest, but {said:?}"))
        })
    }

    fn manifest(&self, docker: &Path, of: &Reference<'_>) -> Result<Answer> {
        let step = self.manifest_step(docker, of, of.tagged);
        let captured = self.engine.machine().capture(&step)?;
        if !captured.ok() {
            return self.refused(&step, &captured);
        }
        let platforms = match serde_json::from_str(&captured.stdout) {
            Ok(Inspected::One(one)) if is_digest(&one.descriptor.digest) => {
                return Ok(Answer::Digest(one.descriptor.digest));
            }
            Ok(Inspected::Index(platforms)) if !platforms.is_empty() => platforms,
            _ => {
                let why = "docker manifest inspect told no digest".to_owned();
                return Ok(Answer::Untold(why));
            }
        };
        for candidate in self.candidates(of)? {
            // The registry is asked for that digest: it is the tag's if it leads
            // to the same platforms with the same digests.
            let reference = format!("{}@{candidate}", of.repository);
            let step = self.manifest_step(docker, of, &reference);
            let captured = self.engine.machine().capture(&step)?;
            let same = matches!(
                serde_json::from_str(&captured.stdout),
                Ok(Inspected::Index(listed)) if captured.ok() && listed == platforms
            );
            if same {
                return Ok(Answer::Digest(candidate));
            }
        }
        Ok(Answer::Untold(format!(
            "without buildx docker tells the digests of its platforms alone, as {}",
            platforms[0].descriptor
        )))
    }

    fn manifest_step(&self, docker: &Path, of: &Reference<'_>, reference: &str) -> Step {
        let what = format!("ask the registry for the digest of {}", of.tagged);
        inspect(self.engine, docker, what, reference)
    }

    /// Digests that the tag may have: the one that is written, and those by which
    /// the engine pulled it.
    fn candidates(&self, of: &Reference<'_>) -> Result<Vec<String>> {
        let mut all: Vec<String> = of.digest.map(str::to_owned).into_iter().collect();
        if let Some(image) = self.engine.image(of.tagged)? {
            let known = image.repo_digests.iter().filter_map(|d| d.split_once('@'));
            all.extend(
                known
                    .filter(|(repository, _)| *repository == of.repository)
                    .map(|(_, digest)| digest.to_owned()),
            );
        }
        all.dedup();
        Ok(all)
    }

    fn refused(&self, step: &Step, captured: &Captured) -> Result<Answer> {
        if let Some(words) = out_of_reach(&captured.stderr) {
            return Ok(Answer::OutOfReach(words));
        }
        let last = captured.stderr.trim().lines().last().unwrap_or_default();
        // 20.10 cannot read OCI manifests; an older buildx knows no --format.
        if last.contains("unsupported") || last.contains("unknown flag") {
            return Ok(Answer::Untold(last.to_owned()));
        }
        let error: Failure = self.engine.machine().failed(step, captured);
        // A registry says "no such tag" to whom it does not know, too.
        let login = match fault(&captured.stderr) {
            Fault::Absent | Fault::Authentication => {
                "see whether the tag is right, and whether the registry wants a login: docker login\n"
            }
            _ => "",
        };
        Err(error
            .hint(format!("{login}try it by hand: {}", step.line()))
            .into())
    }
}
