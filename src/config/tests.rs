use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use proptest::prelude::*;

use super::{
    Config, ConfigError, StoreUrl, Template,
    files::{Facts, Use, judge},
    introspect,
    problem::FileFault,
};

/// What the example says, changed by `edit`, and the faults found.
fn faults(edit: impl Fn(String) -> String) -> String {
    match Config::parse(&edit(Config::example()), Path::new("/etc/cofferdam/cofferdam.toml")) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    }
}

fn swap(from: &'static str, to: &'static str) -> impl Fn(String) -> String {
    move |text| {
        assert!(text.contains(from), "the example does not hold {from:?}");
        text.replacen(from, to, 1)
    }
}

/// The line of the example that starts with `start`, from 1.
fn line_of(text: &str, start: &str) -> usize {
    text.lines().position(|l| l.starts_with(start)).unwrap() + 1
}

#[test]
fn the_example_is_taken_as_it_is() {
    assert_eq!(faults(|text| text), "");
}

#[test]
fn the_example_with_every_comment_taken_off_names_every_key() {
    let text: String = Config::example()
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.starts_with('[') || (rest.contains(" = ") && !rest.contains(". ")))
                .unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let table: toml::Table = text.parse().unwrap();
    for (section, keys) in introspect::sections() {
        let present: BTreeSet<&str> = table[section].as_table().unwrap().keys().map(String::as_str).collect();
        let wanted: BTreeSet<&str> = keys.iter().copied().collect();
        assert!(!wanted.is_empty());
        assert_eq!(present, wanted, "[{section}]");
    }
}

#[test]
fn the_sections_are_the_fields_of_the_configuration() {
    let names: Vec<&str> = introspect::sections().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, introspect::fields_of::<Config>());
}

#[test]
fn the_reference_lists_exactly_the_keys_there_are() {
    let doc = include_str!("../../docs/configuration.md");
    let mut section = "";
    let mut listed = BTreeSet::new();
    for line in doc.lines() {
        if let Some(name) = line.strip_prefix("## `[").and_then(|rest| rest.strip_suffix("]`")) {
            section = name;
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
            listed.insert(format!("{section}.{}", key.0));
        }
    }
    let wanted: BTreeSet<String> = introspect::sections()
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
        .collect();
    assert_eq!(listed, wanted);
}

#[test]
fn the_defaults_are_what_the_example_says() {
    let short = r#"
        site.name = "plant"
        ssh.host_key_files = ["keys/ssh_host_ed25519"]
        audit.signing_key_file = "keys/audit_signing"
        recordings.recipients = ["age1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0savhh7m"]
        recordings.replay_identity_file = "keys/replay_identity"
        vault.identity_file = "keys/vault_identity"
        vault.ssh_user_ca_file = "keys/ssh_user_ca"
        vault.ssh_host_ca_file = "keys/ssh_host_ca"
        web.public_url = "https://localhost:8443/"
        web.certificate_file = "web_chain.pem"
        web.key_file = "keys/web_key"
    "#;
    let path = Path::new("/etc/cofferdam/cofferdam.toml");
    let (short, example) =
        (Config::parse(short, path).unwrap(), Config::parse(&Config::example(), path).unwrap());
    assert_eq!(format!("{short:?}"), format!("{example:?}"));
}

#[test]
fn the_defaults_for_desktops_are_what_the_example_and_a_template_say() {
    let path = Path::new("/etc/cofferdam/cofferdam.toml");
    let asked = Template { rdp_listen: Some("0.0.0.0:3389".parse().unwrap()), ..Template::default() };
    let asked = Config::parse(&asked.render(), path).unwrap().rdp.unwrap();
    let short = Config::parse(&(Config::example() + "\n[rdp]\n"), path).unwrap().rdp.unwrap();
    assert_eq!(format!("{asked:?}"), format!("{short:?}"));
    let lines = [
        "max_connections = 200",
        "max_connections_per_source = 16",
        "login_grace_seconds = 60",
        "allow_without_nla = false",
    ];
    for line in lines {
        assert!(Config::example().contains(&format!("# {line}\n")), "{line}");
    }
    assert_eq!(
        (short.max_connections, short.max_connections_per_source, short.login_grace_seconds),
        (200, 16, 60)
    );
    assert!(!short.allow_without_nla, "nobody sends a password unless the site wants that");
}

#[test]
fn desktops_that_cannot_be_served_are_refused() {
    let with = |lines: &str| faults(|text| format!("{text}\n[rdp]\n{lines}"));
    assert_eq!(with("address = \"gw.plant.example:3389\""), "");
    assert!(with("address = \"gw plant\"").contains("rdp.address: write HOST"));
    assert!(with("certificate_file = \"a\"").contains("certificate and key go together"));
    assert!(with("max_connections = 4").contains("one source cannot have more"));
    assert!(with("login_grace_seconds = 1").contains("rdp.login_grace_seconds"));
    let without_web = faults(|text| {
        let (before, web) = text.split_once("[web]").unwrap();
        let (_, after) = web.split_once("# Desktops by RDP").unwrap();
        format!("{before}# Desktops by RDP{after}\n[rdp]\n")
    });
    assert!(without_web.contains("add [web], or leave [rdp] out"), "{without_web}");
}

#[test]
fn the_defaults_for_text_on_desktops_are_what_the_example_says_and_what_cannot_be_is_refused() {
    let path = Path::new("/etc/cofferdam/cofferdam.toml");
    assert!(Config::parse(&Config::example(), path).unwrap().ocr.is_none(), "it is off");
    let ocr = Config::parse(&(Config::example() + "\n[ocr]\n"), path).unwrap().ocr.unwrap();
    assert_eq!((ocr.program.as_path(), ocr.languages), (Path::new("/usr/bin/tesseract"), vec!["eng".into()]));
    assert_eq!((ocr.every_seconds, ocr.max_pictures), (10, 2000));
    for line in [
        "program = \"/usr/bin/tesseract\"",
        "languages = [\"eng\"]",
        "every_seconds = 10",
        "max_pictures = 2000",
    ] {
        assert!(Config::example().contains(&format!("# {line}\n")), "{line}");
    }
    let with = |lines: &str| faults(|text| format!("{text}\n[ocr]\n{lines}"));
    assert_eq!(with("languages = [\"deu\", \"chi_sim\"]"), "");
    for languages in ["[]", "[\"\"]", "[\"eng+deu\"]", "[\"../../x\"]", "[\"--help\"]"] {
        let said = with(&format!("languages = {languages}"));
        assert!(said.contains("ocr.languages: give 1 to 8 names"), "{said}");
    }
    assert!(with("every_seconds = 0").contains("ocr.every_seconds: 0 is out of range"));
    let closed =
        faults(|text| swap("replay_identity_file = \"keys/replay_identity\"\n", "\n")(text) + "\n[ocr]\n");
    assert!(
        closed.contains("ocr.program: does not go together with recordings.replay_identity_file"),
        "{closed}"
    );
}

/// The example with its `[s3]` switched on.
fn with_s3(text: &str) -> String {
    let (before, s3) = text.split_once("# [s3]").unwrap();
    let (s3, after) = s3.split_once("\n\n").unwrap();
    let s3: String = s3
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    format!("{before}[s3]\n{s3}\n\n{after}")
}

#[test]
fn the_defaults_of_the_object_store_are_what_the_example_says() {
    let path = Path::new("/etc/cofferdam/cofferdam.toml");
    let short = "\n[s3]\nbucket = \"recordings\"\nendpoint = \"https://s3.plant.example\"\n\
                 access_key_file = \"keys/s3_access_key\"\nsecret_key_file = \"keys/s3_secret_key\"\n\
                 ca_file = \"s3_ca.pem\"\n";
    let short = Config::parse(&(Config::example() + short), path).unwrap();
    let example = Config::parse(&with_s3(&Config::example()), path).unwrap();
    assert_eq!(format!("{:?}", short.s3.unwrap()), format!("{:?}", example.s3.as_ref().unwrap()));
    assert_eq!(example.s3.unwrap().ca_file.unwrap(), PathBuf::from("/etc/cofferdam/s3_ca.pem"));
}

#[test]
fn an_object_store_that_cannot_be_right_is_refused() {
    let cases = [
        ("bucket = \"recordings\"", "bucket = \"Re/cordings\"", "s3.bucket: give 3 to 63"),
        (
            "https://s3.plant.example",
            "http://s3.plant.example",
            "s3.endpoint: http:// is taken only for this machine",
        ),
        ("https://s3.plant.example", "s3.plant.example", "s3.endpoint: the endpoint starts with https://"),
        ("region = \"us-east-1\"", "region = \"\"", "s3.region: give"),
        ("prefix = \"\"", "prefix = \"a/../b\"", "s3.prefix: give"),
        ("part_seconds = 60", "part_seconds = 0", "s3.part_seconds: 0 is out of range"),
        ("spool_bytes = 10_737_418_240", "spool_bytes = 1", "s3.spool_bytes: 1 is out of range"),
        ("bucket = \"recordings\"", "", "s3.bucket: missing"),
        (
            "bucket = ",
            "secret_key = \"hunter2\"\nbucket = ",
            "s3.secret_key: unknown key, did you mean \"secret_key_file\"?",
        ),
    ];
    for (from, to, wanted) in cases {
        let said = faults(|text| swap(from, to)(with_s3(&text)));
        assert!(said.contains(wanted), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let said = faults(|text| {
        swap("http://s3", "http://127.0.0.1:9000/s3")(with_s3(&text).replace("https://s3", "http://s3"))
    });
    assert_eq!(said, "");
}

#[test]
fn relative_paths_start_at_the_files_folder_and_absolute_ones_stay() {
    let text = Config::example().replace("\"recordings\"", "\"/var/lib/cofferdam\"");
    let config = Config::parse(&text, Path::new("/etc/cofferdam/cofferdam.toml")).unwrap();
    assert_eq!(config.vault.identity_file, PathBuf::from("/etc/cofferdam/keys/vault_identity"));
    assert_eq!(config.recordings.dir, PathBuf::from("/var/lib/cofferdam"));
    assert_eq!(config.store.url, StoreUrl::Sqlite("/etc/cofferdam/cofferdam.sqlite".into()));
    assert_eq!(config.ssh.host_key_files, [PathBuf::from("/etc/cofferdam/keys/ssh_host_ed25519")]);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_key_that_was_meant() {
    let said = faults(swap("login_grace_seconds =", "login_grace_second ="));
    let line = line_of(&Config::example(), "login_grace_seconds");
    assert_eq!(
        said,
        format!(
            "/etc/cofferdam/cofferdam.toml:{line}:1: ssh.login_grace_second: unknown key, did you mean \"login_grace_seconds\"?"
        )
    );
}

#[test]
fn an_unknown_section_is_named_and_all_unknown_keys_come_at_once() {
    let said = faults(|text| swap("banner =", "baner =")(swap("[limits]", "[limit]")(text)));
    assert!(said.contains(": limit: unknown key, did you mean \"limits\"?"), "{said}");
    assert!(said.contains(": ssh.baner: unknown key, did you mean \"banner\"?"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn a_password_written_where_a_file_belongs_is_refused_and_not_repeated() {
    let said = faults(swap("[store]", "[store]\npassword = \"hunter2\""));
    assert!(said.contains("store.password: unknown key, did you mean \"password_file\"?"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let said = faults(swap("sqlite:cofferdam.sqlite", "postgres://cofferdam:hunter2@db/cofferdam"));
    assert!(said.contains("store.url: a password stands in the URL"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    let said = faults(swap("sqlite:cofferdam.sqlite", "postgres://db/cofferdam?password=hunter2"));
    assert!(said.contains("store.url: a password stands in the URL") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    let said = faults(swap("max_connections = 1000", "max_connections = \"many\""));
    let line = line_of(&Config::example(), "max_connections =");
    assert!(
        said.starts_with(&format!("/etc/cofferdam/cofferdam.toml:{line}:1: ssh.max_connections: ")),
        "{said}"
    );
    assert!(said.contains("invalid type: string"), "{said}");
    let said = faults(swap("max_connections = 1000", "max_connections = -1"));
    assert!(said.contains(": ssh.max_connections: "), "{said}");
    let said = faults(swap("[\"keys/ssh_host_ed25519\"]", "[\"a\", 7]"));
    assert!(said.contains(": ssh.host_key_files.1: invalid type: integer"), "{said}");
    let said = faults(swap("\"0.0.0.0:2222\"", "\"0.0.0.0\""));
    assert!(said.contains(": ssh.listen: invalid socket address"), "{said}");
    let said = faults(swap("sqlite:cofferdam.sqlite", "mysql://db"));
    assert!(said.contains(": store.url: not a database"), "{said}");
}

#[test]
fn a_missing_key_and_a_missing_section_are_named() {
    let said = faults(swap("signing_key_file = ", "# "));
    let line = line_of(&Config::example(), "[audit]");
    assert!(said.contains(&format!(":{line}:2: audit.signing_key_file: missing")), "{said}");
    assert!(
        Config::parse("", Path::new("c.toml")).unwrap_err().to_string().starts_with("c.toml: site: missing")
    );
}

#[test]
fn text_that_is_not_toml_is_named_with_its_place() {
    let said = faults(swap("[ssh]", "[ssh"));
    let line = line_of(&Config::example(), "[ssh]");
    assert!(said.starts_with(&format!("/etc/cofferdam/cofferdam.toml:{line}:")), "{said}");
    assert!(said.contains("not TOML"), "{said}");
    let said = faults(swap("banner = \"\"", "banner = \"\"\nbanner = \"twice\""));
    assert!(said.contains("not TOML: duplicate key"), "{said}");
}

#[test]
fn values_out_of_range_are_all_named_at_once_with_their_bounds() {
    let said = faults(|text| {
        swap("login_grace_seconds = 60", "login_grace_seconds = 1")(swap(
            "max_channels_per_session = 32",
            "max_channels_per_session = 0",
        )(text))
    });
    assert!(said.contains("ssh.login_grace_seconds: 1 is out of range: give 5 to 600"), "{said}");
    assert!(said.contains("limits.max_channels_per_session: 0 is out of range: give 1 to 1024"), "{said}");
}

#[test]
fn values_that_cannot_be_right_are_refused() {
    let cases: [(&'static str, &'static str, &str); 12] = [
        ("name = \"plant\"", "name = \" \"", "site.name: give 1 to 63"),
        ("banner = \"\"", "banner = \"\\u001b[2J\"", "ssh.banner: give at most"),
        ("[\"keys/ssh_host_ed25519\"]", "[]", "ssh.host_key_files: empty"),
        (
            "max_connections_per_source = 64",
            "max_connections_per_source = 2000",
            "does not go together with ssh.max_connections",
        ),
        ("arc0savhh7m", "arc0savhh7n", "recordings.recipients.0: not an age X25519 recipient"),
        ("age1qqqsy", "AGE-SECRET-KEY-1QQQSY", "this is a private identity"),
        (
            "reveal_recipients = []",
            "reveal_recipients = [\"me\"]",
            "recordings.reveal_recipients.0: not an age",
        ),
        (
            "# password_file = \"keys/store_password\"",
            "password_file = \"keys/store_password\"",
            "store.password_file: does not go together with store.url",
        ),
        (
            "https://localhost:8443/",
            "http://localhost:8443/",
            "web.public_url: write https://HOST or https://HOST:PORT",
        ),
        ("https://localhost:8443/", "https://localhost/x", "web.public_url: write https://HOST"),
        ("# group", "group", "run.group: does not go together with run.user"),
        (
            "min_free_bytes = 1_073_741_824",
            "min_free_bytes = 0",
            "recordings.min_free_bytes: 0 is out of range",
        ),
    ];
    for (from, to, wanted) in cases {
        let said = faults(swap(from, to));
        assert!(said.contains(wanted), "{said}");
        assert!(!said.contains("SECRET"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// A folder as `init` leaves it.
fn site() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    fs::create_dir(&keys).unwrap();
    for name in [
        "ssh_host_ed25519",
        "audit_signing",
        "replay_identity",
        "vault_identity",
        "ssh_user_ca",
        "ssh_host_ca",
        "web_key",
    ] {
        write(&keys.join(name), "secret", 0o600);
    }
    write(&folder.path().join("web_chain.pem"), "a chain", 0o644);
    let path = folder.path().join("cofferdam.toml");
    write(&path, &Config::example(), 0o644);
    (folder, path)
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_site_as_init_leaves_it_loads() {
    let (_folder, path) = site();
    Config::load(&path).unwrap();
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_line_key_and_cure() {
    let (folder, path) = site();
    let key = folder.path().join("keys/vault_identity");
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let said = Config::load(&path).unwrap_err().to_string();
        let line = line_of(&Config::example(), "identity_file");
        let key = key.display();
        assert_eq!(
            said,
            format!(
                "{}:{line}:1: vault.identity_file: {key} holds a secret and has mode {mode:03o}: run `chmod 600 {key}`",
                path.display()
            )
        );
    }
}

#[test]
fn a_secret_that_is_not_there_or_no_file_is_refused() {
    let (folder, path) = site();
    fs::remove_file(folder.path().join("keys/ssh_host_ed25519")).unwrap();
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.contains(": ssh.host_key_files.0: ") && said.contains("No such file"), "{said}");
    fs::create_dir(folder.path().join("keys/ssh_host_ed25519")).unwrap();
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.contains("is not a regular file"), "{said}");
}

#[test]
fn a_configuration_that_others_can_change_is_refused() {
    let (_folder, path) = site();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.contains("can be changed by others (mode 664)"), "{said}");
}

#[test]
fn a_recordings_folder_that_others_can_change_is_refused() {
    let (folder, path) = site();
    let recordings = folder.path().join("recordings");
    fs::create_dir(&recordings).unwrap();
    fs::set_permissions(&recordings, fs::Permissions::from_mode(0o777)).unwrap();
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.contains(": recordings.dir: ") && said.contains("can be changed by others"), "{said}");
}

#[test]
fn a_user_that_the_system_does_not_know_is_refused() {
    let (_folder, path) = site();
    let text = Config::example().replace("# user = \"cofferdam\"", "user = \"nobody-of-this-name\"");
    write(&path, &text, 0o600);
    let said = Config::load(&path).unwrap_err().to_string();
    assert!(said.contains(": run.user: the system knows no such user"), "{said}");
}

#[test]
fn a_file_of_a_stranger_is_refused_whatever_its_mode() {
    let facts = Facts { is_file: true, is_folder: false, owner: 4321, mode: 0o600 };
    let found = judge(Path::new("key"), Use::Secret, &facts, &[0, 1000]);
    assert!(matches!(found, Err(FileFault::Stranger { owner: 4321, .. })));
    judge(Path::new("key"), Use::Secret, &facts, &[0, 4321]).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_the_environments_fault() {
    let error = Config::load(Path::new("/nonexistent/cofferdam.toml")).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("`cofferdam init` writes one"));
}

#[test]
fn a_template_keeps_values_with_quotes_and_marks_as_they_are() {
    let template = Template {
        name: "a \"quoted\" @recipients@ \\ name".to_owned(),
        user: Some("cofferdam".to_owned()),
        password_file: Some("keys/db".into()),
        store_url: StoreUrl::Postgres("postgres://cofferdam@db/cofferdam".to_owned()),
        ..Template::default()
    };
    let config = Config::parse(&template.render(), Path::new("/c.toml")).unwrap();
    assert_eq!(config.site.name, "a \"quoted\" @recipients@ \\ name");
    assert_eq!(config.run.user.as_deref(), Some("cofferdam"));
    assert_eq!(config.store.password_file, Some("/keys/db".into()));
}

proptest! {
    /// Whatever stands in the file, the answer is a configuration or a list of problems, never a panic.
    #[test]
    fn any_text_is_answered(text in "\\PC{0,200}", at in 0usize..3000, cut in 0usize..200) {
        let path = Path::new("c.toml");
        drop(Config::parse(&text, path));
        let example = Config::example();
        let at = (0..=at.min(example.len())).rev().find(|i| example.is_char_boundary(*i)).unwrap_or(0);
        let rest: String = example[at..].chars().skip(cut).collect();
        drop(Config::parse(&format!("{}{text}{rest}", &example[..at]), path));
    }
}
