//! The bases and the image: what the engine has, and whose it is.

use anyhow::Result;

use super::check::Check;
use crate::config::{Deploy, Settings, Workspace};
use crate::engine::Engine;
use crate::image::{self, BaseName, Origin};

/// What was found: the checks, and the image of this tree where it is built.
#[derive(Debug)]
pub(super) struct Found {
    /// `bases` and `image`.
    pub(super) checks: Vec<Check>,
    /// By which the engine knows it.
    pub(super) image: Option<String>,
}

/// Looks for the bases that these settings need and for the image of this tree.
pub(super) fn read(
    engine: &Engine<'_>,
    workspace: &Workspace,
    deploy: &Deploy,
    settings: &Settings,
) -> Result<Found> {
    let mut bases = Vec::new();
    for name in BaseName::of_stack(settings) {
        let found = image::find_base(engine, workspace, &deploy.bases, name)?;
        bases.push((
            name.upstream(&deploy.bases).to_owned(),
            found.map(|base| (base.origin, base.reference)),
        ));
    }
    let facts = image::observe(engine, workspace, deploy)?;
    let image = facts.present.as_ref().map(|_| facts.image());
    Ok(Found {
        checks: vec![
            check_bases(&bases),
            check_image(&facts.image(), image.is_some()),
        ],
        image,
    })
}

fn check_bases(bases: &[(String, Option<(Origin, String)>)]) -> Check {
    let each: Vec<String> = bases
        .iter()
        .map(|(upstream, found)| match found {
            None => format!("{upstream} is not here yet"),
            Some((Origin::Upstream, _)) => format!("{upstream} is upstream's"),
            Some((Origin::Equivalent, reference)) => {
                format!("{upstream} is an equivalent made here, not upstream's: {reference}")
            }
        })
        .collect();
    let says = each.join("\n");
    if bases.iter().all(|(_, found)| found.is_some()) {
        return Check::pass("bases", says);
    }
    Check::warn("bases", says)
        .fix("cargo xtask up pulls it, or makes an equivalent where the registry cannot be reached")
}

fn check_image(image: &str, built: bool) -> Check {
    if built {
        Check::pass("image", format!("{image} of this tree is built"))
    } else {
        Check::warn("image", format!("{image} of this tree is not built yet"))
            .fix("cargo xtask build")
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::State;
    use super::*;

    #[test]
    fn an_equivalent_is_never_called_upstreams() {
        let base = |origin| Some((origin, "localhost/base:1".to_owned()));
        let check = check_bases(&[
            ("a:1".into(), base(Origin::Upstream)),
            ("b:1".into(), base(Origin::Equivalent)),
        ]);
        assert_eq!(check.state, State::Pass);
        assert_eq!(
            check.says,
            "a:1 is upstream's\n\
             b:1 is an equivalent made here, not upstream's: localhost/base:1"
        );
        assert_eq!(check_bases(&[("a:1".into(), None)]).state, State::Warn);
    }
}
