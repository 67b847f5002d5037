//! The search catalogue made anew.

use crate::support::*;
use cofferdam_recorder::*;
use std::{ops::ControlFlow, path::PathBuf};

async fn record(service: &RecorderService, id: &str, text: &str) {
    let session = service.start(header(id)).await.unwrap();
    session.record(Event::Resize { channel: 0, cols: 80, rows: 24 }).await.unwrap();
    session.record(output(&format!("{text}\r\n"))).await.unwrap();
    session.finish(End::because("closed")).await.unwrap();
}

fn catalogues(world: &World) -> Vec<PathBuf> {
    let names = std::fs::read_dir(world.dir.path().join("rec")).unwrap().map(|e| e.unwrap().path());
    names.filter(|p| p.extension().is_some_and(|e| e == "cofcat")).collect()
}

/// In which order recordings give hits, to one thread.
fn order(world: &World, who: &Identity, text: &str) -> Vec<String> {
    let query = Query { text: text.into(), ..Query::default() };
    let mut ids: Vec<String> = Vec::new();
    search(&world.dir.path().join("rec"), who, &query, 1, |hit| {
        ids.push(hit.header.id.to_string());
        ControlFlow::Continue(())
    })
    .unwrap();
    ids.dedup();
    ids
}

#[tokio::test]
async fn a_rebuilt_catalogue_orders_a_search_as_one_that_was_written_along() {
    let world = World::new();
    let service = world.service();
    for (id, text) in [("r0", "stop pump"), ("r1", "nothing"), ("r2", "stop valve"), ("r3", "nothing")] {
        record(&service, id, text).await;
    }
    drop(service);
    let folder = world.dir.path().join("rec");
    let to = world.config().recipients;
    assert_eq!(catalogues(&world).len(), 0);
    let done = reindex(&folder, &world.reader, &to, false).unwrap();
    assert_eq!((done.indexes, done.catalogued, done.catalogues, done.skipped.len()), (4, 4, 1, 0));
    assert_eq!(catalogues(&world).len(), 1);
    // A newer one that no catalogue knows comes behind those that it names.
    record(&world.service(), "r9", "stop").await;
    assert_eq!(order(&world, &world.reader, "stop"), ["r2", "r0", "r9"]);
    // Again: nothing is made that is there, and the new catalogue takes the place of the old one.
    let first = catalogues(&world);
    let done = reindex(&folder, &world.reader, &to, false).unwrap();
    assert_eq!((done.indexes, done.catalogued, done.catalogues), (1, 5, 1));
    assert_eq!(catalogues(&world).len(), 1);
    assert_ne!(catalogues(&world), first);
    assert_eq!(order(&world, &world.reader, "stop"), ["r9", "r2", "r0"]);
    let done = reindex(&folder, &world.reader, &to, true).unwrap();
    assert_eq!((done.indexes, done.catalogued), (5, 5));
}

#[tokio::test]
async fn nobody_learns_from_a_rebuilt_catalogue_what_they_could_not_read() {
    let world = World::new();
    let service = world.service();
    record(&service, "r0", "stop pump").await;
    record(&service, "r1", "nothing").await;
    drop(service);
    let folder = world.dir.path().join("rec");
    let newcomer = Identity::generate();
    rewrap(
        &world.path("r1"),
        &world.reader,
        &Recipients { read: vec![world.reader.recipient(), newcomer.recipient()], reveal: vec![] },
    )
    .unwrap();
    let mut to = world.config().recipients;
    to.read.push(newcomer.recipient());
    let done = reindex(&folder, &world.reader, &to, false).unwrap();
    assert_eq!((done.catalogued, done.catalogues), (2, 2), "one for each circle of readers");
    // The newcomer reads r1 alone, and only the catalogue of those like it.
    let query = Query { text: "stop".into(), ..Query::default() };
    let searched = search(&folder, &newcomer, &query, 1, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((searched.recordings, searched.skipped.len()), (1, 1));
    // Somebody who cannot read everything takes nothing away from those who can.
    let done = reindex(&folder, &newcomer, &to, false).unwrap();
    assert_eq!((done.catalogued, done.skipped.len()), (1, 1));
    assert_eq!(order(&world, &world.reader, "stop"), ["r0"]);
    assert!(catalogues(&world).len() >= 2);
}

#[tokio::test]
async fn a_recorder_whose_catalogue_was_replaced_starts_another() {
    let world = World::new();
    let service = world.service_with(RecorderConfig { index: true, ..world.config() });
    record(&service, "r0", "stop pump").await;
    let indexed = |id: &str| {
        let index = world.path(id).with_extension("cofidx");
        async move {
            while !index.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
    };
    indexed("r0").await;
    // The entry follows the index.
    while catalogues(&world).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let folder = world.dir.path().join("rec");
    let before = catalogues(&world);
    while catalogues(&world) == before {
        reindex(&folder, &world.reader, &world.config().recipients, false).unwrap();
    }
    record(&service, "r1", "stop valve").await;
    indexed("r1").await;
    drop(service);
    assert_eq!(catalogues(&world).len(), 2);
    record(&world.service(), "r9", "stop").await;
    assert_eq!(order(&world, &world.reader, "stop"), ["r1", "r0", "r9"]);
}
