//! How an asset's desktop (its `rdp` endpoint) is reached, as the site describes it.

use std::net::{IpAddr, Ipv6Addr};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::people::is_false;

/// How the gateway logs in to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum DesktopSecurity {
    /// By CredSSP before anything is shown (network level authentication).
    #[default]
    Nla,
    /// Inside TLS, with the log-in that the client announces: for targets without CredSSP (xrdp).
    Tls,
}

impl DesktopSecurity {
    /// As written in files and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nla => "nla",
            Self::Tls => "tls",
        }
    }
}

fn is_nla(security: &DesktopSecurity) -> bool {
    *security == DesktopSecurity::Nla
}

/// What the target may draw with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum DesktopGraphics {
    /// Bitmaps, without loss.
    #[default]
    Bitmaps,
    /// The graphics pipeline (MS-RDPEGFX) without H.264, too: for much that moves over slow lines.
    Pipeline,
}

fn is_bitmaps(graphics: &DesktopGraphics) -> bool {
    *graphics == DesktopGraphics::Bitmaps
}

/// What is known of an asset's desktop, and what may pass besides screen, keys and pointer. All of it is off unless the
/// site says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desktop {
    /// Pinned public keys of the target's TLS certificate, each as [`PublicKeyPin`] writes it. None pinned: nobody connects
    /// until an administrator trusts one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub public_keys: Vec<String>,
    /// How the gateway logs in.
    #[serde(skip_serializing_if = "is_nla")]
    pub security: DesktopSecurity,
    /// The domain of the asset's accounts; none: they are the machine's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The realm of the target and the asset's accounts: the gateway logs in by Kerberos, and never by NTLM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kerberos: Option<DesktopRealm>,
    /// What the target may draw with.
    #[serde(skip_serializing_if = "is_bitmaps")]
    pub graphics: DesktopGraphics,
    /// The desktop follows when the person's window changes its size.
    #[serde(skip_serializing_if = "is_false")]
    pub resize: bool,
    /// Sound of the target reaches the person.
    #[serde(skip_serializing_if = "is_false")]
    pub sound: bool,
    /// Text that the person copied may be pasted on the desktop.
    #[serde(skip_serializing_if = "is_false")]
    pub clipboard_to_target: bool,
    /// Text that was copied on the desktop reaches the person.
    #[serde(skip_serializing_if = "is_false")]
    pub clipboard_to_person: bool,
    /// Files that the person copied may be pasted on the desktop.
    #[serde(skip_serializing_if = "is_false")]
    pub clipboard_files_to_target: bool,
    /// Files that were copied on the desktop may be pasted at the person's.
    #[serde(skip_serializing_if = "is_false")]
    pub clipboard_files_to_person: bool,
    /// Only these files on the clipboard, `/clipboard/FOLDER/FILE` (`*` within a name, `**` across folders); empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clipboard_paths: Vec<String>,
    /// Largest file that passes by the clipboard, bytes; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clipboard_file_bytes: Option<u64>,
    /// The desktop may read files of the drives that the person shares.
    #[serde(skip_serializing_if = "is_false")]
    pub drives_to_target: bool,
    /// The desktop may write files to the drives that the person shares, and rename and remove what is there.
    #[serde(skip_serializing_if = "is_false")]
    pub drives_to_person: bool,
    /// Only these paths of drives, `/DRIVE/FOLDER/FILE` (`*` within a name, `**` across folders); empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drives_paths: Vec<String>,
    /// Largest file that passes by a drive or to a printer, bytes; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drives_file_bytes: Option<u64>,
    /// The desktop may print on the person's printers.
    #[serde(skip_serializing_if = "is_false")]
    pub printers: bool,
}

/// The realm that a desktop and its accounts belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesktopRealm {
    /// Its name, in capitals.
    pub realm: String,
    /// Its KDCs, each as [`KdcAddress`] reads it; tried in order. No other one is ever asked, whatever names resolve to.
    pub kdcs: Vec<String>,
    /// The name that the realm knows the target by; none: the one that is dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl DesktopRealm {
    /// Most KDCs of one realm.
    pub const MAX_KDCS: usize = 4;

    /// The name in the target's ticket, where `dialled` is what the gateway dials. A number is no name that a realm knows.
    pub fn host_of<'a>(&'a self, dialled: &'a str) -> Option<&'a str> {
        self.host.as_deref().or(Some(dialled)).filter(|host| host.parse::<IpAddr>().is_err())
    }

    /// The KDCs that can be read.
    pub fn addresses(&self) -> Vec<KdcAddress> {
        self.kdcs.iter().filter_map(|kdc| KdcAddress::parse(kdc)).collect()
    }
}

/// Where a KDC answers over TCP: `tcp://HOST` or `tcp://HOST:PORT`, an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KdcAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl KdcAddress {
    /// The port of RFC 4120.
    const PORT: u16 = 88;

    /// `None` for anything else, another protocol above all.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("tcp://")?;
        let (host, port) = match text.strip_prefix('[') {
            Some(v6) => {
                let (host, after) = v6.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
                (host, port)
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(Self::PORT), str::parse).ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

impl Desktop {
    /// Whether `pin` is one of the pinned keys.
    pub fn trusts(&self, pin: &PublicKeyPin) -> bool {
        self.public_keys.iter().any(|k| PublicKeyPin::parse(k).as_ref() == Some(pin))
    }

    /// Whether the target may draw by the graphics pipeline.
    pub fn has_pipeline(&self) -> bool {
        self.graphics == DesktopGraphics::Pipeline
    }

    /// Whether anything may pass by the clipboard.
    pub fn any_clipboard(&self) -> bool {
        self.clipboard_to_target || self.clipboard_to_person || self.any_clipboard_files()
    }

    /// Whether files may pass by the clipboard.
    pub fn any_clipboard_files(&self) -> bool {
        self.clipboard_files_to_target || self.clipboard_files_to_person
    }

    /// Whether the same may be done with files, be they on the clipboard, on drives or for a printer.
    pub fn same_files(&self, other: &Self) -> bool {
        let drives = |d: &Self| (d.drives_to_target, d.drives_to_person, d.printers, d.drives_file_bytes);
        let clipboard =
            |d: &Self| (d.clipboard_files_to_target, d.clipboard_files_to_person, d.clipboard_file_bytes);
        drives(self) == drives(other)
            && clipboard(self) == clipboard(other)
            && self.drives_paths == other.drives_paths
            && self.clipboard_paths == other.clipboard_paths
    }

    /// Whether a session that began with it may have something that `now` allows no more: text on the clipboard, sound, other sizes,
    /// or the graphics pipeline. Of files see [`Self::same_files`]: each is decided on by itself.
    pub fn has_more_than(&self, now: &Self) -> bool {
        let all =
            |d: &Self| [d.clipboard_to_target, d.clipboard_to_person, d.sound, d.resize, d.has_pipeline()];
        all(self).into_iter().zip(all(now)).any(|(then, now)| then && !now)
    }

    /// The pinned keys that can be read.
    pub fn pins(&self) -> Vec<PublicKeyPin> {
        self.public_keys.iter().filter_map(|k| PublicKeyPin::parse(k)).collect()
    }
}

/// SHA-256 of a public key in the form that certificates carry it (SubjectPublicKeyInfo, RFC 5280 §4.1.2.7): `sha256:` and
/// 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeyPin(pub [u8; 32]);

impl PublicKeyPin {
    /// Of a key in DER.
    pub fn of(spki: &[u8]) -> Self {
        let mut pin = [0; 32];
        // SHA-256 has 32 bytes; were it otherwise, the pin would fit no key.
        if let Some(sum) = digest(&SHA256, spki).as_ref().first_chunk() {
            pin = *sum;
        }
        Self(pin)
    }

    /// What [`std::fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut pin = [0; 32];
        hex::decode_to_slice(text.trim().strip_prefix("sha256:")?, &mut pin).ok()?;
        Some(Self(pin))
    }
}

impl std::fmt::Display for PublicKeyPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_written_and_nothing_else_is() {
        let pin = PublicKeyPin::of(b"a key");
        assert_eq!(PublicKeyPin::parse(&pin.to_string()), Some(pin));
        for wrong in ["", "sha256:", "sha256:aaaa", &pin.to_string()[7..], &format!("{pin}aa"), "md5:aaaa"] {
            assert_eq!(PublicKeyPin::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_kdc_is_a_place_on_tcp_and_nothing_else() {
        let read = |text| KdcAddress::parse(text).map(|kdc| format!("{} {}", kdc.host, kdc.port));
        assert_eq!(read("tcp://dc1.plant.example").unwrap(), "dc1.plant.example 88");
        assert_eq!(read("tcp://dc1.plant.example:1088").unwrap(), "dc1.plant.example 1088");
        assert_eq!(read("tcp://[2001:db8::1]:88").unwrap(), "2001:db8::1 88");
        assert_eq!(read("tcp://[2001:db8::1]").unwrap(), "2001:db8::1 88");
        for wrong in [
            "dc1.plant.example",
            "udp://dc1",
            "https://dc1/KdcProxy",
            "tcp://",
            "tcp://:88",
            "tcp://dc1:0",
            "tcp://dc1:88x",
            "tcp://2001:db8::1",
            "tcp://[dc1]:88",
            "tcp://[2001:db8::1]88",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_name_in_a_ticket_is_a_name() {
        let mut realm = DesktopRealm { realm: "PLANT.EXAMPLE".into(), kdcs: Vec::new(), host: None };
        assert_eq!(realm.host_of("eng-ws.plant.example"), Some("eng-ws.plant.example"));
        assert_eq!(realm.host_of("192.0.2.30"), None);
        assert_eq!(realm.host_of("2001:db8::30"), None);
        realm.host = Some("eng-ws".into());
        assert_eq!(realm.host_of("192.0.2.30"), Some("eng-ws"));
    }

    #[test]
    fn nothing_but_the_screen_passes_unless_the_site_says_so() {
        let plain = Desktop::default();
        assert!(!plain.clipboard_to_target && !plain.clipboard_to_person && plain.public_keys.is_empty());
        assert!(!plain.any_clipboard());
        assert!(!plain.trusts(&PublicKeyPin::of(b"any")));
        assert_eq!(serde_json::to_value(&plain).unwrap(), serde_json::json!({}));
    }

    #[test]
    fn what_is_allowed_no_more_is_seen_and_what_is_allowed_since_is_not() {
        let plain = Desktop::default();
        for more in [
            Desktop { clipboard_to_target: true, ..plain.clone() },
            Desktop { clipboard_to_person: true, ..plain.clone() },
            Desktop { sound: true, ..plain.clone() },
            Desktop { resize: true, ..plain.clone() },
            Desktop { graphics: DesktopGraphics::Pipeline, ..plain.clone() },
        ] {
            assert!(more.has_more_than(&plain) && !plain.has_more_than(&more), "{more:?}");
            assert!(!more.has_more_than(&more));
        }
    }

    #[test]
    fn whatever_is_said_of_files_counts_when_it_is_asked_whether_that_has_changed() {
        let plain = Desktop::default();
        assert!(plain.same_files(&Desktop { clipboard_to_target: true, ..plain.clone() }), "no file");
        let paths = vec!["/**".to_owned()];
        for other in [
            Desktop { clipboard_files_to_target: true, ..plain.clone() },
            Desktop { clipboard_files_to_person: true, ..plain.clone() },
            Desktop { clipboard_paths: paths.clone(), ..plain.clone() },
            Desktop { clipboard_file_bytes: Some(1), ..plain.clone() },
            Desktop { drives_to_target: true, ..plain.clone() },
            Desktop { drives_to_person: true, ..plain.clone() },
            Desktop { drives_paths: paths, ..plain.clone() },
            Desktop { drives_file_bytes: Some(1), ..plain.clone() },
            Desktop { printers: true, ..plain.clone() },
        ] {
            assert!(!plain.same_files(&other) && !other.same_files(&plain), "{other:?}");
        }
    }
}
