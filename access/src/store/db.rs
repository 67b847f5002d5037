//! One thin layer over the two databases: pools, transactions, values and rows.
//!
//! Both understand `$1` placeholders, `ON CONFLICT`, `RETURNING` and the column types in use, so every statement stands
//! once. What differs (how to open, how to begin a write) is here and nowhere else.

use std::{fmt, future::Future, path::PathBuf, str::FromStr, time::Duration};

use sqlx::{
    ConnectOptions, Connection as _, PgPool, Postgres, Row as _, Sqlite, SqlitePool, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};

use super::error::StoreError;

/// Longest wait for a connection, a lock or an answer. After it the store counts as away, and everything refuses.
const PATIENCE: Duration = Duration::from_secs(8);
/// Longest wait for another writer.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Where the data lives.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// One SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server, as `postgres://user:password@host/database`.
    Postgres(String),
}

impl Database {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`.
    pub fn parse(address: &str) -> Result<Self, StoreError> {
        if let Some(path) = address.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(StoreError::BadAddress("\"sqlite:\" needs a path after it".into()));
            }
            Ok(Self::Sqlite(PathBuf::from(path)))
        } else if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            Ok(Self::Postgres(address.to_owned()))
        } else {
            Err(StoreError::BadAddress("use sqlite:PATH or postgres://USER@HOST/DATABASE".into()))
        }
    }
}

impl fmt::Debug for Database {
    /// The address of a server may hold a password, so it is not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(…)"),
        }
    }
}

/// A value bound to a placeholder.
#[derive(Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(Some(v))
    }
}
impl From<Option<i64>> for Value {
    fn from(v: Option<i64>) -> Self {
        Self::Int(v)
    }
}
impl From<crate::clock::Timestamp> for Value {
    fn from(v: crate::clock::Timestamp) -> Self {
        Self::Int(Some(v.micros()))
    }
}
impl From<Option<crate::clock::Timestamp>> for Value {
    fn from(v: Option<crate::clock::Timestamp>) -> Self {
        Self::Int(v.map(crate::clock::Timestamp::micros))
    }
}
impl From<String> for Value {
    /// PostgreSQL keeps no NUL in text, and what a person typed must not make a write fail.
    fn from(v: String) -> Self {
        Self::Text(Some(if v.contains('\0') { v.replace('\0', "\u{fffd}") } else { v }))
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        v.to_owned().into()
    }
}
impl From<&String> for Value {
    fn from(v: &String) -> Self {
        v.clone().into()
    }
}
impl From<Option<String>> for Value {
    fn from(v: Option<String>) -> Self {
        v.map_or(Self::Text(None), Into::into)
    }
}
impl From<&crate::ids::Name> for Value {
    fn from(v: &crate::ids::Name) -> Self {
        v.as_str().into()
    }
}
impl From<&crate::ids::Login> for Value {
    fn from(v: &crate::ids::Login) -> Self {
        v.as_str().into()
    }
}
impl From<&[u8]> for Value {
    fn from(v: &[u8]) -> Self {
        Self::Bytes(Some(v.to_vec()))
    }
}
impl From<Option<Vec<u8>>> for Value {
    fn from(v: Option<Vec<u8>>) -> Self {
        Self::Bytes(v)
    }
}

/// Builds the list of bound values.
macro_rules! args {
    ($($v:expr),* $(,)?) => { vec![$($crate::store::db::Value::from($v)),*] };
}
pub(super) use args;

/// A row of either database.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! getter {
    ($name:ident, $ty:ty) => {
        pub(super) fn $name(&self, column: &'static str) -> Result<$ty, StoreError> {
            match self {
                Self::Sqlite(row) => row.try_get(column),
                Self::Postgres(row) => row.try_get(column),
            }
            .map_err(|e| StoreError::damaged("row", e))
        }
    };
}

impl Row {
    getter!(int, i64);
    getter!(opt_int, Option<i64>);
    getter!(text, String);
    getter!(opt_text, Option<String>);
    getter!(bytes, Vec<u8>);
    getter!(opt_bytes, Option<Vec<u8>>);

    /// A moment.
    pub(super) fn time(&self, column: &'static str) -> Result<crate::clock::Timestamp, StoreError> {
        self.int(column).map(crate::clock::Timestamp)
    }
    /// A moment that may be absent.
    pub(super) fn opt_time(
        &self,
        column: &'static str,
    ) -> Result<Option<crate::clock::Timestamp>, StoreError> {
        Ok(self.opt_int(column)?.map(crate::clock::Timestamp))
    }
    /// A number that is never negative.
    pub(super) fn count(&self, column: &'static str) -> Result<u64, StoreError> {
        u64::try_from(self.int(column)?).map_err(|_| StoreError::damaged(column, "negative"))
    }
    /// Text that stands for a `T`.
    pub(super) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.text(column)?.parse().map_err(|e| StoreError::damaged(column, e))
    }
    /// Text that stands for a `T`, or nothing.
    pub(super) fn opt_parsed<T>(&self, column: &'static str) -> Result<Option<T>, StoreError>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.opt_text(column)?
            .map(|t| t.parse().map_err(|e: T::Err| StoreError::damaged(column, e)))
            .transpose()
    }
    /// A JSON document.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|e| StoreError::damaged(column, e))
    }
}

/// Text of a statement: literal, or put together from literals by [`super::filter`].
pub(super) type Sql = std::borrow::Cow<'static, str>;

fn bind_sqlite(
    sql: Sql,
    values: Vec<Value>,
) -> sqlx::query::Query<'static, Sqlite, <Sqlite as sqlx::Database>::Arguments> {
    values.into_iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |q, v| match v {
        Value::Int(v) => q.bind(v),
        Value::Text(v) => q.bind(v),
        Value::Bytes(v) => q.bind(v),
    })
}

fn bind_postgres(
    sql: Sql,
    values: Vec<Value>,
) -> sqlx::query::Query<'static, Postgres, <Postgres as sqlx::Database>::Arguments> {
    values.into_iter().fold(sqlx::query(sqlx::AssertSqlSafe(sql)), |q, v| match v {
        Value::Int(v) => q.bind(v),
        Value::Text(v) => q.bind(v),
        Value::Bytes(v) => q.bind(v),
    })
}

/// Awaits a driver's answer no longer than [`PATIENCE`].
async fn patient<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(v)) => Ok(v),
        Ok(Err(e)) => Err(StoreError::from_sqlx(what, &e)),
        Err(_) => Err(StoreError::Unavailable { what, reason: format!("no answer in {PATIENCE:?}") }),
    }
}

/// An open transaction.
pub(super) enum DbTx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl DbTx {
    /// Runs a statement; answers how many rows it touched.
    pub(super) async fn execute(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<u64, StoreError> {
        let sql = sql.into();
        match self {
            Self::Sqlite(tx) => {
                patient("write", bind_sqlite(sql, values).execute(&mut **tx)).await.map(|r| r.rows_affected())
            }
            Self::Postgres(tx) => patient("write", bind_postgres(sql, values).execute(&mut **tx))
                .await
                .map(|r| r.rows_affected()),
        }
    }

    /// All rows of a query.
    pub(super) async fn rows(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, StoreError> {
        let sql = sql.into();
        Ok(match self {
            Self::Sqlite(tx) => patient("read", bind_sqlite(sql, values).fetch_all(&mut **tx))
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
            Self::Postgres(tx) => patient("read", bind_postgres(sql, values).fetch_all(&mut **tx))
                .await?
                .into_iter()
                .map(Row::Postgres)
                .collect(),
        })
    }

    /// The first row of a query, if there is one.
    pub(super) async fn row(
        &mut self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Runs a script of several statements without values.
    pub(super) async fn script(&mut self, sql: &'static str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => patient("migration", sqlx::raw_sql(sql).execute(&mut **tx)).await.map(drop),
            Self::Postgres(tx) => patient("migration", sqlx::raw_sql(sql).execute(&mut **tx)).await.map(drop),
        }
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => patient("commit", tx.commit()).await,
            Self::Postgres(tx) => patient("commit", tx.commit()).await,
        }
    }

    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(tx) => patient("rollback", tx.rollback()).await,
            Self::Postgres(tx) => patient("rollback", tx.rollback()).await,
        }
    }
}

/// Makes a missing database file, readable by its owner only; SQLite gives the files beside it the same mode.
fn make_private(path: &std::path::Path) -> Result<(), StoreError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop).map_err(|e| {
        StoreError::BadAddress(format!("{}: {e}; make its folder, writable by this user", path.display()))
    })
}

/// The connections to one database.
pub(super) enum Pools {
    /// SQLite has one writer at a time, so there is one connection for it, and a few that only read.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

impl Pools {
    /// Opens the connections; `create` makes a missing SQLite file.
    pub(super) async fn open(database: &Database, create: bool) -> Result<Self, StoreError> {
        match database {
            Database::Sqlite(path) => {
                if create {
                    make_private(path)?;
                }
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .busy_timeout(LOCK_PATIENCE)
                    .pragma("cache_size", "-512")
                    .disable_statement_logging();
                let pool = |max| {
                    SqlitePoolOptions::new()
                        .max_connections(max)
                        .idle_timeout(None)
                        .max_lifetime(None)
                        .test_before_acquire(false)
                        .acquire_timeout(LOCK_PATIENCE)
                        // A commit that failed on a full or broken disk leaves the library counting a transaction that
                        // SQLite has ended by itself; such a connection could never begin another. A new one takes its
                        // place. (The ping lets a rollback that was queued when the transaction was dropped run first.)
                        .after_release(|connection, _| {
                            Box::pin(async move {
                                connection.ping().await?;
                                Ok(!connection.is_in_transaction())
                            })
                        })
                };
                let writer =
                    patient("open", pool(1).connect_with(options.clone().create_if_missing(create))).await?;
                let readers =
                    patient("open", pool(3).connect_with(options.pragma("query_only", "ON"))).await?;
                Ok(Self::Sqlite { writer, readers })
            }
            Database::Postgres(url) => {
                let options = PgConnectOptions::from_str(url)
                    .map_err(|e| StoreError::BadAddress(e.to_string()))?
                    .application_name("cofferdam")
                    // A node that hangs must not hold the line of writers, and a lock must not be waited for without end.
                    .options([
                        ("statement_timeout", "7000"),
                        ("lock_timeout", "5000"),
                        ("idle_in_transaction_session_timeout", "10000"),
                        ("synchronous_commit", "on"),
                    ])
                    .disable_statement_logging();
                let pool = PgPoolOptions::new()
                    .max_connections(8)
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .acquire_timeout(LOCK_PATIENCE);
                Ok(Self::Postgres(patient("connect", pool.connect_with(options)).await?))
            }
        }
    }

    /// Begins a transaction that will write. On SQLite it holds the write lock from here on; on PostgreSQL the caller
    /// locks the head of the audit log, to the same effect.
    pub(super) async fn begin_write(&self) -> Result<DbTx, StoreError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => {
                DbTx::Sqlite(patient("begin", writer.begin_with("BEGIN IMMEDIATE")).await?)
            }
            Self::Postgres(pool) => DbTx::Postgres(patient("begin", pool.begin()).await?),
        })
    }

    /// Begins a transaction that sees one moment of the database.
    pub(super) async fn begin_read(&self) -> Result<DbTx, StoreError> {
        Ok(match self {
            Self::Sqlite { readers, .. } => DbTx::Sqlite(patient("begin", readers.begin()).await?),
            Self::Postgres(pool) => DbTx::Postgres(
                patient("begin", pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?,
            ),
        })
    }

    /// All rows of a query outside any transaction.
    pub(super) async fn rows(&self, sql: impl Into<Sql>, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let sql = sql.into();
        Ok(match self {
            Self::Sqlite { readers, .. } => patient("read", bind_sqlite(sql, values).fetch_all(readers))
                .await?
                .into_iter()
                .map(Row::Sqlite)
                .collect(),
            Self::Postgres(pool) => patient("read", bind_postgres(sql, values).fetch_all(pool))
                .await?
                .into_iter()
                .map(Row::Postgres)
                .collect(),
        })
    }

    /// The first row of a query outside any transaction.
    pub(super) async fn row(
        &self,
        sql: impl Into<Sql>,
        values: Vec<Value>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }

    /// Writes what SQLite's file holds at one moment into a new file, while others go on writing. Takes as long as it
    /// takes: a large database needs more than [`PATIENCE`].
    pub(super) async fn copy_to(&self, file: &std::path::Path) -> Result<(), StoreError> {
        let fault = |e: sqlx::Error| StoreError::from_sqlx("copy", &e);
        let Self::Sqlite { writer, .. } = self else {
            return Err(StoreError::Refused("PostgreSQL copies itself: take a dump with pg_dump".into()));
        };
        let name = file.to_str().map(str::to_owned);
        let name = name.ok_or_else(|| StoreError::BadAddress("the copy's name is not text".into()))?;
        // One of its own: the readers may not write anywhere, and the writer must not be kept from anybody.
        let mut connection = writer.connect_options().connect().await.map_err(fault)?;
        let copied = sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await.map(drop);
        connection.close().await.map_err(fault)?;
        copied.map_err(fault)
    }

    pub(super) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
