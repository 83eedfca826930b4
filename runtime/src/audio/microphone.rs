use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, FromSample, Host, Sample, SampleFormat, SizedSample, Stream,
    StreamConfig, SupportedBufferSize, SupportedStreamConfig, SupportedStreamConfigRange,
};
use ringbuf::traits::{Consumer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::mono::mean;
use super::{AudioError, SAMPLE_RATE, SAMPLE_RATES};

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

/// An input device of the sound system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What [`Microphone::open`] takes; the same after a restart. On Linux an ALSA name, as
    /// `default` or `plughw:CARD=1,DEV=0`.
    pub id: String,
    /// A name for people. Several devices may share one.
    pub name: String,
    /// Whether this device is opened when none is named.
    pub is_default: bool,
    /// The form in which it would be opened; `None` when it cannot be opened now.
    pub format: Option<DeviceFormat>,
}

/// The form in which a microphone gives its sound.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceFormat {
    /// Samples per second in each channel.
    pub sample_rate: u32,
    /// Channels, which are averaged.
    pub channels: u16,
    /// How one sample is stored: `i16`, `f32`, ...
    pub sample_format: String,
}

impl From<&SupportedStreamConfig> for DeviceFormat {
    fn from(config: &SupportedStreamConfig) -> Self {
        Self {
            sample_rate: config.sample_rate(),
            channels: config.channels(),
            sample_format: config.sample_format().to_string(),
        }
    }
}

/// The input devices of the sound system. A system without any gives an empty list.
///
/// # Errors
///
/// [`AudioError::NoSoundSystem`].
pub fn devices() -> Result<Vec<DeviceInfo>, AudioError> {
    quietly(|| {
        let host = host()?;
        let default = host.default_input_device();
        let default_id = default.as_ref().and_then(id_of);
        let mut devices: Vec<DeviceInfo> = host
            .input_devices()
            .map_err(|error| no_sound_system(&error))?
            .filter_map(|device| describe(&device, default_id.as_deref()))
            .collect();
        // ALSA's default opens without being listed.
        if !devices.iter().any(|device| device.is_default) {
            let default = default.and_then(|device| describe(&device, default_id.as_deref()));
            devices.extend(default.filter(|device| device.format.is_some()));
        }
        Ok(devices)
    })
}

fn describe(device: &Device, default_id: Option<&str>) -> Option<DeviceInfo> {
    let id = id_of(device)?;
    Some(DeviceInfo {
        is_default: Some(id.as_str()) == default_id,
        name: device.to_string(),
        format: choose_config(device).ok().as_ref().map(DeviceFormat::from),
        id,
    })
}

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
    samples: HeapCons<f32>,
    events: HeapCons<cpal::Error>,
    /// Samples that found no room.
    lost: Arc<AtomicU64>,
    last_heard: Instant,
}

impl Microphone {
    /// Opens a microphone by the id or the name that [`devices`] gives, or the default one, and
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

    /// Sound that was thrown away since [`open`](Self::open) because it was not read in time. It
    /// is missing in what [`read`](Self::read) gives, so that later sound seems to come earlier.
    pub fn lost(&self) -> Duration {
        let samples = self
            .capture
            .as_ref()
            .map_or(0, |capture| capture.lost.load(Ordering::Relaxed));
        let seconds = samples as f64 / f64::from(self.format.sample_rate.max(1));
        self.lost_before + Duration::from_secs_f64(seconds)
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
            let (older, newer) = capture.samples.as_slices();
            let count = older.len() + newer.len();
            out.extend_from_slice(older);
            out.extend_from_slice(newer);
            capture.samples.skip(count);
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
        self.lost_before = self.lost();
        self.capture = None;
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

impl fmt::Display for DeviceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, channels) = (self.sample_rate, self.channels);
        write!(f, "{rate} Hz, {channels} channels, {}", self.sample_format)
    }
}

fn host() -> Result<Host, AudioError> {
    // Not `cpal::default_host`, which panics where there is no sound system.
    match cpal::available_hosts().first() {
        Some(&id) => cpal::host_from_id(id).map_err(|error| no_sound_system(&error)),
        None => Err(AudioError::NoSoundSystem {
            reason: "none is known on this system".to_owned(),
        }),
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

/// The device of this id, or the first of this name.
fn find(host: &Host, wanted: &str) -> Result<Device, AudioError> {
    let devices = host
        .input_devices()
        .map_err(|error| no_sound_system(&error))?;
    let mut named = None;
    let mut ids = Vec::new();
    for device in devices {
        let Some(id) = id_of(&device) else { continue };
        if id == wanted {
            return Ok(device);
        }
        if device.to_string() == wanted {
            named = named.or(Some(device));
        }
        ids.push(id);
    }
    // ALSA's default, and short names such as `hw:0,0`, open without being listed.
    let default = || {
        let default = host.default_input_device();
        default.filter(|device| id_of(device).as_deref() == Some(wanted))
    };
    let unlisted = || host.device_by_id(&cpal::DeviceId::new(host.id(), wanted));
    named
        .or_else(default)
        .or_else(unlisted)
        .ok_or_else(|| AudioError::DeviceNotFound {
            wanted: wanted.to_owned(),
            available: if ids.is_empty() {
                "none".to_owned()
            } else {
                ids.join(", ")
            },
        })
}

fn id_of(device: &Device) -> Option<String> {
    device.id().ok().map(|id| id.id().to_owned())
}

/// The form in which to open a device.
fn choose_config(device: &Device) -> Result<SupportedStreamConfig, cpal::Error> {
    let offered: Vec<_> = device.supported_input_configs()?.collect();
    let default = device.default_input_config();
    match choose(&offered, default.as_ref().ok()) {
        Some(config) => Ok(config),
        None => default,
    }
}

/// 16 kHz mono if it is the device's own, else what it prefers, else the best of what it offers.
fn choose(
    offered: &[SupportedStreamConfigRange],
    default: Option<&SupportedStreamConfig>,
) -> Option<SupportedStreamConfig> {
    // A list of single rates comes from the device, a range from a sound server that converts. On
    // other systems another rate would be heard by every other program too.
    let own = |range: &&SupportedStreamConfigRange| {
        cfg!(any(target_os = "linux", target_os = "android"))
            && range.channels() == 1
            && range.min_sample_rate() == SAMPLE_RATE
            && range.max_sample_rate() == SAMPLE_RATE
    };
    let offered = offered
        .iter()
        .filter(|range| !range.sample_format().is_dsd());
    let best = offered
        .clone()
        .filter(own)
        .max_by(|a, b| a.cmp_default_heuristics(b));
    if let Some(range) = best {
        return range.try_with_sample_rate(SAMPLE_RATE);
    }
    let usable = |config: &&SupportedStreamConfig| {
        SAMPLE_RATES.contains(&config.sample_rate()) && !config.sample_format().is_dsd()
    };
    if let Some(default) = default.filter(usable) {
        return Some(*default);
    }
    let (lowest, highest) = (*SAMPLE_RATES.start(), *SAMPLE_RATES.end());
    offered
        .filter(|range| range.min_sample_rate() <= highest && range.max_sample_rate() >= lowest)
        .max_by(|a, b| a.cmp_default_heuristics(b))
        .and_then(|range| {
            let standard = range.try_with_standard_sample_rate();
            standard.or_else(|| range.try_with_sample_rate(range.max_sample_rate().min(highest)))
        })
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
        let ring = HeapRb::new(RING_SECONDS * config.sample_rate as usize);
        let (mut writer, samples): (HeapProd<f32>, _) = ring.split();
        let (mut reporter, events): (HeapProd<cpal::Error>, _) = HeapRb::new(EVENTS).split();
        let lost = Arc::new(AtomicU64::new(0));
        let lost_in_callback = Arc::clone(&lost);
        let channels = usize::from(config.channels.max(1));

        // Both closures run on the sound system's thread: no memory, no locks, no waiting.
        let on_data = move |data: &[T], _: &cpal::InputCallbackInfo| {
            let frames = data.chunks_exact(channels);
            let count = frames.len();
            let mono =
                frames.map(|frame| mean(frame.iter().map(|&sample| f32::from_sample(sample))));
            let written = writer.push_iter(mono);
            lost_in_callback.fetch_add((count - written) as u64, Ordering::Relaxed);
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
            lost,
            last_heard: Instant::now(),
        })
    }
}

fn no_sound_system(error: &cpal::Error) -> AudioError {
    AudioError::NoSoundSystem {
        reason: reason(error),
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

/// What the sound system said, as a part of a sentence.
fn reason(error: &cpal::Error) -> String {
    if error.kind() == ErrorKind::DeviceNotAvailable {
        return "the device is not there".to_owned();
    }
    error.to_string().trim_end_matches('.').to_owned()
}

/// Runs `run` without the messages that ALSA writes to standard error, which come even when all is
/// well (one for each name of a device that is not there).
fn quietly<T>(run: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    let messages = alsa::Output::local_error_handler();
    let result = run();
    #[cfg(target_os = "linux")]
    if let Ok(messages) = messages {
        for line in messages.borrow().to_string().lines() {
            tracing::debug!("ALSA: {line}");
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(channels: u16, rates: [u32; 2], format: SampleFormat) -> SupportedStreamConfigRange {
        let [min, max] = rates;
        SupportedStreamConfigRange::new(channels, min, max, SupportedBufferSize::Unknown, format)
    }

    fn config(channels: u16, rate: u32, format: SampleFormat) -> SupportedStreamConfig {
        SupportedStreamConfig::new(channels, rate, SupportedBufferSize::Unknown, format)
    }

    #[test]
    fn what_the_device_prefers_is_taken() {
        // A sound server offers every rate, 16 kHz too, and would convert.
        let offered = [
            range(1, [1, 384_000], SampleFormat::F32),
            range(2, [1, 384_000], SampleFormat::F32),
        ];
        let default = config(2, 48_000, SampleFormat::F32);
        assert_eq!(choose(&offered, Some(&default)), Some(default));
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn a_device_that_works_at_16_khz_is_asked_for_that() {
        let offered = [
            range(1, [16_000, 16_000], SampleFormat::I16),
            range(2, [16_000, 16_000], SampleFormat::I16),
            range(1, [48_000, 48_000], SampleFormat::I16),
        ];
        let default = config(1, 48_000, SampleFormat::I16);
        let chosen = choose(&offered, Some(&default));
        assert_eq!(chosen, Some(config(1, 16_000, SampleFormat::I16)));
    }

    #[test]
    fn a_default_that_cannot_be_used_is_passed_over() {
        let offered = [
            range(2, [2_822_400, 2_822_400], SampleFormat::DsdU8),
            range(2, [64_000, 384_000], SampleFormat::I32),
            range(8, [48_000, 48_000], SampleFormat::I16),
        ];
        let default = config(2, 384_000, SampleFormat::I32);
        let chosen = choose(&offered, Some(&default));
        assert_eq!(chosen, Some(config(2, 192_000, SampleFormat::I32)));
        assert_eq!(choose(&offered[..1], None), None);
    }
}
