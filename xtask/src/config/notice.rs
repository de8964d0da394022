//! What in a `.env` is allowed and yet hardly meant: a name set twice, a name
//! that nothing reads.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;

use super::dotenv::EnvFile;
use super::{COMPOSE_FILES, Problem, Workspace, settings};

/// How alike two names have to be for one to be taken for a slip of the other:
/// one letter of twenty, two swapped, a prefix left out.
const ALIKE: f64 = 0.9;
/// Compose's own names, read from `.env` as well.
const OF_COMPOSE: [&str; 2] = ["COMPOSE_", "DOCKER_"];

/// The notices of the workspace's `.env`.
pub(crate) fn notices(workspace: &Workspace, env: &EnvFile) -> Result<Vec<Problem>> {
    let template = settings::template(workspace)?;
    let mut known: BTreeSet<String> = template.entries().map(|(n, _)| n.to_owned()).collect();
    for name in COMPOSE_FILES {
        let text = fs::read_to_string(workspace.root().join(name)).unwrap_or_default();
        known.extend(referred(&text).map(str::to_owned));
    }
    Ok(among(env, &known))
}

/// Names that a compose file takes from its surroundings: `${NAME…`.
fn referred(compose: &str) -> impl Iterator<Item = &str> {
    compose.split("${").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        Some(&rest[..end])
    })
}

fn among(env: &EnvFile, known: &BTreeSet<String>) -> Vec<Problem> {
    let twice = env.repeated().into_iter().map(|(name, lines)| {
        let last = lines.last().copied().unwrap_or_default();
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        Problem {
            name: name.to_owned(),
            why: format!(
                "is set in lines {}; only line {last} counts",
                lines.join(" and ")
            ),
            fix: "keep one of the lines".to_owned(),
        }
    });
    let names: BTreeSet<&str> = env.entries().map(|(name, _)| name).collect();
    let strange = names
        .into_iter()
        .filter(|name| !known.contains(*name) && !OF_COMPOSE.iter().any(|p| name.starts_with(p)))
        .map(|name| Problem {
            name: name.to_owned(),
            why: "is a name that nothing reads: docker-compose.yml hands on only what it names"
                .to_owned(),
            fix: match nearest(name, known) {
                Some(near) => format!("did you mean {near}?"),
                None => "remove the line, or name it there".to_owned(),
            },
        });
    twice.chain(strange).collect()
}

fn nearest<'k>(name: &str, known: &'k BTreeSet<String>) -> Option<&'k str> {
    known
        .iter()
        .map(|one| (strsim::jaro_winkler(name, one), one.as_str()))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_twice_or_read_by_nobody_is_named() {
        let known: BTreeSet<String> = ["DBT_TARGET", "POSTGRES_ANALYTICS_PASSWORD"]
            .map(str::to_owned)
            .into();
        let env = EnvFile::parse(
            "DBT_TARGET=local\nPOSTGRES_ANALYTICS_PASWORD=x\nCOMPOSE_PROFILES=demo\n\
             DBT_TARGET=clinic\nMINE=1\n",
        );
        let told: Vec<(String, String)> = among(&env, &known)
            .into_iter()
            .map(|p| (p.name, p.fix))
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            told,
            [
                pair("DBT_TARGET", "keep one of the lines"),
                pair("MINE", "remove the line, or name it there"),
                pair(
                    "POSTGRES_ANALYTICS_PASWORD",
                    "did you mean POSTGRES_ANALYTICS_PASSWORD?"
                ),
            ]
        );
    }

    #[test]
    fn the_projects_own_files_name_each_other_whole() {
        let template = EnvFile::parse(include_str!("../../../.env.template"));
        let compose = include_str!("../../../docker-compose.yml");
        let known: BTreeSet<String> = referred(compose).map(str::to_owned).collect();
        let unread: Vec<Problem> = among(&template, &known);
        assert_eq!(unread, []);
    }
}
