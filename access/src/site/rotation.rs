//! How the vault changes an account's secret, as the site describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Login, Name},
    people::is_false,
};

/// What kind of account it is that the vault changes the secret of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum RotationBy {
    /// A local account of a Unix host: a password by `passwd` or a helper's `chpasswd`, a key in `authorized_keys`.
    #[default]
    Ssh,
    /// A role of PostgreSQL.
    Postgresql,
    /// A user of MariaDB.
    Mariadb,
    /// An account of Active Directory, over LDAPS.
    ActiveDirectory,
    /// Anything else, by an executable of the site's own.
    Plugin,
}

impl RotationBy {
    /// The port where such a server listens, unless the site says another.
    pub const fn port(self) -> u16 {
        match self {
            Self::Ssh => 22,
            Self::Postgresql => 5432,
            Self::Mariadb => 3306,
            Self::ActiveDirectory => 636,
            Self::Plugin => 0,
        }
    }
}

fn is_ssh(by: &RotationBy) -> bool {
    *by == RotationBy::Ssh
}

/// The server that is asked to change a secret, where it is not the asset's SSH server.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationServer {
    /// Host name or address; absent: the asset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port; absent: the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The authority of its TLS certificate, or the certificate itself, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The name in its certificate, where it is not `host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// No TLS: only for a path that nobody else can touch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dangerous_no_tls: bool,
    /// The database to connect to (PostgreSQL); absent: `postgres`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The host part of the user's name (MariaDB); absent: `%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_host: Option<String>,
    /// The account's distinguished name (Active Directory).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dn: Option<String>,
    /// As the account logs in (Active Directory): `operator@plant.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_name: Option<String>,
    /// As the helper logs in (Active Directory).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper_bind_name: Option<String>,
    /// Who is asked (plug-in).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<RotationPlugin>,
}

/// An executable in the configuration's `vault.plugins_dir`, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationPlugin {
    /// Its file name.
    pub name: Name,
    /// Whether it may use the network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub network: bool,
    /// Whatever else it wants to know. No secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// What uses an account's secret besides people, and has to be told of a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationDependent {
    /// What it is, unique for the account: `historian service on srv-4`.
    pub name: String,
    /// Who tells it.
    pub plugin: RotationPlugin,
}

/// How the vault changes an account's secret, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// What kind of account it is.
    #[serde(default, skip_serializing_if = "is_ssh")]
    pub by: RotationBy,
    /// The server that is asked, for all kinds but `ssh`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<RotationServer>,
    /// What has to be told of a new secret, once it was proved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<RotationDependent>,
    /// How old the secret may become, days; 0: it is changed only when asked for.
    #[serde(default = "rotation_days", skip_serializing_if = "is_rotation_days")]
    pub every_days: u32,
    /// How often the target is asked whether it still takes the secret, hours; 0: never unasked.
    #[serde(default = "verify_hours", skip_serializing_if = "is_verify_hours")]
    pub verify_hours: u32,
    /// Changed after every session that used it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub after_use: bool,
    /// An account of the same asset that may set this one's secret when nothing opens it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<Login>,
    /// The helper is not root and takes `sudo`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub helper_sudo: bool,
    /// The helper sets a password always: the account may not change its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_helper: bool,
    /// A secret that was changed behind the vault's back is not only reported: the helper sets a new one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mend_drift: bool,
    /// The longest password that the device takes, characters, where it is an old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_password: Option<u32>,
    /// The whole path of the account's `authorized_keys`, where it is not the usual one or a helper edits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorized_keys: Option<String>,
}

fn rotation_days() -> u32 {
    30
}
fn is_rotation_days(days: &u32) -> bool {
    *days == rotation_days()
}
fn verify_hours() -> u32 {
    24
}
fn is_verify_hours(hours: &u32) -> bool {
    *hours == verify_hours()
}
