//! Looking at the configuration, and bringing the database to this program's schema.

use std::path::Path;

use clap::Subcommand;
use cofferdam_access::store::Store;
use serde_json::json;

use super::{error::CliError, output::Reply};
use crate::{config::Config, context::Context};

/// `cofferdam config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration, every file that it names, and the object store if there is one
    Check,
    /// A commented configuration with every key
    Example,
}

/// Does what `command` says.
pub(crate) async fn run(command: &ConfigCommand, path: &Path) -> Result<Reply, CliError> {
    match command {
        ConfigCommand::Check => {
            let context = Context::new(Config::load(path)?);
            context.probe_remote_store().await?;
            let config = &context.config;
            let text = format!(
                "{} is good: site {:?}, node {:?}",
                path.display(),
                config.site.name,
                config.site.node
            );
            let json = json!({"file": path.display().to_string(), "site": config.site.name, "node": config.site.node});
            Ok(Reply::new(text, json))
        }
        ConfigCommand::Example => {
            let text = Config::example();
            let json = serde_json::Value::String(text.clone());
            Ok(Reply::new(text.trim_end(), json))
        }
    }
}

/// `cofferdam migrate`
pub(crate) async fn migrate(path: &Path) -> Result<Reply, CliError> {
    let context = Context::new(Config::load(path)?);
    let report = Store::migrate(&context.database()?, context.now()).await?;
    let text = if report.steps.is_empty() {
        format!("nothing to do: the database has schema {}", report.to)
    } else {
        format!("the database went from schema {} to {}: {}", report.from, report.to, report.steps.join(", "))
    };
    Ok(Reply::new(text, json!({"from": report.from, "to": report.to, "steps": report.steps})))
}
