//! Values that have the right type and are still wrong.

use super::{
    Config, StoreUrl,
    document::Document,
    problem::{Fault, Problem},
    settings::{Ocr, Rdp, S3, Unseal, Web},
};
use cofferdam_recorder::S3Settings;

/// Appends what is wrong with the values of `config`; looks at no file.
pub(super) fn values(config: &Config, document: &Document, problems: &mut Vec<Problem>) {
    let mut add = |key: &str, fault: Fault| problems.push(document.problem(key, fault));
    for (key, given, least, most) in numbers(config) {
        if !(least..=most).contains(&given) {
            add(key, Fault::OutOfRange { given, least, most });
        }
    }
    for (key, text, longest) in [("site.name", &config.site.name, 63), ("site.node", &config.site.node, 63)] {
        if text.trim().is_empty() || text.chars().count() > longest || text.chars().any(char::is_control) {
            add(key, Fault::Unfit("give 1 to 63 characters, none of them control characters"));
        }
    }
    // RFC 4252 §5.4 lets a client drop control characters; other than line ends they only serve to deceive.
    let banner = &config.ssh.banner;
    if banner.len() > 4096 || banner.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        add("ssh.banner", Fault::Unfit("give at most 4096 bytes without control characters"));
    }
    if config.ssh.host_key_files.is_empty() {
        add("ssh.host_key_files", Fault::Empty);
    }
    if config.ssh.max_connections_per_source > config.ssh.max_connections {
        let why = "one source cannot have more than there are";
        add("ssh.max_connections_per_source", Fault::Contradiction { other: "ssh.max_connections", why });
    }
    if config.recordings.recipients.is_empty() {
        add("recordings.recipients", Fault::Empty);
    }
    let lists = [
        ("recordings.recipients", &config.recordings.recipients),
        ("recordings.reveal_recipients", &config.recordings.reveal_recipients),
        ("vault.break_glass_recipients", &config.vault.break_glass_recipients),
    ];
    for (list, recipients) in lists {
        for (index, recipient) in recipients.iter().enumerate() {
            if let Some(why) = refuse_recipient(recipient) {
                add(&format!("{list}.{index}"), Fault::Unfit(why));
            }
        }
    }
    if config.vault.break_glass_recipients.len() > cofferdam_vault::envelope::MAX_RECIPIENTS {
        add("vault.break_glass_recipients", Fault::Unfit("an envelope is for at most 16 recipients"));
    }
    if let Some(web) = &config.web {
        web_addresses(web, &mut add);
    }
    if let Some(rdp) = &config.rdp {
        desktops(rdp, config.web.is_some(), &mut add);
    }
    if let Some(mail) = &config.mail
        && mail.user.is_some() != mail.password_file.is_some()
    {
        let why = "name and password go together";
        add("mail.user", Fault::Contradiction { other: "mail.password_file", why });
    }
    if let Some(s3) = &config.s3 {
        store_names(s3, &mut add);
    }
    if let Some(ocr) = &config.ocr {
        text_on_desktops(ocr, config.recordings.replay_identity_file.is_some(), &mut add);
    }
    if matches!(config.store.url, StoreUrl::Sqlite(_)) && config.store.password_file.is_some() {
        let why = "an SQLite database has no password";
        add("store.password_file", Fault::Contradiction { other: "store.url", why });
    }
    let vault = &config.vault;
    if vault.unseal() == Unseal::Token && vault.token.is_none() {
        let why = "unseal = \"token\" needs a description of the token";
        add("vault.token", Fault::Contradiction { other: "vault.unseal", why });
    }
    if vault
        .unseal_as_written()
        .is_some_and(|u| (u == Unseal::Credential) != vault.identity_credential.is_some())
    {
        let why = "a credential is named exactly where unseal = \"credential\"";
        add("vault.identity_credential", Fault::Contradiction { other: "vault.unseal", why });
    }
    if config.run.group.is_some() && config.run.user.is_none() {
        let why = "a group is taken only together with a user";
        add("run.group", Fault::Contradiction { other: "run.user", why });
    }
}

/// What people are told to type.
fn web_addresses(web: &Web, add: &mut impl FnMut(&str, Fault)) {
    let url = &web.public_url;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if url.scheme() != "https" || url.host().is_none() || !bare || !anonymous {
        add("web.public_url", Fault::Unfit("write https://HOST or https://HOST:PORT, and nothing after it"));
    }
    if web.ssh_address.as_deref().is_some_and(|a| !typed_address(a)) {
        add("web.ssh_address", Fault::Unfit("write HOST or HOST:PORT, as people type it"));
    }
}

/// Whether `text` has the characters of an address that people type.
fn typed_address(text: &str) -> bool {
    let host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    (1..=255).contains(&text.len()) && text.chars().all(host)
}

/// What lets people in to desktops.
fn desktops(rdp: &Rdp, has_web: bool, add: &mut impl FnMut(&str, Fault)) {
    if !has_web {
        let why =
            "people get their log-in for a desktop from the web interface: add [web], or leave [rdp] out";
        add("rdp.listen", Fault::Unfit(why));
    }
    if rdp.certificate_file.is_some() != rdp.key_file.is_some() {
        let why = "certificate and key go together";
        add("rdp.certificate_file", Fault::Contradiction { other: "rdp.key_file", why });
    }
    if rdp.address.as_deref().is_some_and(|a| !typed_address(a)) {
        add("rdp.address", Fault::Unfit("write HOST or HOST:PORT, as people type it"));
    }
    if rdp.max_connections_per_source > rdp.max_connections {
        let why = "one source cannot have more than there are";
        add("rdp.max_connections_per_source", Fault::Contradiction { other: "rdp.max_connections", why });
    }
}

/// What reads the text on desktops.
fn text_on_desktops(ocr: &Ocr, replays: bool, add: &mut impl FnMut(&str, Fault)) {
    if !replays {
        let why = "it reads recordings with the replay identity";
        add("ocr.program", Fault::Contradiction { other: "recordings.replay_identity_file", why });
    }
    let named =
        |l: &String| (2..=32).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if ocr.languages.is_empty() || ocr.languages.len() > 8 || !ocr.languages.iter().all(named) {
        let why = "give 1 to 8 names as `tesseract --list-langs` shows them, such as \"eng\"";
        add("ocr.languages", Fault::Unfit(why));
    }
}

/// What names a place in the object store.
fn store_names(s3: &S3, add: &mut impl FnMut(&str, Fault)) {
    let bucket = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if !(3..=63).contains(&s3.bucket.len()) || !s3.bucket.bytes().all(bucket) {
        add("s3.bucket", Fault::Unfit("give 3 to 63 small letters, digits, '-' or '.'"));
    }
    if let Some(fault) = s3.endpoint.as_deref().and_then(S3Settings::endpoint_fault) {
        add("s3.endpoint", Fault::Unfit(fault));
    }
    if s3.region.is_empty() || !s3.region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        add("s3.region", Fault::Unfit("give letters, digits and '-'"));
    }
    let prefix = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    if s3.prefix.len() > 256
        || !s3.prefix.bytes().all(prefix)
        || s3.prefix.split('/').any(|p| p.starts_with('.'))
    {
        add(
            "s3.prefix",
            Fault::Unfit("give at most 256 letters, digits, '-', '_', '.' or '/', no part with a '.' first"),
        );
    }
}

/// Every number with its bounds.
fn numbers(config: &Config) -> Vec<(&'static str, u64, u64, u64)> {
    let (ssh, rec, limits) = (&config.ssh, &config.recordings, &config.limits);
    let mut all = vec![
        ("ssh.max_connections", ssh.max_connections.into(), 1, 100_000),
        ("ssh.max_connections_per_source", ssh.max_connections_per_source.into(), 1, 100_000),
        ("ssh.login_grace_seconds", ssh.login_grace_seconds.into(), 5, 600),
        ("recordings.min_free_bytes", rec.min_free_bytes, 16 << 20, 1 << 50),
        ("recordings.freeze_seconds", rec.freeze_seconds.into(), 0, 600),
        ("recordings.queue_bytes", rec.queue_bytes, 1 << 20, 4 << 30),
        ("limits.max_sessions", limits.max_sessions.into(), 1, 100_000),
        ("limits.max_sessions_per_user", limits.max_sessions_per_user.into(), 1, 100_000),
        ("limits.max_channels_per_session", limits.max_channels_per_session.into(), 1, 1024),
        ("limits.login_attempts", limits.login_attempts.into(), 1, 20),
        ("limits.dial_timeout_seconds", limits.dial_timeout_seconds.into(), 1, 120),
        ("vault.share_seconds", config.vault.share_seconds.into(), 30, 86_400),
        ("run.shutdown_seconds", config.run.shutdown_seconds.into(), 0, 3600),
    ];
    if let Some(web) = &config.web {
        all.extend([
            ("web.idle_seconds", web.idle_seconds.into(), 60, 86_400),
            ("web.session_seconds", web.session_seconds.into(), 300, 7 * 86_400),
            ("web.max_connections", web.max_connections.into(), 10, 100_000),
        ]);
    }
    if let Some(rdp) = &config.rdp {
        all.extend([
            ("rdp.max_connections", rdp.max_connections.into(), 1, 100_000),
            ("rdp.max_connections_per_source", rdp.max_connections_per_source.into(), 1, 100_000),
            ("rdp.login_grace_seconds", rdp.login_grace_seconds.into(), 5, 600),
        ]);
    }
    if let Some(ocr) = &config.ocr {
        all.extend([
            ("ocr.every_seconds", ocr.every_seconds.into(), 1, 3600),
            ("ocr.max_pictures", ocr.max_pictures.into(), 1, 100_000),
        ]);
    }
    if let Some(s3) = &config.s3 {
        all.extend([
            ("s3.spool_bytes", s3.spool_bytes, 1 << 20, 1 << 50),
            ("s3.part_bytes", s3.part_bytes, 64 << 10, 64 << 20),
            ("s3.part_seconds", s3.part_seconds.into(), 1, 3600),
            ("s3.timeout_seconds", s3.timeout_seconds.into(), 1, 600),
            ("s3.cache_bytes", s3.cache_bytes, 1 << 20, 1 << 50),
        ]);
    }
    all
}

/// Why `text` cannot be a recipient, without repeating it: it may be a secret in the wrong place.
fn refuse_recipient(text: &str) -> Option<&'static str> {
    if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
        Some("this is a private identity, not a recipient: take it out of here, and make a new one")
    } else if !is_age_recipient(text) {
        Some("not an age X25519 recipient: copy the whole \"age1…\" line")
    } else {
        None
    }
}

/// Whether `text` is a Bech32 string (BIP 173) of the prefix `age` with a good checksum and 32 bytes of data.
///
/// The checksum matters: a recording sealed to a mistyped recipient is one that nobody can ever read.
fn is_age_recipient(text: &str) -> bool {
    const CHARSET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let Some(data) = text.strip_prefix("age1").filter(|data| data.len() == 58) else { return false };
    let values: Option<Vec<u32>> =
        data.chars().map(|c| CHARSET.find(c).and_then(|i| u32::try_from(i).ok())).collect();
    let Some(values) = values else { return false };
    let prefix = b"age".map(u32::from);
    let expanded =
        prefix.iter().map(|c| c >> 5).chain([0]).chain(prefix.iter().map(|c| c & 31)).chain(values);
    let checksum = expanded.fold(1u32, |check, value| {
        let top = check >> 25;
        let shifted = ((check & 0x01ff_ffff) << 5) ^ value;
        GENERATOR
            .iter()
            .enumerate()
            .fold(shifted, |c, (bit, g)| if (top >> bit) & 1 == 1 { c ^ g } else { c })
    });
    checksum == 1
}
