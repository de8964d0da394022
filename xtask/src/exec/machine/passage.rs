//! Ways to ports of a machine.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

use super::super::signals::AtEnd;
use super::Machine;
use crate::error::Failure;

/// How many free ports are tried: another program may take one between the look and
/// the use.
const PORTS: usize = 5;

impl Machine {
    /// A way to `to`, `address:port` as this machine sees it, by a port of the loopback
    /// where xtask runs: `port`, or one that is free. Another machine's leads through
    /// the shared connection and is taken back when dropped.
    pub(crate) fn reach(&self, to: &str, port: Option<u16>) -> Result<Passage> {
        let Some(ssh) = &self.over else {
            return Ok(Passage {
                address: to.to_owned(),
                _taken_back: None,
            });
        };
        let mut said = String::new();
        for _ in 0..PORTS {
            let own = match port {
                Some(port) => port,
                None => free_port().context("failed to find a free port")?,
            };
            match ssh.forward(own, to) {
                Ok(()) => {
                    let (ssh, to) = (ssh.clone(), to.to_owned());
                    return Ok(Passage {
                        address: format!("127.0.0.1:{own}"),
                        _taken_back: Some(AtEnd::of(move || ssh.cancel(own, &to))),
                    });
                }
                Err(words) => said = words,
            }
            if port.is_some() {
                break;
            }
        }
        let message = format!("failed to reach {to} on {}: {said}", ssh.name());
        Err(Failure::tool(message).hint(ssh.hint(&said)).into())
    }
}

/// A way to a port of a machine, open while it lives.
pub(crate) struct Passage {
    address: String,
    _taken_back: Option<AtEnd>,
}

impl Passage {
    /// `127.0.0.1:8080`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// A port of the loopback that nobody holds at this moment.
fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}
