use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use symphonia::core::errors::Error as MediaError;
use symphonia::core::formats::FormatReader;
use symphonia::core::io::{MediaSource, ReadOnlySource};
use symphonia::core::packet::Packet;

use super::formats::{DecodedTrack, first_decodable, guard, is_from_content, open_container};
use super::mono::mean;
use super::{AudioError, check_rate};

/// Bytes at the start of an input that tell what it is when no format wants it.
const HEAD: u64 = 4096;

/// Errors in a row after which a reader is taken to be stuck.
const MAX_READER_ERRORS: u32 = 64;

/// Most samples of encoder padding that MP3 can announce (12 bits), rounded up to whole frames.
const MAX_PADDING: usize = 4 * 1152;

/// Most seconds of silence in the place of one packet, whatever length it claims, and in one piece.
const MAX_SILENCE: f64 = 1.0;

/// Seconds between two packets that are no gap: some containers round their times.
const JITTER: f64 = 0.1;

/// Longest gap that is filled, in seconds; a longer one is a wrong time.
const LONGEST_GAP: f64 = 600.0;

/// An audio file, decoded while it is read: mono samples at the file's own rate.
///
/// The format is found from the content, never from the name. Read are WAV (8 to 32-bit integers,
/// floats, A-law, mu-law, ADPCM), AIFF, CAF, FLAC, MP3, Ogg Vorbis, Opus, AAC-LC and ALAC in M4A,
/// and these codecs in Matroska or WebM. Of several tracks the first that can be decoded is heard.
/// Silence that an encoder added before and after the sound is cut where the file tells of it in a
/// way that is read here (MP3, Vorbis, Opus); AAC comes 1024 samples late, 64 ms at 16 kHz.
///
/// Files come from anywhere. Packets that cannot be decoded, and those that are missing by the times of
/// the others, are replaced by silence and counted ([`skipped_packets`](Self::skipped_packets)); MP3 and
/// bare AAC have no times, so what is missing there is left out. A file that stops in the middle ends
/// there, a WAV whose header was never completed is read to its end, and
/// memory depends neither on the length of the sound nor on what a header claims.
///
/// ```no_run
/// use sori::audio::{AudioFile, Resampler};
///
/// let mut file = AudioFile::open("speech.ogg")?;
/// let mut resampler = Resampler::new(file.sample_rate())?;
/// let (mut packet, mut samples) = (Vec::new(), Vec::new());
/// while file.read(&mut packet)? {
///     resampler.accept(&packet, &mut samples);
///     packet.clear();
///     // Recognise `samples`, then clear them.
/// }
/// resampler.finish(&mut samples);
/// # Ok::<(), sori::audio::AudioError>(())
/// ```
pub struct AudioFile {
    input: String,
    reader: Box<dyn FormatReader>,
    track: DecodedTrack,
    sample_rate: u32,
    duration: Option<f64>,
    /// Interleaved samples of one packet.
    interleaved: Vec<f32>,
    /// Mono samples that come next: of the packet that was decoded to know the rate, or of one behind a gap.
    ahead: Vec<f32>,
    /// Samples of silence that come before those: a gap.
    gap: usize,
    /// Where the next packet begins if none is missing, in seconds.
    expected: Option<f64>,
    /// Its header leaves open where the sound ends, as that of a pipe: it ends where the file does.
    is_open_ended: bool,
    /// Mono samples after the end that the header announced.
    padding: Vec<f32>,
    /// The announced end turned out to be in the middle of the sound.
    end_is_wrong: bool,
    /// Samples decoded.
    decoded: u64,
    skipped: u64,
    last_error: Option<MediaError>,
}

impl AudioFile {
    /// Opens the file at `path` and decodes its first packet.
    ///
    /// # Errors
    ///
    /// [`AudioError`]: no such file, a directory, an empty file, not audio or not in a known
    /// format, without a track of sound, in an unknown codec, broken, or at a sample rate outside
    /// [`SAMPLE_RATES`](super::SAMPLE_RATES).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AudioError> {
        let path = path.as_ref();
        let input = path.display().to_string();
        let (mut head, mut file) =
            open_file(path).map_err(|error| AudioError::from_io(&input, error))?;
        let completed = complete(&mut head);
        if completed && file.is_seekable() {
            let after = SeekFrom::Start(head.len() as u64);
            file.seek(after)
                .map_err(|error| AudioError::from_io(&input, error))?;
        }
        if completed || !file.is_seekable() {
            return Self::from_source(Box::new(rejoin(&head, file)), &head, input);
        }
        let result = Self::from_source(Box::new(file), &head, input.clone());
        if !wants_reading_from_start(&result) {
            return result;
        }
        let (head, file) = open_file(path).map_err(|error| AudioError::from_io(&input, error))?;
        let source = Box::new(ReadOnlySource::new(file));
        Self::from_source(source, &head, input).or(result)
    }

    /// Decodes a file that lies in memory, as [`open`](Self::open) decodes one on disk. `input` names
    /// it in errors. A clone of `bytes` should be cheap: an `Arc<[u8]>`, say.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_bytes<B>(bytes: B, input: &str) -> Result<Self, AudioError>
    where
        B: AsRef<[u8]> + Clone + Send + Sync + 'static,
    {
        let mut head: Vec<u8> = bytes.as_ref().iter().take(HEAD as usize).copied().collect();
        if complete(&mut head) {
            let mut rest = Cursor::new(bytes);
            rest.set_position(head.len() as u64);
            let source = Box::new(rejoin(&head, rest));
            return Self::from_source(source, &head, input.to_owned());
        }
        let source = Box::new(Cursor::new(bytes.clone()));
        let result = Self::from_source(source, &head, input.to_owned());
        if !wants_reading_from_start(&result) {
            return result;
        }
        let source = Box::new(ReadOnlySource::new(Cursor::new(bytes)));
        Self::from_source(source, &head, input.to_owned()).or(result)
    }

    /// Decodes what `reader` gives, from standard input for example. `input` names it in errors.
    ///
    /// The reader is read once from start to end, so an M4A is understood only when its index comes
    /// first ("fast start"), a CAF not at all, and [`duration`](Self::duration) is known for fewer
    /// formats.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn from_reader(
        mut reader: impl Read + Send + Sync + 'static,
        input: &str,
    ) -> Result<Self, AudioError> {
        let mut head = read_head(&mut reader).map_err(|error| AudioError::from_io(input, error))?;
        complete(&mut head);
        let source = Box::new(rejoin(&head, reader));
        Self::from_source(source, &head, input.to_owned())
    }

    fn from_source(
        source: Box<dyn MediaSource>,
        head: &[u8],
        input: String,
    ) -> Result<Self, AudioError> {
        if head.is_empty() {
            return Err(AudioError::Empty { input });
        }
        let reader = open_container(&input, source, head)?;
        let track = first_decodable(&input, reader.tracks())?;
        let mut file = Self {
            duration: track.duration.or_else(|| duration_of(reader.as_ref())),
            input,
            reader,
            track,
            sample_rate: 0,
            interleaved: Vec::new(),
            ahead: Vec::new(),
            gap: 0,
            expected: None,
            is_open_ended: is_open_ended(head),
            padding: Vec::new(),
            end_is_wrong: false,
            decoded: 0,
            skipped: 0,
            last_error: None,
        };
        // Only sound tells the true rate, and whether there is any.
        let mut ahead = Vec::new();
        while file.decoded == 0 && file.read_packet(&mut ahead)? {}
        file.ahead = ahead;
        if file.decoded == 0 {
            let declared = file.track.decoder.codec_params().sample_rate;
            file.sample_rate = declared.unwrap_or(0);
        }
        check_rate(&file.input, file.sample_rate)?;
        Ok(file)
    }

    /// Samples per second in the file, which is the rate of the samples that
    /// [`read`](Self::read) gives.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// The length in seconds that the header claims, if it does. Good for showing progress; the
    /// end comes when [`read`](Self::read) says so.
    pub fn duration(&self) -> Option<f64> {
        self.duration
    }

    /// Packets so far that could not be decoded and were replaced by silence, and gaps that were.
    pub fn skipped_packets(&self) -> u64 {
        self.skipped
    }

    /// Decodes one packet (some milliseconds) and appends its samples to `out`; `false` at the
    /// end. A packet may hold no sample.
    ///
    /// # Errors
    ///
    /// [`AudioError::Read`] when the system fails, [`AudioError::Broken`] when nothing in the file
    /// decodes or its structure is lost, [`AudioError::RateChanged`]. The samples before an error
    /// are good.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        if self.gap > 0 {
            let most = (MAX_SILENCE * f64::from(self.sample_rate)) as usize;
            let count = self.gap.min(most);
            self.gap -= count;
            out.resize(out.len() + count, 0.0);
            return Ok(true);
        }
        if !self.ahead.is_empty() {
            out.append(&mut self.ahead);
            return Ok(true);
        }
        let start = out.len();
        let more = self.read_packet(out)?;
        if self.gap > 0 {
            self.ahead.extend(out.drain(start..));
        }
        Ok(more)
    }

    fn read_packet(&mut self, out: &mut Vec<f32>) -> Result<bool, AudioError> {
        let Some(packet) = self.next_packet()? else {
            if self.decoded == 0 && self.last_error.is_some() {
                return Err(self.broken());
            }
            return Ok(false);
        };
        if packet.track_id != self.track.id {
            return Ok(true);
        }
        let decoded = guard(|| {
            let buffer = self.track.decoder.decode(&packet)?;
            buffer.copy_to_vec_interleaved(&mut self.interleaved);
            Ok((buffer.spec().rate(), buffer.num_planes()))
        });
        match decoded {
            Ok((rate, channels)) => {
                let count = self.interleaved.len() / channels.max(1);
                self.find_gap(&packet, count as f64 / f64::from(rate.max(1)));
                self.append(&packet, rate, channels, out)?;
            }
            Err(error) => {
                let seconds = (packet.dur.get() as f64 * self.track.tick).min(MAX_SILENCE);
                self.find_gap(&packet, seconds);
                self.skip(seconds, error, out);
            }
        }
        Ok(true)
    }

    /// Notes how much is missing before a packet of so many seconds, by its time, and when the next one begins.
    fn find_gap(&mut self, packet: &Packet, seconds: f64) {
        let begins = packet.pts.get() as f64 * self.track.tick;
        let expected = self.expected.unwrap_or(begins);
        let missing = begins - expected;
        let is_gap = self.decoded > 0 && (JITTER..LONGEST_GAP).contains(&missing);
        // Else the sound itself is the clock: frames of one block may all have its time, and single packets that are lost
        // add up to a gap. A time that is far off begins another count.
        let runs_on = !is_gap && missing.abs() < LONGEST_GAP;
        self.expected = Some(if runs_on { expected } else { begins } + seconds);
        if is_gap {
            tracing::debug!(
                "{}: after {:.3} s: {missing:.3} s are missing",
                self.input,
                self.seconds()
            );
            self.skipped += 1;
            self.gap = (missing * f64::from(self.sample_rate)).round() as usize;
        }
    }

    /// The next packet of any track, `None` at the end.
    fn next_packet(&mut self) -> Result<Option<Packet>, AudioError> {
        let mut damaged = false;
        for _ in 0..MAX_READER_ERRORS {
            match guard(|| self.reader.next_packet()) {
                Ok(packet) => {
                    self.skipped += u64::from(damaged && packet.is_some());
                    return Ok(packet);
                }
                Err(MediaError::IoError(error)) if is_from_content(&error) => {
                    if !self.is_open_ended {
                        tracing::warn!("{}: stops in the middle", self.input);
                    }
                    return Ok(None);
                }
                Err(MediaError::IoError(error)) => {
                    return Err(AudioError::from_io(&self.input, error));
                }
                // One Ogg stream has ended and another one follows.
                Err(MediaError::ResetRequired) => {
                    self.track = first_decodable(&self.input, self.reader.tracks())?;
                    self.expected = None;
                }
                // Many readers find their way back to the next packet.
                Err(error) => {
                    tracing::debug!("{}: after {:.3} s: {error}", self.input, self.seconds());
                    self.last_error = Some(error);
                    damaged = true;
                }
            }
        }
        Err(self.broken())
    }

    /// Appends the packet in `interleaved` to `out`, as mono.
    fn append(
        &mut self,
        packet: &Packet,
        rate: u32,
        channels: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), AudioError> {
        if self.decoded == 0 {
            self.sample_rate = rate;
        } else if rate != self.sample_rate {
            return Err(AudioError::RateChanged {
                input: self.input.clone(),
                seconds: self.seconds(),
                before: self.sample_rate,
                after: rate,
            });
        }
        let frames = self.interleaved.chunks_exact(channels.max(1));
        let frames = frames.map(|frame| mean(frame.iter().copied()));
        let count = frames.len();
        self.decoded += count as u64;
        if !self.track.padded {
            out.extend(frames);
            return Ok(());
        }

        let ticks = |ticks: u64| usize::try_from(ticks).unwrap_or(usize::MAX);
        let start = ticks(packet.trim_start.get()).min(count);
        let end = count - ticks(packet.trim_end.get()).min(count - start);
        out.extend(frames.clone().take(end).skip(start));
        let after_end = frames.skip(end);
        if self.end_is_wrong {
            out.extend(after_end);
            return Ok(());
        }
        self.padding.extend(after_end);
        if self.padding.len() > MAX_PADDING {
            tracing::warn!("{}: longer than its header says", self.input);
            out.append(&mut self.padding);
            self.end_is_wrong = true;
        }
        Ok(())
    }

    /// Puts silence in the place of a packet that does not decode, so that later sound keeps its
    /// time.
    fn skip(&mut self, seconds: f64, error: MediaError, out: &mut Vec<f32>) {
        tracing::debug!("{}: after {:.3} s: {error}", self.input, self.seconds());
        self.skipped += 1;
        self.last_error = Some(error);
        // Before the first sound there is no rate, and a file of noise must not become silence.
        if self.decoded > 0 {
            let count = (seconds * f64::from(self.sample_rate)).round() as usize;
            out.resize(out.len() + count, 0.0);
        }
    }

    fn seconds(&self) -> f64 {
        self.decoded as f64 / f64::from(self.sample_rate.max(1))
    }

    fn broken(&self) -> AudioError {
        let input = self.input.clone();
        let reason = match &self.last_error {
            Some(MediaError::Unsupported(feature)) if self.decoded == 0 => {
                let feature = (*feature).to_owned();
                return AudioError::UnsupportedFeature { input, feature };
            }
            Some(MediaError::DecodeError(reason)) => (*reason).to_owned(),
            Some(error) => error.to_string(),
            None => "no packet follows".to_owned(),
        };
        AudioError::Broken {
            input,
            seconds: self.seconds(),
            reason,
        }
    }
}

impl fmt::Debug for AudioFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AudioFile")
            .field("input", &self.input)
            .field("format", &self.reader.format_info().short_name)
            .field("codec", &self.track.decoder.codec_info().short_name)
            .field("sample_rate", &self.sample_rate)
            .field("duration", &self.duration)
            .finish_non_exhaustive()
    }
}

/// Some formats are read from their end, and then a file that stops in the middle gives nothing. Read
/// from the start, it gives what it has.
fn wants_reading_from_start(opened: &Result<AudioFile, AudioError>) -> bool {
    use AudioError::{Broken, UnsupportedFeature};
    matches!(opened, Err(Broken { .. } | UnsupportedFeature { .. }))
}

/// The length in seconds that the container claims as a whole.
fn duration_of(reader: &dyn FormatReader) -> Option<f64> {
    let media = reader.media_info();
    let base = media.time_base?;
    let tick = f64::from(base.numer.get()) / f64::from(base.denom.get());
    let seconds = media.duration?.get() as f64 * tick;
    (seconds > 0.0).then_some(seconds)
}

/// The first bytes of a file, and the file: at its start, or after these bytes if it is a pipe.
fn open_file(path: &Path) -> io::Result<(Vec<u8>, File)> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let head = read_head(&mut file)?;
    if file.is_seekable() {
        file.seek(SeekFrom::Start(0))?;
    }
    Ok((head, file))
}

fn read_head(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(HEAD).read_to_end(&mut head)?;
    Ok(head)
}

/// A reader of which the first bytes were taken off, whole again.
fn rejoin<R: Read + Send + Sync>(
    head: &[u8],
    rest: R,
) -> ReadOnlySource<impl Read + Send + Sync + use<R>> {
    ReadOnlySource::new(Cursor::new(head.to_vec()).chain(rest))
}

/// A size in a WAV header that stands for "to the end of the file".
const OPEN: [u8; 4] = [0xff; 4];

/// Where the size of the file stands in the first bytes of a WAV.
const FILE_SIZE: Range<usize> = 4..8;

/// Where the size of its sound stands there.
fn sound_size(head: &[u8]) -> Option<Range<usize>> {
    if !head.starts_with(b"RIFF") || head.get(8..12) != Some(b"WAVE") {
        return None;
    }
    let mut at: usize = 12;
    loop {
        let (name, rest) = head.get(at..)?.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*rest.first_chunk()?);
        if name == b"data" {
            return Some(at + 4..at + 8);
        }
        // Chunks begin at even places.
        let size = usize::try_from(size).ok()?.checked_next_multiple_of(2)?;
        at = at.checked_add(8)?.checked_add(size)?;
    }
}

fn size(head: &[u8], place: Range<usize>) -> Option<u32> {
    Some(u32::from_le_bytes(*head.get(place)?.first_chunk()?))
}

/// Puts "to the end" in the place of the sizes of a WAV whose recorder could not come back to them.
fn complete(head: &mut [u8]) -> bool {
    let Some(sound) = sound_size(head) else {
        return false;
    };
    // Where something follows that is no sound, the file was finished and has none.
    let claims_more = size(head, FILE_SIZE)
        .is_some_and(|whole| whole != u32::MAX && whole as usize > sound.end - FILE_SIZE.end);
    let is_missing = size(head, sound.clone()) == Some(0) && !claims_more;
    if is_missing {
        head[FILE_SIZE].copy_from_slice(&OPEN);
        head[sound].copy_from_slice(&OPEN);
    }
    is_missing
}

/// Whether a header leaves open where the sound ends: a WAV, or a Matroska segment, that was written into a pipe.
fn is_open_ended(head: &[u8]) -> bool {
    const SEGMENT: [u8; 12] = [
        0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    let sound = sound_size(head).and_then(|sound| size(head, sound));
    // SoX writes a whole number of blocks below 2^31, others 2^31 - 1 or 2^32 - 1.
    sound.is_some_and(|size| size >= 0x7fff_0000)
        || head.windows(SEGMENT.len()).any(|bytes| bytes == SEGMENT)
}
