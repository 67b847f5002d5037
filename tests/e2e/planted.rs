//! Secrets that are planted before a full run and looked for after it, wherever they could have been left.

use std::{fs, path::Path, process::Command, time::Duration};

use cofferdam_vault::{Root, SecretBytes, SystemEntropy};

use super::rdp::{BLUE, MIDDLE};
use crate::support::{
    Gateway, Live, RealSshd, as_root,
    cli::id_of,
    desktop::Display,
    peer, python, run, run_with_input,
    targets::{Folder, Shadow},
    wait_for,
};

/// A secret and the forms in which it could stand somewhere.
struct Planted {
    what: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Planted {
    fn new(what: &'static str, forms: &[&[u8]]) -> Self {
        let mut forms: Vec<Vec<u8>> = forms.iter().map(|form| form.to_vec()).collect();
        for form in forms.clone() {
            let hex: String = form.iter().map(|byte| format!("{byte:02x}")).collect();
            forms.push(hex.into_bytes());
            let mut coding = Command::new("base64");
            coding.args(["-w", "0"]);
            let coded = run_with_input(coding, &form).ok().out();
            // The last characters depend on what follows.
            forms.push(coded.trim_end_matches('=').as_bytes()[..coded.len() / 4 * 4 - 4].to_vec());
        }
        Self { what, forms }
    }

    #[track_caller]
    fn is_not_in(&self, place: &str, content: &[u8]) {
        for form in &self.forms {
            assert!(!holds(content, form), "{} stands in {place}", self.what);
        }
    }
}

fn holds(content: &[u8], needle: &[u8]) -> bool {
    let starts = content.iter().enumerate().filter(|(_, byte)| **byte == needle[0]);
    starts.map(|(at, _)| &content[at..]).any(|rest| rest.starts_with(needle))
}

/// Every file below `folder`, with its content; keys themselves are left out.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "keys" {
                found.extend(files(&path));
            }
        } else if let Ok(content) = fs::read(&path) {
            found.push((path.display().to_string(), content));
        }
    }
    found
}

/// How often the process's memory holds each, in the order given: the secret as it is used, not its codings.
fn in_memory(pid: u32, needles: &[&[u8]]) -> Vec<usize> {
    let mut scan = as_root(python().to_str().unwrap());
    scan.arg(peer("memory.py")).arg(pid.to_string());
    let lines: String = needles
        .iter()
        .map(|needle| needle.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect();
    let counted = run_with_input(scan, lines.as_bytes()).ok().out();
    counted.split_whitespace().map(|count| count.parse().unwrap()).collect()
}

/// A gateway as a service, with the target's account in its vault. The demo that it is from ends: that tells everybody's
/// secrets on purpose, and has them in its memory. Its folder stays: codes that were used are remembered there.
fn service(target: &RealSshd) -> (Gateway, Gateway) {
    let mut demo = Gateway::start();
    demo.runs_as_a_service();
    target.join_by(&demo, "password");
    demo.change_site(|site| {
        let accounts = site["accounts"].as_array_mut().unwrap();
        let account = accounts.iter_mut().find(|a| a["asset"].as_str() == Some("workshop")).unwrap();
        let how: toml::Table = "every_days = 0\nafter_use = true".parse().unwrap();
        account.as_table_mut().unwrap().insert("rotation".to_owned(), how.into());
    });
    let keeper = Root::generate(&SystemEntropy).unwrap();
    let (identity, backup) = (demo.scratch("keeper"), demo.scratch("planted.backup"));
    let text = SecretBytes::from(keeper.to_text().unwrap().expose().as_bytes().to_vec());
    cofferdam_vault::keyfile::create(&identity, &text).unwrap();
    let to = backup.to_str().unwrap();
    demo.cofferdam(["backup", "--to", to, "--recipient", &keeper.recipient()]).ok();
    demo.crash();
    let service = demo.restored(|to| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("restore").arg(&backup).arg("--identity").arg(&identity).arg("--to").arg(to);
        run(command).ok();
    });
    (service, demo)
}

#[test]
fn planted_secrets_stand_in_no_log_database_recording_or_core_file_after_a_full_run() {
    let target = RealSshd::start();
    let first = target.password.clone().expect("tests with accounts need root or sudo");
    let (gateway, _demo) = service(&target);
    let folder = gateway.config().parent().unwrap().to_owned();
    let identity = fs::read_to_string(folder.join("keys/vault_identity")).unwrap();
    let line = identity.lines().find(|l| l.starts_with("AGE-SECRET-KEY")).unwrap().to_owned();
    let root = Root::from_text(&identity.as_str().into()).unwrap();
    let vera = gateway.vera();
    let mut decode = Command::new("base32");
    decode.arg("-d");
    let padded = format!("{:=<1$}", vera.totp_secret, vera.totp_secret.len().div_ceil(8) * 8);
    let seed = run_with_input(decode, padded.as_bytes()).ok().stdout;
    let planted = [
        Planted::new("the account's password", &[first.as_bytes()]),
        Planted::new("the second factor's seed", &[vera.totp_secret.as_bytes(), &seed]),
        Planted::new("the vault's identity", &[line.as_bytes(), root.expose()]),
        Planted::new("the person's password", &[vera.password.as_bytes()]),
    ];

    // A shell, a file, a log-in by password, and the change of the secret after use.
    let mut shell = Live::start(gateway.vera().ssh("workshop", ["-tt", "sh"]));
    shell.expect("$ ");
    shell.send("echo seen-by-$((40+2))\r");
    shell.expect("seen-by-42");
    shell.send("exit\r");
    shell.ended_within(Duration::from_secs(20));
    let upload = gateway.scratch("upload");
    fs::write(&upload, "marker-of-the-upload\n").unwrap();
    let mut scp = gateway.vera().transfer("scp");
    scp.arg(&upload).arg(gateway.vera().remote("workshop", "upload"));
    run(scp).ok();
    run(gateway.vera().ssh_with(crate::support::person::First::Password, "workshop", ["true"])).ok();
    wait_for("the rotation after use", Duration::from_secs(60), || {
        (!gateway.audit("secret.rotated").is_empty()).then_some(())
    });
    wait_for("the sessions' end", Duration::from_secs(20), || {
        gateway.live_sessions().is_empty().then_some(())
    });

    let mut places = files(&folder);
    places.push(("the log".to_owned(), gateway.log().into_bytes()));
    places.push(("the audit log".to_owned(), gateway.audit_text().into_bytes()));
    for session in gateway.sessions().iter().map(id_of) {
        for form in ["text", "jsonl", "bundle"] {
            let done = gateway.cofferdam(["recording", "export", &session, "--format", form]);
            places.push((format!("recording {session} as {form}"), done.stdout));
        }
    }
    let everywhere = |text: &[u8]| places.iter().filter(|(_, content)| holds(content, text)).count();
    assert!(
        everywhere(b"seen-by-42") > 0 && everywhere(b"marker-of-the-upload") > 0,
        "what is there is found"
    );
    assert!(places.iter().any(|(name, _)| name.contains("cofferdam.sqlite")));
    for secret in &planted {
        for (place, content) in &places {
            secret.is_not_in(place, content);
        }
    }

    // A crash leaves no core file: neither is one allowed, nor would the kernel give one to a helper.
    let limits = fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");

    // The memory of the process itself, as root reads it.
    let config = gateway.config();
    let needles: [&[u8]; 6] = [
        config.to_str().unwrap().as_bytes(),
        vera.totp_secret.as_bytes(),
        &seed,
        line.as_bytes(),
        vera.password.as_bytes(),
        first.as_bytes(),
    ];
    let counts = in_memory(gateway.pid(), &needles);
    assert!(counts[0] > 0, "the scan finds what is there");
    assert_eq!(counts[1..5], [0, 0, 0, 0], "seed, identity or the person's password are still in memory");
    // The SSH library sends the password from buffers that it frees and does not wipe: now and then one copy stands there
    // until its memory is used again. It was changed on the target since, so it opens nothing.
    assert!(counts[5] <= 3, "{} copies of the account's password", counts[5]);
}

#[test]
fn a_desktops_secret_and_token_stand_in_no_log_database_or_recording_after_its_session() {
    let (gateway, folder) = (Gateway::start(), Folder::new());
    let target = Shadow::start(&folder);
    gateway.eng_ws_is(target.address, "nla", Shadow::PASSWORD);
    let (display, api) = (Display::start(), gateway.api_token("connect"));
    let (user, token) = gateway.desktop_pass(&api);
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let secret = [Shadow::PASSWORD.as_bytes().to_vec(), wide(Shadow::PASSWORD)];
    let planted = [
        Planted::new("the desktop's secret", &[&secret[0], &secret[1]]),
        Planted::new("the token", &[token.as_bytes(), &wide(&token)]),
    ];
    let mut client = gateway.shows(&display, gateway.freerdp(&display, &user, &token), MIDDLE, BLUE);
    let id = id_of(&gateway.only_session());
    display.press("k");
    gateway.kill_session(&id).ok();
    client.ended_within(Duration::from_secs(10));
    gateway.ended_session();

    let mut places = files(gateway.config().parent().unwrap());
    places.push(("the log".to_owned(), gateway.log().into_bytes()));
    places.push(("the audit log".to_owned(), gateway.audit_text().into_bytes()));
    for form in ["jsonl", "bundle", "png"] {
        let done = gateway.cofferdam(["recording", "export", &id, "--format", form]);
        places.push((format!("the recording as {form}"), done.stdout));
    }
    assert!(places.iter().any(|(_, content)| holds(content, id.as_bytes())), "what is there is found");
    for secret in &planted {
        for (place, content) in &places {
            secret.is_not_in(place, content);
        }
    }

    // Of what the libraries copy for the log-in, and do not wipe, little stays for long.
    let config = gateway.config();
    let needles =
        [config.to_str().unwrap().as_bytes(), &secret[0], &secret[1], token.as_bytes(), &wide(&token)];
    let counts = in_memory(gateway.pid(), &needles);
    assert!(counts[0] > 0, "the scan finds what is there");
    eprintln!("{counts:?}");
    assert!(counts[1..].iter().all(|count| *count <= 3), "copies in memory: {counts:?}");
}
