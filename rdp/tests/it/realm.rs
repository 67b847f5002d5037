//! A realm with MIT's KDC or Samba's, and a target of it made of MIT's GSSAPI.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
};

use super::targets::{Folder, Running, free_port, listening, wait_for};

/// A KDC that knows an account and a machine.
pub(crate) struct Realm {
    kdc: Running,
    pub(crate) address: SocketAddr,
}

impl Realm {
    pub(crate) const NAME: &str = "PLANT.EXAMPLE";
    pub(crate) const HOST: &str = "eng-ws.plant.example";
    pub(crate) const USER: &str = "eng";
    pub(crate) const PASSWORD: &str = "Realm-Secret-1 é";

    pub(crate) fn start(folder: &Folder) -> Self {
        Self::with_password(folder, Self::PASSWORD)
    }

    /// One whose account has another password.
    pub(crate) fn with_password(folder: &Folder, password: &str) -> Self {
        let port = free_port();
        let at = folder.path("").display().to_string();
        let (realm, keytab) = (Self::NAME, folder.path("keytab").display().to_string());
        let kdc_conf = format!(
            "[kdcdefaults]\nkdc_listen = 127.0.0.1:{port}\nkdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n{realm} = {{\n\
             database_name = {at}/principal\nkey_stash_file = {at}/stash\nacl_file = {at}/acl\n\
             supported_enctypes = aes256-cts:normal aes128-cts:normal\n}}\n"
        );
        std::fs::write(folder.path("kdc.conf"), kdc_conf).unwrap();
        let krb5_conf = format!(
            "[libdefaults]\ndefault_realm = {realm}\ndns_lookup_kdc = false\n[logging]\nkdc = FILE:{at}/kdc-file\n"
        );
        std::fs::write(folder.path("krb5.conf"), krb5_conf).unwrap();
        let tool = |program: &str, arguments: &[&str]| {
            let mut tool = Self::command(folder, program, "kdc-made");
            let done = tool.args(["-r", realm]).args(arguments).status();
            let done = done.unwrap_or_else(|e| panic!("{program}: {e}; ./test installs it"));
            assert!(done.success(), "{arguments:?}: {}", folder.log("kdc-made"));
        };
        let service = format!("TERMSRV/{}", Self::HOST);
        tool("/usr/sbin/kdb5_util", &["create", "-s", "-P", "The-masters-own-1"]);
        let admin = |words: &[&str]| tool("/usr/sbin/kadmin.local", words);
        admin(&["addprinc", "+requires_preauth", "-pw", password, Self::USER]);
        admin(&["addprinc", "-randkey", &service]);
        admin(&["ktadd", "-k", &keytab, &service]);
        let kdc =
            Running::start(Self::command(folder, "/usr/sbin/krb5kdc", "kdc-log").args(["-n", "-r", realm]));
        Self { kdc, address: listening(port) }
    }

    /// One whose KDC is a domain controller of Samba's, which takes its time.
    pub(crate) fn of_a_domain_controller(folder: &Folder) -> Self {
        let (port, change) = (free_port(), free_port());
        let at = folder.path("").display().to_string();
        let settings = format!(
            "[global]\nnetbios name = DC1\nrealm = {realm}\nworkgroup = PLANT\n\
             server role = active directory domain controller\nserver services = kdc\ndcerpc endpoint servers =\n\
             interfaces = 127.0.0.1/8\nbind interfaces only = yes\nkrb5 port = {port}\nkpasswd port = {change}\n\
             private dir = {at}/dc/private\nlock directory = {at}/dc\nstate directory = {at}/dc/state\n\
             cache directory = {at}/dc/cache\npid directory = {at}\nncalrpc dir = {at}/ncalrpc\n\
             binddns dir = {at}/bind-dns\nntp signd socket directory = {at}/ntp\n\
             winbindd socket directory = {at}/wb\nlog file = {at}/kdc-file\nlogging = file\nlog level = 3\n",
            realm = Self::NAME,
        );
        // Read in its place, so that nothing of the machine's own configuration comes in.
        std::fs::write(folder.path("empty.conf"), "").unwrap();
        std::fs::write(folder.path("smb.conf"), settings).unwrap();
        let krb5 = format!("[libdefaults]\ndefault_realm = {}\ndns_lookup_kdc = false\n", Self::NAME);
        std::fs::write(folder.path("krb5.conf"), krb5).unwrap();
        let tool = |arguments: &[&str], more: &[&str]| {
            let mut tool = Self::command(folder, "samba-tool", "kdc-made");
            let done = tool.args(arguments).args(more).status().unwrap();
            assert!(done.success(), "{arguments:?}: {}", folder.log("kdc-made"));
        };
        let (target, empty) = (format!("--targetdir={at}/dc"), format!("{at}/empty.conf"));
        let (realm, admin) = (format!("--realm={}", Self::NAME), "--adminpass=The-admins-own-1");
        let provision = ["domain", "provision", "--domain=PLANT", "--server-role=dc", "--dns-backend=NONE"];
        tool(&provision, &["--host-name=dc1", "--host-ip=127.0.0.1", &realm, admin, &target, "-s", &empty]);
        let (settings, sam) = (format!("{at}/smb.conf"), format!("{at}/dc/private/sam.ldb"));
        let here = ["-s", settings.as_str(), "-H", sam.as_str()];
        let service = format!("TERMSRV/{}", Self::HOST);
        tool(&["user", "create", Self::USER, Self::PASSWORD], &here);
        tool(&["user", "create", "eng-ws", "--random-password"], &here);
        tool(&["spn", "add", &service, "eng-ws"], &here);
        let (keytab, principal) = (format!("{at}/keytab"), format!("--principal={service}"));
        tool(&["domain", "exportkeytab", &keytab, &principal], &["-s", &settings]);
        let mut samba = Self::command(folder, "samba", "kdc-log");
        let kdc = Running::start(samba.args(["-F", "-M", "single", "--debug-stdout", "-s", &settings]));
        Self { kdc, address: listening(port) }
    }

    fn command(folder: &Folder, program: &str, log: &str) -> Command {
        let mut command = folder.command(program, log);
        command.env("KRB5_CONFIG", folder.path("krb5.conf")).env("KRB5_KDC_PROFILE", folder.path("kdc.conf"));
        command
    }

    /// Takes the KDC away.
    pub(crate) fn stop(self) -> SocketAddr {
        drop(self.kdc);
        self.address
    }
}

/// A target that takes Kerberos alone, and says what it was given. Behind its log-in there may be the desktop of another.
pub(crate) struct Member {
    _server: Running,
    said: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Member {
    pub(crate) fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![Realm::HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.path("member.key"), key.serialize_pem()).unwrap();
        std::fs::write(folder.path("member.crt"), certificate.pem()).unwrap();
        let port = free_port();
        // Debian's own, which has MIT's GSSAPI.
        let mut command = Realm::command(folder, "/usr/bin/python3", "member");
        // The top folder itself, or one of its crates.
        let tops = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        command.arg(
            tops.map(|top| top.join("tests/peers/kerberos_target.py")).find(|file| file.exists()).unwrap(),
        );
        command.arg("--port").arg(port.to_string()).arg("--keytab").arg(folder.path("keytab"));
        command
            .arg("--certificate")
            .arg(folder.path("member.crt"))
            .arg("--key")
            .arg(folder.path("member.key"));
        let server = Running::start(command.args(arguments));
        Self { _server: server, said: folder.path("member"), address: listening(port) }
    }

    /// What it said, once it has said `wanted`.
    pub(crate) fn says(&self, wanted: &str) -> String {
        wait_for(wanted, 20, || {
            let said = self.said();
            said.contains(wanted).then_some(said)
        })
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }
}

/// An address at which nothing listens.
pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}
