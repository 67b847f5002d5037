//! The vault as a real process: started with its socket as standard input, as another user where that can be done, looked
//! at through `/proc`, and ended in every way there is.
#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cofferdam_vault::agent::dangerous::BelieveCaller;
use cofferdam_vault::agent::{
    Bounds, Claim, Client, ClientError, Credentialed, Keys, Measure, Ports, Server, Service, Spawned, Told,
    harden, ignore_stop_signals, parent_socket, spawn,
};
use cofferdam_vault::unseal::Gate;
use cofferdam_vault::{
    Context, Entropy, FileKeyring, KeyringStore as _, Material, Root, Sealer, SecretBytes, SigningKey,
    SystemEntropy,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// Only a folder: nothing secret stands in an environment, in tests neither.
const FOLDER: &str = "COFFERDAM_TEST_VAULT_FOLDER";
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
#[ignore = "it is the vault process, which the other tests start"]
fn the_vault_process_itself() {
    ignore_stop_signals().unwrap();
    let stream = parent_socket().unwrap();
    let hardening = harden();
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let root = Root::generate(&SystemEntropy).unwrap();
    let keyrings = Arc::new(FileKeyring::new(folder.join("keyring")));
    keyrings.replace(None, &Sealer::new_keyring(&root, &SystemEntropy, 1).unwrap()).unwrap();
    let gate = Gate::new(Sealer::sealed(entropy), keyrings, 600);
    if !folder.join("sealed").exists() {
        gate.open(&root, "the service", 1).unwrap();
    }
    let keys = Keys { signing: Some(SigningKey::generate(&SystemEntropy).unwrap()), ..Keys::default() };
    let ports = Ports { registry: Arc::new(BelieveCaller), root: None };
    let service = Service::new(gate, None, keys, ports, Bounds::default(), Arc::new(|| 1_000_000), hardening);
    Server::new(Arc::new(service)).serve_network(stream).unwrap();
}

struct Vault {
    process: Spawned,
    client: Arc<Client>,
    dir: tempfile::TempDir,
}

/// Starts this very test program as the vault process, as somebody else when the tests run as root.
fn start(sealed: bool) -> Vault {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("vault-process");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let folder = dir.path().join("keys");
    fs::create_dir(&folder).unwrap();
    if sealed {
        fs::write(folder.join("sealed"), b"").unwrap();
    }
    let user = geteuid().is_root().then_some((NOBODY, NOBODY));
    if let Some((uid, gid)) = user {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(["--ignored", "--exact", "the_vault_process_itself", "--nocapture", "--quiet"]);
    command.env_clear().env(FOLDER, &folder).current_dir(&folder).stdout(std::process::Stdio::null());
    let (process, stream) = spawn(command, user).unwrap();
    let client = Arc::new(Client::over(stream).unwrap());
    Vault { process, client, dir }
}

impl Vault {
    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.process.id()))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    fn status_line(&self, name: &str) -> String {
        let text = fs::read_to_string(self.proc("status")).unwrap();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_once(':').unwrap().1.trim().to_owned()
    }
}

fn ended(process: &mut Spawned) -> std::process::ExitStatus {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < until, "the vault process goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn claim(sealed: Vec<u8>) -> Claim {
    let told = Told {
        user_name: "vera".into(),
        login_name: "root".into(),
        not_after: 3_600_000_000,
        exclusive: false,
        credential: Credentialed::Password(sealed),
    };
    Claim {
        session_id: "s-1".into(),
        account_id: "pump-hmi/root".into(),
        decision_sha256: "d1".into(),
        told: Some(told),
    }
}

#[test]
fn the_vault_process_leaves_no_core_and_cannot_be_traced_by_its_own_user() {
    let vault = start(false);
    let hardening = vault.client.status().unwrap().hardening;
    assert_eq!(hardening.no_core, Measure::InForce);
    assert_eq!(hardening.not_dumpable, Measure::InForce);
    let limits = fs::read_to_string(vault.proc("limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // What the report says about locked memory is what the kernel says.
    let locked = vault.status_line("VmLck");
    assert_eq!(hardening.locked == Measure::InForce, locked != "0 kB", "{locked}: {}", hardening.locked);
    // Whether root may raise the limit is for the machine to say; what is refused has to be told, with what to do.
    let limit = limits.lines().find(|l| l.starts_with("Max locked memory")).unwrap();
    match &hardening.locked {
        Measure::InForce => {}
        Measure::Refused(why) => {
            assert!(why.contains("LimitMEMLOCK") && !limit.contains("unlimited"), "{why}")
        }
    }
    if geteuid().is_root() {
        assert!(vault.status_line("Uid").starts_with(&NOBODY.to_string()));
        assert_eq!(vault.status_line("Groups"), "");
        // The files of a process that is not dumpable belong to root, whoever runs it.
        assert_eq!(fs::metadata(vault.proc("mem")).unwrap().uid(), 0);
    }
}

#[test]
fn neither_arguments_nor_environment_nor_folder_hold_what_the_vault_keeps() {
    let vault = start(false);
    let context = Context::account("pump-hmi/root");
    vault.client.seal_secret(&context, &SecretBytes::from(b"planted-Secret-4711".to_vec())).unwrap();
    for name in ["cmdline", "environ"] {
        let text = match fs::read(vault.proc(name)) {
            Ok(text) => text,
            // Nobody but root can look, which is better still.
            Err(e) => {
                assert!(!geteuid().is_root() && name == "environ", "{name}: {e}");
                continue;
            }
        };
        assert!(!text.windows(7).any(|w| w == b"planted" || w == b"AGE-SEC"), "{name}");
    }
    for entry in fs::read_dir(vault.dir.path().join("keys")).unwrap() {
        let content = fs::read(entry.unwrap().path()).unwrap();
        assert!(!content.windows(7).any(|w| w == b"planted" || w == b"AGE-SEC"));
    }
}

#[test]
fn the_table_of_what_may_be_asked_holds_in_the_real_process_too() {
    let vault = start(true);
    assert!(!vault.client.status().unwrap().is_open());
    assert!(matches!(vault.client.lease(claim(vec![1])), Err(ClientError::Sealed(_))));
    assert!(matches!(vault.client.unseal_as_configured("mallory"), Err(ClientError::Refused(_))));
    assert!(matches!(vault.client.rekey("mallory"), Err(ClientError::Refused(_))));
}

#[test]
fn the_vault_process_ends_with_its_parent_and_not_by_a_signal_meant_for_the_service() {
    let vault = start(false);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        kill(vault.pid(), signal).unwrap();
    }
    assert!(
        vault.client.sign(b"cofferdam recording header v1\0x").is_ok(),
        "the audit log's end was not signed"
    );
    // What the kernel does for a parent that was killed: it closes the socket.
    let Vault { mut process, client, dir } = vault;
    drop(client);
    assert!(ended(&mut process).success());
    drop(dir);
}

#[test]
fn a_crash_of_the_vault_process_is_seen_at_once_and_leaves_no_core() {
    let mut vault = start(false);
    kill(vault.pid(), Signal::SIGABRT).unwrap();
    let status = ended(&mut vault.process);
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped());
    let error = vault.client.status().unwrap_err();
    assert!(matches!(&error, ClientError::Gone(_)), "{error}");
    assert!(error.to_string().contains("restarted"), "{error}");
}

/// Reads the whole memory of the process, as only root may, and finds none of what has passed through it.
#[test]
fn a_secret_that_has_passed_is_nowhere_in_the_memory_of_the_vault_process() {
    if !geteuid().is_root() {
        // Only root can look; and for anybody else that is just what has to be true.
        let vault = start(false);
        assert!(File::open(vault.proc("mem")).is_err());
        return;
    }
    let vault = start(false);
    // Put together here, so that the program's own text does not hold it.
    let planted = ["pl4nted", "S3cret", "0815"].join("-").into_bytes();
    let context = Context::account("pump-hmi/root");
    let sealed = vault.client.seal_secret(&context, &SecretBytes::new(planted.clone())).unwrap();
    let mut lease = vault.client.lease(claim(sealed)).unwrap();
    let Some(Material::Password(password)) = lease.material() else { panic!("no password") };
    assert_eq!(password.expose().as_bytes(), planted);
    let _due = lease.give_back().unwrap();

    let memory = File::open(vault.proc("mem")).unwrap();
    // That something is found if it is there is shown by what certainly is: the name of a variable of its environment.
    let (mut looked, mut found, mut control) = (0, 0, 0);
    for line in fs::read_to_string(vault.proc("maps")).unwrap().lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            looked += bytes.len();
            control += bytes.windows(FOLDER.len()).filter(|w| *w == FOLDER.as_bytes()).count();
            found += bytes.windows(planted.len()).filter(|w| *w == planted).count();
        }
    }
    assert!(looked > 1_000_000 && control > 0, "only {looked} bytes could be looked at");
    assert_eq!(found, 0, "copies of the secret are left in memory");
}
