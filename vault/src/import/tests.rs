use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::secret::SecretString;

fn bytes(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

fn rows(plan: &Plan) -> Vec<(&str, &str, &str, &[u8])> {
    plan.rows()
        .iter()
        .map(|r| (r.place.as_str(), r.asset.as_str(), r.login.as_str(), r.secret.expose()))
        .collect()
}

/// Nothing that can be shown of a plan holds the secret.
fn hides(plan: &Plan, secret: &str) {
    assert!(!format!("{plan:?}").contains(secret), "the plan shows a secret");
}

#[test]
fn a_csv_file_with_quotes_and_line_breaks_is_read_row_by_row() {
    let text = "\u{feff}Notes,User,Host,Password\r\nold,root,pump-hmi,\"hunter2,\"\"x\"\"\"\r\n\r\n,svc,eng-ws,\"two\nlines\"\r\n,ops,plc-7,last";
    let plan = read_csv(&bytes(text)).unwrap();
    assert_eq!(
        rows(&plan),
        [
            ("line 2", "pump-hmi", "root", &b"hunter2,\"x\""[..]),
            ("line 4", "eng-ws", "svc", b"two\nlines"),
            ("line 6", "plc-7", "ops", b"last"),
        ]
    );
    assert!(plan.faults().is_empty(), "{:?}", plan.faults());
    hides(&plan, "hunter2");
}

#[test]
fn every_row_that_cannot_be_taken_says_why_and_shows_no_secret() {
    let text = "asset,login,secret\n,root,hunter2\npump-hmi,,hunter2\npump-hmi,root,\npump-hmi,root\n\
                eng-ws,svc,hunter2\neng-ws,svc,hunter3\nx\u{7},y,hunter2\n";
    let plan = read_csv(&bytes(text)).unwrap();
    let faults: Vec<&str> = plan.faults().iter().map(|f| f.place.as_str()).collect();
    assert_eq!(faults, ["line 2", "line 3", "line 4", "line 5", "line 7", "line 8"]);
    assert_eq!(rows(&plan), [("line 6", "eng-ws", "svc", &b"hunter2"[..])]);
    assert!(plan.faults()[4].why.contains("line 6"), "{:?}", plan.faults()[4]);
    hides(&plan, "hunter");
}

#[test]
fn a_csv_file_without_the_columns_says_which_one_is_missing() {
    let error = read_csv(&bytes("host,password\na,hunter2\n")).unwrap_err();
    assert!(error.to_string().contains("\"login\"") && !error.to_string().contains("hunter2"), "{error}");
    assert!(read_csv(&bytes("")).is_err());
}

#[test]
fn a_record_without_end_is_refused_and_those_after_it_are_read() {
    let endless = format!("asset,login,secret\na,b,\"{}\"\nc,d,e\n", "x".repeat(300_000));
    let plan = read_csv(&bytes(&endless)).unwrap();
    assert!(plan.faults()[0].why.contains("quote that is not closed"), "{:?}", plan.faults());
    assert_eq!(plan.rows()[0].asset, "c");
    let wide = format!("asset,login,secret\n{}\nc,d,e\n", ",".repeat(500));
    assert_eq!(read_csv(&bytes(&wide)).unwrap().rows().len(), 1);
}

#[test]
fn private_keys_are_told_from_passwords() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n";
    let text = format!("asset,login,secret\na,b,\"{key}\"\nc,d,-----BEGIN of my password\n");
    let plan = read_csv(&bytes(&text)).unwrap();
    let kinds: Vec<SecretKind> = plan.rows().iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [SecretKind::PrivateKey, SecretKind::Password]);
}

#[test]
fn an_export_of_hashicorp_vault_is_read_in_each_of_its_forms() {
    let one = r#"{"request_id":"1","lease_duration":0,"renewable":false,"warnings":null,"path":"secret/hosts/pump-hmi/root",
        "data":{"data":{"password":"hunter2","note":{"x":[1]}},"metadata":{"version":3,"destroyed":false}}}"#;
    let other =
        r#"{"data":{"data":{"host":"eng-ws","username":"svc","password":"p\u00e4ss"},"metadata":{}}}"#;
    let expected: [(&str, &str, &[u8]); 2] =
        [("pump-hmi", "root", b"hunter2"), ("eng-ws", "svc", "p\u{e4}ss".as_bytes())];
    for text in [
        format!("{one}\n{other}\n"),
        format!("[{one},{other}]"),
        format!(r#"{{"hosts/pump-hmi/root":{one},"hosts/other":{other}}}"#),
    ] {
        let plan = read_hashicorp(&bytes(&text)).unwrap();
        let found: Vec<_> = rows(&plan).into_iter().map(|(_, a, l, s)| (a, l, s)).collect();
        assert_eq!(found, expected, "{:?}", plan.faults());
        hides(&plan, "hunter2");
    }
}

#[test]
fn deleted_versions_and_other_engines_are_faults_and_no_json_is_an_error() {
    let deleted = r#"{"path":"hosts/a/b","data":{"data":null,"metadata":{"destroyed":true}}}"#;
    let other = r#"{"path":"hosts/c/d","data":{"data":{"token":"hunter2"}}}"#;
    let plan = read_hashicorp(&bytes(&format!("{deleted}{other}"))).unwrap();
    assert_eq!(plan.faults().len(), 2);
    assert!(plan.faults()[1].why.contains("password"), "{:?}", plan.faults()[1]);
    hides(&plan, "hunter2");
    for bad in
        ["", "hunter2", "{\"data\": \"hunter2\"}", "[1, 2]", "{\"data\":{\"data\":{\"password\":\"hunter2\""]
    {
        let error = read_hashicorp(&bytes(bad)).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

fn kdbx(password: &str) -> Vec<u8> {
    let mut database = ::keepass::Database::new();
    let mut root = database.root_mut();
    let mut add = |group: Option<&str>, title: &str, user: &str, secret: &str| {
        let fill = |mut entry: ::keepass::db::EntryMut<'_>| {
            entry.set_unprotected("Title", title);
            entry.set_unprotected("UserName", user);
            entry.set_protected("Password", secret);
        };
        match group {
            None => fill(root.add_entry()),
            Some(name) => {
                let mut group = root.add_group();
                group.name = name.to_owned();
                fill(group.add_entry());
            }
        }
    };
    add(None, "pump-hmi", "root", "hunter2");
    add(Some("Plant"), "eng-ws", "svc", "hunter3");
    add(Some("Plant 2"), "plc-7", "", "hunter4");
    add(Some("Recycle Bin"), "old", "gone", "hunter5");
    let mut out = Vec::new();
    database.save(&mut out, ::keepass::DatabaseKey::new().with_password(password)).unwrap();
    out
}

#[test]
fn a_keepass_database_is_read_with_its_groups_and_without_its_bin() {
    let file = SecretBytes::new(kdbx("correct horse"));
    let plan = read_keepass(&file, &SecretString::from("correct horse")).unwrap();
    let mut found: Vec<_> = rows(&plan).into_iter().map(|(p, a, l, s)| (p, a, l, s.to_vec())).collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("Plant/eng-ws", "eng-ws", "svc", b"hunter3".to_vec()),
            ("pump-hmi", "pump-hmi", "root", b"hunter2".to_vec())
        ]
    );
    assert_eq!(plan.faults().len(), 1);
    assert_eq!(plan.faults()[0].place, "Plant 2/plc-7");
    hides(&plan, "hunter");
    let wrong = read_keepass(&file, &SecretString::from("wrong horse")).unwrap_err();
    assert!(matches!(wrong, ImportError::Password), "{wrong}");
    let odd = read_keepass(&bytes("hunter2"), &SecretString::from("x")).unwrap_err();
    assert!(matches!(odd, ImportError::Form { .. }), "{odd}");
}

/// Made by keepassxc-cli 2.7: two entries, one of them in a group, and one in the recycle bin.
#[test]
fn a_database_that_keepassxc_wrote_is_read() {
    let file = SecretBytes::new(include_bytes!("../../tests/data/keepassxc.kdbx").to_vec());
    let plan = read_keepass(&file, &SecretString::from("correct horse")).unwrap();
    let mut found: Vec<_> = rows(&plan).into_iter().map(|(p, _, l, s)| (p, l, s.to_vec())).collect();
    found.sort();
    assert_eq!(
        found,
        [
            ("Plant/eng-ws", "svc", "hunter3 with \u{fc}".as_bytes().to_vec()),
            ("pump-hmi", "root", b"hunter2-of-KeePassXC".to_vec())
        ]
    );
    assert!(plan.faults().is_empty(), "{:?}", plan.faults());
}

#[test]
fn a_keepass_file_that_asks_for_all_memory_is_refused_before_it_gets_any() {
    let mut file = kdbx("correct horse");
    // The Argon2 parameter M: type 5 (u64), key of one byte, value of eight.
    let field = b"\x05\x01\0\0\0M\x08\0\0\0";
    let at = file.windows(field.len()).position(|w| w == field).unwrap() + field.len();
    file[at..at + 8].copy_from_slice(&(1u64 << 40).to_le_bytes());
    let error = read_keepass(&SecretBytes::new(file), &SecretString::from("correct horse")).unwrap_err();
    assert!(error.to_string().contains("MiB"), "{error}");
}

#[test]
fn a_cut_keepass_file_is_an_error_and_nothing_else() {
    let file = kdbx("correct horse");
    for i in 0..40 {
        let cut = SecretBytes::new(file[..file.len() * i / 40].to_vec());
        assert!(read_keepass(&cut, &SecretString::from("correct horse")).is_err(), "cut to {i}/40");
    }
}

#[tokio::test]
async fn a_plan_is_stored_row_by_row_and_a_refusal_stops_no_other() {
    static KEPT: AtomicUsize = AtomicUsize::new(0);
    struct Store;
    #[async_trait]
    impl ImportPort for Store {
        async fn keep(&mut self, row: &Row) -> Result<(), String> {
            if row.asset == "unknown" {
                return Err("the site has no asset unknown; describe it first".into());
            }
            KEPT.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    let text = "asset,login,secret\na,b,c\nunknown,b,c\n,,c\nd,e,f\n";
    let report = apply(read_csv(&bytes(text)).unwrap(), &mut Store).await;
    assert_eq!((report.kept, KEPT.load(Ordering::Relaxed)), (2, 2));
    let places: Vec<&str> = report.faults.iter().map(|f| f.place.as_str()).collect();
    assert_eq!(places, ["line 4", "line 3"]);
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(matches!(read_file(&path), Err(ImportError::TooLarge(_))));
    assert!(matches!(read_file(&dir.path().join("none")), Err(ImportError::File { .. })));
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let content = SecretBytes::new(content);
        drop(read_csv(&content));
        drop(read_hashicorp(&content));
        let with_columns = [b"asset,login,secret\n", content.expose()].concat();
        prop_assert!(read_csv(&SecretBytes::new(with_columns)).is_ok());
    }

    #[test]
    fn what_is_written_as_csv_is_read_back(
        secrets in proptest::collection::vec("[ -~\u{e4}\n]{1,30}", 1..20),
    ) {
        let mut text = "asset,login,secret\n".to_owned();
        for (i, secret) in secrets.iter().enumerate() {
            text += &format!("host-{i},root,\"{}\"\n", secret.replace('"', "\"\""));
        }
        let plan = read_csv(&bytes(&text)).unwrap();
        let read: Vec<&[u8]> = plan.rows().iter().map(|r| r.secret.expose()).collect();
        let written: Vec<&[u8]> = secrets.iter().map(String::as_bytes).collect();
        prop_assert_eq!(read, written);
    }
}
