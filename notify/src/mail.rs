//! E-mail over SMTP.

use std::time::Duration;

use cofferdam_access::notice::Mail;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
        extension::ClientId,
    },
};
use url::Url;

use crate::{MailSettings, NotifyError, Protection, on_this_machine, read_ca, sender::Undelivered};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// With these settings; nothing is connected yet.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub fn new(settings: &MailSettings) -> Result<Self, NotifyError> {
        let from: Mailbox = settings.from.parse().map_err(|_| NotifyError::From(settings.from.clone()))?;
        let tls = match settings.protection {
            Protection::None if !on_this_machine(&settings.host) => {
                return Err(NotifyError::Unprotected(settings.host.clone()));
            }
            Protection::None => Tls::None,
            Protection::Tls => Tls::Wrapper(parameters(settings)?),
            Protection::StartTls => Tls::Required(parameters(settings)?),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .hello_name(ClientId::Domain("cofferdam".into()))
            .timeout(Some(PATIENCE));
        if let Some((name, password)) = &settings.log_in {
            builder = builder.credentials(Credentials::new(name.clone(), password.expose().to_owned()));
        }
        Ok(Self { transport: builder.build(), from })
    }

    pub(crate) async fn send(&self, public_url: &Url, id: &str, mail: &Mail) -> Result<(), Undelivered> {
        let to: Mailbox = mail
            .to
            .parse()
            .map_err(|_| Undelivered::for_good("the person's address is none: mend it in the site"))?;
        let link = public_url.join(&mail.path).map_err(Undelivered::for_good)?;
        let text = format!(
            "{}\n\nOpen: {link}\nOpening it decides nothing: you log in and look first.\n",
            mail.text
        );
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(&mail.subject)
            .message_id(Some(format!("<{id}@cofferdam>")))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(Undelivered::for_good)?;
        let sent = tokio::time::timeout(PATIENCE * 2, self.transport.send(message)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) if e.is_permanent() => Err(Undelivered::for_good(e)),
            Ok(Err(e)) => Err(Undelivered::for_now(e)),
            Err(_) => Err(Undelivered::for_now("the mail server did not answer in time")),
        }
    }
}

fn parameters(settings: &MailSettings) -> Result<TlsParameters, NotifyError> {
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(path) = &settings.ca_file {
        let ca = |reason: String| NotifyError::Ca { path: path.display().to_string(), reason };
        let certificate = Certificate::from_pem(&read_ca(path)?).map_err(|e| ca(e.to_string()))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|e| NotifyError::Tls(e.to_string()))
}
