use cofferdam_access::apply::{CheckedSite, Verb};
use cofferdam_access::site::{PlantState, Site};
use cofferdam_access::store::{Applied, AuditFilter, StoreError};

use crate::support::{NOW, TestDb, at, by, checked, name, site, with_site};

on_both!(
    a_site_comes_back_as_it_was_applied,
    applying_the_same_site_again_writes_nothing,
    a_plan_that_is_out_of_date_is_refused,
    a_removed_person_loses_the_credentials,
    plant_state_is_per_zone_and_moves_the_revision,
    the_view_is_of_one_moment,
);

async fn a_site_comes_back_as_it_was_applied(db: TestDb) {
    let store = with_site(&db).await;
    let back = store.site().await.unwrap();
    assert_eq!(back.assets, site().assets);
    assert_eq!(back.conduits, site().conduits);
    assert_eq!(back.settings, site().settings);
    assert!(store.plan_site(&checked(site())).await.unwrap().is_empty());
    let again: Site = toml::from_str(&toml::to_string(&back).unwrap()).unwrap();
    assert_eq!(again, back, "what is exported can be applied");
}

async fn applying_the_same_site_again_writes_nothing(db: TestDb) {
    let store = with_site(&db).await;
    let before = (store.revision().await.unwrap(), store.head().await.unwrap());
    let plan = store.plan_site(&checked(site())).await.unwrap();
    assert_eq!(store.apply_site(&by("ada"), &checked(site()), &plan).await.unwrap(), Applied::Nothing);
    assert_eq!((store.revision().await.unwrap(), store.head().await.unwrap()), before);
}

async fn a_plan_that_is_out_of_date_is_refused(db: TestDb) {
    let stores = [with_site(&db).await, db.another().await];
    let (mut one, mut two) = (site(), site());
    one.assets[0].title = "one".into();
    two.assets[0].title = "two".into();
    let (one, two) = (checked(one), checked(two));
    let plans = [stores[0].plan_site(&one).await.unwrap(), stores[1].plan_site(&two).await.unwrap()];
    let (a, b) = tokio::join!(async { stores[0].apply_site(&by("ada"), &one, &plans[0]).await }, async {
        stores[1].apply_site(&by("ada"), &two, &plans[1]).await
    });
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    let lost = a.err().or(b.err()).unwrap();
    assert!(matches!(lost, StoreError::Changed { what: "site" }), "{lost}");
    let empty = cofferdam_access::apply::Plan::default();
    let unseen = stores[0].apply_site(&by("ada"), &checked(Site::default()), &empty).await.unwrap_err();
    assert!(matches!(unseen, StoreError::Changed { .. }), "an empty plan is not a yes to anything: {unseen}");
}

async fn a_removed_person_loses_the_credentials(db: TestDb) {
    let store = with_site(&db).await;
    store.set_password(&by("ada"), &name("olga"), "$argon2id$x").await.unwrap();
    store.invite(&by("ada"), &name("olga"), "inv", NOW.plus_seconds(60)).await.unwrap();
    let mut without = site();
    without.users.retain(|u| u.name != name("olga"));
    let wanted = checked(without);
    let plan = store.plan_site(&wanted).await.unwrap();
    assert!(plan.may_cut_sessions());
    assert_eq!(plan.steps.iter().map(|s| s.verb).collect::<Vec<_>>(), [Verb::Remove]);
    store.apply_site(&by("ada"), &wanted, &plan).await.unwrap();
    assert!(store.credentials(&name("olga")).await.unwrap().unwrap().password_hash.is_none());
    assert!(store.invitation("inv").await.unwrap().is_none());
}

async fn plant_state_is_per_zone_and_moves_the_revision(db: TestDb) {
    let store = with_site(&db).await;
    let before = store.revision().await.unwrap();
    let mut watch = store.watch_revision();
    watch.mark_unchanged();
    store.set_plant_state(&by("olga"), &name("pumps"), PlantState::Maintenance, "seal").await.unwrap();
    assert!(store.revision().await.unwrap() > before);
    assert!(watch.has_changed().unwrap(), "this process knows at once");
    let states = store.plant_states().await.unwrap();
    assert_eq!((states[0].state, states[0].by.as_str()), (PlantState::Maintenance, "olga"));
    let view = store.policy_view(NOW).await.unwrap();
    assert_eq!(view.plant_states.get(&name("pumps")), Some(&PlantState::Maintenance));
    let unknown = store.set_plant_state(&by("olga"), &name("nowhere"), PlantState::Shutdown, "").await;
    assert!(matches!(unknown, Err(StoreError::NotFound { .. })));
    let last = store.audit(&AuditFilter { limit: 1, ..AuditFilter::default() }).await.unwrap().remove(0);
    assert!(last.body.contains("\"before\":\"production\""), "{}", last.body);
}

async fn the_view_is_of_one_moment(db: TestDb) {
    let stores = [with_site(&db).await, db.another().await];
    let writer = tokio::spawn({
        let store = stores[1].clone();
        async move {
            for i in 0..30 {
                let state = if i % 2 == 0 { PlantState::Shutdown } else { PlantState::Production };
                store.set_plant_state(&at(i), &name("pumps"), state, "").await.unwrap();
            }
        }
    });
    let first = stores[0].policy_view(NOW).await.unwrap().revision;
    while !writer.is_finished() {
        let view = stores[0].policy_view(NOW).await.unwrap();
        let state = view.plant_states.get(&name("pumps")).copied();
        // The n-th change made it shutdown for odd n.
        if view.revision > first {
            let odd = !(view.revision - base(&stores[0]).await).is_multiple_of(2);
            assert_eq!(state == Some(PlantState::Shutdown), odd, "revision {}", view.revision);
        }
    }
    writer.await.unwrap();
}

/// The revision right after the sample site was applied to a fresh database.
async fn base(_: &cofferdam_access::store::Store) -> u64 {
    2
}

#[test]
fn every_fault_of_a_site_names_item_and_field() {
    let mut bad = site();
    bad.settings.time_zone = "Mars/Olympus".into();
    bad.assets[0].zone = name("nowhere");
    bad.zones[0].networks.push("10.0.0.0/64".into());
    bad.users[0].ssh_keys.push("ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAEC comment".into());
    bad.users[1].ssh_keys = vec![site().users[0].ssh_keys[0].clone()];
    bad.users.push(site().users[1].clone());
    let mut second = site().accounts[0].clone();
    second.login = cofferdam_access::ids::Login::new("svc").unwrap();
    bad.accounts.push(second);
    let faults = CheckedSite::new(bad, &|_| Err("unexpected token".into())).unwrap_err();
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for part in [
        "settings: time_zone: ",
        "asset \"pump-hmi\": zone: ",
        "zone \"office\": networks: ",
        "user \"vera\": ssh_keys: ",
        "user \"olga\": ssh_keys: a key is also listed for \"vera\"",
        "user \"olga\": name: is there twice",
        "account \"svc@pump-hmi\": default: ",
        "policy \"extra\": text: unexpected token",
    ] {
        assert!(found.iter().any(|f| f.starts_with(part)), "{part} in {found:#?}");
    }
}

#[test]
fn a_plan_shows_fields_and_marks_what_may_cut_sessions() {
    use cofferdam_access::apply::Plan;
    let mut next = site();
    next.users[0].full_name = "Vera V.".into();
    next.users[1].disabled = true;
    next.zones[1].critical = false;
    next.conduits[0].protocols.clear();
    next.conduits[0].protocols.insert(cofferdam_access::site::Protocol::Ssh);
    let plan = Plan::between(&site(), &checked(next.clone())).unwrap();
    let cut: Vec<_> = plan.steps.iter().map(|s| (s.name.as_str(), s.may_cut_sessions)).collect();
    assert_eq!(cut, [("olga", true), ("vera", false), ("pumps", false), ("service", true)]);
    let text = plan.to_string();
    assert!(text.contains("~ user olga  (may end live sessions)\n    disabled: (default) -> true"), "{text}");
    assert!(text.contains("protocols: [\"ssh\",\"modbus\"] -> [\"ssh\"]"), "{text}");
    // The order in a file means nothing.
    let mut turned = site();
    turned.users.reverse();
    turned.zones.reverse();
    assert!(Plan::between(&site(), &checked(turned)).unwrap().is_empty());
    // Enabling somebody again takes nothing away.
    let back = Plan::between(&next, &checked(site())).unwrap();
    let olga = back.steps.iter().find(|s| s.name == "olga").unwrap();
    assert!(!olga.may_cut_sessions);
}

/// What is wrong with a site, a line each. What is exported of it can be applied in any case.
fn faults(site: Site) -> String {
    let text = site.to_toml().unwrap();
    assert_eq!(Site::from_toml(&text).unwrap(), site, "what is exported can be applied");
    CheckedSite::new(site, &|_| Ok(())).map_or_else(
        |faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        |_| String::new(),
    )
}

#[test]
fn a_desktop_needs_an_rdp_endpoint_and_readable_fingerprints() {
    use cofferdam_access::site::{Desktop, Endpoint, Protocol, PublicKeyPin};
    let with = |desktop: Desktop, endpoint: bool| {
        let mut site = site();
        site.assets[0].rdp = Some(desktop);
        if endpoint {
            let rdp = Endpoint { protocol: Protocol::Rdp, port: 3389, dial_host: None, dial_port: None };
            site.assets[0].endpoints.push(rdp);
        }
        faults(site)
    };
    let good = Desktop {
        public_keys: vec![PublicKeyPin::of(b"key").to_string()],
        domain: Some("PLANT".into()),
        clipboard_to_target: true,
        ..Desktop::default()
    };
    assert_eq!(with(good.clone(), true), "");
    assert!(with(good.clone(), false).contains("has no rdp endpoint"));
    let found = with(Desktop { public_keys: vec!["aa:bb".into()], ..good.clone() }, true);
    assert!(found.starts_with("asset \"pump-hmi\": rdp: \"aa:bb\"… is no fingerprint"), "{found}");
    assert!(with(Desktop { domain: Some("a b".into()), ..good.clone() }, true).contains("domain is no name"));
    let drives = |paths: &[&str], bytes: Option<u64>, used: bool| {
        let drives_paths = paths.iter().map(ToString::to_string).collect();
        let desktop =
            Desktop { drives_to_target: used, drives_paths, drives_file_bytes: bytes, ..good.clone() };
        with(desktop, true)
    };
    assert_eq!(drives(&["/share/**", "/*/out/*.csv"], Some(1), true), "");
    for bad in ["share/*", "/share/x**.csv", "/share//a", "/share/", "/share/../a"] {
        assert!(drives(&[bad], None, true).contains("drives_paths"), "{bad}");
    }
    assert!(drives(&["/share/*"; 257], None, true).contains("more than 256 patterns"));
    assert!(drives(&["/share/*"], Some(0), true).contains("no file is that small"));
    assert!(drives(&["/share/*"], None, false).contains("nobody may use"));
    let limits = Desktop {
        clipboard_paths: vec!["/clipboard/*.csv".into()],
        clipboard_file_bytes: Some(1000),
        ..good
    };
    assert!(with(limits.clone(), true).contains("clipboard_paths limits files that nobody may use"));
    let used = Desktop { clipboard_files_to_person: true, ..limits };
    assert_eq!(with(used.clone(), true), "");
    let none = Desktop { clipboard_file_bytes: Some(0), ..used.clone() };
    assert!(with(none, true).contains("clipboard_file_bytes in bytes"));
    let unread = Desktop { clipboard_paths: vec!["a.csv".into()], ..used };
    assert!(with(unread, true).contains("clipboard_paths: "));
}

#[test]
fn the_realm_of_a_desktop_has_a_name_kdcs_on_tcp_and_a_name_for_the_machine() {
    use cofferdam_access::site::{Desktop, DesktopRealm, DesktopSecurity, Endpoint, Protocol};
    let with = |realm: DesktopRealm, security: DesktopSecurity, dial_host: Option<&str>| {
        let mut site = site();
        site.assets[0].address = "192.0.2.30".into();
        site.assets[0].rdp = Some(Desktop { kerberos: Some(realm), security, ..Desktop::default() });
        let dial_host = dial_host.map(str::to_owned);
        let rdp = Endpoint { protocol: Protocol::Rdp, port: 3389, dial_host, dial_port: None };
        site.assets[0].endpoints.push(rdp);
        faults(site)
    };
    let good = DesktopRealm {
        realm: "PLANT.EXAMPLE".into(),
        kdcs: vec!["tcp://dc1.plant.example:88".into(), "tcp://192.0.2.5".into()],
        host: Some("eng-ws.plant.example".into()),
    };
    assert_eq!(with(good.clone(), DesktopSecurity::Nla, None), "");
    let nameless = DesktopRealm { host: None, ..good.clone() };
    assert_eq!(with(nameless.clone(), DesktopSecurity::Nla, Some("eng-ws.plant.example")), "");
    let kdcs =
        |kdcs: &[&str]| DesktopRealm { kdcs: kdcs.iter().map(|k| (*k).into()).collect(), ..good.clone() };
    for (realm, security, says) in [
        (nameless, DesktopSecurity::Nla, "give the machine's name in the realm as host"),
        (good.clone(), DesktopSecurity::Tls, "set security to \"nla\""),
        (
            DesktopRealm { realm: "plant.example".into(), ..good.clone() },
            DesktopSecurity::Nla,
            "write it in capitals",
        ),
        (DesktopRealm { host: Some("a b".into()), ..good.clone() }, DesktopSecurity::Nla, "kerberos: host: "),
        (
            DesktopRealm { host: Some("192.0.2.30".into()), ..good.clone() },
            DesktopSecurity::Nla,
            "and not for an address",
        ),
        (kdcs(&[]), DesktopSecurity::Nla, "one to 4 KDCs"),
        (kdcs(&["tcp://a"; 5]), DesktopSecurity::Nla, "one to 4 KDCs"),
        (kdcs(&["udp://dc1:88"]), DesktopSecurity::Nla, "\"udp://dc1:88\" is no KDC"),
        (kdcs(&["tcp://d c1:88"]), DesktopSecurity::Nla, "is no KDC: write it as \"tcp://"),
    ] {
        let found = with(realm, security, None);
        assert!(
            found.starts_with("asset \"pump-hmi\": rdp: kerberos: ") && found.contains(says),
            "{says}: {found}"
        );
    }
}
