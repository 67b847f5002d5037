//! Recordings that are deleted while they are on their way to an object store.

use crate::{
    remote::{MINUTE, Site, finish, send},
    support::*,
};
use cofferdam_recorder::*;
use object_store::{ObjectStoreExt, path::Path as Name};
use std::{sync::Arc, time::Duration};

#[tokio::test]
async fn a_recording_that_is_deleted_in_the_middle_of_its_upload_leaves_nothing_in_the_store() {
    // Parts, keys, manifest: whichever of the puts is under way when two people delete the recording.
    let mut tried = 0;
    for put in 0.. {
        let site = Site::new();
        let service = site.world.service();
        let store = site.remote().with_timeout(Duration::from_secs(30));
        let uploader = Uploader::new(&service, store, site.config.clone(), Arc::new(|| 1.0));
        let session = service.start(header("r1")).await.unwrap();
        send(&session, 4, &mut Vec::new()).await;
        finish(session).await;
        let faults = &site.store.faults;
        *faults.gate_after.lock().unwrap() = Some(put);
        let deletes = async {
            faults.at_gate.notified().await;
            bury(&site.world.path("r1")).unwrap();
            delete(&site.world.path("r1")).unwrap();
            site.archive().delete(&"r1".parse().unwrap()).await.unwrap_or_default();
            assert_eq!(site.store.names().await, [] as [&str; 0]);
            faults.open_gate.notify_one();
        };
        tokio::select! {
            (round, ()) = async { tokio::join!(uploader.round(), deletes) } => {
                assert!(round.finished.is_empty(), "{round:?}");
            }
            () = async {
                while site.store.names().await.iter().all(|name| !name.ends_with("manifest.json")) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            } => break,
        }
        tried += 1;
        assert_eq!(site.store.names().await, [] as [&str; 0], "put {put}");
        let stray = Name::from("plant/a/r1/recording-000009.part");
        site.store.inner.put(&stray, "late".into()).await.unwrap();
        assert!(uploader.round().await.failures.is_empty());
        site.world.pass(61 * MINUTE);
        assert!(uploader.round().await.failures.is_empty());
        assert_eq!(site.store.names().await, [] as [&str; 0], "what arrives late goes too");
        assert_eq!(site.local_files(), [] as [&str; 0], "the mark is gone");
    }
    assert!(tried >= 5, "{tried} puts");
}

#[tokio::test]
async fn what_is_held_is_not_marked_as_deleted() {
    let site = Site::new();
    let service = site.world.service();
    let session = service.start(header("r1")).await.unwrap();
    finish(session).await;
    hold(&site.world.path("r1"), "a court").unwrap();
    assert!(matches!(bury(&site.world.path("r1")), Err(DeleteError::Held(_))));
    assert_eq!(site.uploader(&service).round().await.finished.len(), 1);
}
