//! What a teacher said about an utterance, kept on disk.
//!
//! Content-addressed: by the teacher's files, its layer and its precision (a folder each), and by the
//! sound itself. So it can be shared by recipes, runs and processes, and nothing in it is ever out of
//! date. Where a head hears nothing but what an encoder gives out, that lies in the encoder's own
//! folder, for all heads on it. The stores are LMDB, which maps them into memory.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use heed::types::Bytes;
use heed::{Database, Env, EnvOpenOptions};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use super::error::TrainError;
use crate::config::{Precision, Recipe};
use crate::data::Clean;
use crate::model::{TeacherOutput, TeacherSource};

/// Address space for a store: more than any disk here, since the file grows as it is written only.
const LARGEST: usize = 1 << 40;

/// A log-probability that means never.
const NEVER: f32 = -30.0;

/// Samples to an output frame of 40 ms.
const FRAME: usize = 640;

/// Which of a teacher's outputs the stages of a recipe compare.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// The best token of each frame.
    spikes: bool,
    /// Log-probabilities.
    posteriors: bool,
    /// The attention map, averaged over heads.
    map: bool,
    /// Hidden vectors.
    hidden: bool,
}

impl Wanted {
    pub(super) fn by(recipe: &Recipe) -> Self {
        let mut wanted = Self {
            hidden: recipe.model.encoder().is_some(),
            ..Self::default()
        };
        for loss in recipe.stages.iter().map(|stage| &stage.loss) {
            wanted.posteriors |= loss.softmax > 0.0;
            wanted.map |= loss.sam > 0.0;
            wanted.hidden |= loss.feature > 0.0;
            wanted.spikes |= loss.guided > 0.0;
        }
        wanted
    }
}

/// The records of one utterance.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    frames: usize,
    /// (frames).
    spikes: Vec<u16>,
    /// (frames, outputs).
    posteriors: Vec<f16>,
    /// (frames, frames).
    map: Vec<f16>,
    /// (frames, width).
    hidden: Vec<f16>,
}

/// What an utterance sounds like, as a key.
pub(super) type Key = [u8; 16];

pub(super) fn key(clean: &Clean) -> Key {
    let mut hash = Sha256::new();
    for samples in clean.samples.chunks(1 << 12) {
        let bytes: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
        hash.update(&bytes);
    }
    let mut key = Key::default();
    key.copy_from_slice(&hash.finalize()[..16]);
    key
}

/// What one teacher said.
#[derive(Clone)]
pub(super) struct Cache {
    own: Store,
    /// What the encoder under its head said, if the head needs nothing else.
    encoder: Option<Store>,
    wanted: Wanted,
}

/// An LMDB store.
#[derive(Clone)]
struct Store {
    path: PathBuf,
    env: Env,
    records: Database<Bytes, Bytes>,
}

impl Store {
    /// Opens the store in a folder, or makes it.
    fn open(path: PathBuf) -> Result<Self, TrainError> {
        let failed = |reason: io::Error| TrainError::Io {
            path: path.clone(),
            reason,
        };
        fs::create_dir_all(&path).map_err(failed)?;
        let mut options = EnvOpenOptions::new();
        options.map_size(LARGEST);
        // SAFETY: the file is only ever written by LMDB, which locks it between processes; whoever
        // truncates it by other means while it is mapped breaks this, as with any mapped file.
        #[expect(unsafe_code, reason = "a file can be mapped in no other way")]
        let env = unsafe { options.open(&path) }.map_err(|error| failed(to_io(error)))?;
        let create = || {
            let mut transaction = env.write_txn()?;
            let records = env.create_database(&mut transaction, None)?;
            transaction.commit()?;
            Ok(records)
        };
        let records = create().map_err(|error| failed(to_io(error)))?;
        Ok(Self { path, env, records })
    }

    /// Fills a record with these kinds; false where one is not there, or damaged.
    fn read(
        &self,
        key: &Key,
        kinds: &[RecordKind],
        record: &mut Record,
    ) -> Result<bool, TrainError> {
        let mut read = || {
            let transaction = self.env.read_txn()?;
            for kind in kinds {
                let bytes = self.records.get(&transaction, &named(*kind, key))?;
                if bytes.and_then(|bytes| record.take(*kind, bytes)).is_none() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        read().map_err(|error| self.failed(error))
    }

    /// Keeps what records have of these kinds.
    fn write(
        &self,
        keys: &[Key],
        kinds: &[RecordKind],
        records: &[Record],
    ) -> Result<(), TrainError> {
        let write = || {
            let mut transaction = self.env.write_txn()?;
            for (key, record) in keys.iter().zip(records) {
                for kind in kinds.iter().copied().filter(|kind| record.has(*kind)) {
                    let (key, value) = (named(kind, key), record.bytes(kind));
                    self.records.put(&mut transaction, &key, &value)?;
                }
            }
            transaction.commit()
        };
        write().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: heed::Error) -> TrainError {
        TrainError::Io {
            path: self.path.clone(),
            reason: to_io(error),
        }
    }
}

impl Cache {
    /// Opens the store of a teacher in a folder, or makes it. A teacher that `speaks_from_hidden`
    /// vectors shares the store of the encoder under its head.
    pub(super) fn open(
        folder: &Path,
        source: &TeacherSource,
        layer: Option<usize>,
        precision: Precision,
        wanted: Wanted,
        speaks_from_hidden: bool,
    ) -> Result<Self, TrainError> {
        let store = |source: &TeacherSource| {
            Store::open(folder.join(fingerprint(source, layer, precision)?))
        };
        let own = store(source)?;
        let encoder = match source {
            TeacherSource::Whisper { encoder, .. } if speaks_from_hidden => {
                Some(store(&TeacherSource::Whisper {
                    encoder: encoder.clone(),
                    head: None,
                })?)
            }
            _ => None,
        };
        Ok(Self {
            own,
            encoder,
            wanted,
        })
    }

    /// What is written of an utterance: a later head may speak from hidden vectors that no stage compares.
    fn kept(&self) -> Wanted {
        Wanted {
            hidden: self.wanted.hidden || self.encoder.is_some(),
            ..self.wanted
        }
    }

    /// What is wanted of an utterance, if all of it is there, or all but what can be said from its
    /// hidden vectors.
    pub(super) fn get(&self, key: &Key) -> Result<Option<Record>, TrainError> {
        let mut record = Record::default();
        let whole = self.own.read(key, &self.wanted.kinds().1, &mut record)?;
        if !whole && self.encoder.is_none() {
            return Ok(None);
        }
        // Hidden vectors are the bulk: they are read where something is to be said from them, or compared.
        let (heard, _) = if whole { self.wanted } else { self.kept() }.kinds();
        let encoder = self.encoder.as_ref().unwrap_or(&self.own);
        Ok(encoder.read(key, &heard, &mut record)?.then_some(record))
    }

    /// Keeps what a teacher said about some utterances, which stay in their order.
    pub(super) fn put(
        &self,
        keys: &[Key],
        output: &TeacherOutput,
    ) -> Result<Vec<Record>, TrainError> {
        let records: Vec<_> = (0..keys.len())
            .map(|row| Record::of(output, row, self.kept()))
            .collect();
        let (heard, said) = self.kept().kinds();
        let encoder = self.encoder.as_ref().unwrap_or(&self.own);
        encoder.write(keys, &heard, &records)?;
        self.own.write(keys, &said, &records)?;
        Ok(records)
    }

    /// Whether something is still to be said about an utterance.
    pub(super) fn is_unsaid(&self, record: &Record) -> bool {
        let (_, said) = self.wanted.kinds();
        said.iter().any(|kind| !record.has(*kind))
    }

    /// Lets go of what served to say something and no stage compares.
    pub(super) fn trim(&self, record: &mut Record) {
        if !self.wanted.hidden {
            record.hidden.clear();
        }
    }

    /// Whether the teacher's attention map has to be computed for what is missing.
    pub(super) fn attention(&self) -> bool {
        self.wanted.map
    }
}

fn to_io(error: heed::Error) -> io::Error {
    match error {
        heed::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

fn fingerprint(
    source: &TeacherSource,
    layer: Option<usize>,
    precision: Precision,
) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    for path in source.files() {
        let failed = |reason| TrainError::Io {
            path: path.into(),
            reason,
        };
        let mut file = File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut hash).map_err(failed)?;
    }
    hash.update(format!("{layer:?}"));
    let hash: String = hash.finalize()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let precision = match precision {
        Precision::Fp32 => "fp32",
        Precision::Bf16 => "bf16",
    };
    Ok(format!("{hash}-{precision}"))
}

/// Kinds of records.
#[derive(Debug, Clone, Copy)]
enum RecordKind {
    Spikes,
    Posteriors,
    Map,
    Hidden,
}

impl Wanted {
    /// What an encoder gives, and what a head says.
    fn kinds(self) -> (Vec<RecordKind>, Vec<RecordKind>) {
        let kinds = |kinds: [(RecordKind, bool); 2]| {
            let wanted = kinds.into_iter().filter(|(_, is_wanted)| *is_wanted);
            wanted.map(|(kind, _)| kind).collect()
        };
        (
            kinds([
                (RecordKind::Hidden, self.hidden),
                (RecordKind::Map, self.map),
            ]),
            kinds([
                (RecordKind::Spikes, self.spikes),
                (RecordKind::Posteriors, self.posteriors),
            ]),
        )
    }
}

fn named(kind: RecordKind, key: &Key) -> [u8; 17] {
    let mut named = [kind as u8; 17];
    named[1..].copy_from_slice(key);
    named
}

impl Record {
    /// Row `row` of what a teacher said.
    fn of(output: &TeacherOutput, row: usize, wanted: Wanted) -> Self {
        let (index, frames) = (row as i64, output.lengths[row]);
        let rows = |tensor: &Option<Tensor>| {
            let tensor = tensor.as_ref()?;
            Some(tensor.get(index).narrow(-2, 0, frames))
        };
        let halves = |tensor: Option<Tensor>, is_wanted: bool| match tensor {
            Some(tensor) if is_wanted => {
                let tensor = tensor.to_kind(Kind::Half).to_device(Device::Cpu);
                Vec::try_from(tensor.contiguous().view(-1)).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let log_probs = rows(&output.log_probs);
        let spikes = match &log_probs {
            Some(log_probs) if wanted.spikes => {
                let best = Vec::<i64>::try_from(log_probs.argmax(-1, false)).unwrap_or_default();
                best.into_iter().map(|token| token as u16).collect()
            }
            _ => Vec::new(),
        };
        let map = output.attention.as_ref().map(|maps| {
            maps.get(index)
                .mean_dim(0, false, Kind::Float)
                .narrow(0, 0, frames)
                .narrow(1, 0, frames)
        });
        Self {
            frames: frames as usize,
            spikes,
            posteriors: halves(log_probs, wanted.posteriors),
            map: halves(map, wanted.map),
            hidden: halves(rows(&output.hidden), wanted.hidden),
        }
    }

    fn has(&self, kind: RecordKind) -> bool {
        match kind {
            RecordKind::Spikes => !self.spikes.is_empty(),
            RecordKind::Posteriors => !self.posteriors.is_empty(),
            RecordKind::Map => !self.map.is_empty(),
            RecordKind::Hidden => !self.hidden.is_empty(),
        }
    }

    /// What would be said about the utterance played so much faster, by a teacher with so many outputs: each frame
    /// is one of those that were said, of two that fall together the one with less blank. So no spike is lost.
    pub(super) fn played(self, speed: f64, outputs: Option<i64>) -> Self {
        if speed == 1.0 || self.frames == 0 {
            return self;
        }
        let blank = outputs.map_or(0, |outputs| outputs as usize - 1);
        let silence = |frame: usize| {
            let is_blank = |&spike: &u16| usize::from(spike) == blank;
            match self.posteriors.get(frame * (blank + 1) + blank) {
                Some(said) => said.to_f32(),
                None => f32::from(self.spikes.get(frame).is_some_and(is_blank)),
            }
        };
        let count = ((self.frames as f64 / speed).round() as usize).max(1);
        let place = |frame: usize| (frame as f64 * speed) as usize;
        let sources: Vec<usize> = (0..count)
            .map(|frame| {
                let from = place(frame).min(self.frames - 1);
                let to = if frame + 1 < count {
                    place(frame + 1)
                } else {
                    self.frames
                };
                (from..to.clamp(from + 1, self.frames))
                    .min_by(|&a, &b| silence(a).total_cmp(&silence(b)))
                    .unwrap_or(from)
            })
            .collect();
        let rows = |values: &[f16]| -> Vec<f16> {
            let width = values.len() / self.frames;
            let row = |&source: &usize| &values[source * width..][..width];
            sources.iter().flat_map(row).copied().collect()
        };
        let map = sources
            .iter()
            .filter(|_| !self.map.is_empty())
            .flat_map(|&source| {
                let row = &self.map[source * self.frames..][..self.frames];
                let row: Vec<f32> = sources.iter().map(|&source| row[source].to_f32()).collect();
                let sum = row.iter().sum::<f32>().max(f32::MIN_POSITIVE);
                row.into_iter().map(move |share| f16::from_f32(share / sum))
            });
        Self {
            frames: sources.len(),
            spikes: sources
                .iter()
                .filter_map(|&source| self.spikes.get(source))
                .copied()
                .collect(),
            posteriors: rows(&self.posteriors),
            map: map.collect(),
            hidden: rows(&self.hidden),
        }
    }

    /// Adds what was said about its hidden vectors.
    pub(super) fn complete(&mut self, said: Self) {
        self.spikes = said.spikes;
        self.posteriors = said.posteriors;
    }

    fn bytes(&self, kind: RecordKind) -> Vec<u8> {
        let mut bytes = (self.frames as u32).to_le_bytes().to_vec();
        let halves = |values: &[f16]| values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let values: Vec<u8> = match kind {
            RecordKind::Spikes => self.spikes.iter().flat_map(|x| x.to_le_bytes()).collect(),
            RecordKind::Posteriors => halves(&self.posteriors),
            RecordKind::Map => halves(&self.map),
            RecordKind::Hidden => halves(&self.hidden),
        };
        bytes.extend(values);
        bytes
    }

    /// Takes a record's bytes in; `None` if they are damaged.
    fn take(&mut self, kind: RecordKind, bytes: &[u8]) -> Option<()> {
        let (frames, values) = bytes.split_first_chunk()?;
        self.frames = u32::from_le_bytes(*frames) as usize;
        let (pairs, rest) = values.as_chunks::<2>();
        let counts_frames = self.frames > 0 && pairs.len().is_multiple_of(self.frames);
        if !rest.is_empty() || !counts_frames {
            return None;
        }
        let halves = || pairs.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
        match kind {
            RecordKind::Spikes => {
                self.spikes = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
            }
            RecordKind::Posteriors => self.posteriors = halves(),
            RecordKind::Map => self.map = halves(),
            RecordKind::Hidden => self.hidden = halves(),
        }
        Some(())
    }
}

/// The hidden vectors of some utterances, (B, T, width), padded with zeros, and the real frames of each.
pub(super) fn hidden(records: &[&Record], device: Device) -> (Tensor, Vec<i64>) {
    let lengths: Vec<_> = records.iter().map(|record| record.frames as i64).collect();
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let width = records
        .first()
        .map_or(0, |record| record.hidden.len() / record.frames);
    let mut values = vec![0.0; records.len() * longest * width];
    for (record, values) in records.iter().zip(values.chunks_mut(longest * width)) {
        let seen = record.hidden.len().min(values.len());
        record.hidden[..seen].convert_to_f32_slice(&mut values[..seen]);
    }
    let shape = [records.len() as i64, longest as i64, width as i64];
    let values = Tensor::from_slice(&values).view(shape).to_device(device);
    (values, lengths)
}

/// One utterance of a batch: what the teacher said about its clean sound, and where that lies in what
/// the student hears.
pub(super) struct Placed {
    pub(super) record: Record,
    /// Samples of quiet before it.
    pub(super) leading: usize,
    /// Log-mel frames of the whole.
    pub(super) frames: i64,
}

/// What a teacher would say about a batch: around the clean sound nothing is said, nothing is attended
/// to, and hidden vectors stay what they are at its edges.
pub(super) fn join(placed: &[Placed], outputs: Option<i64>, device: Device) -> TeacherOutput {
    let tensor = |values: &[f32]| Tensor::from_slice(values).to_device(device);
    let lengths: Vec<_> = placed
        .iter()
        .map(|placed| (placed.frames + 2) / 4)
        .collect();
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let (batch, shape) = (placed.len() as i64, longest as i64);
    // Where row `row` of an utterance's record goes, for all that fit.
    let frames = |placed: &Placed| {
        let start = placed.leading.div_ceil(FRAME);
        (0..placed.record.frames)
            .map(move |frame| (frame, start + frame))
            .take_while(move |(_, place)| *place < longest)
    };

    let first = placed.first().map(|placed| &placed.record);
    let log_probs = first
        .filter(|record| !record.spikes.is_empty() || !record.posteriors.is_empty())
        .and(outputs)
        .map(|outputs| {
            let width = outputs as usize;
            let mut values = vec![NEVER; placed.len() * longest * width];
            for (placed, values) in placed.iter().zip(values.chunks_mut(longest * width)) {
                values
                    .iter_mut()
                    .skip(width - 1)
                    .step_by(width)
                    .for_each(|blank| *blank = 0.0);
                for (frame, place) in frames(placed) {
                    let row = &mut values[place * width..][..width];
                    let record = &placed.record;
                    if let Some(posteriors) = record.posteriors.chunks_exact(width).nth(frame) {
                        posteriors.convert_to_f32_slice(row);
                    } else {
                        row[width - 1] = NEVER;
                    }
                    // In half precision another token may have become as probable.
                    if let Some(&spike) = record.spikes.get(frame)
                        && usize::from(spike) < width
                    {
                        let best = row.iter().copied().fold(NEVER, f32::max);
                        let spike = &mut row[usize::from(spike)];
                        *spike = if record.posteriors.is_empty() {
                            0.0
                        } else {
                            best.next_up()
                        };
                    }
                }
            }
            tensor(&values).view([batch, shape, outputs])
        });
    let attention = first.filter(|record| !record.map.is_empty()).map(|_| {
        let mut values = vec![0.0; placed.len() * longest * longest];
        for (placed, values) in placed.iter().zip(values.chunks_mut(longest * longest)) {
            let record = &placed.record;
            let Some((_, start)) = frames(placed).next() else {
                continue;
            };
            for (frame, place) in frames(placed) {
                let row = &record.map[frame * record.frames..][..record.frames];
                let seen = row.len().min(longest - start);
                row[..seen].convert_to_f32_slice(&mut values[place * longest + start..][..seen]);
            }
        }
        tensor(&values).view([batch, 1, shape, shape])
    });
    let hidden = first
        .filter(|record| !record.hidden.is_empty())
        .map(|first| {
            let width = first.hidden.len() / first.frames;
            let mut values = vec![0.0; placed.len() * longest * width];
            for (placed, values) in placed.iter().zip(values.chunks_mut(longest * width)) {
                let record = &placed.record;
                let start = placed.leading.div_ceil(FRAME);
                for (place, row) in values.chunks_exact_mut(width).enumerate() {
                    let frame = place.saturating_sub(start).min(record.frames - 1);
                    record.hidden[frame * width..][..width].convert_to_f32_slice(row);
                }
            }
            tensor(&values).view([batch, shape, width as i64])
        });
    TeacherOutput {
        log_probs,
        attention,
        hidden,
        lengths,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says a token in some frames, and blank (2) in the others.
    fn record(frames: usize, spikes: &[(usize, u16)]) -> Record {
        let mut said = vec![2; frames];
        for &(frame, token) in spikes {
            said[frame] = token;
        }
        let posteriors = said.iter().flat_map(|&spike| {
            (0..3).map(move |token| f16::from_f32(if token == spike { -0.1 } else { -3.0 }))
        });
        let map = (0..frames * frames)
            .map(|cell| f16::from_f32(f32::from(cell / frames == cell % frames)));
        Record {
            frames,
            posteriors: posteriors.collect(),
            map: map.collect(),
            hidden: (0..frames)
                .map(|frame| f16::from_f32(frame as f32))
                .collect(),
            spikes: said,
        }
    }

    fn runs(spikes: &[u16]) -> Vec<u16> {
        let mut runs = spikes.to_vec();
        runs.dedup();
        runs.retain(|&token| token != 2);
        runs
    }

    #[test]
    fn no_spike_is_lost_or_doubled_at_another_speed() {
        let said = record(
            23,
            &[(0, 0), (4, 1), (7, 1), (9, 0), (12, 1), (15, 0), (22, 1)],
        );
        let whole = runs(&said.spikes);
        for percent in 80..=125 {
            let speed = f64::from(percent) / 100.0;
            let played = said.clone().played(speed, Some(3));
            assert_eq!(played.frames, (23.0 / speed).round() as usize);
            assert_eq!(runs(&played.spikes), whole, "{speed}");
            // Without posteriors, spikes alone tell what is blank.
            let bare = Record {
                posteriors: Vec::new(),
                ..said.clone()
            };
            assert_eq!(bare.played(speed, Some(3)).spikes, played.spikes);
            let best = played.posteriors.chunks_exact(3).zip(&played.spikes);
            assert!(
                best.into_iter()
                    .all(|(row, &spike)| row[usize::from(spike)].to_f32() > -0.2)
            );
            assert_eq!(played.hidden.len(), played.frames);
            assert!(played.hidden.is_sorted());
            for row in played.map.chunks_exact(played.frames) {
                let sum: f32 = row.iter().map(|share| share.to_f32()).sum();
                assert!((sum - 1.0).abs() < 1e-2, "{sum}");
            }
        }
    }
}
