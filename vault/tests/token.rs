//! The root behind a PKCS#11 token, with SoftHSM as the token: a real module, loaded at run time, and keys that its own
//! tools made.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam_vault::unseal::{Token, TokenCipher, TokenError, UnsealError, WrappedRoot};
use cofferdam_vault::{Root, SecretBytes, SystemEntropy, keyfile};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::UserType;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "739214";

/// Set in the process that has a SoftHSM of its own.
const FOLDER: &str = "COFFERDAM_TEST_TOKEN_FOLDER";
const LABEL: &str = "cofferdam-test";

struct Rig {
    dir: PathBuf,
    token: Token,
}

/// Runs `body` with a fresh token that has an RSA pair and an AES key, both named `vault-root`.
///
/// Where SoftHSM keeps its tokens stands in its environment, which a running test cannot change. So the test `name` starts
/// itself once more with that environment, and is judged by how that goes.
fn with_token(name: &str, body: impl FnOnce(&Rig)) {
    if let Some(dir) = std::env::var_os(FOLDER) {
        return body(&rig(dir.into()));
    }
    assert!(Path::new(MODULE).exists(), "softhsm2 is not installed; ./test installs it");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("softhsm2.conf");
    fs::create_dir(dir.path().join("tokens")).unwrap();
    fs::write(&config, format!("directories.tokendir = {}\n", dir.path().join("tokens").display())).unwrap();
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env("SOFTHSM2_CONF", &config)
        .env(FOLDER, dir.path())
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(out.status.success() && said.contains("1 passed"), "{said}");
}

fn rig(dir: PathBuf) -> Rig {
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    make_keys(LABEL);
    let pin_file = dir.join("pin");
    keyfile::create(&pin_file, &SecretBytes::from(format!("{PIN}\n").into_bytes())).unwrap();
    let token = Token { module: MODULE.into(), token: LABEL.into(), key: "vault-root".into(), pin_file };
    Rig { dir, token }
}

fn make_keys(label: &str) {
    let module = Pkcs11::new(MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slots = module.get_slots_with_token().unwrap();
    let ours = |s: &&cryptoki::slot::Slot| module.get_token_info(**s).unwrap().label().trim_end() == label;
    let slot = *slots.iter().find(ours).unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&PIN.to_owned().into())).unwrap();
    let name = Attribute::Label(b"vault-root".to_vec());
    session
        .generate_key_pair(
            &Mechanism::RsaPkcsKeyPairGen,
            &[
                Attribute::Token(true),
                Attribute::Encrypt(true),
                Attribute::ModulusBits(2048.into()),
                name.clone(),
            ],
            &[Attribute::Token(true), Attribute::Decrypt(true), Attribute::Sensitive(true), name.clone()],
        )
        .unwrap();
    session
        .generate_key(
            &Mechanism::AesKeyGen,
            &[
                Attribute::Token(true),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Sensitive(true),
                Attribute::ValueLen(32.into()),
                name,
            ],
        )
        .unwrap();
    drop(session);
    module.finalize().unwrap();
}

fn token_error(e: UnsealError) -> TokenError {
    match e {
        UnsealError::Token(e) => e,
        other => panic!("{other}"),
    }
}

#[test]
fn a_root_comes_back_out_of_the_token_and_its_file_says_nothing() {
    with_token("a_root_comes_back_out_of_the_token_and_its_file_says_nothing", |rig| {
        let root = Root::generate(&SystemEntropy).unwrap();
        for cipher in [TokenCipher::RsaOaepSha1, TokenCipher::AesGcm] {
            let path = rig.dir.join(cipher.as_str());
            rig.token.wrap(&root, cipher, &SystemEntropy).unwrap().create(&path).unwrap();
            let wrapped = WrappedRoot::load(&path).unwrap();
            assert_eq!(wrapped.vault_id(), root.vault_id());
            let content = fs::read(&path).unwrap();
            assert!(!content.windows(32).any(|w| w == root.expose()));
            // Twice, as after a restart: nothing of the first time stands in the way.
            for _ in 0..2 {
                assert_eq!(rig.token.unwrap(&wrapped).unwrap().expose(), root.expose());
            }
        }
    });
}

#[test]
fn a_wrong_pin_a_missing_token_and_a_missing_key_say_what_to_do() {
    with_token("a_wrong_pin_a_missing_token_and_a_missing_key_say_what_to_do", |rig| {
        let root = Root::generate(&SystemEntropy).unwrap();
        let wrapped = rig.token.wrap(&root, TokenCipher::AesGcm, &SystemEntropy).unwrap();
        let pin_file = rig.dir.join("other-pin");
        keyfile::create(&pin_file, &SecretBytes::from(b"000000".to_vec())).unwrap();
        let with = |change: &dyn Fn(&mut Token)| {
            let mut token = rig.token.clone();
            change(&mut token);
            token_error(token.unwrap(&wrapped).unwrap_err())
        };
        let wrong = with(&|t| t.pin_file.clone_from(&pin_file));
        assert!(matches!(&wrong, TokenError::WrongPin(_)), "{wrong}");
        assert!(!wrong.to_string().contains("000000"));
        let missing = with(&|t| t.token = "elsewhere".into());
        assert!(missing.to_string().contains(&rig.token.token), "{missing}");
        assert!(matches!(with(&|t| t.key = "other".into()), TokenError::Key { found: 0, .. }));
        assert!(matches!(with(&|t| t.module = "/nowhere.so".into()), TokenError::Module { .. }));
        assert!(matches!(with(&|t| t.module = "libsofthsm2.so".into()), TokenError::Module { .. }));
        assert!(rig.token.unwrap(&wrapped).is_ok(), "a failure leaves the module usable");
    });
}

#[test]
fn what_another_key_wrapped_or_somebody_altered_is_not_taken_for_the_root() {
    with_token("what_another_key_wrapped_or_somebody_altered_is_not_taken_for_the_root", |rig| {
        let root = Root::generate(&SystemEntropy).unwrap();
        for cipher in [TokenCipher::RsaOaepSha1, TokenCipher::AesGcm] {
            let path = rig.dir.join(cipher.as_str());
            rig.token.wrap(&root, cipher, &SystemEntropy).unwrap().create(&path).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let at = text.find("wrapped: ").unwrap() + "wrapped: ".len() + 5;
            let mut altered = text.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            // And one that says it is another vault's root.
            let other = Root::generate(&SystemEntropy).unwrap().vault_id().to_string();
            let renamed = text.replace(&root.vault_id().to_string(), &other).into_bytes();
            for (i, content) in [altered, renamed].into_iter().enumerate() {
                let path = rig.dir.join(format!("{}-{i}", cipher.as_str()));
                keyfile::create(&path, &SecretBytes::from(content)).unwrap();
                let error = rig.token.unwrap(&WrappedRoot::load(&path).unwrap()).unwrap_err();
                assert!(matches!(error, UnsealError::Token(_)), "{error}");
            }
        }
        let path = rig.dir.join("odd");
        keyfile::create(&path, &SecretBytes::from(b"vault: zz\n".to_vec())).unwrap();
        assert!(matches!(token_error(WrappedRoot::load(&path).unwrap_err()), TokenError::NotWrapped(_)));
    });
}
