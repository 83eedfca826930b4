//! What a teacher said about one utterance: bytes to be kept, other speeds, a batch of them.

use half::f16;
use half::slice::HalfFloatSliceExt;
use tch::{Device, Kind, Tensor};

use crate::config::Recipe;
use crate::model::TeacherOutput;

/// A log-probability that means never.
const NEVER: f32 = -30.0;

/// Samples to an output frame of 40 ms.
const FRAME: usize = 640;

/// Which of a teacher's outputs the stages of a recipe compare.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// The best token of each frame.
    pub(super) spikes: bool,
    /// Log-probabilities.
    pub(super) posteriors: bool,
    /// The attention map, averaged over heads.
    pub(super) map: bool,
    /// Hidden vectors.
    pub(super) hidden: bool,
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

/// Kinds of records.
#[derive(Debug, Clone, Copy)]
pub(super) enum RecordKind {
    Spikes,
    Posteriors,
    Map,
    Hidden,
}

impl Wanted {
    /// What an encoder gives, and what a head says.
    pub(super) fn kinds(self) -> (Vec<RecordKind>, Vec<RecordKind>) {
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
    pub(super) hidden: Vec<f16>,
}

impl Record {
    /// Row `row` of what a teacher said.
    pub(super) fn of(output: &TeacherOutput, row: usize, wanted: Wanted) -> Self {
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

    pub(super) fn has(&self, kind: RecordKind) -> bool {
        match kind {
            RecordKind::Spikes => !self.spikes.is_empty(),
            RecordKind::Posteriors => !self.posteriors.is_empty(),
            RecordKind::Map => !self.map.is_empty(),
            RecordKind::Hidden => !self.hidden.is_empty(),
        }
    }

    /// What would be said about the utterance played so much faster, by a teacher with so many outputs: each frame
    /// is one of those that were said. Faster, frames are left out that change no word; slower, some are said twice.
    pub(super) fn played(self, speed: f64, outputs: Option<i64>) -> Self {
        if speed == 1.0 || self.frames == 0 {
            return self;
        }
        let count = ((self.frames as f64 / speed).round() as usize).max(1);
        let sources = if count < self.frames {
            thinned(&self.best_tokens(outputs), count)
        } else {
            (0..count)
                .map(|frame| frame * self.frames / count)
                .collect()
        };
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

    /// The best token of each frame; `None` for a blank, and where the teacher says no tokens.
    fn best_tokens(&self, outputs: Option<i64>) -> Vec<Option<usize>> {
        let width = outputs.unwrap_or(1).max(1) as usize;
        let spoken = |token: usize| Some(token).filter(|&token| token + 1 < width);
        let best = |row: &[f16]| {
            let best = (0..width).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            best.and_then(spoken)
        };
        if self.spikes.is_empty() && !self.posteriors.is_empty() {
            return self.posteriors.chunks_exact(width).map(best).collect();
        }
        let spikes = self.spikes.iter();
        let mut tokens: Vec<_> = spikes.map(|&token| spoken(token.into())).collect();
        tokens.resize(self.frames, None);
        tokens
    }

    /// Adds what was said about its hidden vectors.
    pub(super) fn complete(&mut self, said: Self) {
        self.spikes = said.spikes;
        self.posteriors = said.posteriors;
    }

    pub(super) fn bytes(&self, kind: RecordKind) -> Vec<u8> {
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
    pub(super) fn take(&mut self, kind: RecordKind, bytes: &[u8]) -> Option<()> {
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

/// The places of `count` of these tokens, evenly spread but for frames that are needed: a token that is said in one
/// frame only, and a blank that parts two of the same. Such a frame stays, and one near it goes.
fn thinned(tokens: &[Option<usize>], count: usize) -> Vec<usize> {
    /// Frames on either side that are looked at.
    const NEAR: usize = 8;
    let mut kept: Vec<usize> = (0..tokens.len()).collect();
    let surplus = tokens.len().saturating_sub(count);
    for gone in 0..surplus {
        let due = ((gone as f64 + 0.5) * tokens.len() as f64 / surplus as f64) as usize - gone;
        let token = |at: usize| kept.get(at).map(|&frame| tokens[frame]);
        let is_spare = |&at: &usize| {
            let before = at.checked_sub(1).and_then(token);
            let (here, after) = (token(at), token(at + 1));
            match here.flatten() {
                Some(_) => before == here || after == here,
                None => here.is_some() && (before != after || before.flatten().is_none()),
            }
        };
        let near = (0..=NEAR).flat_map(|step| [due + step, due.saturating_sub(step)]);
        let at = near.into_iter().find(is_spare).unwrap_or(due);
        kept.remove(at.min(kept.len() - 1));
    }
    kept
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
            &[
                (0, 0),
                (4, 1),
                // Only one blank between them; then two on neighbouring frames, and one that is said twice.
                (6, 1),
                (7, 0),
                (12, 1),
                (13, 1),
                (15, 0),
                (22, 1),
            ],
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
