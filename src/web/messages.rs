//! Messages to people and programs, as the configuration says.

use std::path::Path;

use cofferdam_notify::{Hidden, Hook, HookSettings, MailSettings, Mailer, Protection, Sender};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::{
    config::{
        Config,
        settings::{Mail, MailProtection, Webhook},
    },
    gateway::Gateway,
};

/// Sends until `stop`; also where nothing is configured, so that nothing waits for ever.
///
/// # Errors
/// When a file cannot be used, or the settings contradict each other.
pub(super) fn start(
    gateway: &Gateway,
    config: &Config,
    public_url: Url,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), String> {
    let sender = Sender {
        store: gateway.store.clone(),
        clock: gateway.clock.clone(),
        public_url,
        mail: config.mail.as_ref().map(mailer).transpose()?,
        hook: config.webhook.as_ref().map(hook).transpose()?,
    };
    tasks.spawn(cofferdam_notify::run(sender, stop.clone()));
    Ok(())
}

fn secret(path: &Path) -> Result<Hidden, String> {
    let content = cofferdam_vault::keyfile::load(path).map_err(|e| e.to_string())?;
    let text = content.to_text().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(Hidden::new(text.expose().trim_end_matches(['\r', '\n']).to_owned()))
}

fn mailer(mail: &Mail) -> Result<Mailer, String> {
    let password = mail.password_file.as_deref().map(secret).transpose()?;
    Mailer::new(&MailSettings {
        host: mail.host.clone(),
        port: mail.port,
        protection: match mail.protection {
            MailProtection::Tls => Protection::Tls,
            MailProtection::Starttls => Protection::StartTls,
            MailProtection::None => Protection::None,
        },
        from: mail.from.clone(),
        log_in: mail.user.clone().zip(password),
        ca_file: mail.ca_file.clone(),
    })
    .map_err(|e| e.to_string())
}

fn hook(hook: &Webhook) -> Result<Hook, String> {
    let secret = secret(&hook.secret_file)?;
    Hook::new(&HookSettings { url: hook.url.clone(), secret, ca_file: hook.ca_file.clone() })
        .map_err(|e| e.to_string())
}
