//! The byte stream under an SSH connection, with two properties that the protocol library does not give: it can be cut
//! at once from outside, whatever either peer does, and it reads in large pieces while data flows.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::{
    io::poll_read_buf,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};

/// Buffer of a connection on which little happens, bytes.
const SMALL: usize = 2 * 1024;
/// Buffer of a connection that fills the small one, bytes.
const LARGE: usize = 256 * 1024;
/// Reads at least this long go to the socket without a copy when nothing is buffered, bytes.
const DIRECT: usize = 64 * 1024;

/// What is below a [`Wire`] until somebody closes it.
type Shared<S> = Arc<Mutex<Option<S>>>;

fn lock<S>(shared: &Mutex<Option<S>>) -> MutexGuard<'_, Option<S>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that ends with an error as soon as its token is cancelled.
///
/// A peer that neither reads nor writes cannot hold it open: a blocked write is woken by the token as well. Whoever uses it may
/// itself wait for something else, such as the recorder, and not look at it: then [`Closer`] closes it nevertheless.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    inner: Shared<S>,
    cut_read: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_write: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What was read and not taken yet.
    buffer: BytesMut,
    /// How much is asked for at once.
    size: usize,
    /// The buffer has had room for the larger of the two sizes.
    is_large: bool,
}

impl<S> Wire<S> {
    /// Wraps `inner`; `cut` ends both directions.
    pub(crate) fn new(inner: S, cut: &CancellationToken) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Some(inner))),
            cut_read: Box::pin(cut.clone().cancelled_owned()),
            cut_write: Box::pin(cut.clone().cancelled_owned()),
            buffer: BytesMut::new(),
            size: SMALL,
            is_large: false,
        }
    }

    /// What closes it from outside.
    pub(crate) fn closer(&self) -> Closer<S> {
        Closer(Arc::downgrade(&self.inner))
    }

    fn with<T>(&self, act: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>>
    where
        S: Unpin,
    {
        match &mut *lock(&self.inner) {
            Some(inner) => act(Pin::new(inner)),
            None => Poll::Ready(Err(cut())),
        }
    }
}

/// Closes a [`Wire`], whatever whoever uses it waits for. Does not hold it open.
#[derive(Debug)]
pub(crate) struct Closer<S>(Weak<Mutex<Option<S>>>);

impl<S> Closer<S> {
    /// Closes it: its far end sees that at once.
    pub(crate) fn close(&self) {
        if let Some(shared) = self.0.upgrade() {
            let inner = lock(&shared).take();
            drop(inner);
        }
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "cut by the gateway")
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut_read.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        if this.buffer.is_empty() {
            if out.remaining() >= DIRECT {
                return this.with(|inner| inner.poll_read(cx, out));
            }
            let mut buffer = std::mem::take(&mut this.buffer);
            buffer.reserve(this.size);
            this.is_large |= this.size == LARGE;
            let read = this.with(|inner| poll_read_buf(inner, cx, &mut buffer));
            this.buffer = buffer;
            match read {
                Poll::Pending => {
                    // Nothing flows: hold no large buffer while waiting.
                    if std::mem::take(&mut this.is_large) {
                        this.size = SMALL;
                        this.buffer = BytesMut::new();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(read) => this.size = if read? >= SMALL { LARGE } else { SMALL },
            }
        }
        let n = this.buffer.len().min(out.remaining());
        out.put_slice(this.buffer.get(..n).unwrap_or_default());
        this.buffer.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.cut_write.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        this.with(|inner| inner.poll_write(cx, data))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut_write.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        this.with(|inner| inner.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.cut_write.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(cut()));
        }
        ready!(this.with(|inner| inner.poll_shutdown(cx)))?;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_arrive_whole_and_in_order_whatever_the_sizes() {
        let (mut far, near) = duplex(300_000);
        let mut wire = Wire::new(near, &CancellationToken::new());
        let sent: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
        });
        let mut got = Vec::new();
        let mut piece = 1;
        while got.len() < expected.len() {
            let mut part = vec![0; piece.min(expected.len() - got.len())];
            wire.read_exact(&mut part).await.unwrap();
            got.extend_from_slice(&part);
            piece = piece * 3 % 100_003 + 1;
        }
        assert_eq!(got, expected);
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn a_cut_wakes_a_reader_and_a_blocked_writer() {
        let (_far, near) = duplex(16);
        let token = CancellationToken::new();
        let wire = Wire::new(near, &token);
        let (mut r, mut w) = tokio::io::split(wire);
        let reading = tokio::spawn(async move { r.read_u8().await });
        let writing = tokio::spawn(async move { w.write_all(&[0; 1000]).await });
        tokio::task::yield_now().await;
        token.cancel();
        assert!(reading.await.unwrap().is_err());
        assert!(writing.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn it_is_closed_also_where_nobody_looks_at_it() {
        let (mut far, near) = duplex(16);
        let mut wire = Wire::new(near, &CancellationToken::new());
        let closer = wire.closer();
        closer.close();
        assert_eq!(far.read(&mut [0; 4]).await.unwrap(), 0, "the far end sees it");
        assert!(wire.write_all(&[1]).await.is_err() && wire.read_u8().await.is_err());
    }
}
