//! Log-ins that must fail, and where.

use std::process::Command;

use cofferdam_rdp::{BackError, ChannelPolicy, FrontError, LogOn, Pin, Security, learn_key};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    desktop::Xfreerdp,
    gateway::{Account, Gateway, Outcome, TOKEN, TYPED, USER},
    targets::{Display, Folder, Shadow},
};

/// A target that must not be reached: nothing ever accepts there, and what comes is seen.
async fn untouched() -> (TcpListener, Account) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let account = Account {
        address: listener.local_addr().unwrap(),
        security: Security::Nla,
        user: "nobody",
        password: "nothing",
        pin: None,
    };
    (listener, account)
}

async fn nobody_came(listener: TcpListener) -> bool {
    tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_inside_credssp_before_the_target_is_contacted() {
    let folder = Folder::new();
    for (user, token) in
        [(USER, "not-the-token"), (USER, "another-token"), ("otto+eng-ws", TOKEN), ("nobody", TOKEN)]
    {
        let (listener, account) = untouched().await;
        let gateway = Gateway::start(account, ChannelPolicy::default()).await;
        let client = Xfreerdp::start(&folder, gateway.address, user, token, &[]);
        client.end();
        let log = folder.log("xfreerdp");
        assert!(log.contains("LOGON_FAILURE"), "{user} {token}: {log}");
        let outcome = gateway.outcome().await;
        assert!(
            matches!(&outcome, Outcome::Front(FrontError::Refused { user: Some(seen) }) if seen == user),
            "{outcome:?}"
        );
        assert!(nobody_came(listener).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_nla_is_told_what_is_needed() {
    let folder = Folder::new();
    let (listener, account) = untouched().await;
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &["/sec:tls"]);
    client.end();
    assert!(matches!(gateway.outcome().await, Outcome::Front(FrontError::NoNla)));
    assert!(nobody_came(listener).await);
    // rdesktop offers NLA, has none but by Kerberos, and ends before that with a server whose key is not RSA.
    let (listener, account) = untouched().await;
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let address = gateway.address.to_string();
    let display = Display::xvfb(&folder, "rdesktop-display");
    // It asks whether the certificate is trusted.
    let script = "echo yes | timeout 20 rdesktop -u \"$0\" -p \"$1\" \"$2\"";
    let mut rdesktop = Command::new("bash");
    rdesktop.args(["-o", "pipefail", "-c", script, USER, TOKEN, &address]);
    let out = rdesktop.env("DISPLAY", &display.name).env("HOME", folder.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(!out.status.success() && said.contains("not RSA"), "{said}");
    let outcome = gateway.outcome().await;
    assert!(
        matches!(outcome, Outcome::Front(_)) && !matches!(outcome, Outcome::Front(FrontError::NoNla)),
        "{outcome:?}"
    );
    assert!(nobody_came(listener).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_without_nla_types_is_refused_before_the_target_is_contacted() {
    let folder = Folder::new();
    for (user, password) in [(USER, "tide, Table-7,492818"), (USER, "tide, Table-7"), ("otto+eng-ws", TYPED)]
    {
        let (listener, account) = untouched().await;
        let gateway = Gateway::start_without_nla(account, ChannelPolicy::default()).await;
        let client = Xfreerdp::without_nla(&folder, gateway.address, user, password);
        client.end();
        let log = folder.log("xfreerdp");
        assert!(log.contains("ERRINFO_SERVER_FRESH_CREDENTIALS_REQUIRED"), "{user} {password}: {log}");
        let outcome = gateway.outcome().await;
        assert!(matches!(&outcome, Outcome::Front(FrontError::NotProved)), "{outcome:?}");
        assert!(nobody_came(listener).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_rdp_security_is_refused_where_tls_alone_is_enough() {
    let folder = Folder::new();
    let (listener, account) = untouched().await;
    let gateway = Gateway::start_without_nla(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TYPED, &["/sec:rdp"]);
    client.end();
    let outcome = gateway.outcome().await;
    assert!(matches!(outcome, Outcome::Front(FrontError::NoTls)), "{outcome:?}");
    assert!(nobody_came(listener).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_than_the_pinned_one_gets_no_secret() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    let shown = learn_key(TcpStream::connect(target.address).await.unwrap()).await.unwrap();
    let pinned: Pin = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
    let account = Account {
        address: target.address,
        security: Security::Nla,
        user: Shadow::USER,
        password: Shadow::PASSWORD,
        pin: Some(pinned),
    };
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.end();
    let outcome = gateway.outcome().await;
    assert!(matches!(&outcome, Outcome::Back(BackError::Key(seen)) if *seen == shown), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_the_target_refuses_is_said_to_be_so() {
    let folder = Folder::new();
    let target = Shadow::start(&folder);
    let account = Account {
        address: target.address,
        security: Security::Nla,
        user: Shadow::USER,
        password: "not the password",
        pin: None,
    };
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.end();
    let outcome = gateway.outcome().await;
    // This server closes the connection; Windows gives a status.
    assert!(matches!(outcome, Outcome::Back(BackError::LogOn(LogOn::Unsaid))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_only_has_tls_is_refused_where_nla_is_expected() {
    let folder = Folder::new();
    let target = crate::targets::Xrdp::start(&folder);
    let account = Account {
        address: target.address,
        security: Security::Nla,
        user: "svc-eng",
        password: "never sent",
        pin: None,
    };
    let gateway = Gateway::start(account, ChannelPolicy::default()).await;
    let client = Xfreerdp::start(&folder, gateway.address, USER, TOKEN, &[]);
    client.end();
    assert!(matches!(gateway.outcome().await, Outcome::Back(BackError::OtherSecurity(Security::Nla))));
}
