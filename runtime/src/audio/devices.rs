use std::fmt;

use cpal::traits::{DeviceTrait, HostTrait};
use cpal::{Device, ErrorKind, Host, SupportedStreamConfig, SupportedStreamConfigRange};

use super::{AudioError, SAMPLE_RATE, SAMPLE_RATES};

/// An input device of the sound system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What [`Microphone::open`](super::Microphone::open) takes; the same after a restart. On Linux an ALSA name, as
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

impl fmt::Display for DeviceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, channels) = (self.sample_rate, self.channels);
        write!(f, "{rate} Hz, {channels} channels, {}", self.sample_format)
    }
}

pub(super) fn host() -> Result<Host, AudioError> {
    // Not `cpal::default_host`, which panics where there is no sound system.
    match cpal::available_hosts().first() {
        Some(&id) => cpal::host_from_id(id).map_err(|error| no_sound_system(&error)),
        None => Err(AudioError::NoSoundSystem {
            reason: "none is known on this system".to_owned(),
        }),
    }
}

/// The device of this id, or the first of this name.
pub(super) fn find(host: &Host, wanted: &str) -> Result<Device, AudioError> {
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
pub(super) fn choose_config(device: &Device) -> Result<SupportedStreamConfig, cpal::Error> {
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

pub(super) fn no_sound_system(error: &cpal::Error) -> AudioError {
    AudioError::NoSoundSystem {
        reason: reason(error),
    }
}

/// What the sound system said, as a part of a sentence.
pub(super) fn reason(error: &cpal::Error) -> String {
    if error.kind() == ErrorKind::DeviceNotAvailable {
        return "the device is not there".to_owned();
    }
    error.to_string().trim_end_matches('.').to_owned()
}

/// Runs `run` without the messages that ALSA writes to standard error, which come even when all is
/// well (one for each name of a device that is not there).
pub(super) fn quietly<T>(run: impl FnOnce() -> T) -> T {
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
    use cpal::{SampleFormat, SupportedBufferSize};

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
