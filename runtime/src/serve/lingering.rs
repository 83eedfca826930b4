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
use tokio::time::timeout;

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

/// A connection that bids farewell when it is dropped, if one of the `doormen` is free to see it off.
pub(crate) struct Lingering {
    /// Always there until it is dropped.
    socket: Option<TcpStream>,
    doormen: Arc<Semaphore>,
}

impl Lingering {
    pub(crate) fn new(socket: TcpStream, doormen: Arc<Semaphore>) -> Self {
        Self {
            socket: Some(socket),
            doormen,
        }
    }

    fn socket(self: Pin<&mut Self>) -> io::Result<Pin<&mut TcpStream>> {
        let socket = self.get_mut().socket.as_mut();
        socket
            .map(Pin::new)
            .ok_or(io::ErrorKind::NotConnected.into())
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
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket()?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket()?.poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket()?.poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
