//! An object store in memory that fails in every way it can.

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory, path::Path as Name,
};
use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

type Result<T> = object_store::Result<T>;

/// What goes wrong with the store.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Everything fails, as with status 500.
    pub(crate) down: AtomicBool,
    /// Nothing is answered.
    pub(crate) hangs: AtomicBool,
    /// It takes no conditional put.
    pub(crate) unconditional: AtomicBool,
    /// So many puts of parts are answered well and store another content, or nothing.
    pub(crate) flips: AtomicUsize,
    pub(crate) loses: AtomicUsize,
    /// After so many more puts it is down.
    pub(crate) puts_left: Mutex<Option<usize>>,
    /// After so many more puts, one waits before it is carried out …
    pub(crate) gate_after: Mutex<Option<usize>>,
    /// … says that it does …
    pub(crate) at_gate: Notify,
    /// … and goes on when it may.
    pub(crate) open_gate: Notify,
    /// Names of the objects that were put, in order.
    pub(crate) puts: Mutex<Vec<String>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyStore {
    pub(crate) inner: Arc<InMemory>,
    pub(crate) faults: Arc<Faults>,
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: "Server returned non-2xx status code: 500".into() }
}

fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

impl FaultyStore {
    async fn answer(&self) -> Result<()> {
        if self.faults.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.faults.down.load(Ordering::SeqCst) { Err(failure()) } else { Ok(()) }
    }

    fn is_gated(&self) -> bool {
        let mut left = self.faults.gate_after.lock().unwrap();
        let now = *left == Some(0);
        *left = left.and_then(|n| n.checked_sub(1));
        now
    }

    pub(crate) fn parts_put(&self) -> usize {
        self.faults.puts.lock().unwrap().iter().filter(|name| name.ends_with(".part")).count()
    }

    pub(crate) async fn names(&self) -> Vec<String> {
        self.inner.list(None).map(|meta| meta.unwrap().location.to_string()).collect().await
    }

    /// Changes one byte of an object, as a bad disk does.
    pub(crate) async fn damage(&self, name: &str) {
        let name = Name::from(name);
        let mut bytes = self.inner.get(&name).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.inner.put(&name, bytes.into()).await.unwrap();
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, name: &Name, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.answer().await?;
        if let Some(left) = &mut *self.faults.puts_left.lock().unwrap() {
            *left = left.checked_sub(1).ok_or_else(failure)?;
        }
        if self.is_gated() {
            self.faults.at_gate.notify_one();
            self.faults.open_gate.notified().await;
        }
        if options.mode == PutMode::Create && self.faults.unconditional.load(Ordering::SeqCst) {
            let (operation, implementer) = ("put".to_owned(), "test".to_owned());
            return Err(object_store::Error::NotImplemented { operation, implementer });
        }
        self.faults.puts.lock().unwrap().push(name.to_string());
        let part = name.as_ref().ends_with(".part");
        if part && take_one(&self.faults.loses) {
            return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
        }
        if part && take_one(&self.faults.flips) {
            let mut bytes: Vec<u8> = payload.into_iter().flatten().collect();
            *bytes.last_mut().unwrap() ^= 0x80;
            return self.inner.put_opts(name, bytes.into(), options).await;
        }
        self.inner.put_opts(name, payload, options).await
    }
    async fn put_multipart_opts(&self, _: &Name, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("objects are small")
    }
    async fn get_opts(&self, name: &Name, options: GetOptions) -> Result<GetResult> {
        self.answer().await?;
        self.inner.get_opts(name, options).await
    }
    fn delete_stream(&self, names: BoxStream<'static, Result<Name>>) -> BoxStream<'static, Result<Name>> {
        self.inner.delete_stream(names)
    }
    fn list(&self, prefix: Option<&Name>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, found) = (self.clone(), self.inner.list(prefix));
        futures::stream::once(async move { store.answer().await })
            .flat_map(move |answer| match answer {
                Ok(()) => futures::stream::empty().boxed(),
                Err(e) => futures::stream::iter([Err(e)]).boxed(),
            })
            .chain(found)
            .boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Name>) -> Result<ListResult> {
        self.answer().await?;
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, _: &Name, _: &Name, _: CopyOptions) -> Result<()> {
        unreachable!("nothing is copied")
    }
}
