//! What a client asks for before a session channel starts: terminal, environment, and then a shell, a command or a
//! subsystem (RFC 4254 §6).

use std::time::Duration;

use russh::{ChannelMsg, ChannelReadHalf, Pty};

/// How long a client may leave a channel without saying what it is for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most environment variables that a client may set.
const VARIABLES: usize = 64;
/// Longest environment variable, name and value, bytes.
const VARIABLE: usize = 4096;
/// Longest command line, bytes.
pub(crate) const COMMAND: usize = 64 * 1024;

/// A terminal as the client describes it.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    /// `xterm-256color`, …
    pub(crate) term: String,
    /// Columns.
    pub(crate) cols: u32,
    /// Rows.
    pub(crate) rows: u32,
    /// Width in pixels.
    pub(crate) width: u32,
    /// Height in pixels.
    pub(crate) height: u32,
    /// Modes (RFC 4254 §8).
    pub(crate) modes: Vec<(Pty, u32)>,
}

/// What runs on the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// A log-in shell.
    Shell,
    /// A command.
    Exec(String),
    /// A command that is not UTF-8: it could not be shown as what it is.
    Unreadable,
    /// A subsystem.
    Subsystem(String),
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The terminal, if one was asked for.
    pub(crate) terminal: Option<Terminal>,
    /// Environment variables, unfiltered.
    pub(crate) environment: Vec<(String, String)>,
    /// What to run.
    pub(crate) start: Start,
}

/// Collects requests until one starts something. `None`: the client closed the channel, sent nonsense, or never asked.
pub(crate) async fn collect(read: &mut ChannelReadHalf) -> Option<Asked> {
    let mut terminal: Option<Terminal> = None;
    let mut environment = Vec::new();
    loop {
        let start = match tokio::time::timeout(PATIENCE, read.wait()).await.ok()?? {
            ChannelMsg::RequestPty {
                term,
                col_width,
                row_height,
                pix_width,
                pix_height,
                terminal_modes,
                ..
            } => {
                terminal = Some(Terminal {
                    term: term.chars().filter(char::is_ascii_graphic).take(64).collect(),
                    cols: col_width,
                    rows: row_height,
                    width: pix_width,
                    height: pix_height,
                    modes: terminal_modes,
                });
                continue;
            }
            ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
                if let Some(t) = &mut terminal {
                    (t.cols, t.rows, t.width, t.height) = (col_width, row_height, pix_width, pix_height);
                }
                continue;
            }
            ChannelMsg::SetEnv { variable_name, variable_value, .. } => {
                if environment.len() < VARIABLES && variable_name.len() + variable_value.len() <= VARIABLE {
                    environment.push((variable_name, variable_value));
                }
                continue;
            }
            ChannelMsg::RequestShell { .. } => Start::Shell,
            ChannelMsg::Exec { command, .. } => {
                if command.len() > COMMAND {
                    return None;
                }
                match String::from_utf8(command) {
                    Ok(command) => Start::Exec(command),
                    Err(_) => Start::Unreadable,
                }
            }
            ChannelMsg::RequestSubsystem { name, .. } => Start::Subsystem(name),
            ChannelMsg::Eof | ChannelMsg::Close => return None,
            _ => continue,
        };
        return Some(Asked { terminal, environment, start });
    }
}

/// Whether a variable may reach a target: in the site's list, exactly or by a trailing `*`.
pub(crate) fn may_pass(allowed: &[String], name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && allowed.iter().any(|a| match a.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => a == name,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_pass() {
        let allowed = ["LANG", "LC_*"].map(str::to_owned);
        assert!(may_pass(&allowed, "LANG"));
        assert!(may_pass(&allowed, "LC_ALL"));
        assert!(!may_pass(&allowed, "LANGUAGE"));
        assert!(!may_pass(&allowed, "LD_PRELOAD"));
        assert!(!may_pass(&allowed, "LC_ALL=x\nLD_PRELOAD"));
        assert!(!may_pass(&allowed, ""));
    }
}
