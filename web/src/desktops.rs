//! Desktops: what the web interface asks of whoever lets people in to them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;
use cofferdam_access::{
    audit::Act,
    clock::Timestamp,
    decision::Factors,
    ids::{Name, WindowId},
    site::{AccountRef, Desktop},
};
use tokio::{io::DuplexStream, sync::mpsc};
use zeroize::Zeroizing;

/// Who wants to log in to a desktop, proved already, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopRequest {
    /// The person.
    pub user: Name,
    /// The account.
    pub account: AccountRef,
    /// The window that is open for it.
    pub window: WindowId,
    /// What they proved: at the log-in, and again for this desktop.
    pub factors: Factors,
    /// The address that they ask from.
    pub source: IpAddr,
}

/// What opens one desktop once.
#[derive(Clone)]
pub struct DesktopPass {
    /// The user name to type in the client: `vera+eng-ws+eng`.
    pub user_name: String,
    /// The token to type as its password. Shown once.
    pub token: Zeroizing<String>,
    /// First moment at which it no longer works.
    pub expires_at: Timestamp,
}

impl fmt::Debug for DesktopPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DesktopPass").field("user_name", &self.user_name).finish_non_exhaustive()
    }
}

/// What a person at a desktop in the browser is told beside the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It takes nothing for now, and this is why.
    Frozen(String),
    /// It takes input again.
    GoesOn,
    /// A message for them: that the end is near, or what an approver writes.
    Says(String),
    /// It is over, and this is why. Nothing follows.
    Ended(String),
}

/// The gateway's side of a desktop in the browser. Dropping it ends its session.
#[derive(Debug)]
pub struct OpenDesktop {
    /// What the browser's RDP client says and hears: RDCleanPath, then RDP without TLS of its own. Short: who does not read
    /// stops the other side.
    pub stream: DuplexStream,
    /// What the person is told.
    pub told: mpsc::Receiver<Told>,
}

/// Lets people in to desktops.
#[async_trait]
pub trait Desktops: Send + Sync + fmt::Debug {
    /// Where people's clients connect: `host:port`.
    fn address(&self) -> &str;
    /// The certificate that they are shown there now, DER.
    fn certificate(&self) -> Vec<u8>;
    /// A single-use token for one desktop, kept and audited.
    ///
    /// # Errors
    /// Why there is none, for the person.
    async fn issue(&self, act: &Act, request: DesktopRequest) -> Result<DesktopPass, String>;
    /// Serves a browser in which `user` is logged in, and which comes from `source`, as a client at the desktops' own address
    /// is served: a token of that person is proved, then decision, record, watch and end are those of every session. `keyboard` is
    /// the layout that the person says to have, a Windows identifier.
    ///
    /// # Errors
    /// Why it is not served, for the person.
    fn open(&self, user: Name, source: SocketAddr, keyboard: Option<u32>) -> Result<OpenDesktop, String>;
}

/// Layouts of keyboards that a person may say to have (Windows' identifiers), with the language and region of a browser that
/// most likely has it.
pub(crate) const KEYBOARDS: [(u32, &str, &str); 24] = [
    (0x0405, "Czech", "cs"),
    (0x0406, "Danish", "da"),
    (0x0413, "Dutch", "nl"),
    (0x0809, "English (United Kingdom)", "en-GB"),
    (0x0409, "English (United States)", "en"),
    (0x040b, "Finnish", "fi"),
    (0x080c, "French (Belgium)", "fr-BE"),
    (0x1009, "French (Canada)", "fr-CA"),
    (0x040c, "French (France)", "fr"),
    (0x100c, "French (Switzerland)", "fr-CH"),
    (0x0407, "German", "de"),
    (0x0807, "German (Switzerland)", "de-CH"),
    (0x040e, "Hungarian", "hu"),
    (0x0410, "Italian", "it"),
    (0x0411, "Japanese", "ja"),
    (0x0414, "Norwegian", "nb"),
    (0x0415, "Polish", "pl"),
    (0x0416, "Portuguese (Brazil)", "pt-BR"),
    (0x0816, "Portuguese (Portugal)", "pt"),
    (0x0419, "Russian", "ru"),
    (0x041b, "Slovak", "sk"),
    (0x040a, "Spanish", "es"),
    (0x041d, "Swedish", "sv"),
    (0x041f, "Turkish", "tr"),
];

/// A file for clients that read one (MS-RDPBCGR clients' `.rdp` settings): everything but the token. What policy would refuse
/// anyway is turned off here, so that the client does not offer it.
pub(crate) fn settings_file(address: &str, user_name: &str, allowed: &Desktop) -> String {
    let clipboard = u8::from(allowed.any_clipboard());
    let printers = u8::from(allowed.printers);
    let lines = [
        format!("full address:s:{address}"),
        format!("username:s:{user_name}"),
        "prompt for credentials:i:1".to_owned(),
        "enablecredsspsupport:i:1".to_owned(),
        "negotiate security layer:i:1".to_owned(),
        // A server whose certificate the client does not trust is asked about, not accepted.
        "authentication level:i:2".to_owned(),
        format!("redirectclipboard:i:{clipboard}"),
        format!("redirectprinters:i:{printers}"),
        "redirectcomports:i:0".to_owned(),
        "redirectsmartcards:i:0".to_owned(),
        "redirectwebauthn:i:0".to_owned(),
        "redirectlocation:i:0".to_owned(),
        // Which drives are shared is the person's choice in the client, where any may be. Without this line it may be all.
        "drivestoredirect:s:".to_owned(),
        "devicestoredirect:s:".to_owned(),
        "usbdevicestoredirect:s:".to_owned(),
        "camerastoredirect:s:".to_owned(),
        // 0 plays it here, 2 nowhere.
        format!("audiomode:i:{}", if allowed.sound { 0 } else { 2 }),
        "audiocapturemode:i:0".to_owned(),
        // A token works once: a client that reconnects by itself could only be refused.
        "autoreconnection enabled:i:0".to_owned(),
        "use multimon:i:0".to_owned(),
        // Whether the desktop follows the client's window.
        format!("dynamic resolution:i:{}", u8::from(allowed.resize)),
        "gatewayusagemethod:i:0".to_owned(),
    ];
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_person_and_holds_no_password() {
        let text = settings_file("gw.example:3389", "vera+eng-ws", &Desktop::default());
        assert!(text.contains("full address:s:gw.example:3389\r\n"));
        assert!(text.contains("username:s:vera+eng-ws\r\n"));
        assert!(text.contains("redirectclipboard:i:0\r\n") && !text.contains("password"));
        assert!(text.contains("dynamic resolution:i:0\r\n"));
        for off in ["drivestoredirect:s:\r\n", "redirectprinters:i:0\r\n", "redirectsmartcards:i:0\r\n"] {
            assert!(text.contains(off), "{off}");
        }
        let allowed = Desktop {
            clipboard_to_person: true,
            drives_to_target: true,
            printers: true,
            resize: true,
            ..Desktop::default()
        };
        let text = settings_file("gw", "vera", &allowed);
        assert!(text.contains("dynamic resolution:i:1\r\n"));
        assert!(text.contains("redirectclipboard:i:1\r\n") && text.contains("redirectprinters:i:1\r\n"));
        assert!(text.contains("drivestoredirect:s:\r\n"), "which drives is the person's choice");
    }

    #[test]
    fn a_pass_does_not_show_its_token() {
        let pass = DesktopPass {
            user_name: "vera+eng-ws".into(),
            token: Zeroizing::new("token-once".into()),
            expires_at: Timestamp(0),
        };
        assert!(!format!("{pass:?}").contains("token-once"));
    }
}
