//! `.env`: there, valid, its own, and not overruled by the shell.

use anyhow::Result;

use super::check::Check;
use crate::config::{self, EnvFile, Problem, Workspace, environment, settings};

/// The file and its problems, each as a check of its own.
pub(super) fn read(workspace: &Workspace, env: Option<&EnvFile>) -> Result<Vec<Check>> {
    let template = settings::template(workspace)?;
    let Some(env) = env else {
        return Ok(vec![
            Check::warn(".env", "is not there yet; `cargo xtask up` writes it")
                .fix("cargo xtask env"),
        ]);
    };
    let mut problems = config::check(&template, env);
    problems.extend(settings::mode_problem(workspace)?);
    let names = template.entries().chain(env.entries());
    let mut shadowing = environment::set_among(names.map(|(name, _)| name));
    shadowing.sort_unstable();
    shadowing.dedup();
    let mut checks = check(&problems, &shadowing);
    checks.extend(config::notices(workspace, env)?.into_iter().map(|notice| {
        Check::warn(".env", format!("{} {}", notice.name, notice.why)).fix(notice.fix)
    }));
    Ok(checks)
}

/// What is to be said of them.
fn check(problems: &[Problem], shadowing: &[&str]) -> Vec<Check> {
    let mut checks: Vec<Check> = problems
        .iter()
        .map(|problem| {
            let says = match problem.name.as_str() {
                ".env" => problem.why.clone(),
                name => format!("{name} {}", problem.why),
            };
            Check::fail(".env", says).fix(&problem.fix)
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::pass(".env", "is complete, well formed and private"));
    }
    if !shadowing.is_empty() {
        let says = format!(
            "{} set in this shell: plain docker-compose takes that before .env; xtask leaves it out",
            match shadowing {
                [one] => format!("{one} is"),
                more => format!("{} are", more.join(", ")),
            }
        );
        checks.push(Check::warn("shell", says).fix(format!("unset {}", shadowing.join(" "))));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    #[test]
    fn every_problem_and_every_shadow_is_named() {
        let problem = |name: &str| Problem {
            name: name.into(),
            why: "is wrong".into(),
            fix: "mend it".into(),
        };
        let checks = check(&[problem("A_PORT"), problem(".env")], &["B", "C"]);
        let says: Vec<&str> = checks.iter().map(|c| c.says.as_str()).collect();
        assert_eq!(&says[..2], ["A_PORT is wrong", "is wrong"]);
        assert!(says[2].starts_with("B, C are set in this shell"));
        assert_eq!(checks[2].fix.as_deref(), Some("unset B C"));
        assert_eq!(check(&[], &[])[0].state, State::Pass);
    }
}
