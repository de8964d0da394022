//! `.env` as Compose reads it, for the part of the format on which Compose v1
//! and v2 agree.

use std::collections::BTreeMap;
use std::fmt;

/// A line of the file, kept as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A comment or an empty line.
    Text(String),
    /// `NAME=value`.
    Entry {
        /// The variable's name.
        name: String,
        /// The value as Compose would hand it on.
        value: String,
        /// The text after `=`.
        written: String,
    },
    /// Something that Compose would refuse or read in two ways.
    Bad {
        /// The line number, from 1.
        number: usize,
        /// The name, where there is one.
        name: Option<String>,
        /// What is wrong with it, without its value.
        why: &'static str,
        /// The line.
        written: String,
    },
}

/// A parsed file; what was written stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EnvFile {
    lines: Vec<Line>,
}

impl EnvFile {
    /// Reads the text of a file. Nothing is refused here: a bad line is kept
    /// and [`EnvFile::bad`] names it.
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .enumerate()
            .map(|(at, line)| parse_line(at + 1, line))
            .collect();
        Self { lines }
    }

    /// The value of `name`; empty counts as not set, the last entry wins.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.written(name).filter(|value| !value.is_empty())
    }

    /// The value of `name` where a line sets it, even to nothing.
    pub(crate) fn written(&self, name: &str) -> Option<&str> {
        self.entries()
            .filter(|(n, _)| *n == name)
            .last()
            .map(|(_, value)| value)
    }

    /// Name and value of every entry, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Entry { name, value, .. } => Some((name.as_str(), value.as_str())),
            _ => None,
        })
    }

    /// What the file means, apart from how it is written: every name that is set
    /// and its value, sorted, one a line.
    pub(crate) fn meaning(&self) -> String {
        let values: BTreeMap<&str, &str> = self.entries().collect();
        let set = values.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, value)| format!("{name}={value}\n"))
            .collect()
    }

    /// A file that means the same, with nothing else in it: no comments, each name
    /// once.
    pub(crate) fn bare(&self) -> Self {
        let values: BTreeMap<&str, &str> = self.entries().collect();
        let set = values.iter().filter(|(_, value)| !value.is_empty());
        Self {
            lines: set.map(|(name, value)| Line::entry(name, value)).collect(),
        }
    }

    /// Names that several lines set, each with those lines' numbers.
    pub(crate) fn repeated(&self) -> Vec<(&str, Vec<usize>)> {
        let mut lines: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, line) in self.lines.iter().enumerate() {
            if let Line::Entry { name, .. } = line {
                lines.entry(name).or_default().push(at + 1);
            }
        }
        lines.into_iter().filter(|(_, at)| at.len() > 1).collect()
    }

    /// The lines that Compose v1 and v2 would not read alike.
    pub(crate) fn bad(&self) -> impl Iterator<Item = (usize, Option<&str>, &'static str)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Bad {
                number, name, why, ..
            } => Some((*number, name.as_deref(), *why)),
            _ => None,
        })
    }

    /// All lines, as parsed.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Sets `name` where it stands, or on a new last line.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let entry = Line::entry(name, value);
        let at = self
            .lines
            .iter()
            .rposition(|line| matches!(line, Line::Entry { name: n, .. } if n == name));
        match at {
            Some(at) => self.lines[at] = entry,
            None => self.lines.push(entry),
        }
    }

    /// Adds lines of text as they are.
    pub(crate) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }
}

impl Line {
    /// An entry, quoted where it has to be.
    pub(crate) fn entry(name: &str, value: &str) -> Self {
        let written = if value.chars().all(is_bare) {
            value.to_owned()
        } else {
            format!("'{value}'")
        };
        Self::Entry {
            name: name.to_owned(),
            value: value.to_owned(),
            written,
        }
    }
}

impl fmt::Display for EnvFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            match line {
                Line::Text(text) | Line::Bad { written: text, .. } => writeln!(f, "{text}")?,
                Line::Entry { name, written, .. } => writeln!(f, "{name}={written}")?,
            }
        }
        Ok(())
    }
}

/// Characters that need no quotes in either Compose.
fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./:=@%+,?&*~^!<>()[]{};|".contains(c)
}

fn parse_line(number: usize, line: &str) -> Line {
    let trimmed = line.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Line::Text(line.to_owned());
    }
    let bad = |name: Option<&str>, why| Line::Bad {
        number,
        name: name.map(str::to_owned),
        why,
        written: line.to_owned(),
    };
    let Some((name, written)) = line.split_once('=') else {
        return bad(None, "is no NAME=value");
    };
    let is_name = |name: &str| {
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    };
    if !is_name(name) {
        return bad(None, "has no plain name before =; no spaces, no `export`");
    }
    match value_of(written) {
        Ok(value) => Line::Entry {
            name: name.to_owned(),
            value: value.to_owned(),
            written: written.to_owned(),
        },
        Err(why) => bad(Some(name), why),
    }
}

/// The value of what stands after `=`, if both Composes read it alike.
///
/// v1.29 reads the file with python-dotenv and does not expand `$`; v2 expands
/// `$` outside single quotes. Both take single quotes literally.
fn value_of(written: &str) -> Result<&str, &'static str> {
    if written.trim() != written {
        return Err("has spaces around its value");
    }
    if let Some(inner) = written.strip_prefix('\'') {
        let inner = inner
            .strip_suffix('\'')
            .ok_or("opens a single quote that does not close at the end of the line")?;
        if inner.contains(['\'', '\\']) {
            return Err(
                "holds ' or \\ inside single quotes, which Compose v1 and v2 read differently",
            );
        }
        return Ok(inner);
    }
    if let Some(inner) = written.strip_prefix('"') {
        let inner = inner
            .strip_suffix('"')
            .ok_or("opens a double quote that does not close at the end of the line")?;
        if inner.contains(['"', '\\', '$']) {
            return Err(
                "holds \", \\ or $ inside double quotes, which Compose v1 and v2 read differently; use single quotes",
            );
        }
        return Ok(inner);
    }
    if written.contains('$') {
        return Err(
            "holds a bare $, which Compose v2 takes for a reference and v1 does not; use single quotes",
        );
    }
    if written.contains(['\'', '"', '\\', '`']) {
        return Err("holds a quote or \\ in a bare value; use single quotes");
    }
    if written.contains(" #") || written.contains("\t#") || written.starts_with('#') {
        return Err("holds a # that starts a comment; use single quotes");
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_printed_again_to_the_letter() {
        let text = "# note\n\nA=1\nB='two words'\nC=\nbroken\nexport D=1\nE=a$b\n";
        assert_eq!(EnvFile::parse(text).to_string(), text);
    }

    #[test]
    fn values_are_what_compose_hands_on() {
        let env = EnvFile::parse("A=1\nB='x $y #z'\nC=\"q r\"\nD=\nE=a=b==\nF=a#b\nA=2\n");
        let values: Vec<_> = "A B C D E F G".split(' ').map(|n| env.get(n)).collect();
        assert_eq!(
            values,
            [
                Some("2"),
                Some("x $y #z"),
                Some("q r"),
                None,
                Some("a=b=="),
                Some("a#b"),
                None
            ]
        );
    }

    #[test]
    fn lines_that_the_two_composes_read_differently_are_named() {
        for line in [
            "A=a$b",
            "A=\"a$b\"",
            "A='it\\'s'",
            "A= b",
            "A=b ",
            "A=b #c",
            "A='b",
            "A=b\"c",
            "A b=1",
            "A",
            "export A=1",
            "A=\\n",
        ] {
            assert_eq!(EnvFile::parse(line).bad().count(), 1, "{line}");
        }
    }

    #[test]
    fn the_meaning_is_apart_from_order_comments_and_quotes() {
        let one = EnvFile::parse("# note\nB='2'\nA=0\nA=1\nC=\n");
        let other = EnvFile::parse("A=1\nB=2\n");
        assert_eq!(one.meaning(), "A=1\nB=2\n");
        assert_eq!(one.meaning(), other.meaning());
        assert_eq!(one.repeated(), [("A", vec![3, 4])]);
    }

    #[test]
    fn set_replaces_in_place_and_quotes_where_needed() {
        let mut env = EnvFile::parse("A=1\nB=2\n");
        env.set("A", "0 21 * * *");
        env.set("C", "p$d");
        assert_eq!(env.to_string(), "A='0 21 * * *'\nB=2\nC='p$d'\n");
        assert_eq!(EnvFile::parse(&env.to_string()).get("C"), Some("p$d"));
    }
}
