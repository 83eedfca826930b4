//! A socket that does not take its last words along.
//!
//! A socket closed on unread bytes resets the connection, and the client loses what it had not read yet: the very
//! message that says why. So what is still on its way is read for a while after our last word.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};

/// How long a client's bytes are still read after our last.
const FAREWELL: Duration = Duration::from_secs(1);

/// Says the last of it and reads what is still on its way.
pub(crate) async fn farewell(mut socket: TcpStream, last: &[u8]) {
    let _ = timeout(FAREWELL, async {
        socket.write_all(last).await?;
        socket.shutdown().await?;
        let mut rest = [0; 1024];
        while socket.read(&mut rest).await? > 0 {}
        Ok::<(), io::Error>(())
    })
    .await;
}

/// A connection that fails when the client does not take what it is sent, and bids farewell when it is dropped, if
/// one of the `doormen` is free to see it off.
pub(crate) struct Lingering {
    /// Always there until it is dropped.
    socket: Option<TcpStream>,
    doormen: Arc<Semaphore>,
    /// How long the client may take nothing.
    patience: Duration,
    /// While it takes nothing: until the patience ends.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Lingering {
    pub(crate) fn new(socket: TcpStream, doormen: Arc<Semaphore>, patience: Duration) -> Self {
        Self {
            socket: Some(socket),
            doormen,
            patience,
            stuck: None,
        }
    }

    fn socket(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let socket = self.socket.as_mut();
        socket
            .map(Pin::new)
            .ok_or(io::ErrorKind::NotConnected.into())
    }

    /// What a write came to, unless the client's time is up.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(patience)));
        stuck.as_mut().poll(context).map(|()| {
            let reason = format!("the client took nothing for {patience:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        })
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let doorman = Arc::clone(&self.doormen).try_acquire_owned();
        if let (Some(socket), Ok(doorman), Ok(runtime)) =
            (self.socket.take(), doorman, Handle::try_current())
        {
            runtime.spawn(async move {
                farewell(socket, &[]).await;
                drop(doorman);
            });
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket()?.poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.socket()?.poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
