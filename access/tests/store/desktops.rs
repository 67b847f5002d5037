use cofferdam_access::{
    audit::AuditKind,
    decision::{DeviceKind, Factors, SecondFactor, SecondFactorKind},
    ids::{DesktopTokenId, WindowId},
    store::{AuditFilter, DESKTOP_TOKEN_SECONDS, DesktopToken, Store, StoreError},
};

use crate::support::{NOW, TestDb, account, at, by, name, rng, with_site};

on_both!(
    a_token_comes_back_as_it_was_issued_and_works_once,
    a_token_is_over_after_its_time_and_cannot_be_made_for_longer,
    of_all_who_use_a_token_at_once_on_two_nodes_one_gets_it,
    a_newer_token_for_the_same_account_ends_the_older_one,
    a_persons_tokens_are_few_and_go_with_their_credentials,
    every_issue_use_and_refusal_is_audited_without_the_token,
);

const SEALED: &[u8] = b"sealed-by-the-vault";

fn token(person: &str, on: &str) -> DesktopToken {
    DesktopToken {
        id: DesktopTokenId::new(NOW, &mut rng()),
        person: name(person),
        account: account(on),
        window: WindowId::new(NOW, &mut rng()),
        factors: Factors {
            first: DeviceKind::Password,
            second: Some(SecondFactor { kind: SecondFactorKind::Totp, at: NOW, windows: [].into() }),
        },
        source: [192, 0, 2, 9].into(),
        created_at: NOW,
        expires_at: NOW.plus_seconds(DESKTOP_TOKEN_SECONDS),
    }
}

async fn issued(store: &Store, token: &DesktopToken) {
    store.issue_desktop_token(&by(token.person.as_str()), token, SEALED).await.unwrap();
}

async fn a_token_comes_back_as_it_was_issued_and_works_once(db: TestDb) {
    let store = with_site(&db).await;
    let made = token("vera", "root@pump-hmi");
    issued(&store, &made).await;
    let standing = store.standing_desktop_tokens(&name("vera"), NOW).await.unwrap();
    assert_eq!(standing.len(), 1);
    assert_eq!((&standing[0].token, standing[0].sealed.as_slice()), (&made, SEALED));
    assert!(!format!("{standing:?}").contains("sealed"), "the sealed text is not shown");
    assert!(store.standing_desktop_tokens(&name("olga"), NOW).await.unwrap().is_empty());
    assert_eq!(store.use_desktop_token(&at(1), made.id).await.unwrap(), Some(made.clone()));
    assert_eq!(store.use_desktop_token(&at(1), made.id).await.unwrap(), None);
    assert!(store.standing_desktop_tokens(&name("vera"), NOW).await.unwrap().is_empty());
}

async fn a_token_is_over_after_its_time_and_cannot_be_made_for_longer(db: TestDb) {
    let store = with_site(&db).await;
    let mut long = token("vera", "root@pump-hmi");
    long.expires_at = long.expires_at.plus_seconds(1);
    let refused = store.issue_desktop_token(&by("vera"), &long, SEALED).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    let made = token("vera", "root@pump-hmi");
    issued(&store, &made).await;
    let late = NOW.plus_seconds(DESKTOP_TOKEN_SECONDS);
    assert!(store.standing_desktop_tokens(&name("vera"), late).await.unwrap().is_empty());
    assert_eq!(store.use_desktop_token(&at(DESKTOP_TOKEN_SECONDS), made.id).await.unwrap(), None);
    // Not even for a clock that goes back.
    assert_eq!(store.use_desktop_token(&at(1), made.id).await.unwrap(), None);
}

async fn of_all_who_use_a_token_at_once_on_two_nodes_one_gets_it(db: TestDb) {
    let store = with_site(&db).await;
    let nodes = [store.clone(), db.another().await];
    for _ in 0..8 {
        let made = token("vera", "root@pump-hmi");
        issued(&store, &made).await;
        let tries = (0..6).map(|i| {
            let node = nodes[i % 2].clone();
            tokio::spawn(async move { node.use_desktop_token(&at(1), made.id).await.unwrap() })
        });
        let mut worked = 0;
        for one in tries.collect::<Vec<_>>() {
            worked += usize::from(one.await.unwrap().is_some());
        }
        assert_eq!(worked, 1);
    }
}

async fn a_newer_token_for_the_same_account_ends_the_older_one(db: TestDb) {
    let store = with_site(&db).await;
    let (first, other, second) =
        (token("vera", "root@pump-hmi"), token("vera", "operator@pump-hmi"), token("vera", "root@pump-hmi"));
    for one in [&first, &other, &second] {
        issued(&store, one).await;
    }
    assert_eq!(store.use_desktop_token(&at(1), first.id).await.unwrap(), None);
    assert!(store.use_desktop_token(&at(1), other.id).await.unwrap().is_some());
    assert!(store.use_desktop_token(&at(1), second.id).await.unwrap().is_some());
}

async fn a_persons_tokens_are_few_and_go_with_their_credentials(db: TestDb) {
    let store = with_site(&db).await;
    for i in 0..20 {
        issued(&store, &token("vera", &format!("user{i}@pump-hmi"))).await;
    }
    let foreign = token("olga", "root@pump-hmi");
    issued(&store, &foreign).await;
    assert_eq!(store.standing_desktop_tokens(&name("vera"), NOW).await.unwrap().len(), 8);
    store.set_password(&by("ada"), &name("vera"), "$argon2id$x").await.unwrap();
    assert!(store.standing_desktop_tokens(&name("vera"), NOW).await.unwrap().is_empty());
    assert!(store.use_desktop_token(&at(1), foreign.id).await.unwrap().is_some());
}

async fn every_issue_use_and_refusal_is_audited_without_the_token(db: TestDb) {
    let store = with_site(&db).await;
    let made = token("vera", "root@pump-hmi");
    issued(&store, &made).await;
    store.use_desktop_token(&at(1), made.id).await.unwrap();
    store.use_desktop_token(&at(2), made.id).await.unwrap();
    for kind in [AuditKind::DesktopTokenIssued, AuditKind::DesktopTokenUsed, AuditKind::DesktopTokenRefused] {
        let filter = AuditFilter { kind: Some(kind), limit: 10, ..AuditFilter::default() };
        let found = store.audit(&filter).await.unwrap();
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found[0].subject, made.id.to_string());
        assert!(!found[0].body.contains("sealed"), "{}", found[0].body);
    }
}
