//! Databases on the PostgreSQL that the tests share.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::run;

/// Makes an empty database and gives its URL. No server is a failure, never a skip.
pub(crate) fn new_database() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let Ok(pattern) = std::env::var("COFFERDAM_TEST_POSTGRES") else {
        panic!(
            "COFFERDAM_TEST_POSTGRES is not set: run ./test, which starts a PostgreSQL, or name one, with DB for the database"
        )
    };
    let name = format!("cofferdam_e2e_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let url = |database: &str| pattern.replacen("/DB?", &format!("/{database}?"), 1);
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--quiet", "--command", &format!("CREATE DATABASE {name}"), &url("postgres")]);
    run(psql).ok();
    url(&name)
}
