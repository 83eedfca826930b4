use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, FromSample, Sample, SampleFormat, SizedSample, Stream,
    StreamConfig, SupportedBufferSize, SupportedStreamConfig,
};
use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::AudioError;
use super::devices::{DeviceFormat, choose_config, find, host, no_sound_system, quietly, reason};
use super::mono::mean;
use super::ring::{Draining, ring};

/// Seconds of sound that wait for a reader that is busy.
const RING_SECONDS: usize = 4;

/// How often a waiting reader looks for sound: once per frame of features.
const POLL: Duration = Duration::from_millis(10);

/// Parts of a second that the system is asked to hand over at once: 20 ms.
const PERIODS_PER_SECOND: u32 = 50;

/// A microphone that gives nothing for so long, not even silence, has gone.
const SILENT: Duration = Duration::from_secs(5);

/// Messages of the sound system that wait for the reader.
const EVENTS: usize = 16;

/// A microphone that is listening: mono samples at the device's own rate.
///
/// The device is opened in the format that it prefers. Only a device that itself works at 16 kHz
/// mono is asked for that; a sound server would offer it too, but converts with less care than
/// [`Resampler`](super::Resampler) does.
///
/// The sound system's thread mixes to mono and puts the samples in a ring of 4 s, without locks,
/// memory or waiting. A reader that is slower than that loses sound, and [`lost`](Self::lost) says
/// how much. [`read`](Self::read) looks into the ring every 10 ms rather than being woken: waking a
/// thread takes a lock on some systems.
///
/// ```no_run
/// use std::time::Duration;
/// use sori::audio::{AudioError, Microphone, Resampler};
///
/// let mut microphone = Microphone::open(None)?;
/// let mut resampler = Resampler::new(microphone.sample_rate())?;
/// let (mut heard, mut samples) = (Vec::new(), Vec::new());
/// loop {
///     heard.clear();
///     match microphone.read(&mut heard, Duration::from_millis(100)) {
///         Ok(_) => resampler.accept(&heard, &mut samples),
///         Err(AudioError::DeviceLost { .. }) => {
///             microphone.reopen()?;
///             resampler = Resampler::new(microphone.sample_rate())?;
///         }
///         Err(error) => return Err(error),
///     }
///     // Recognise `samples`, then clear them.
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), AudioError>(())
/// ```
pub struct Microphone {
    /// The id or name that was asked for.
    wanted: Option<String>,
    name: String,
    format: DeviceFormat,
    /// `None` while the device is lost.
    capture: Option<Capture>,
    /// Why it is lost, or about to be when its last sound has been read.
    failure: Option<String>,
    /// Sound lost before the last reopening.
    lost_before: Duration,
    overruns: u64,
}

/// The running stream and the reader's ends of what its thread writes.
struct Capture {
    _stream: Stream,
    samples: Draining,
    events: HeapCons<cpal::Error>,
    last_heard: Instant,
}

impl Microphone {
    /// Opens a microphone by the id or the name that [`devices`](super::devices()) gives, or the default one, and
    /// starts to listen.
    ///
    /// # Errors
    ///
    /// [`AudioError`]: no sound system, no microphone, none of this name, in use by another
    /// program, not allowed, or failing to open.
    pub fn open(device: Option<&str>) -> Result<Self, AudioError> {
        let wanted = device.map(str::to_owned);
        let (name, format, capture) = quietly(|| open(device))?;
        tracing::info!("listening to {name}: {format}");
        Ok(Self {
            wanted,
            name,
            format,
            capture: Some(capture),
            failure: None,
            lost_before: Duration::ZERO,
            overruns: 0,
        })
    }

    /// Opens the same microphone again after [`AudioError::DeviceLost`]. Sound that waits to be
    /// read is dropped, and the sample rate may be another one.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open). The microphone then stays lost, and this can be tried again.
    pub fn reopen(&mut self) -> Result<(), AudioError> {
        // First of all, because some devices open only once.
        self.close();
        let (name, format, capture) = quietly(|| open(self.wanted.as_deref()))?;
        tracing::info!("listening to {name} again: {format}");
        (self.name, self.format, self.capture) = (name, format, Some(capture));
        self.failure = None;
        Ok(())
    }

    /// The device's name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The form in which the device gives its sound.
    pub fn format(&self) -> &DeviceFormat {
        &self.format
    }

    /// Samples per second that [`read`](Self::read) gives.
    pub fn sample_rate(&self) -> u32 {
        self.format.sample_rate
    }

    /// Sound since [`open`](Self::open) that was thrown away because it was not read in time, as far as
    /// [`read`](Self::read) has come: where this grows, it is missing between what was read and what
    /// is read next, which then seems to come earlier.
    pub fn lost(&self) -> Duration {
        self.lost_before + self.duration(self.capture.as_ref().map_or(0, |it| it.samples.lost()))
    }

    fn duration(&self, samples: u64) -> Duration {
        Duration::from_secs_f64(samples as f64 / f64::from(self.format.sample_rate.max(1)))
    }

    /// How often the sound system reported that it lost sound itself, without telling how much: the
    /// computer was too busy.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Waits up to `timeout` for sound and appends all there is to `out`, as mono samples. Gives
    /// their number, 0 when the time is up.
    ///
    /// # Errors
    ///
    /// [`AudioError::DeviceLost`] when the device has gone and all that it gave has been read.
    /// [`reopen`](Self::reopen) then helps.
    pub fn read(&mut self, out: &mut Vec<f32>, timeout: Duration) -> Result<usize, AudioError> {
        let start = Instant::now();
        loop {
            // Before the samples: whatever came before the failure is read before it is told.
            self.take_events();
            let Some(capture) = &mut self.capture else {
                return Err(self.device_lost());
            };
            let count = capture.samples.take(out);
            if count > 0 {
                capture.last_heard = Instant::now();
                return Ok(count);
            }
            if capture.last_heard.elapsed() > SILENT {
                let reason = format!("nothing was heard for {} s", SILENT.as_secs());
                self.failure.get_or_insert(reason);
            }
            if self.failure.is_some() {
                self.close();
                return Err(self.device_lost());
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(0);
            }
            thread::sleep(left.min(POLL));
        }
    }

    /// Takes what the sound system had to say since the last time.
    fn take_events(&mut self) {
        let Some(capture) = &mut self.capture else {
            return;
        };
        for event in capture.events.pop_iter() {
            match event.kind() {
                ErrorKind::Xrun => self.overruns += 1,
                // Sound goes on.
                ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {
                    tracing::info!("{}: {event}", self.name);
                }
                _ => {
                    self.failure.get_or_insert(reason(&event));
                }
            }
        }
    }

    fn close(&mut self) {
        if let Some(capture) = self.capture.take() {
            self.lost_before += self.duration(capture.samples.lost_in_all());
        }
    }

    fn device_lost(&self) -> AudioError {
        AudioError::DeviceLost {
            device: self.name.clone(),
            reason: self.failure.clone().unwrap_or_else(|| "closed".to_owned()),
        }
    }
}

impl fmt::Debug for Microphone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Microphone")
            .field("name", &self.name)
            .field("format", &self.format)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

fn open(wanted: Option<&str>) -> Result<(String, DeviceFormat, Capture), AudioError> {
    let host = host()?;
    let device = match wanted {
        None => host
            .default_input_device()
            .ok_or_else(|| AudioError::NoMicrophone {
                reason: "the sound system has no input device".to_owned(),
            })?,
        Some(wanted) => find(&host, wanted)?,
    };
    let name = device.to_string();
    let failed = |error: cpal::Error| open_error(&name, wanted.is_none(), &error);
    let config = choose_config(&device).map_err(failed)?;
    let capture = Capture::start(&device, &config).map_err(failed)?;
    let format = DeviceFormat::from(&config);
    Ok((name, format, capture))
}

impl Capture {
    fn start(device: &Device, config: &SupportedStreamConfig) -> Result<Self, cpal::Error> {
        let period = config.sample_rate() / PERIODS_PER_SECOND;
        let fixed = match config.buffer_size() {
            SupportedBufferSize::Range { min, max } => (*min..=*max).contains(&period),
            SupportedBufferSize::Unknown => false,
        };
        if fixed && let Ok(capture) = Self::start_with(device, config, BufferSize::Fixed(period)) {
            return Ok(capture);
        }
        Self::start_with(device, config, BufferSize::Default)
    }

    fn start_with(
        device: &Device,
        config: &SupportedStreamConfig,
        buffer_size: BufferSize,
    ) -> Result<Self, cpal::Error> {
        let start = match config.sample_format() {
            SampleFormat::I8 => Self::start_as::<i8>,
            SampleFormat::I16 => Self::start_as::<i16>,
            SampleFormat::I24 => Self::start_as::<cpal::I24>,
            SampleFormat::I32 => Self::start_as::<i32>,
            SampleFormat::I64 => Self::start_as::<i64>,
            SampleFormat::U8 => Self::start_as::<u8>,
            SampleFormat::U16 => Self::start_as::<u16>,
            SampleFormat::U24 => Self::start_as::<cpal::U24>,
            SampleFormat::U32 => Self::start_as::<u32>,
            SampleFormat::U64 => Self::start_as::<u64>,
            SampleFormat::F32 => Self::start_as::<f32>,
            SampleFormat::F64 => Self::start_as::<f64>,
            format => {
                let message = format!("it gives samples as {format}, which cannot be read");
                return Err(cpal::Error::with_message(
                    ErrorKind::UnsupportedConfig,
                    message,
                ));
            }
        };
        let mut config = StreamConfig::from(*config);
        config.buffer_size = buffer_size;
        start(device, config)
    }

    fn start_as<T>(device: &Device, config: StreamConfig) -> Result<Self, cpal::Error>
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        let (mut filling, samples) = ring(RING_SECONDS * config.sample_rate as usize);
        let (mut reporter, events): (HeapProd<cpal::Error>, _) = HeapRb::new(EVENTS).split();
        let channels = usize::from(config.channels.max(1));

        // Both closures run on the sound system's thread: no memory, no locks, no waiting.
        let on_data = move |data: &[T], _: &cpal::InputCallbackInfo| {
            let frames = data.chunks_exact(channels);
            filling.push(
                frames.map(|frame| mean(frame.iter().map(|&sample| f32::from_sample(sample)))),
            );
        };
        let on_error = move |error| {
            // When it is full, enough is known.
            let _ = reporter.try_push(error);
        };
        let stream = device.build_input_stream(config, on_data, on_error, None)?;
        stream.play()?;
        Ok(Self {
            _stream: stream,
            samples,
            events,
            last_heard: Instant::now(),
        })
    }
}

fn open_error(name: &str, is_default: bool, error: &cpal::Error) -> AudioError {
    let device = name.to_owned();
    match error.kind() {
        ErrorKind::HostUnavailable => no_sound_system(error),
        ErrorKind::DeviceBusy => AudioError::DeviceBusy { device },
        ErrorKind::PermissionDenied => AudioError::DeviceDenied { device },
        // The default device is only a name, then for something that is not there.
        ErrorKind::DeviceNotAvailable if is_default => AudioError::NoMicrophone {
            reason: "the sound system has no input device that opens".to_owned(),
        },
        ErrorKind::BackendError if is_default => AudioError::NoMicrophone {
            reason: reason(error),
        },
        _ => AudioError::DeviceFailed {
            device,
            reason: reason(error),
        },
    }
}
