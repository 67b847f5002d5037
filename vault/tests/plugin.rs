//! Plug-ins in their sandbox: what they may do, what they may not, and what becomes of those that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/rotating.rs"]
mod rotating;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cofferdam_vault::rotation::password::PasswordPolicy;
use cofferdam_vault::rotation::plugin::{
    Confined, Described, Identity, Launcher, Plugin, PluginDependent, PluginHelper, PluginRotator,
};
use cofferdam_vault::rotation::{Dependent as _, Fault, FindingKind, OnDrift, Reason, Rotator as _, State};
use cofferdam_vault::{SecretBytes, SystemEntropy};
use rotating::{Fixed, Rotating};
use tempfile::TempDir;

const FIRST: &str = "Known-to-the-target-1";

/// A target in a file of the plug-in's folder, and a plug-in that does what it should.
const GOOD: &str = r#"#!/usr/bin/python3
import json, os, sys
q = json.loads(sys.stdin.readline())
def answer(result, message=""):
    print(json.dumps({"protocol": 1, "result": result, "message": message}), flush=True)
    sys.exit(0)
if q["protocol"] != 1:
    answer("denied", "another protocol")
for place in list(os.environ.values()) + sys.argv:
    for secret in (q["current"], q["candidate"]):
        if secret and secret in place:
            answer("denied", "a secret is in the environment or an argument")
held = open("target").read()
op = q["operation"]
if op == "verify":
    answer("opens" if q["current"] == held else "refused")
if op == "change" and q["current"] != held:
    answer("refused", "the old one is another one")
if op == "reconcile" and q["helper"]["secret"] != "The-helpers-own-1":
    answer("denied", "not by you")
if op == "update":
    open("dependent", "w").write(q["current"] + "@" + q["settings"]["unit"])
    answer("done")
open("target.new", "w").write(q["candidate"])
os.rename("target.new", "target")
if q["settings"].get("drops"):
    os._exit(1)
answer("done")
"#;

struct Stage {
    folder: TempDir,
    plugin: Plugin,
}

impl Stage {
    fn new(script: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-vault-plugin-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let executable = folder.path().join("plugin");
        fs::write(&executable, script).unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("target"), FIRST).unwrap();
        fs::write(folder.path().join("vault.key"), "the vault's own key").unwrap();
        let plugin = Plugin {
            launcher: Launcher { program: launcher(), arguments: Vec::new() },
            executable,
            folder: own,
            network: false,
            readable: Vec::new(),
            memory: 1 << 30,
            patience: Duration::from_secs(20),
            identity: None,
        };
        Self { folder, plugin }
    }

    fn rotator(&self) -> PluginRotator {
        PluginRotator {
            plugin: self.plugin.clone(),
            described: described(),
            policy: PasswordPolicy::windows(),
            helper: None,
        }
    }

    fn own(&self, name: &str) -> PathBuf {
        self.plugin.folder.join(name)
    }

    /// What a shell script finds out, which it writes to its own folder.
    async fn finds(&self) -> String {
        drop(self.rotator().verify(&secret("x")).await);
        fs::read_to_string(self.own("found")).unwrap_or_default()
    }
}

/// Built with the tests, beside them.
fn launcher() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let launcher = tests.parent().and_then(Path::parent).unwrap().join("examples/plugin_launcher");
    assert!(
        launcher.exists(),
        "{} is missing: run the whole test command, which builds it",
        launcher.display()
    );
    launcher
}

fn described() -> Described {
    Described {
        account: "acc-7".into(),
        host: "srv-4".into(),
        port: None,
        login: "svc-historian".into(),
        settings: [("unit".to_owned(), "historian".to_owned())].into(),
    }
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_plug_in_changes_proves_and_is_told_secrets_on_its_input_only() {
    let stage = Stage::new(GOOD);
    let rotating = Rotating::new(stage.rotator(), FIRST);
    for _ in 0..2 {
        let outcome = rotating.rotate(Reason::AfterUse).await;
        assert_eq!((outcome.state, outcome.rotated), (State::Idle, Some(Reason::AfterUse)), "{outcome:?}");
    }
    assert_eq!(fs::read(stage.own("target")).unwrap(), rotating.current().expose());
}

#[tokio::test]
async fn a_plug_in_that_ends_after_the_change_without_an_answer_loses_nothing() {
    let stage = Stage::new(GOOD);
    let mut rotator = stage.rotator();
    rotator.described.settings.insert("drops".into(), "yes".into());
    let rotating = Rotating::new(rotator, FIRST);
    assert_eq!(rotating.rotate(Reason::Demand).await.rotated, Some(Reason::Demand));
    assert_eq!(fs::read(stage.own("target")).unwrap(), rotating.current().expose());
}

#[tokio::test]
async fn a_plug_in_mends_by_the_helper_it_is_given() {
    let stage = Stage::new(GOOD);
    fs::write(stage.own("target"), "somebody-else").unwrap();
    let helper = PluginHelper { login: "admin".into(), secret: Fixed::new(b"The-helpers-own-1".to_vec()) };
    let rotating =
        Rotating::new(PluginRotator { helper: Some(helper), ..stage.rotator() }, FIRST).plan(|plan| {
            plan.on_drift = OnDrift::Mend;
            plan.rotate_every = None;
        });
    let outcome = rotating.verify().await;
    assert_eq!((outcome.rotated, outcome.findings[0].kind), (Some(Reason::Drift), FindingKind::Drift));
    assert_eq!(fs::read(stage.own("target")).unwrap(), rotating.current().expose());
}

#[tokio::test]
async fn a_dependent_is_given_the_new_secret() {
    let stage = Stage::new(GOOD);
    let dependent = PluginDependent {
        name: "historian service".into(),
        plugin: stage.plugin.clone(),
        described: described(),
    };
    dependent.update(&secret("new-one")).await.unwrap();
    assert_eq!(fs::read_to_string(stage.own("dependent")).unwrap(), "new-one@historian");
}

#[tokio::test]
async fn a_plug_in_has_no_network_unless_it_is_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "#!/usr/bin/python3\nimport os, socket\nout = open('found', 'w')\n\
         try:\n  socket.create_connection(('127.0.0.1', {port}), 3)\n  out.write('connected')\n\
         except OSError as e:\n  out.write('refused')\n\
         out.write(' ' + ','.join(sorted(os.listdir('/proc/self/net/dev_snmp6') if os.path.exists('/proc/self/net/dev_snmp6') else [])))\n"
    );
    let mut stage = Stage::new(&script);
    assert!(stage.finds().await.starts_with("refused"));
    stage.plugin.network = true;
    assert!(stage.finds().await.starts_with("connected"));
}

#[tokio::test]
async fn a_plug_in_reads_and_writes_nothing_but_its_own_folder() {
    let mut stage = Stage::new("");
    let outside = stage.folder.path().display().to_string();
    let script = format!(
        "#!/bin/sh\nfor f in {outside}/vault.key /etc/shadow /etc/hostname {outside}/plugin; do\n\
           if cat \"$f\" >/dev/null 2>&1; then echo \"read $f\" >>found; fi\ndone\n\
         for f in {outside}/new /tmp/cofferdam-vault-new {outside}/plugin {outside}/vault.key; do\n\
           if (echo x >>\"$f\") 2>/dev/null; then echo \"wrote $f\" >>found; fi\ndone\n\
         if rm -f {outside}/vault.key 2>/dev/null && [ ! -e {outside}/vault.key ]; then echo removed >>found; fi\n\
         cp /bin/true own-program && chmod 755 own-program && ./own-program && echo \"ran its own\" >>found\n\
         echo end >>found\n"
    );
    fs::write(&stage.plugin.executable, script).unwrap();
    assert_eq!(stage.finds().await, format!("read {outside}/plugin\nend\n"));
    assert_eq!(fs::read_to_string(stage.folder.path().join("vault.key")).unwrap(), "the vault's own key");
    stage.plugin.readable = vec![PathBuf::from("/etc/hostname")];
    fs::remove_file(stage.own("found")).unwrap();
    assert_eq!(stage.finds().await, format!("read /etc/hostname\nread {outside}/plugin\nend\n"));
}

#[tokio::test]
async fn a_plug_in_gains_no_rights_dumps_no_core_and_inherits_nothing() {
    let mut stage = Stage::new(
        "#!/bin/sh\n{ grep NoNewPrivs /proc/$$/status; ulimit -c; ulimit -n; env | sort; } >found\n\
         if cat <&7 >>found; then echo \"inherited a file\" >>found; fi\n",
    );
    // The process that starts the launcher has a file open that is not the plug-in's.
    let opens = "exec 7</etc/passwd; exec \"$0\" \"$@\"";
    stage.plugin.launcher = Launcher {
        program: "/bin/sh".into(),
        arguments: ["-c".into(), opens.into(), launcher().into_os_string()].into(),
    };
    let found = stage.finds().await;
    assert!(found.starts_with("NoNewPrivs:\t1\n0\n256\n"), "{found}");
    let names: Vec<&str> =
        found.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert!(
        names.iter().all(|name| ["HOME", "LC_ALL", "PATH", "PWD", "TMPDIR", "OLDPWD", "_"].contains(name)),
        "{found}"
    );
    assert!(!found.contains("inherited"), "{found}");
}

#[tokio::test]
async fn a_plug_in_runs_as_another_user_where_root_says_so_and_never_as_root_then() {
    let mut stage = Stage::new("#!/bin/sh\nid -u >found\n");
    stage.plugin.identity = Some(Identity { user: 0, group: 0 });
    let fault = stage.rotator().verify(&secret("x")).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("does not run as root")), "{fault:?}");
    if nix::unistd::geteuid().is_root() {
        stage.plugin.identity = Some(Identity { user: 65534, group: 65534 });
        fs::set_permissions(&stage.plugin.folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(stage.finds().await, "65534\n");
    }
}

#[tokio::test]
async fn a_user_without_any_rights_can_lock_a_plug_in_in() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut stage = Stage::new(&format!(
        "#!/usr/bin/python3\nimport os, socket\nout = open('found', 'w')\nout.write(str(os.getuid() == 0) + ' ')\n\
         try:\n  socket.create_connection(('127.0.0.1', {port}), 3)\n  out.write('connected')\n\
         except OSError as e:\n  out.write('refused')\n"
    ));
    if nix::unistd::geteuid().is_root() {
        // Where only root can look, nobody else can start it.
        let copy = stage.folder.path().join("launcher");
        fs::copy(launcher(), &copy).unwrap();
        let arguments = ["-u", "nobody", "--", &copy.display().to_string()].map(Into::into).into();
        stage.plugin.launcher = Launcher { program: "/usr/sbin/runuser".into(), arguments };
        fs::set_permissions(&stage.plugin.folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    assert_eq!(stage.finds().await, "False refused");
}

#[tokio::test]
async fn a_plug_in_that_hangs_is_killed_with_its_children() {
    let mut stage = Stage::new("#!/bin/sh\nsleep 7531 &\nsleep 7532\n");
    stage.plugin.patience = Duration::from_millis(1500);
    let began = Instant::now();
    let rotator = stage.rotator();
    let candidate = rotator.candidate(&SystemEntropy).unwrap();
    let fault = rotator.change(&secret(FIRST), &candidate).await.unwrap_err();
    assert!(matches!(&fault, Fault::Unsure(why) if why.contains("did not answer")), "{fault:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    std::thread::sleep(Duration::from_millis(300));
    let left = Command::new("pgrep").args(["-f", "sleep 753[12]"]).output().unwrap();
    assert!(left.stdout.is_empty(), "left: {}", String::from_utf8_lossy(&left.stdout));
}

#[tokio::test]
async fn a_plug_in_that_says_too_much_or_nonsense_is_not_believed_and_not_quoted_with_secrets() {
    let cases: [(&str, &str); 4] = [
        ("#!/bin/sh\ncat /dev/zero | tr '\\0' x\n", "more than an answer"),
        ("#!/bin/sh\necho '{\"protocol\":1,\"result\":\"opens\"}'\n", "another question"),
        ("#!/bin/sh\nread q\necho \"failed: $q\" >&2\n", "no answer that can be read"),
        ("#!/bin/sh\necho done\n", "no answer that can be read"),
    ];
    for (script, expected) in cases {
        let stage = Stage::new(script);
        let rotator = stage.rotator();
        let candidate = rotator.candidate(&SystemEntropy).unwrap();
        let fault = rotator.change(&secret(FIRST), &candidate).await.unwrap_err();
        assert!(matches!(&fault, Fault::Unsure(why) if why.contains(expected)), "{fault:?}");
        let text = fault.to_string();
        assert!(!text.contains(FIRST) && !text.contains(candidate.to_text().unwrap().expose()), "{text}");
    }
}

#[tokio::test]
async fn a_plug_in_that_could_change_itself_or_is_missing_is_not_started() {
    let mut stage = Stage::new(GOOD);
    stage.plugin.folder = stage.folder.path().to_owned();
    let fault = stage.rotator().verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("could change itself")), "{fault:?}");
    let mut stage = Stage::new(GOOD);
    stage.plugin.executable = stage.folder.path().join("missing");
    let fault = stage.rotator().verify(&secret(FIRST)).await.unwrap_err();
    assert!(matches!(&fault, Fault::Denied(why) if why.contains("was not started")), "{fault:?}");
    let answer = Command::new(launcher()).arg("not an order").output().unwrap();
    assert!(!answer.status.success());
    assert!(String::from_utf8_lossy(&answer.stdout).contains("not by people"));
}

#[tokio::test]
async fn a_plug_in_beyond_its_memory_does_not_take_the_machines() {
    let mut stage = Stage::new(
        "#!/usr/bin/python3\nimport json\ntry:\n  x = bytearray(600 << 20)\nexcept MemoryError:\n  \
         print(json.dumps({'protocol': 1, 'result': 'denied', 'message': 'no memory'}), flush=True)\n",
    );
    stage.plugin.memory = 400 << 20;
    assert_eq!(stage.rotator().verify(&secret("x")).await, Err(Fault::Denied("no memory".into())));
}

/// A program that is no plug-in, in the same sandbox.
fn confined(stage: &Stage, arguments: &[&str]) -> Confined {
    Confined {
        launcher: stage.plugin.launcher.clone(),
        program: stage.plugin.executable.clone(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        environment: vec![("OMP_THREAD_LIMIT".into(), "1".into())],
        folder: stage.plugin.folder.clone(),
        hidden: Vec::new(),
        memory: 1 << 30,
        patience: Duration::from_secs(20),
    }
}

#[tokio::test]
async fn a_socket_with_a_name_is_not_there_for_a_program_of_the_system() {
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("operate");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let stage = Stage::new(&format!(
        "#!/usr/bin/python3\nimport socket\ntry:\n  socket.socket(socket.AF_UNIX).connect('{}')\n  print('connected')\n\
         except OSError as fault:\n  print(type(fault).__name__)\n",
        path.display()
    ));
    let mut program = confined(&stage, &[]);
    program.hidden = vec![sockets.path().to_owned(), "/run".into(), "/there is none".into()];
    let said = String::from_utf8(program.answer(b"", 1000).await.unwrap()).unwrap();
    assert!(["FileNotFoundError\n", "PermissionError\n"].contains(&said.as_str()), "{said}");
    assert!(listener.accept().is_err(), "somebody connected");
    assert!(path.exists(), "hidden from the program alone");
}

#[tokio::test]
async fn a_program_of_the_system_answers_from_the_sandbox_and_gives_way() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stage = Stage::new(&format!(
        "#!/bin/bash\necho \"$# $1 $OMP_THREAD_LIMIT $(nice)\"; wc -c; cat ../vault.key\n\
         if (echo >/dev/tcp/127.0.0.1/{port}); then echo connected; fi\nexit 0\n"
    ));
    let input = vec![7; 300_000];
    let said = confined(&stage, &["a b;c", "--"]).answer(&input, 1000).await.unwrap();
    assert_eq!(String::from_utf8(said).unwrap(), "2 a b;c 1 19\n300000\n");
}

#[tokio::test]
async fn a_program_that_floods_hangs_or_fails_gives_no_answer_and_is_gone_afterwards() {
    let cases: [(&str, &str); 4] = [
        ("#!/bin/sh\ncat /dev/zero\n", "more than 1000 bytes"),
        ("#!/bin/sh\necho half\necho no such language >&2\nexit 1\n", "no such language"),
        ("#!/bin/sh\necho half\nkill -9 $$\n", "failed: it does not say why"),
        ("#!/bin/sh\nsleep 7541 &\nsleep 7542\n", "did not answer"),
    ];
    for (script, expected) in cases {
        let stage = Stage::new(script);
        let mut program = confined(&stage, &[]);
        if expected == "did not answer" {
            program.patience = Duration::from_millis(1500);
        }
        let why = program.answer(&vec![0; 200_000], 1000).await.unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
    // One that nobody waits for any more is ended, too.
    let stage = Stage::new("#!/bin/sh\necho >started\nsleep 7542\n");
    let program = confined(&stage, &[]);
    tokio::select! {
        answer = program.answer(b"", 1000) => panic!("{answer:?}"),
        () = async { while !stage.own("started").exists() { tokio::time::sleep(Duration::from_millis(5)).await } } => {}
    }
    std::thread::sleep(Duration::from_millis(300));
    let left = Command::new("pgrep").args(["-f", "sleep 754[12]"]).output().unwrap();
    assert!(left.stdout.is_empty(), "left: {}", String::from_utf8_lossy(&left.stdout));
    let mut missing = confined(&stage, &[]);
    missing.program = stage.folder.path().join("missing");
    let why = missing.answer(b"", 1000).await.unwrap_err();
    assert!(why.contains("missing") && !why.contains('{'), "{why}");
}
