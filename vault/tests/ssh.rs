//! Passwords and keys of real local users, changed through a real sshd. Needs root: it makes users and removes them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/host.rs"]
mod host;
#[path = "support/rotating.rs"]
mod rotating;
#[path = "support/server.rs"]
#[allow(dead_code, reason = "shared with servers that are databases")]
mod server;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cofferdam_vault::rotation::password::PasswordPolicy;
use cofferdam_vault::rotation::ssh::{
    HostLook, KeyHelper, PasswordHelper, PasswordWay, SshKeys, SshPassword, SshTarget,
};
use cofferdam_vault::rotation::{Fault, FindingKind, OnDrift, Reason, Rotator as _, State, Verdict};
use cofferdam_vault::{SecretBytes, SystemEntropy};
use host::{Host, LocalUser, fresh_key};
use rotating::{Fixed, Rotating};

const FIRST: &str = "Known-to-the-target-1";

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

fn password_of(user: &LocalUser, target: SshTarget) -> SshPassword {
    SshPassword {
        target,
        login: user.login.clone(),
        policy: PasswordPolicy::unix(),
        way: PasswordWay::Itself,
        helper: None,
    }
}

fn root_helper(host: &Host) -> PasswordHelper {
    PasswordHelper { login: "root".into(), secret: Fixed::new(host.root_key()), sudo: false }
}

fn keys_of(user: &LocalUser, target: SshTarget) -> SshKeys {
    SshKeys { target, login: user.login.clone(), mark: "acc-7".into(), file: None, helper: None }
}

async fn opens(rotator: &impl cofferdam_vault::rotation::Rotator, secret: &SecretBytes) -> bool {
    rotator.verify(secret).await.unwrap() == Verdict::Opens
}

#[tokio::test]
async fn an_account_changes_its_own_password_and_the_old_one_opens_no_longer() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let rotator = password_of(&user, host.target());
    let rotating = Rotating::new(rotator.clone(), FIRST);
    let outcome = rotating.rotate(Reason::AfterUse).await;
    assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::AfterUse)), "{outcome:?}");
    assert!(opens(&rotator, &rotating.current()).await);
    assert!(!opens(&rotator, &secret(FIRST)).await);
    assert_eq!(rotating.current().len(), 32);
}

#[tokio::test]
async fn root_sets_a_password_that_nobody_knows_any_more() {
    let (host, user) = (Host::start(""), LocalUser::make("changed behind the vault's back 7"));
    let rotator = SshPassword { helper: Some(root_helper(&host)), ..password_of(&user, host.target()) };
    let rotating = Rotating::new(rotator.clone(), FIRST).plan(|plan| {
        plan.on_drift = OnDrift::Mend;
        plan.rotate_every = None;
    });
    let outcome = rotating.verify().await;
    assert_eq!(outcome.rotated, Some(Reason::Drift), "{outcome:?}");
    assert_eq!(outcome.findings[0].kind, FindingKind::Drift);
    assert!(opens(&rotator, &rotating.current()).await);
}

#[tokio::test]
async fn a_helper_with_sudo_for_chpasswd_alone_sets_a_password() {
    let host = Host::start("");
    let (user, helper) = (LocalUser::make(FIRST), LocalUser::make("The-helpers-own-1"));
    let _sudoers = helper.may_sudo("/usr/sbin/chpasswd");
    let rotator = SshPassword {
        way: PasswordWay::Helper,
        helper: Some(PasswordHelper {
            login: helper.login.clone(),
            secret: Fixed::new(b"The-helpers-own-1".to_vec()),
            sudo: true,
        }),
        ..password_of(&user, host.target())
    };
    let rotating = Rotating::new(rotator.clone(), FIRST);
    assert_eq!(rotating.rotate(Reason::Schedule).await.rotated, Some(Reason::Schedule));
    assert!(opens(&rotator, &rotating.current()).await && !opens(&rotator, &secret(FIRST)).await);
}

/// Looks at the arguments and the environment of every process of this machine, as another user of the target could.
fn watch_processes(needles: Vec<Vec<u8>>) -> (Arc<AtomicBool>, thread::JoinHandle<(usize, Vec<String>)>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let watch = thread::spawn(move || {
        let (mut looks, mut seen) = (0, Vec::new());
        while !stopped.load(Ordering::SeqCst) {
            for process in fs::read_dir("/proc").unwrap().flatten() {
                for part in ["cmdline", "environ"] {
                    let Ok(text) = fs::read(process.path().join(part)) else { continue };
                    looks += usize::from(text.windows(6).any(|w| w == b"passwd"));
                    if needles.iter().any(|n| text.windows(n.len()).any(|w| w == n.as_slice())) {
                        seen.push(format!("{}/{part}", process.path().display()));
                    }
                }
            }
        }
        (looks, seen)
    });
    (stop, watch)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_password_is_ever_an_argument_or_in_the_environment_on_the_target() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let rotator = SshPassword { helper: Some(root_helper(&host)), ..password_of(&user, host.target()) };
    let candidates: Vec<SecretBytes> = (0..6).map(|_| rotator.candidate(&SystemEntropy).unwrap()).collect();
    let mut needles: Vec<Vec<u8>> = candidates.iter().map(|c| c.expose().to_vec()).collect();
    needles.push(FIRST.as_bytes().to_vec());
    let (stop, watch) = watch_processes(needles);
    let mut current = secret(FIRST);
    for (n, candidate) in candidates.into_iter().enumerate() {
        if n % 2 == 0 {
            rotator.change(&current, &candidate).await.unwrap();
        } else {
            rotator.reconcile(&candidate).await.unwrap();
        }
        assert!(opens(&rotator, &candidate).await);
        current = candidate;
    }
    stop.store(true, Ordering::SeqCst);
    let (looks, seen) = watch.join().unwrap();
    assert!(looks > 0, "the watch saw no passwd at all, so it proves nothing");
    assert!(seen.is_empty(), "{seen:?}");
    assert!(!host.log().contains(FIRST));
}

#[tokio::test]
async fn a_password_that_the_target_finds_too_weak_is_rejected_and_the_old_one_stays() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let rotator = password_of(&user, host.target());
    let lax = PasswordPolicy { letter_first: false, classes: Vec::new(), ..PasswordPolicy::unix() };
    let rotator = SshPassword { policy: lax, ..rotator };
    let fault = rotator.change(&secret(FIRST), &secret("abc")).await.unwrap_err();
    assert!(
        matches!(&fault, Fault::Rejected(why) if why.contains("does not take the new password")),
        "{fault:?}"
    );
    assert!(opens(&rotator, &secret(FIRST)).await);
    // What chpasswd would read as two fields never gets there.
    let fault = rotator.change(&secret(FIRST), &secret("aaa:bbb\nroot:x")).await.unwrap_err();
    assert!(matches!(fault, Fault::Rejected(_)), "{fault:?}");
}

#[tokio::test]
async fn a_host_with_another_key_gets_nothing() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let (_, other) = fresh_key("another host");
    let mut target = host.target();
    target.host_keys = vec![russh::keys::PublicKey::from_openssh(&other).unwrap()];
    let rotator = password_of(&user, target);
    let rotating = Rotating::new(rotator, FIRST);
    let outcome = rotating.rotate(Reason::Demand).await;
    assert_eq!(outcome.findings[0].kind, FindingKind::Impostor, "{outcome:?}");
    assert_eq!(outcome.state, State::Stored, "nothing was sent");
    assert!(!host.log().contains("Failed password") && !host.log().contains(&user.login), "{}", host.log());
}

#[tokio::test]
async fn a_host_that_takes_no_passwords_has_not_refused_one() {
    let (host, user) = (Host::start("PasswordAuthentication no"), LocalUser::make(FIRST));
    let rotator = password_of(&user, host.target());
    let fault = rotator.verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("no passwords")), "{fault:?}");
}

#[tokio::test]
async fn a_host_that_asks_for_the_password_by_question_is_answered() {
    let host = Host::start("UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes");
    let user = LocalUser::make(FIRST);
    let rotator = password_of(&user, host.target());
    let rotating = Rotating::new(rotator.clone(), FIRST);
    let outcome = rotating.rotate(Reason::Demand).await;
    assert_eq!(outcome.rotated, Some(Reason::Demand), "{outcome:?}");
    assert!(opens(&rotator, &rotating.current()).await && !opens(&rotator, &secret(FIRST)).await);
}

#[tokio::test]
async fn a_host_that_is_gone_is_unreachable_and_nothing_is_lost() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let rotating = Rotating::new(password_of(&user, host.target()), FIRST);
    host.stop();
    let outcome = rotating.rotate(Reason::Demand).await;
    assert_eq!(outcome.state, State::Stored);
    assert!(outcome.trouble.as_ref().unwrap().contains("does not answer"), "{outcome:?}");
    assert_eq!(rotating.current(), secret(FIRST));
}

#[tokio::test]
async fn a_host_that_hangs_is_left_in_time_and_rotated_when_it_answers_again() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let rotator = password_of(&user, host.target());
    let rotating = Rotating::new(rotator.clone(), FIRST).plan(|plan| plan.patience = Duration::from_secs(5));
    host.freeze();
    let outcome = rotating.rotate(Reason::AfterUse).await;
    assert_eq!((outcome.state, outcome.rotated), (State::Unsure, None), "{outcome:?}");
    assert!(outcome.trouble.as_ref().unwrap().contains("did not answer within 5 s"), "{outcome:?}");
    host.thaw();
    let outcome = rotating.rotate(Reason::Demand).await;
    assert_eq!(outcome.rotated, Some(Reason::AfterUse), "the rotation that was under way: {outcome:?}");
    assert!(opens(&rotator, &rotating.current()).await && !opens(&rotator, &secret(FIRST)).await);
}

#[tokio::test]
async fn a_key_is_swapped_without_a_moment_in_which_none_opens() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let ((old, old_line), (other, other_line)) = (fresh_key("old"), fresh_key("emil's own"));
    let foreign = format!("# keep me\n{other_line}\ncommand=\"echo \\\"no\\\"\" ssh-rsa AAAAB3Nz vendor\n");
    user.set_keys(&format!("{foreign}from=\"127.0.0.1\",no-pty {old_line}\n"), 0o640);
    // Held open, so that its number is not given to another file.
    let held = fs::File::open(user.keys_file()).unwrap();
    let before = held.metadata().unwrap();
    let rotator = keys_of(&user, host.target());
    let (old, other) = (SecretBytes::from(old), SecretBytes::from(other));

    // In its single steps: added, both open, then the old one goes.
    let new = rotator.candidate(&SystemEntropy).unwrap();
    rotator.change(&old, &new).await.unwrap();
    rotator.change(&old, &new).await.unwrap();
    assert!(opens(&rotator, &old).await && opens(&rotator, &new).await);
    rotator.finish(&new, &[old]).await.unwrap();
    assert!(opens(&rotator, &new).await && opens(&rotator, &other).await);

    let text = fs::read_to_string(user.keys_file()).unwrap();
    let ours = text.strip_prefix(&foreign).expect("foreign lines stay as they are");
    assert!(
        ours.starts_with("from=\"127.0.0.1\",no-pty ssh-ed25519 ") && ours.ends_with(" cofferdam:acc-7\n")
    );
    assert_eq!(ours.lines().count(), 1, "the old key is gone, the new one is there once: {ours}");
    let after = fs::metadata(user.keys_file()).unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
    assert_ne!(after.ino(), before.ino(), "renamed over, not written in place");
    assert_eq!(fs::read_dir(user.home.join(".ssh")).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn the_engine_rotates_a_key_and_removes_the_old_one_only_after_the_new_one_was_proved() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let (old, line) = fresh_key("old");
    user.set_keys(&format!("{line}\n"), 0o600);
    let rotator = keys_of(&user, host.target());
    let rotating = Rotating::of(rotator.clone(), SecretBytes::from(old.clone()));
    for _ in 0..2 {
        let outcome = rotating.rotate(Reason::Demand).await;
        assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::Demand)), "{outcome:?}");
        assert!(opens(&rotator, &rotating.current()).await);
        assert!(!opens(&rotator, &SecretBytes::from(old.clone())).await);
    }
    assert_eq!(fs::read_to_string(user.keys_file()).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn root_adds_a_key_where_none_opens_any_more_and_the_owner_stays() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let ((lost, _), (_, foreign)) = (fresh_key("lost"), fresh_key("foreign"));
    user.set_keys(&format!("{foreign}\n"), 0o600);
    let before = fs::metadata(user.keys_file()).unwrap();
    let rotator = SshKeys {
        helper: Some(KeyHelper {
            login: "root".into(),
            secret: Fixed::new(host.root_key()),
            sudo: false,
            file: user.keys_file().display().to_string(),
        }),
        ..keys_of(&user, host.target())
    };
    let rotating = Rotating::of(rotator.clone(), SecretBytes::from(lost));
    let outcome = rotating.rotate(Reason::Demand).await;
    assert_eq!(outcome.rotated, Some(Reason::Demand), "{outcome:?}");
    assert!(opens(&rotator, &rotating.current()).await);
    let after = fs::metadata(user.keys_file()).unwrap();
    assert_eq!((after.mode() & 0o777, after.uid()), (0o600, before.uid()));
    assert!(fs::read_to_string(user.keys_file()).unwrap().starts_with(&foreign));
}

#[tokio::test]
async fn a_helper_with_sudo_adds_a_key_and_the_file_stays_the_owners() {
    let host = Host::start("");
    let (user, helper) = (LocalUser::make(FIRST), LocalUser::make("The-helpers-own-1"));
    let _sudoers = helper.may_sudo("/usr/bin/cat, /usr/bin/sh");
    let ((lost, _), (_, foreign)) = (fresh_key("lost"), fresh_key("foreign"));
    user.set_keys(&format!("{foreign}\n"), 0o600);
    let owner = fs::metadata(user.keys_file()).unwrap().uid();
    let rotator = SshKeys {
        helper: Some(KeyHelper {
            login: helper.login.clone(),
            secret: Fixed::new(b"The-helpers-own-1".to_vec()),
            sudo: true,
            file: user.keys_file().display().to_string(),
        }),
        ..keys_of(&user, host.target())
    };
    let rotating = Rotating::of(rotator.clone(), SecretBytes::from(lost));
    let outcome = rotating.rotate(Reason::Demand).await;
    assert_eq!(outcome.rotated, Some(Reason::Demand), "{outcome:?}");
    assert!(opens(&rotator, &rotating.current()).await);
    assert_eq!(fs::metadata(user.keys_file()).unwrap().uid(), owner);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_says_so_and_stays() {
    let (host, user) = (Host::start(""), LocalUser::make(FIRST));
    let (old, line) = fresh_key("old");
    user.set_keys(&format!("{line}\n"), 0o600);
    fs::set_permissions(user.home.join(".ssh"), fs::Permissions::from_mode(0o500)).unwrap();
    let rotator = keys_of(&user, host.target());
    let new = rotator.candidate(&SystemEntropy).unwrap();
    let fault = rotator.change(&SecretBytes::from(old), &new).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("cannot be written there")), "{fault:?}");
    assert_eq!(fs::read_to_string(user.keys_file()).unwrap(), format!("{line}\n"));
}

#[tokio::test]
async fn a_look_at_a_host_finds_who_may_do_everything_there_and_says_what_it_could_not_read() {
    let host = Host::start("");
    let (plain, member, sudoer) = (LocalUser::make(FIRST), LocalUser::make(FIRST), LocalUser::make(FIRST));
    host::join_group(&member, "disk");
    let _rights = sudoer.may_sudo("/usr/bin/id");
    let keys = format!("# a note\n\n{}\n{}\n", fresh_key("one").1, fresh_key("two").1);
    sudoer.set_keys(&keys, 0o600);
    let look = |login: &str, secret: Vec<u8>| HostLook {
        target: host.target(),
        login: login.to_owned(),
        secret: Fixed::new(secret),
        sudo: false,
    };
    let seen = look("root", host.root_key()).look().await.unwrap();
    let found = |login: &str| seen.found.iter().find(|f| f.login == login);
    assert!(found("root").unwrap().because.contains(&"uid 0".to_owned()));
    assert!(found(&plain.login).is_none(), "it may do nothing: {seen:?}");
    assert_eq!(found(&member.login).unwrap().because, ["group disk"]);
    assert_eq!(
        (found(&member.login).unwrap().keys, found(&member.login).unwrap().password),
        (Some(0), Some(true))
    );
    assert_eq!(
        (&found(&sudoer.login).unwrap().because[..], found(&sudoer.login).unwrap().keys),
        (&["sudo".to_owned()][..], Some(2))
    );
    // Without root the groups are still seen, and the rest is said to be missing.
    let less = look(&plain.login, FIRST.into()).look().await.unwrap();
    assert!(less.found.iter().any(|f| f.login == member.login && f.keys.is_none()), "{less:?}");
    assert!(less.gaps.iter().any(|gap| gap.contains("takes root")), "{less:?}");
    assert!(less.gaps.iter().any(|gap| gap.contains("what sudo lets")), "{less:?}");
    let wrong = look(&plain.login, b"not-its-password".to_vec()).look().await.unwrap_err();
    assert!(!wrong.to_string().contains("not-its-password"), "{wrong}");
}
