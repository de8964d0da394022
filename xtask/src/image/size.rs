//! What an image weighs, layer by layer.

use anyhow::{Context, Result};
use xshell::cmd;

use crate::engine::Engine;
use crate::exec::Step;

/// A layer that is not empty, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Uncompressed, in bytes.
    pub(crate) size: u64,
    /// The instruction that made it, as the engine notes it.
    pub(crate) made_by: String,
}

/// The layers of an image that hold anything.
pub(crate) fn layers(engine: &Engine<'_>, image: &str) -> Result<Vec<Layer>> {
    let docker = engine.docker();
    let format = "{{.Size}}\t{{.CreatedBy}}";
    let told = engine.machine().read(&Step::new(
        format!("ask for the layers of {image}"),
        cmd!(
            engine.sh(),
            "{docker} history --no-trunc --human=false --format {format} {image}"
        ),
    ))?;
    told.lines().map(parse).filter(is_not_empty).collect()
}

fn parse(line: &str) -> Result<Layer> {
    let (size, made_by) = line.split_once('\t').unwrap_or((line, ""));
    Ok(Layer {
        size: size
            .parse()
            .with_context(|| format!("failed to read the size of a layer: {size}"))?,
        made_by: made_by.to_owned(),
    })
}

fn is_not_empty(layer: &Result<Layer>) -> bool {
    layer.as_ref().map_or(true, |layer| layer.size > 0)
}

/// `466 MB: 34 MB on the base's 432 MB`.
pub(crate) fn summary(layers: &[Layer], base: usize) -> String {
    let own = layers.len().saturating_sub(base);
    let sum = |part: &[Layer]| part.iter().map(|layer| layer.size).sum::<u64>();
    let each: Vec<String> = layers[..own].iter().map(|l| megabytes(l.size)).collect();
    format!(
        "{}: {} on the base's {}",
        megabytes(sum(layers)),
        each.join(" + "),
        megabytes(sum(&layers[own..]))
    )
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", (bytes + 500_000) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_told_with_the_layers_that_are_ours() {
        let layers: Vec<Layer> =
            "34000000\tRUN uv\n0\tENV A=b\n400000000\tADD rootfs\n32000000\tRUN pip"
                .lines()
                .map(parse)
                .filter(is_not_empty)
                .collect::<Result<_>>()
                .unwrap();
        assert_eq!(layers.len(), 3);
        assert_eq!(layers[0].made_by, "RUN uv");
        assert_eq!(summary(&layers, 2), "466 MB: 34 MB on the base's 432 MB");
        assert!(parse("n/a\tx").is_err());
    }
}
