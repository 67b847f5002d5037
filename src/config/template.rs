//! The commented configuration that `init` writes.

use std::{net::SocketAddr, path::PathBuf};

use super::StoreUrl;

const TEXT: &str = include_str!("example.toml");

/// A recipient to which nobody holds the identity: it only shows the form. `init` puts real ones in its place.
const SAMPLE_RECIPIENT: &str = "age1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0savhh7m";

/// What differs from one fresh configuration to the next; everything else has the documented default.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// `site.name`.
    pub(crate) name: String,
    /// `ssh.listen`.
    pub(crate) ssh_listen: SocketAddr,
    /// `web.listen`.
    pub(crate) web_listen: SocketAddr,
    /// `web.public_url`.
    pub(crate) public_url: String,
    /// `rdp.listen`; none: no desktops.
    pub(crate) rdp_listen: Option<SocketAddr>,
    /// `store.url`.
    pub(crate) store_url: StoreUrl,
    /// `store.password_file`.
    pub(crate) password_file: Option<PathBuf>,
    /// `recordings.recipients`.
    pub(crate) recipients: Vec<String>,
    /// `recordings.replay_identity_file`.
    pub(crate) replay_identity_file: Option<PathBuf>,
    /// `run.user`.
    pub(crate) user: Option<String>,
    /// `run.group`.
    pub(crate) group: Option<String>,
    /// `dangerous.allow_loopback_targets`.
    pub(crate) allow_loopback_targets: bool,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            name: "plant".to_owned(),
            ssh_listen: SocketAddr::from(([0, 0, 0, 0], 2222)),
            web_listen: SocketAddr::from(([0, 0, 0, 0], 8443)),
            public_url: "https://localhost:8443/".to_owned(),
            rdp_listen: None,
            store_url: StoreUrl::Sqlite("cofferdam.sqlite".into()),
            password_file: None,
            recipients: vec![SAMPLE_RECIPIENT.to_owned()],
            replay_identity_file: Some("keys/replay_identity".into()),
            user: None,
            group: None,
            allow_loopback_targets: false,
        }
    }
}

impl Template {
    /// The file's text. Optional keys that have no value stand in it as comments.
    pub(crate) fn render(&self) -> String {
        let path = |p: &Option<PathBuf>| p.as_ref().map(|p| p.to_string_lossy().into_owned());
        let recipients: Vec<String> = self.recipients.iter().map(|r| quoted(r)).collect();
        let values = [
            ("@name@", quoted(&self.name)),
            ("@ssh_listen@", quoted(&self.ssh_listen.to_string())),
            ("@web_listen@", quoted(&self.web_listen.to_string())),
            ("@public_url@", quoted(&self.public_url)),
            ("@rdp@", if self.rdp_listen.is_some() { "[rdp]".to_owned() } else { "# [rdp]".to_owned() }),
            ("@rdp_listen@", optional("listen", self.rdp_listen.map(|a| a.to_string()), "0.0.0.0:3389")),
            ("@store_url@", quoted(&self.store_url.to_string())),
            ("@password_file@", optional("password_file", path(&self.password_file), "keys/store_password")),
            ("@recipients@", format!("[{}]", recipients.join(", "))),
            (
                "@replay_identity_file@",
                optional("replay_identity_file", path(&self.replay_identity_file), "keys/replay_identity"),
            ),
            ("@user@", optional("user", self.user.clone(), "cofferdam")),
            ("@group@", optional("group", self.group.clone(), "cofferdam")),
            ("@allow_loopback_targets@", self.allow_loopback_targets.to_string()),
        ];
        // One pass over the template's own text, so that a value which looks like a mark stays what it is.
        TEXT.split_inclusive('\n').map(|line| fill(line, &values)).collect()
    }
}

/// Puts the value of the one mark that a line may hold in its place.
fn fill(line: &str, values: &[(&str, String)]) -> String {
    values
        .iter()
        .find(|(mark, _)| line.contains(mark))
        .map_or_else(|| line.to_owned(), |(mark, value)| line.replacen(mark, value, 1))
}

fn optional(key: &str, value: Option<String>, sample: &str) -> String {
    match value {
        Some(value) => format!("{key} = {}", quoted(&value)),
        None => format!("# {key} = {}", quoted(sample)),
    }
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
