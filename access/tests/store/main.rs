//! The store's suite: every test runs on SQLite and on PostgreSQL, each with a fresh database.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "tests")]

/// Makes `sqlite::NAME` and `postgres::NAME` of each `async fn NAME(db: TestDb)`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::TestDb::sqlite()).await; })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::TestDb::postgres().await).await; })+
        }
    };
}

mod audit;
mod authorities;
mod checkouts;
mod desktops;
mod envelopes;
mod figures;
mod people;
mod recordings;
mod rotation;
mod schema;
mod sessions;
mod site;
mod support;
mod windows;
