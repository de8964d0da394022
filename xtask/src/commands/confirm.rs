//! Asking on the terminal before something goes that nobody brings back.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Result;

use crate::context::Context;
use crate::error::Failure;

/// Says what goes, and goes on only where `name` is typed.
///
/// # Errors
/// A user failure where another word is typed, and where there is no terminal: then
/// with the command that does not ask.
pub(super) fn by_name(context: &Context, what: &str, name: &str, unasked: &str) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::user("failed to ask: standard input is no terminal")
                .hint(unasked)
                .into(),
        );
    }
    context.term.warn(what);
    write!(std::io::stderr(), "type {name} to go on: ")?;
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == name {
        Ok(())
    } else {
        Err(Failure::user("nothing was removed: the name was not typed").into())
    }
}
