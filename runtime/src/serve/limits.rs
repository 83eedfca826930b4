use std::time::Duration;

/// What one client, and all of them together, may take. Past a limit a client is told so and let go;
/// nothing waits in a queue that grows.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Streams and files that are heard at once.
    pub(crate) streams: usize,
    /// HTTP connections at once; a WebSocket counts as a stream instead.
    pub(crate) connections: usize,
    /// Bytes of an uploaded file.
    pub(crate) upload: usize,
    /// How long an uploaded file may sound: a few bytes can be hours of silence.
    pub(crate) duration: Duration,
    /// Length of a WebSocket session.
    pub(crate) session: Duration,
    /// Time without sound from a client, or without a client taking what it is sent.
    pub(crate) idle: Duration,
}

impl Limits {
    /// Bytes of one WebSocket message: half a minute of 16-bit sound at 16 kHz.
    pub(crate) const MESSAGE: usize = 1 << 20;
    /// Files that are received or heard at once; each lies in memory.
    pub(crate) const UPLOADS: usize = 8;
    /// Bytes of a form around its file.
    pub(crate) const FORM: usize = 64 << 10;
    /// Bytes of the text fields of a form.
    pub(crate) const FIELD: usize = 4 << 10;
    /// How long a file may take to arrive.
    pub(crate) const UPLOAD_TIME: Duration = Duration::from_secs(600);
    /// How long streams have for their last words when the server ends.
    pub(crate) const GRACE: Duration = Duration::from_secs(10);

    /// How long a client may take to say what it wants: the header of a request, the first message.
    pub(crate) fn opening(&self) -> Duration {
        self.idle.min(Duration::from_secs(10))
    }
}
