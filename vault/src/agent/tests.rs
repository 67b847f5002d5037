use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use proptest::prelude::*;
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;

use super::dangerous::BelieveCaller;
use super::message::Request;
use super::service::Connection;
use super::wire::{Passing, decode};
use super::*;
use crate::lease::Material;
use crate::root::Root;
use crate::seal::{Context, SealError, Sealer};
use crate::secret::{SecretBytes, SecretString};
use crate::unseal::{Gate, Phase, split};
use crate::{
    CertificateTerms, FileKeyring, KeyringStore as _, SealedSecret, Sharing, SigningKey, SshCa,
    SystemEntropy, ViewTerms,
};

const NOON: i64 = 1_795_413_600_000_000;
const MINUTE: i64 = 60_000_000;

/// Knows one session, one check-out, and a root.
struct Site {
    sealed: Vec<u8>,
    not_after: i64,
}

impl Registry for Site {
    fn session(&self, claim: &Claim, _: i64) -> Result<Entitlement, Refusal> {
        if !claim.session_id.starts_with("s-") || claim.decision_sha256 != "d1" {
            return Err(Refusal(format!("session {} is not in the store", claim.session_id)));
        }
        let credential = match claim.account_id.as_str() {
            "pump-hmi/root" => Credentialed::Password(self.sealed.clone()),
            "pump-hmi/operator" => {
                Credentialed::Certificate { port_forwarding: false, source_addresses: vec![] }
            }
            other => return Err(Refusal(format!("the decision is not about account {other}"))),
        };
        Ok(Entitlement {
            user_name: "vera".into(),
            login_name: "root".into(),
            not_after: self.not_after,
            sharing: Sharing::Shared,
            credential,
        })
    }

    fn view(&self, checkout_id: &str, now: i64) -> Result<(ViewTerms, SealedSecret), Refusal> {
        let terms = ViewTerms {
            checkout_id: checkout_id.to_owned(),
            account_id: "pump-hmi/root".into(),
            user_name: "emil".into(),
            crown_jewel: false,
            agreed: vec![],
            stepped_up_at: now,
            not_after: self.not_after,
        };
        Ok((terms, SealedSecret::password(self.sealed.clone(), Sharing::Shared)))
    }

    fn rotated(&self, account_id: &str) -> Result<(), Refusal> {
        match account_id {
            "pump-hmi/root" => Ok(()),
            other => Err(Refusal(format!("the site does not want the secret of {other} changed"))),
        }
    }
}

struct Known(SecretBytes);

impl RootSource for Known {
    fn root(&self, passphrase: Option<&SecretString>) -> Result<Root, String> {
        match passphrase {
            Some(given) if given.expose() != "correct horse battery" => {
                Err("the passphrase does not open it".into())
            }
            _ => Root::from_content(&self.0).map_err(|e| e.to_string()),
        }
    }
}

struct Rig {
    service: Arc<Service>,
    root: Root,
    host: PrivateKey,
    clock: Arc<AtomicI64>,
    seed: Vec<u8>,
    row: Vec<u8>,
    _dir: tempfile::TempDir,
}

fn rig() -> Rig {
    rig_with(Bounds::default())
}

fn rig_with(bounds: Bounds) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let entropy: Arc<dyn crate::Entropy> = Arc::new(SystemEntropy);
    let root = Root::generate(&SystemEntropy).unwrap();
    let keyrings = Arc::new(FileKeyring::new(dir.path().join("keyring")));
    let document = Sealer::new_keyring(&root, &SystemEntropy, 1).unwrap();
    keyrings.replace(None, &document).unwrap();
    let open = Sealer::open_keyring(&root, &document, entropy.clone()).unwrap();
    let seal =
        |context: &Context, secret: &[u8]| open.seal(context, &SecretBytes::from(secret.to_vec())).unwrap();
    let sealed = seal(&Context::account("pump-hmi/root"), b"hunter2");
    let seed = seal(&Context::new("totp", "vera"), b"12345678901234567890");

    let clock = Arc::new(AtomicI64::new(NOON));
    let time = clock.clone();
    let host = PrivateKey::from(Ed25519Keypair::from_seed(&[9; 32]));
    let keys = Keys {
        signing: Some(SigningKey::generate(&SystemEntropy).unwrap()),
        host_keys: vec![host.public_key().clone()],
        envelope_recipients: vec![root.recipient()],
    };
    let row = sealed.clone();
    let ports = Ports {
        registry: Arc::new(Site { sealed, not_after: NOON + 60 * MINUTE }),
        root: Some(Arc::new(Known(SecretBytes::from(&root.to_text().unwrap())))),
    };
    let service = Service::new(
        Gate::new(Sealer::sealed(entropy.clone()), keyrings, 600),
        Some(Arc::new(SshCa::generate(entropy).unwrap())),
        keys,
        ports,
        bounds,
        Arc::new(move || time.load(Ordering::Relaxed)),
        Hardening { no_core: Measure::InForce, not_dumpable: Measure::InForce, locked: Measure::InForce },
    );
    Rig { service: Arc::new(service), root, host, clock, seed, row, _dir: dir }
}

impl Rig {
    fn network(&self) -> Arc<Client> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(self.service.clone());
        thread::spawn(move || server.serve_network(theirs));
        Arc::new(Client::over(ours).unwrap())
    }

    fn operator(&self) -> Client {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = Server::new(self.service.clone());
        thread::spawn(move || server.serve_operator(theirs, &[]));
        Client::over(ours).unwrap()
    }

    fn open(&self) {
        self.service.gate().open(&self.root, "ada", NOON).unwrap();
    }
}

fn claim(session: &str, account: &str) -> Claim {
    Claim { session_id: session.into(), account_id: account.into(), decision_sha256: "d1".into(), told: None }
}

fn audit_entry(number: u64) -> Vec<u8> {
    [&b"cofferdam audit entry v1\0"[..], &number.to_be_bytes(), b"the rest"].concat()
}

#[test]
fn a_session_gets_its_secret_over_the_socket_and_gives_it_back() {
    let rig = rig();
    rig.open();
    let client = rig.network();
    let mut lease = client.lease(claim("s-1", "pump-hmi/root")).unwrap();
    assert!(matches!(lease.material(), Some(Material::Password(p)) if p.expose() == "hunter2"));
    assert!(lease.material().is_none());
    assert_eq!(client.status().unwrap().leases, 1);
    let due = lease.give_back().unwrap().unwrap();
    assert_eq!(due.account_id, "pump-hmi/root");
    let mut lease = client.lease(claim("s-2", "pump-hmi/operator")).unwrap();
    let Some(Material::Certificate { key, certificate }) = lease.material() else { panic!("no certificate") };
    assert_eq!(certificate.public_key(), key.public_key().key_data());
    drop(lease);
    assert_eq!(client.status().unwrap().leases, 0);
}

#[test]
fn while_it_is_sealed_everything_says_so_and_what_next() {
    let rig = rig();
    let (network, operator) = (rig.network(), rig.operator());
    let sealed = |e: ClientError| {
        assert!(matches!(&e, ClientError::Sealed(t) if t.contains("vault unseal")), "{e}");
    };
    sealed(network.lease(claim("s-1", "pump-hmi/root")).unwrap_err());
    sealed(network.check_code("vera", &rig.seed, &SecretString::from("000000"), None).unwrap_err());
    sealed(network.seal_secret(&Context::account("a"), &SecretBytes::from(vec![1])).unwrap_err());
    sealed(network.check_out("c-1").unwrap_err());
    sealed(network.host_certificate(rig.host.public_key(), vec!["gw".into()], 60).unwrap_err());
    sealed(operator.rekey("ada").unwrap_err());
    sealed(operator.held().unwrap_err());
    assert!(!network.status().unwrap().is_open());
    assert!(network.sign(&audit_entry(1)).is_ok(), "that somebody tried to unseal it has to be written down");
}

#[test]
fn the_network_side_can_neither_operate_nor_unseal() {
    let rig = rig();
    let network = rig.network();
    let no = |e: ClientError| assert!(matches!(&e, ClientError::Refused(_)), "{e}");
    no(network.unseal_as_configured("mallory").unwrap_err());
    no(network.give_passphrase(&SecretString::from("correct horse battery"), "mallory").unwrap_err());
    rig.open();
    no(network.rekey("mallory").unwrap_err());
    no(network.retire(1, "mallory").unwrap_err());
    no(network.held().unwrap_err());
    no(network.seal_vault("mallory").unwrap_err());
    no(network.rewrap(&Context::account("a"), &[1]).unwrap_err());
    assert!(network.status().unwrap().is_open(), "and it does not matter");
}

#[test]
fn the_operators_side_cannot_lease() {
    let rig = rig();
    rig.open();
    let operator = Arc::new(rig.operator());
    let no = |e: ClientError| assert!(matches!(&e, ClientError::Refused(_)), "{e}");
    no(operator.lease(claim("s-1", "pump-hmi/root")).unwrap_err());
    assert!(operator.sign(&audit_entry(1)).is_ok(), "the command line writes the audit log too");
    assert_eq!(operator.check_code("vera", &rig.seed, &SecretString::from("000000"), None).unwrap(), None);
    assert_eq!(operator.rekey("ada").unwrap(), 2);
}

#[test]
fn an_operator_unseals_by_shares_and_seals_again() {
    let rig = rig();
    let operator = rig.operator();
    let shares = split(&rig.root, 2, 3, &SystemEntropy).unwrap();
    let first = operator.give_share(&shares[0].to_code(), "olga").unwrap();
    assert!(matches!(first, Phase::Waiting(p) if p.needed == 2));
    let error = operator.give_share(&SecretString::from("hunter2"), "sam").unwrap_err();
    assert!(error.to_string().contains("no share") && !error.to_string().contains("hunter2"));
    // As the same user of the system it would be one person; these tests run as root, who may act for several.
    if nix::unistd::geteuid().is_root() {
        assert!(matches!(operator.give_share(&shares[2].to_code(), "sam").unwrap(), Phase::Open { .. }));
    } else {
        assert!(operator.give_share(&shares[2].to_code(), "sam").is_err());
        rig.open();
    }
    assert!(
        operator.give_share(&shares[1].to_code(), "ivan").unwrap_err().to_string().contains("open already")
    );
    operator.seal_vault("ada").unwrap();
    assert!(!operator.status().unwrap().is_open());
    let (events, lost) = rig.network().take_events().unwrap();
    assert!(events.len() >= 4 && lost == 0);
}

#[test]
fn a_wrong_passphrase_is_noted_and_tries_are_counted() {
    let rig = rig();
    let operator = rig.operator();
    let wrong = SecretString::from("hunter2 hunter2");
    for _ in 0..Bounds::default().unseals_per_minute {
        assert!(operator.give_passphrase(&wrong, "ada").unwrap_err().to_string().contains("does not open"));
    }
    let right = SecretString::from("correct horse battery");
    assert!(operator.give_passphrase(&right, "ada").unwrap_err().to_string().contains("in a minute"));
    rig.clock.fetch_add(MINUTE, Ordering::Relaxed);
    assert!(matches!(operator.give_passphrase(&right, "ada").unwrap(), Phase::Open { .. }));
    let (events, _) = rig.network().take_events().unwrap();
    assert!(!format!("{events:?}").contains("hunter2"));
}

#[test]
fn a_network_side_that_was_taken_over_gets_no_more_than_the_registry_says() {
    let rig = rig_with(Bounds { leases_per_session: 1, ..Bounds::default() });
    rig.open();
    let client = rig.network();
    let refused = |claim: Claim| match client.lease(claim) {
        Err(ClientError::Refused(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(refused(claim("made-up", "pump-hmi/root")).contains("not in the store"));
    assert!(refused(claim("s-1", "eng-ws/Administrator")).contains("not about account"));
    assert!(
        refused(Claim { decision_sha256: "d2".into(), ..claim("s-1", "pump-hmi/root") }).contains("store")
    );
    // What it tells is not read: the entitlement is the registry's.
    let told = Told {
        user_name: "mallory".into(),
        login_name: "root".into(),
        not_after: i64::MAX,
        exclusive: false,
        credential: Credentialed::Certificate { port_forwarding: true, source_addresses: vec![] },
    };
    let mut lease = client.lease(Claim { told: Some(told), ..claim("s-1", "pump-hmi/root") }).unwrap();
    assert!(matches!(lease.material(), Some(Material::Password(_))));
    lease.give_back().unwrap();
    assert!(refused(claim("s-1", "pump-hmi/root")).contains("has had its lease"));
}

#[test]
fn leases_are_bounded_in_rate_and_number() {
    let rig = rig_with(Bounds { leases_per_minute: 3, live_leases: 2, ..Bounds::default() });
    rig.open();
    let client = rig.network();
    let kept = [
        client.lease(claim("s-1", "pump-hmi/root")).unwrap(),
        client.lease(claim("s-2", "pump-hmi/root")).unwrap(),
    ];
    let text = |session: &str| client.lease(claim(session, "pump-hmi/root")).unwrap_err().to_string();
    assert!(text("s-3").contains("as many leases"));
    drop(kept);
    assert!(text("s-4").contains("in a minute"));
    rig.clock.fetch_add(MINUTE, Ordering::Relaxed);
    client.lease(claim("s-5", "pump-hmi/root")).unwrap().give_back().unwrap();
}

#[test]
fn leases_end_with_the_connection_that_had_them() {
    let rig = rig();
    rig.open();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Server::new(rig.service.clone());
    let served = thread::spawn(move || server.serve_network(theirs));
    let client = Arc::new(Client::over(ours.try_clone().unwrap()).unwrap());
    let lease = client.lease(claim("s-1", "pump-hmi/root")).unwrap();
    assert_eq!(rig.service.vault().held().len(), 1);
    // As if the process had been killed: the kernel closes its end, and nobody gives anything back.
    ours.shutdown(std::net::Shutdown::Both).unwrap();
    served.join().unwrap().unwrap();
    assert!(rig.service.vault().held().is_empty());
    assert!(matches!(lease.give_back(), Err(ClientError::Gone(_))));
    assert!(matches!(client.status(), Err(ClientError::Gone(_))));
}

#[test]
fn the_second_factor_is_checked_where_its_seed_is_and_counts_once() {
    let rig = rig();
    rig.open();
    rig.clock.store(1_111_111_109_000_000, Ordering::Relaxed);
    let client = rig.network();
    let check =
        |code: &str, last| client.check_code("vera", &rig.seed, &SecretString::from(code), last).unwrap();
    assert_eq!(check("000000", None), None);
    assert_eq!(check("081804", None), Some(37_037_036));
    assert_eq!(check("081804", None), None, "whatever the caller says was used last");
    let other = client.check_code("emil", &rig.seed, &SecretString::from("081804"), None).unwrap_err();
    assert!(other.to_string().contains("totp emil"), "{other}");
}

#[test]
fn codes_cannot_be_guessed_through_the_socket() {
    let rig = rig();
    rig.open();
    let client = rig.network();
    for _ in 0..Bounds::default().codes_per_person {
        client.check_code("vera", &rig.seed, &SecretString::from("000000"), None).unwrap();
    }
    let error = client.check_code("vera", &rig.seed, &SecretString::from("000000"), None).unwrap_err();
    assert!(error.to_string().contains("too many codes"), "{error}");
}

#[test]
fn the_signing_key_is_no_oracle_and_never_signs_the_past_anew() {
    let rig = rig();
    let client = rig.network();
    let key = client.public_keys().unwrap().signing.unwrap().parse::<crate::VerifyingKey>().unwrap();
    let entry = audit_entry(7);
    key.verify(&entry, &client.sign(&entry).unwrap()).unwrap();
    assert!(client.sign(&audit_entry(7)).is_ok(), "a transaction that failed is tried again");
    assert!(client.sign(&audit_entry(8)).is_ok());
    let error = client.sign(&audit_entry(7)).unwrap_err();
    assert!(error.to_string().contains("before entry 8"), "{error}");
    assert!(client.sign(b"cofferdam recording header v1\0digest").is_ok());
    for odd in [&b""[..], b"anything", b"cofferdam audit entry v1\0", b"SSH certificate"] {
        assert!(matches!(client.sign(odd), Err(ClientError::Refused(_))), "{odd:?}");
    }
}

#[test]
fn host_certificates_are_for_the_gateways_own_keys() {
    let rig = rig();
    rig.open();
    let client = rig.network();
    let made = client.host_certificate(rig.host.public_key(), vec!["pump-hmi".into()], 3600).unwrap();
    assert_eq!(made.valid_principals(), ["pump-hmi"]);
    let theirs = PrivateKey::from(Ed25519Keypair::from_seed(&[1; 32]));
    for (key, seconds) in [(theirs.public_key(), 3600), (rig.host.public_key(), 10 * 24 * 3600)] {
        assert!(client.host_certificate(key, vec!["pump-hmi".into()], seconds).is_err());
    }
}

#[test]
fn secrets_are_sealed_for_known_purposes_and_never_opened_by_asking() {
    let rig = rig();
    rig.open();
    let client = rig.network();
    let context = Context::account("pump-hmi/root");
    let sealed = client.seal_secret(&context, &SecretBytes::from(b"new".to_vec())).unwrap();
    assert_eq!(rig.service.gate().sealer().open(&context, &sealed).unwrap().expose(), b"new");
    let odd = client.seal_secret(&Context::new("anything", "x"), &SecretBytes::from(vec![1]));
    assert!(matches!(odd, Err(ClientError::Refused(_))));
}

#[test]
fn a_person_sees_a_secret_once_and_it_is_due_afterwards() {
    let rig = rig();
    rig.open();
    let client = rig.network();
    assert_eq!(client.check_out("c-1").unwrap().expose(), b"hunter2");
    assert_eq!(rig.operator().held().unwrap().1[0].user_name, "emil");
    assert_eq!(client.give_back("c-1").unwrap().len(), 1);
    assert!(client.check_out("c-1").unwrap_err().to_string().contains("shown already"));
    client.check_out("c-2").unwrap();
    rig.clock.fetch_add(60 * MINUTE, Ordering::Relaxed);
    assert_eq!(client.expire().unwrap().len(), 1);
}

#[test]
fn an_envelope_is_for_the_recipients_that_the_vault_process_knows() {
    let rig = rig();
    rig.open();
    let text = rig.network().envelope("e-1", "pump-hmi/root", 3, &rig.row).unwrap();
    assert!(!text.contains("hunter2"));
    let envelope = crate::envelope::Envelope::parse(&text).unwrap();
    assert_eq!((envelope.label().version, envelope.label().recipients.len()), (3, 1));
    assert_eq!(envelope.open(&rig.root).unwrap().0.expose(), b"hunter2");
    let other = rig.network().envelope("e-2", "eng-ws/svc", 3, &rig.row).unwrap_err();
    assert!(other.to_string().contains("eng-ws/svc"), "{other}");
}

#[test]
fn believing_the_caller_has_to_be_asked_for_by_name() {
    let told = Told {
        user_name: "vera".into(),
        login_name: "root".into(),
        not_after: NOON,
        exclusive: true,
        credential: Credentialed::Password(vec![1]),
    };
    let claim = Claim { told: Some(told), ..claim("s-1", "a") };
    assert_eq!(BelieveCaller.session(&claim, NOON).unwrap().sharing, Sharing::Exclusive);
    assert!(BelieveCaller.session(&Claim { told: None, ..claim }, NOON).is_err());
    assert!(BelieveCaller.view("c-1", NOON).is_err());
    let terms = CertificateTerms::default();
    assert!(!terms.port_forwarding);
}

#[test]
fn who_does_not_greet_in_this_version_is_not_served() {
    let rig = rig();
    for first in [Request::Hello { version: PROTOCOL_VERSION + 1 }, Request::Status] {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        wire::Frame::new().write(&mut ours, &first).unwrap();
        let served = Server::new(rig.service.clone()).serve_network(theirs);
        assert!(matches!(served, Err(WireError::Unknown)));
    }
}

#[test]
fn the_folder_of_the_operators_socket_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("vault");
    let path = folder.join("socket");
    bind_private(&path).unwrap();
    bind_private(&path).unwrap();
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(bind_private(&path).unwrap_err().to_string().contains("chmod 700"));
}

/// Every request there is, with the phases in which each role gets anything but a refusal by the table.
#[test]
fn the_table_of_who_may_ask_what_holds_for_every_request() {
    let by = || "x".to_owned();
    let passing = || Passing::text(&SecretString::from("x"));
    let (purpose, id) = (|| "account".to_owned(), || "a".to_owned());
    // (request, network sealed, network open, operator sealed, operator open)
    let table: Vec<(Request, [bool; 4])> = vec![
        (Request::Hello { version: 1 }, [false; 4]),
        (Request::Status, [true; 4]),
        (Request::PublicKeys, [true; 4]),
        (Request::Share { code: passing(), by: by() }, [false, false, true, false]),
        (Request::Passphrase { passphrase: passing(), by: by() }, [false, false, true, false]),
        (Request::Configured { by: by() }, [false, false, true, false]),
        (Request::TakeEvents, [true, true, false, false]),
        (Request::Sign { message: vec![] }, [true; 4]),
        (Request::Lease(claim("s", "a")), [false, true, false, false]),
        (Request::Return { lease: 1 }, [true, true, false, false]),
        (
            Request::HostCertificate { host_key: by(), principals: vec![], seconds: 1 },
            [false, true, false, false],
        ),
        (
            Request::CheckCode { person: by(), sealed: vec![], code: passing(), last_used: None },
            [false, true, false, true],
        ),
        (Request::SealSecret { purpose: purpose(), id: id(), secret: passing() }, [false, true, false, true]),
        (Request::OpenSecret { id: id(), sealed: vec![] }, [false; 4]),
        (Request::CheckOut { checkout_id: id() }, [false, true, false, true]),
        (Request::GiveBack { checkout_id: id() }, [true; 4]),
        (
            Request::Envelope { id: id(), account_id: id(), version: 1, sealed: vec![] },
            [false, true, false, true],
        ),
        (Request::Expire, [true, true, false, false]),
        (Request::Seal { by: by() }, [false, false, true, true]),
        (Request::Rekey { by: by() }, [false, false, false, true]),
        (Request::Retire { generation: 1, by: by() }, [false, false, false, true]),
        (Request::Refresh, [false, false, false, true]),
        (Request::Rewrap { purpose: purpose(), id: id(), sealed: vec![] }, [false, false, false, true]),
        (Request::Held, [false, false, false, true]),
    ];
    for (request, expected) in table {
        let got = [
            allow::allow(Role::Network, false, false, &request),
            allow::allow(Role::Network, true, false, &request),
            allow::allow(Role::Operator, false, false, &request),
            allow::allow(Role::Operator, true, false, &request),
        ];
        assert_eq!(got, expected, "{request:?}");
    }
}

#[test]
fn rotation_is_given_secrets_to_change_and_nothing_else() {
    let rig = rig();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Server::new(rig.service.clone());
    thread::spawn(move || server.serve_rotation(theirs));
    let client = Arc::new(Client::over(ours).unwrap());
    assert!(matches!(client.open_secret("pump-hmi/root", &rig.row), Err(ClientError::Sealed(_))));
    rig.open();
    assert_eq!(client.open_secret("pump-hmi/root", &rig.row).unwrap().expose(), b"hunter2");
    let other = client.open_secret("eng-ws/svc", &rig.row).unwrap_err();
    assert!(other.to_string().contains("does not want"), "{other}");
    assert!(client.sign(&audit_entry(1)).is_ok());
    let no = |e: ClientError| assert!(matches!(&e, ClientError::Refused(_)), "{e}");
    no(client.lease(claim("s-1", "pump-hmi/root")).unwrap_err());
    no(client.check_out("c-1").unwrap_err());
    no(client.check_code("vera", &rig.seed, &SecretString::from("000000"), None).unwrap_err());
    no(client.envelope("e-1", "pump-hmi/root", 3, &rig.row).unwrap_err());
    no(client.rekey("mallory").unwrap_err());
    no(client.seal_vault("mallory").unwrap_err());
    // A sealer whose keys are elsewhere does both through it.
    let sealer = Sealer::elsewhere(client, Arc::new(SystemEntropy));
    let context = Context::account("pump-hmi/root");
    let sealed = sealer.seal(&context, &SecretBytes::from(b"next".to_vec())).unwrap();
    assert_eq!(sealer.open(&context, &sealed).unwrap().expose(), b"next");
    assert_eq!(sealer.recipient(), rig.service.gate().sealer().recipient());
    assert!(sealer.rekey(NOON).is_err());
    let network = Sealer::elsewhere(rig.network(), Arc::new(SystemEntropy));
    assert!(network.seal(&context, &SecretBytes::from(b"theirs".to_vec())).is_ok());
    let error = network.open(&context, &sealed).unwrap_err();
    assert!(matches!(&error, SealError::Process(t) if t.contains("may not ask")), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_peer_that_sends_anything_is_refused_and_harms_nobody(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), greets in any::<bool>(), operator in any::<bool>(),
    ) {
        let rig = rig();
        rig.open();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        if greets {
            wire::Frame::new().write(&mut ours, &Request::Hello { version: PROTOCOL_VERSION }).unwrap();
        }
        // Frames whose length is right, so that the bytes reach the messages, and then the bytes as they are.
        let framed = [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes, &bytes].concat();
        std::io::Write::write_all(&mut ours, &framed).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let server = Server::new(rig.service.clone());
        let served = if operator { server.serve_operator(theirs, &[]) } else { server.serve_network(theirs) };
        drop(served);
        prop_assert!(rig.service.vault().held().is_empty());
    }

    #[test]
    fn no_request_whatever_makes_the_service_panic(
        tag in 0u8..26, bytes in proptest::collection::vec(any::<u8>(), 0..200), open in any::<bool>(),
    ) {
        let rig = rig();
        if open {
            rig.open();
        }
        if let Ok(request) = decode::<Request>(&[&[tag][..], &bytes].concat()) {
            for role in [Role::Network, Role::Operator, Role::Rotation] {
                let again = decode::<Request>(&[&[tag][..], &bytes].concat()).unwrap();
                drop(rig.service.answer(role, &mut Connection::default(), again));
            }
            drop(request);
        }
    }
}
