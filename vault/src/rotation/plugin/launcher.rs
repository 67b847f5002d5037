//! The sandbox. This runs in a process of its own, which locks itself in and then becomes the plug-in; whatever cannot be
//! locked is a reason not to start it.
//!
//! - no network but its own empty one, unless allowed (a network name space);
//! - of files: the system's programs and libraries to read and run, its own folder to write, what the site names to read,
//!   and nothing else (Landlock);
//! - no rights gained by set-user-id programs (`no_new_privs`), no core dumps, bounded memory, time, files and processes;
//! - an environment that holds nothing of ours.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, close, geteuid, getgid, getuid, setgid, setgroups, setuid};
use serde::{Deserialize, Serialize};

/// What every program needs to run: itself, libraries, names of hosts and users, certificates.
const SYSTEM: [&str; 18] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/opt/microsoft/powershell",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
];
/// Devices that hold nothing.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"];
const OPEN_FILES: u64 = 256;
const PROCESSES: u64 = 512;
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id; not 0.
    pub user: u32,
    /// Group id; not 0.
    pub group: u32,
}

/// What the launcher is to do, as its one argument. Nothing of it is secret.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) program: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) network: bool,
    pub(super) readable: Vec<PathBuf>,
    pub(super) memory: u64,
    pub(super) seconds: u64,
    pub(super) identity: Option<Identity>,
    /// What the program is given besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) arguments: Vec<String>,
    /// Added to what every program has in its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) environment: Vec<(String, String)>,
    /// It gives way to everything else that wants the processor.
    #[serde(default)]
    pub(super) gives_way: bool,
    /// Folders that are empty to it: before Linux 7.1 Landlock leaves sockets with a name to whoever may open them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) hidden: Vec<PathBuf>,
}

/// The command of our own binary that starts plug-ins. `arguments` is what follows the command's name: the order, and
/// nothing else. Does not return if all goes well. Call it before any thread is started.
#[must_use]
pub fn launcher_main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let order = arguments.next().and_then(|text| text.into_string().ok());
    let order = order.and_then(|text| serde_json::from_str::<Order>(&text).ok());
    let why = match order {
        Some(order) if arguments.next().is_none() => launch(&order),
        _ => "the launcher of plug-ins is called by the vault, not by people".to_owned(),
    };
    // In the plug-in's place: nothing was asked of it yet.
    let answer = serde_json::json!({
        "protocol": 1, "result": "denied", "message": format!("the plug-in was not started: {why}"),
    });
    let mut out = std::io::stdout();
    drop(writeln!(out, "{answer}").and_then(|()| out.flush()));
    ExitCode::FAILURE
}

/// Answers why it could not be done.
fn launch(order: &Order) -> String {
    match lock_in(order) {
        Ok(()) => {
            let error = becomes(order)
                .args(&order.arguments)
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                .env("LC_ALL", "C.UTF-8")
                .env("HOME", &order.folder)
                .env("TMPDIR", &order.folder)
                .envs(order.environment.iter().map(|(name, value)| (name, value)))
                .exec();
            format!("{} cannot be run: {error}", order.program.display())
        }
        Err(why) => why,
    }
}

/// The program, by way of the system's own `nice` where it is to give way: what lowers a priority without `unsafe`.
fn becomes(order: &Order) -> Command {
    if !order.gives_way {
        return Command::new(&order.program);
    }
    let mut nice = Command::new("/usr/bin/nice");
    nice.args(["-n", "19"]).arg(&order.program);
    nice
}

fn lock_in(order: &Order) -> Result<(), String> {
    close_inherited()?;
    let program = whole(&order.program)?;
    let folder = whole(&order.folder)?;
    if program.starts_with(&folder) {
        return Err("the plug-in is in the folder that it may write to; it could change itself".into());
    }
    std::env::set_current_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    umask(Mode::from_bits_truncate(0o077));
    let hidden = there(&order.hidden)?;
    if !order.network {
        without_network(!hidden.is_empty())?;
    } else if !hidden.is_empty() {
        return Err("folders are hidden only from a program without network".into());
    }
    hide(&hidden)?;
    become_user(order.identity)?;
    limits(order)?;
    files(order, &program, &folder)
}

/// Whatever the process that started ours left open beyond input, output and complaints is not the plug-in's.
fn close_inherited() -> Result<(), String> {
    let open = fs::read_dir("/proc/self/fd").map_err(|e| format!("/proc/self/fd: {e}"))?;
    let numbers: Vec<i32> = open
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for number in numbers {
        // The one by which they were listed is closed already.
        close(number).unwrap_or_default();
    }
    Ok(())
}

/// The path without links, so that what is allowed is what is meant.
fn whole(path: &Path) -> Result<PathBuf, String> {
    if !path.is_absolute() {
        return Err(format!("{} is not a whole path", path.display()));
    }
    fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// An empty network: not even the loopback of this machine. Who is not root makes a user name space for it, in which it is
/// still nobody else. `mounts`: what it sees of files is its own, too.
fn without_network(mounts: bool) -> Result<(), String> {
    let (user, group) = (getuid(), getgid());
    let mut flags = CloneFlags::CLONE_NEWNET;
    if mounts {
        flags |= CloneFlags::CLONE_NEWNS;
    }
    if !geteuid().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|e| {
        format!("no network of its own can be made for it ({e}); allow unprivileged user name spaces")
    })?;
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        let map = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text).map_err(|e| format!("{file}: {e}"))
        };
        map("setgroups", "deny".into())?;
        map("uid_map", format!("{user} {user} 1"))?;
        map("gid_map", format!("{group} {group} 1"))?;
    }
    Ok(())
}

/// Those of the folders that there are, without links.
fn there(folders: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    folders.iter().filter(|folder| folder.exists()).map(|folder| whole(folder)).collect()
}

/// Puts an empty folder in the place of each, for this process and what it starts.
fn hide(folders: &[PathBuf]) -> Result<(), String> {
    if folders.is_empty() {
        return Ok(());
    }
    let nothing: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let failed = |e| format!("folders cannot be hidden from it ({e})");
    mount(nothing, "/", nothing, private, nothing).map_err(failed)?;
    let empty = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    folders
        .iter()
        .try_for_each(|folder| mount(Some("none"), folder, Some("tmpfs"), empty, nothing).map_err(failed))
}

fn become_user(identity: Option<Identity>) -> Result<(), String> {
    let Some(Identity { user, group }) = identity else { return Ok(()) };
    if user == 0 || group == 0 {
        return Err("a plug-in does not run as root; name another user".into());
    }
    let group = Gid::from_raw(group);
    setgroups(&[group])
        .and_then(|()| setgid(group))
        .and_then(|()| setuid(Uid::from_raw(user)))
        .map_err(|e| format!("it cannot run as user {user}: {e}"))
}

fn limits(order: &Order) -> Result<(), String> {
    for (resource, most) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_AS, order.memory),
        (Resource::RLIMIT_CPU, order.seconds),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_NPROC, PROCESSES),
        (Resource::RLIMIT_FSIZE, FILE_BYTES),
    ] {
        setrlimit(resource, most, most).map_err(|e| format!("{resource:?} cannot be limited: {e}"))?;
    }
    Ok(())
}

/// What Linux 5.19 can lock must be locked; what newer ones can besides, where they can.
fn files(order: &Order, program: &Path, folder: &Path) -> Result<(), String> {
    let newest = ABI::V9;
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let look = AccessFs::ReadFile | AccessFs::ReadDir;
    // What it wrote itself it may not run: it does not become another program.
    let write = AccessFs::from_all(newest) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    let locked = || {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V2))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(newest))?
            .scope(Scope::from_all(newest))?;
        if !order.network {
            rules = rules.handle_access(AccessNet::from_all(ABI::V4))?;
        }
        rules
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules([program], read))?
            .add_rules(path_beneath_rules(["/proc/self"], look))?
            .add_rules(path_beneath_rules(&order.readable, look))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules([folder], write))?
            .restrict_self()
    };
    let status =
        locked().map_err(|e: landlock::RulesetError| format!("files cannot be locked away from it: {e}"))?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err("this kernel cannot lock files away from it (Landlock, Linux 5.19)".into());
    }
    Ok(())
}
