//! What people, targets and operators send, as functions of bytes alone: what `fuzz/` drives.
//!
//! Each input is read twice where that can differ: whole, and cut into pieces. How the network cuts a stream must
//! change nothing.

use std::{hint::black_box, path::Path};

use cofferdam_access::{
    apply::{CheckedSite, Plan},
    clock::Timestamp,
    local_time::{SiteZone, parse_duration},
    site::Site,
};

use crate::{
    config::Config,
    detect::{echo::EchoGuard, line::LineTracker},
    ssh,
    transfer::{
        Budget, FileNumbers, FileRules, Inspector, PathRules, SitePolicy,
        command::{self, Kind},
        path::{normalise, printable},
        rsync::RsyncInspector,
        scp::ScpInspector,
        sftp::SftpInspector,
        testing::{From, play},
    },
};

/// Most parts of one conversation.
const MAX_PARTS: usize = 512;

/// An SFTP channel: a byte of rules, a byte for the cuts, then a conversation.
pub fn fuzz_sftp(bytes: &[u8]) {
    follow(&Kind::SftpServer, bytes);
}

/// An scp channel: a byte that chooses the command, then as [`fuzz_sftp`].
pub fn fuzz_scp(bytes: &[u8]) {
    chosen(
        &["scp -t /ok/a", "scp -f /ok/a", "scp -r -p -t /ok/", "scp -r -p -f /ok/b /ok/c*", "scp -d -t /"],
        bytes,
    );
}

/// An rsync channel: a byte that chooses the command, then as [`fuzz_sftp`].
pub fn fuzz_rsync(bytes: &[u8]) {
    chosen(
        &[
            "rsync --server -vlogDtprze.iLsfxCIvu . /ok/",
            "rsync --server --sender -vlogDtprze.iLsfxCIvu . /ok/a '/ok/b c'",
            "rsync --server -e.iLsfxC . /ok/a",
        ],
        bytes,
    );
}

/// The command line of an exec request, and the channel it starts.
pub fn fuzz_exec(bytes: &[u8]) {
    let (line, rest) = split_once(bytes, b'\n');
    if let Ok(line) = std::str::from_utf8(line)
        && let Some(kind) = command::detect(line)
    {
        follow(&kind, rest);
    }
}

/// Path patterns of a window, a line each, and last a path that a person named.
pub fn fuzz_paths(bytes: &[u8]) {
    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    let path = lines.pop().unwrap_or_default();
    let patterns: Vec<_> = lines.into_iter().map(String::from_utf8_lossy).collect();
    let normal = normalise(path, Some(b"/base")).unwrap_or_default();
    assert_eq!(normalise(&normal, None).as_deref(), Some(normal.as_slice()), "normal form is stable");
    if let Ok(rules) = PathRules::parse(&patterns) {
        black_box((rules.reach(path), rules.reach(&normal), rules.covers_below(&normal)));
    }
    let shown = printable(&String::from_utf8_lossy(path));
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

/// The configuration file.
pub fn fuzz_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Config::parse(text, Path::new("/etc/cofferdam/cofferdam.toml")) {
        black_box(error.to_string());
    }
}

/// The site file: what is read can be checked, planned, written out and read again as the same.
pub fn fuzz_site(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(site) = toml::from_str::<Site>(text) else { return };
    if let Ok(written) = toml::to_string_pretty(&site) {
        assert!(toml::from_str::<Site>(&written).is_ok_and(|again| again == site), "{written}");
    }
    if let Ok(checked) = CheckedSite::new(site, &|_| Ok(())) {
        let plan = Plan::between(&Site::default(), &checked).map(|plan| plan.to_string());
        assert!(plan.is_ok(), "a checked site can be planned");
    }
}

/// A time as a person writes it, in a zone with summer time.
pub fn fuzz_times(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    black_box(parse_duration(&text).is_ok());
    let Ok(zone) = SiteZone::new("Europe/Berlin") else { return };
    for base in [1_792_893_600, 1_774_742_400] {
        if let Ok(at) = zone.parse(&text, Timestamp::from_seconds(base)) {
            black_box(zone.show(at));
        }
    }
}

/// The name that a client logs in with.
pub fn fuzz_login_name(bytes: &[u8]) {
    ssh::login::fuzz_name(&String::from_utf8_lossy(bytes));
}

/// Keys typed at the menu.
pub fn fuzz_menu_keys(bytes: &[u8]) {
    ssh::menu::fuzz_keys(bytes);
}

/// The guard over typed secrets: what it gives out readable was typed, wherever the bytes are cut.
pub fn fuzz_echo(bytes: &[u8]) {
    let (mut whole, mut pieces) = (EchoGuard::new(), EchoGuard::new());
    let mut typed = Vec::new();
    for (from, data) in conversation(bytes) {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        if from == From::Person {
            typed.extend_from_slice(&data);
            one.extend(whole.typed(&data));
            data.chunks(1).for_each(|part| two.extend(pieces.typed(part)));
        } else {
            one.extend(whole.shown(&data));
            data.chunks(1).for_each(|part| two.extend(pieces.shown(part)));
        }
        for proven in &one {
            let at = usize::try_from(proven.at).unwrap_or(usize::MAX);
            let end = at.saturating_add(proven.bytes.len());
            assert_eq!(typed.get(at..end), Some(proven.bytes.as_slice()), "proven and never typed");
        }
        let text = |proven: Vec<crate::detect::echo::Proven>| -> Vec<u8> {
            proven.into_iter().flat_map(|p| p.bytes).collect()
        };
        assert_eq!(text(one), text(two), "cutting changed what is proven");
    }
}

/// The command line as it stands on the person's screen, in a terminal as wide as the first byte says.
pub fn fuzz_command_line(bytes: &[u8]) {
    let Some((width, shown)) = bytes.split_first() else { return };
    let (mut whole, mut pieces) = (LineTracker::new((*width).into()), LineTracker::new((*width).into()));
    whole.shown(shown);
    shown.chunks(1).for_each(|part| pieces.shown(part));
    assert_eq!(whole.line(), pieces.line(), "cutting changed the line");
    assert_eq!(whole.command_at_enter(), pieces.command_at_enter(), "cutting changed the command");
}

fn chosen(commands: &[&str], bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let line = commands.get(usize::from(*choice) % commands.len()).copied().unwrap_or_default();
    let kind = command::detect(line);
    assert!(kind.is_some(), "{line} is no transfer");
    if let Some(kind) = kind {
        follow(&kind, rest);
    }
}

/// Follows a conversation under rules that its first byte chooses; the second says where the stream is cut.
fn follow(kind: &Kind, bytes: &[u8]) {
    let [chosen, cut, rest @ ..] = bytes else { return };
    let rule = |bit: u8| chosen & (1 << bit) != 0;
    let rules = || FileRules {
        read_only: rule(0),
        may_upload: !rule(1),
        may_download: !rule(2),
        paths: match PathRules::parse(&["/ok/**"]) {
            Ok(paths) if rule(3) => paths,
            _ => PathRules::any(),
        },
        max_bytes: rule(4).then(|| Budget::new(64)),
        keep_uploads: rule(5),
        numbers: FileNumbers::default(),
        site: SitePolicy::default(),
    };
    let script = conversation(rest);
    let run = |cut: usize| {
        let mut inspector: Box<dyn Inspector> = match kind.clone() {
            Kind::SftpServer => Box::new(SftpInspector::new(rules())),
            Kind::Scp(command) => Box::new(ScpInspector::new(command, rules(), None).ok()?),
            Kind::Rsync(command) => Box::new(RsyncInspector::new(command, rules(), None).ok()?),
        };
        Some(play(inspector.as_mut(), &script, cut))
    };
    assert_eq!(run(usize::MAX >> 1), run(usize::from(*cut).max(1)), "cutting changed the result");
}

/// Who said what: a byte of side (its lowest bit) and length (the others), then so many bytes; length 127 stands for
/// one that follows in two bytes.
fn conversation(mut bytes: &[u8]) -> Vec<(From, Vec<u8>)> {
    let mut parts = Vec::new();
    while let Some((head, mut rest)) = bytes.split_first()
        && parts.len() < MAX_PARTS
    {
        let from = if head & 1 == 0 { From::Person } else { From::Target };
        let mut length = usize::from(head >> 1);
        if let (127, Some((long, after))) = (length, rest.split_first_chunk::<2>()) {
            (length, rest) = (usize::from(u16::from_be_bytes(*long)), after);
        }
        let (said, after) = rest.split_at(length.min(rest.len()));
        parts.push((from, said.to_vec()));
        bytes = after;
    }
    parts
}

fn split_once(bytes: &[u8], at: u8) -> (&[u8], &[u8]) {
    let mut halves = bytes.splitn(2, |b| *b == at);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Target = fn(&[u8]);

    /// Every input that is kept in `fuzz/corpus` for a target: what once broke something stays tried.
    #[test]
    fn what_is_kept_for_the_fuzzer_breaks_nothing() {
        let all: [(&str, Target); 12] = [
            ("sftp", fuzz_sftp),
            ("scp", fuzz_scp),
            ("rsync", fuzz_rsync),
            ("exec", fuzz_exec),
            ("paths", fuzz_paths),
            ("config", fuzz_config),
            ("site", fuzz_site),
            ("times", fuzz_times),
            ("login_name", fuzz_login_name),
            ("menu_keys", fuzz_menu_keys),
            ("echo", fuzz_echo),
            ("command_line", fuzz_command_line),
        ];
        for (name, target) in all {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let mut seen = 0;
            for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                seen += 1;
            }
            assert!(seen > 0, "{name} has no seeds");
        }
    }
}
