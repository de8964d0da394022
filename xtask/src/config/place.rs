//! Whose stack a command means: this machine's, or that of a host.

/// How a person names it in the next command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    host: Option<String>,
}

impl Place {
    /// The stack of a host of `deploy.toml`; of this machine where none is named.
    pub(crate) fn of(host: Option<&str>) -> Self {
        Self {
            host: host.map(str::to_owned),
        }
    }

    /// The host's name.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// `cargo xtask <command>`, for this stack; more arguments may follow.
    pub(crate) fn command(&self, command: &str) -> String {
        match &self.host {
            Some(host) => format!("cargo xtask {command} --host {host}"),
            None => format!("cargo xtask {command}"),
        }
    }

    /// The command that makes the stack serve.
    pub(crate) fn up(&self) -> String {
        self.command(if self.host.is_some() { "deploy" } else { "up" })
    }

    /// The command that makes accounts and roles what settings say.
    pub(crate) fn init(&self) -> String {
        self.command(if self.host.is_some() {
            "deploy"
        } else {
            "init"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_carry_the_host() {
        let here = Place::of(None);
        let there = Place::of(Some("ec2"));
        assert_eq!(
            [here.command("nightly"), here.up(), here.init()],
            ["cargo xtask nightly", "cargo xtask up", "cargo xtask init"]
        );
        assert_eq!(
            [there.command("nightly"), there.up(), there.init()],
            [
                "cargo xtask nightly --host ec2",
                "cargo xtask deploy --host ec2",
                "cargo xtask deploy --host ec2"
            ]
        );
    }
}
