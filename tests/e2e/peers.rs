//! Other people's programs, as they are.

use std::{
    fs,
    io::{Read, Write},
    process::Command,
    time::Duration,
};

use crate::support::{
    Gateway, Live, RealSshd, cli::id_of, noise, peer, person::First, python, run, run_with_input,
};

/// What the other tests take for granted about their target, so that a fault of its own is seen as one.
#[test]
fn the_real_target_takes_its_key_its_password_and_a_certificate() {
    let target = RealSshd::start();
    let folder = tempfile::tempdir().unwrap();
    let port = target.address.port().to_string();
    let ssh = |identity: Option<&std::path::Path>| {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "/dev/null",
            "-oIdentityAgent=none",
            "-oIdentitiesOnly=yes",
            "-oStrictHostKeyChecking=yes",
            "-p",
            &port,
        ]);
        ssh.arg(format!("-oUserKnownHostsFile={}", folder.path().join("known_hosts").display()));
        match identity {
            Some(file) => ssh.arg("-oBatchMode=yes").arg("-i").arg(file),
            None => ssh.args(["-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1"]),
        };
        ssh.env_remove("SSH_AUTH_SOCK").arg(format!("{}@127.0.0.1", target.login)).args(["id", "-un"]);
        ssh
    };
    fs::write(folder.path().join("known_hosts"), format!("[127.0.0.1]:{port} {}\n", target.host_key()))
        .unwrap();
    run(ssh(Some(&target.account_key()))).ok().said(&target.login);

    if let Some(password) = &target.password {
        let mut by_password = ssh(None);
        by_password
            .env("SSH_ASKPASS", peer("askpass"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("COFFERDAM_PASSWORD", password);
        run(by_password).ok().said(&target.login);
    }

    for name in ["ca", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path().join(name));
        run(keygen).ok();
    }
    run(ssh(Some(&folder.path().join("user")))).failed();
    target.trust_user_ca(&fs::read_to_string(folder.path().join("ca.pub")).unwrap());
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-I", "test", "-n", &target.login, "-V", "-1m:+5m", "-s"]).arg(folder.path().join("ca"));
    run({
        sign.arg(folder.path().join("user.pub"));
        sign
    })
    .ok();
    run(ssh(Some(&folder.path().join("user")))).ok().said(&target.login);
}

#[test]
fn plink_runs_a_command() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let mut plink = vera.putty("plink", "pump-hmi");
    plink.arg("echo by-$((40+2))-plink; exit 5");
    vera.on_a_terminal(&plink, &[("(?i)code", "@code")]).exited(5).said("by-42-plink");
}

#[test]
fn psftp_carries_a_file() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let (sent, returned) = (gateway.scratch("sent"), gateway.scratch("returned"));
    let bytes = noise(200_000);
    fs::write(&sent, &bytes).unwrap();
    let batch = gateway.scratch("batch");
    let commands = format!(
        "put {} /tmp/by-psftp\nget /tmp/by-psftp {}\nrm /tmp/by-psftp\nquit\n",
        sent.display(),
        returned.display()
    );
    fs::write(&batch, commands).unwrap();
    let mut psftp = vera.putty("psftp", "pump-hmi");
    psftp.arg("-b").arg(&batch);
    vera.on_a_terminal(&psftp, &[("(?i)code", "@code")]).ok();
    assert!(fs::read(&returned).unwrap() == bytes);
}

#[test]
fn sshpass_answers_the_code() {
    let gateway = Gateway::start();
    let vera = gateway.vera();
    let ssh = vera.ssh("pump-hmi", ["hostname"]);
    let mut sshpass = Command::new("sshpass");
    sshpass.args(["-P", "ode", "-p", &vera.code()]).arg(ssh.get_program()).args(ssh.get_args());
    sshpass
        .env_remove("SSH_ASKPASS")
        .env_remove("SSH_ASKPASS_REQUIRE")
        .env_remove("DISPLAY")
        .env_remove("SSH_AUTH_SOCK");
    run(sshpass).ok().said("pump-hmi");
}

fn python_peer(gateway: &Gateway, script: &str, place: &str, more: &[&str]) -> Command {
    let (vera, address) = (gateway.vera(), gateway.ssh_address());
    let mut command = Command::new(python());
    command.arg(peer(script)).args([
        &address.ip().to_string(),
        &address.port().to_string(),
        &vera.login(place),
    ]);
    command.arg(&vera.key).args(more);
    vera.equip(&mut command);
    command
}

#[test]
fn paramiko_runs_commands_and_carries_files() {
    let gateway = Gateway::start();
    let local = gateway.scratch("local");
    fs::write(&local, noise(1_000_000)).unwrap();
    run(python_peer(
        &gateway,
        "paramiko_session.py",
        "pump-hmi",
        &[&local.to_string_lossy(), "/tmp/by-paramiko"],
    ))
    .ok()
    .said("paramiko: done");
}

#[test]
fn asyncssh_works_on_many_channels_at_once() {
    let gateway = Gateway::start();
    run(python_peer(&gateway, "asyncssh_session.py", "pump-hmi", &["20"])).ok().said("asyncssh: done");
}

#[test]
fn ansible_pings_and_runs_a_playbook() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    // Ansible cannot answer a code: the person logs in once, and the second factor counts for what follows.
    run(vera.ssh("workshop", ["true"])).ok();
    let inventory = gateway.scratch("inventory");
    let address = gateway.ssh_address();
    let host = format!(
        "workshop ansible_host={} ansible_port={} ansible_user={} ansible_ssh_private_key_file={}\n",
        address.ip(),
        address.port(),
        vera.login("workshop"),
        vera.key.display()
    );
    fs::write(&inventory, host).unwrap();
    let ansible = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg("-i").arg(&inventory).args(arguments);
        command.current_dir(gateway.scratch(""));
        vera.equip(&mut command);
        // Ansible sees to prompts itself, and would be surprised by a helper.
        command.env_remove("SSH_ASKPASS").env_remove("SSH_ASKPASS_REQUIRE").env_remove("DISPLAY");
        command.env("ANSIBLE_SSH_ARGS", vera.options(First::Key).join(" "));
        command
            .env("ANSIBLE_LOCAL_TEMP", gateway.scratch("ansible"))
            .env("ANSIBLE_HOST_KEY_CHECKING", "True");
        command.env("ANSIBLE_REMOTE_TEMP", target.home.join(".ansible")).env("ANSIBLE_NOCOLOR", "1");
        run(command)
    };
    ansible("ansible", &["all", "-m", "ansible.builtin.ping"]).ok().said("pong");
    let folder = format!("folder={}", target.home.display());
    let playbook = peer("maintenance.yml");
    let playbook = playbook.to_string_lossy();
    ansible("ansible-playbook", &["-e", &folder, &playbook]).ok().said("changed=1");
    ansible("ansible-playbook", &["-e", &folder, &playbook]).ok().said("changed=0");
    assert!(fs::read_to_string(target.home.join("setpoint.conf")).unwrap().starts_with("setpoint = 420"));
}

#[test]
fn old_clients_without_modern_ciphers_are_told_so() {
    let gateway = Gateway::start();
    let weak: [&[&str]; 3] = [
        &["-oCiphers=aes128-cbc"],
        // A cipher without authentication of its own, so that there is a MAC to agree on.
        &["-oCiphers=aes256-ctr", "-oMACs=hmac-sha1-96"],
        &["-oKexAlgorithms=diffie-hellman-group1-sha1"],
    ];
    for options in weak {
        run(gateway.vera().ssh("pump-hmi", options.iter().chain(&["true"]))).exited(255).said("no matching");
    }
}

#[test]
fn the_ciphers_that_clients_prefer_all_work() {
    let gateway = Gateway::start();
    for cipher in ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"] {
        run(gateway
            .vera()
            .ssh("pump-hmi", [&format!("-oCiphers={cipher}"), "head -c 300000 /dev/zero | wc -c"]))
        .ok()
        .said("300000");
    }
}

/// What VS Code's Remote-SSH does, without VS Code: one connection with `-T -D`, a script on the standard input of a shell
/// that starts a server on the target's loopback and prints markers and the port, and then connections to that port.
#[test]
fn the_script_of_vs_code_runs_and_its_way_to_the_targets_loopback_is_refused() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    let script = "echo 7f3a: running\nuname -rsv\nenv | grep -c ^HOME=\n\
                  python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); print(\"listeningOn==%d==\" % s.getsockname()[1])'\n\
                  echo 7f3a: end\nexit 0\n";
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let done = run_with_input(vera.ssh("workshop", ["-T", "-D", &port, "bash"]), script.as_bytes()).ok();
    let said = done.said("7f3a: running").said("7f3a: end").out();
    let listens = said.split("==").nth(1).unwrap();
    run(vera.ssh("workshop", ["-W", &format!("127.0.0.1:{listens}")])).failed();
    assert!(!gateway.audit("forward.refused").is_empty());
}

/// The same where the asset's loopback is open: the server is reached through `-D`, by name, while the script's shell goes
/// on; another asset's is not, and the forward is in the recording.
#[test]
fn vs_codes_way_to_the_targets_loopback_works_where_the_asset_opens_it() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    gateway.change_asset("workshop", |asset| {
        asset.insert("dangerous_own_loopback".to_owned(), true.into());
    });
    gateway.cofferdam(["asset", "list"]).ok().said("DANGEROUS: forwards to its own loopback");

    let socks = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut code =
        Live::start(gateway.vera().ssh("workshop", ["-T", "-D", &format!("127.0.0.1:{socks}"), "bash"]));
    code.send(
        "python3 -uc 'import socket; s = socket.create_server((\"127.0.0.1\", 0)); print(\"listeningOn==%d==\" % s.getsockname()[1])\n\
         while True: c, _ = s.accept(); c.sendall(c.recv(99).upper()); c.close()' &\n",
    );
    let said = code.expect("==\n");
    let listens: u16 = said.split("==").nth(1).unwrap().parse().unwrap();
    for name in ["localhost", "127.0.0.1"] {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", socks)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // SOCKS 5 (RFC 1928): no authentication, CONNECT by name.
        let [high, low] = listens.to_be_bytes();
        let mut ask = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
        ask.extend_from_slice(name.as_bytes());
        ask.extend_from_slice(&[high, low]);
        stream.write_all(&ask).unwrap();
        let mut granted = [0; 12];
        stream.read_exact(&mut granted).unwrap();
        assert_eq!(granted[..4], [5, 0, 5, 0], "{name}");
        stream.write_all(b"get / http/1.1\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "GET / HTTP/1.1\n");
    }
    code.send("kill $!; exit\n");
    code.ended_within(Duration::from_secs(20));
    let id = id_of(&gateway.only_session());
    let events = gateway.cofferdam(["recording", "export", &id, "--format", "jsonl"]).ok().out();
    assert!(events.contains(&format!("\"port\":{listens}")), "{events}");
    assert!(gateway.audit("forward.refused").is_empty());
    // The next machine's loopback stays shut.
    run(gateway.vera().ssh("pump-hmi", ["-W", &format!("localhost:{listens}")])).failed();
    assert_eq!(gateway.audit("forward.refused").len(), 1);
}

/// WinSCP's SCP mode works in a shell without a terminal: it reads each command's exit status behind a marker, and runs
/// `scp -t` and `scp -f` inside that shell.
#[test]
fn the_shell_of_winscps_scp_mode_works() {
    let (gateway, target) = (Gateway::start(), RealSshd::start());
    target.join(&gateway);
    let vera = gateway.vera();
    fs::write(target.home.join("drive.csv"), "speed\n").unwrap();
    let mut script = String::new();
    for command in [
        "unset LANG ; unset LC_ALL",
        "unalias ls",
        "echo \"$status\"",
        &format!("cd \"{}\"", target.home.display()),
        "pwd",
        "ls -la --full-time",
        "ls -la --full-time nowhere",
    ] {
        script.push_str(command);
        script.push_str(" ; echo \"WinSCP: this is end-of-file:$?\"\n");
    }
    // The other side's "ready", then "taken", as its sink says them.
    script.push_str(
        "printf '\\000\\000\\000' | scp -f drive.csv ; echo \"WinSCP: this is end-of-file:$?\"\nexit\n",
    );
    let done = run_with_input(vera.ssh("workshop", ["-T"]), script.as_bytes());
    let said = done.out();
    assert!(said.contains("drive.csv") && said.contains("C0"), "{said}");
    assert_eq!(said.matches("this is end-of-file:0").count(), 6, "{said}");
    assert_eq!(said.matches("this is end-of-file:").count(), 8, "{said}");
}
