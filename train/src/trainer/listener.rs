//! The teacher beside the trainer: what it can give, and what it says about a batch.

use tch::{Device, Tensor};

use super::cache::Cache;
use super::error::TrainError;
use super::feed::{Course, Known};
use super::provenance::Provenance;
use super::record::{self, Placed, Record, Wanted};
use crate::config::{Precision, Recipe, Stage, TeacherRecipe};
use crate::data::{Augmentation, KeptSpeech, Tokenizer, audio};
use crate::front_end::FrontEnd;
use crate::loss::{HeadMatching, LossError};
use crate::model::{Teacher, TeacherOutput, TeacherSource};

const SAMPLE_RATE: f64 = 16_000.0;

/// A teacher and what it turned out to give.
pub(super) struct Listener {
    pub(super) teacher: Teacher,
    device: Device,
    /// What its outputs mean, without the blank; empty where that is not known.
    tokens: Vec<String>,
    /// Outputs of its CTC head, the blank included.
    outputs: Option<i64>,
    /// Heads of its attention map.
    heads: Option<i64>,
    /// Width of its hidden vectors.
    pub(super) width: Option<i64>,
    /// What it said before.
    cache: Option<Cache>,
}

impl Listener {
    /// Opens a teacher and lets it hear a second of silence, to see what it gives.
    pub(super) fn open(recipe: &TeacherRecipe, device: Device) -> Result<Self, TrainError> {
        let source = recipe.source.parse()?;
        let teacher = Teacher::open(&source, recipe.layer, device)?;
        let tokens = match (&source, teacher.tokens()) {
            (_, Some(tokens)) => tokens.to_vec(),
            (
                TeacherSource::Sori(path)
                | TeacherSource::Whisper {
                    head: Some(path), ..
                },
                None,
            ) => {
                let said = Provenance::read(path).ok().flatten();
                said.map_or(Vec::new(), |said| said.tokens)
            }
            (_, None) => Vec::new(),
        };
        let silence = vec![0.0; SAMPLE_RATE as usize];
        let (features, lengths) = teacher.front_end().batch(&[silence]);
        let heard = teacher.listen(&features.to_device(device), &lengths, true)?;
        let size = |tensor: &Option<Tensor>, dimension: usize| {
            tensor.as_ref().map(|tensor| tensor.size()[dimension])
        };
        Ok(Self {
            outputs: size(&heard.log_probs, 2),
            heads: size(&heard.attention, 1),
            width: size(&heard.hidden, 2),
            tokens,
            teacher,
            device,
            cache: None,
        })
    }

    /// Whether the teacher has CTC posteriors over these tokens, the blank not among them.
    pub(super) fn has_posteriors_over(&self, pieces: &[String]) -> bool {
        self.outputs == Some(pieces.len() as i64 + 1) && self.check_tokens(pieces).is_ok()
    }

    /// That the teacher gives what a stage needs to a student of so many heads.
    pub(super) fn check(
        &self,
        stage: &Stage,
        tokenizer: &Tokenizer,
        student_heads: i64,
    ) -> Result<(), TrainError> {
        for (loss, weight) in stage.loss.by_name() {
            if weight <= 0.0 {
                continue;
            }
            let lacks = |lacks| TrainError::Lacks {
                stage: stage.name.clone(),
                loss,
                lacks,
            };
            match loss {
                "guided" | "softmax" => {
                    let teacher = self.outputs.ok_or_else(|| lacks("CTC posteriors"))?;
                    let student = tokenizer.blank() + 1;
                    if teacher != student {
                        return Err(TrainError::Outputs {
                            stage: stage.name.clone(),
                            loss,
                            teacher,
                            student,
                        });
                    }
                    self.check_tokens(tokenizer.pieces())?;
                }
                "sam" => {
                    let teacher = self.heads.ok_or_else(|| lacks("attention map"))?;
                    if stage.heads == HeadMatching::Grouped && teacher % student_heads != 0 {
                        return Err(TrainError::Loss(LossError::Heads {
                            teacher,
                            student: student_heads,
                        }));
                    }
                }
                "feature" => {
                    self.width.ok_or_else(|| lacks("hidden vectors"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn check_tokens(&self, pieces: &[String]) -> Result<(), TrainError> {
        let mut pairs = self.tokens.iter().zip(pieces).enumerate();
        match pairs.find(|(_, (teacher, student))| teacher != student) {
            None => Ok(()),
            Some((id, (teacher, student))) => Err(TrainError::Tokens {
                id,
                teacher: teacher.clone(),
                student: student.clone(),
            }),
        }
    }

    /// The longest utterance that it hears, in frames of its front-end.
    pub(super) fn max_frames(&self) -> Option<i64> {
        self.teacher.max_frames()
    }

    /// What the teacher hears.
    pub(super) fn front_end(&self) -> &FrontEnd {
        self.teacher.front_end()
    }

    /// Keeps what it says about clean speech, and says it again, in `folder`.
    pub(super) fn keep(
        &mut self,
        teacher: &TeacherRecipe,
        precision: Precision,
        recipe: &Recipe,
    ) -> Result<(), TrainError> {
        self.cache = match &teacher.cache {
            Some(folder) => {
                let source = teacher.source.parse()?;
                Some(Cache::open(
                    folder,
                    &source,
                    teacher.layer,
                    precision,
                    Wanted::by(recipe),
                    self.teacher.speaks_from_hidden(),
                )?)
            }
            None => None,
        };
        Ok(())
    }

    /// What it said before, if that is kept.
    pub(super) fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Listens to a batch; to what it has not heard before, where that is kept. `None` if nobody
    /// computed what it hears.
    pub(super) fn hear(
        &self,
        course: &Course,
        attention: bool,
    ) -> Result<Option<TeacherOutput>, TrainError> {
        let listen = |(features, lengths): &(Tensor, Vec<i64>), attention| {
            let features = features.to_device(self.device);
            self.teacher.listen(&features, lengths, attention)
        };
        let (Some(cache), Some(known)) = (&self.cache, &course.known) else {
            let heard = course.other_features.as_ref();
            return Ok(heard.map(|heard| listen(heard, attention)).transpose()?);
        };
        let missing = known.iter().filter(|known| known.record.is_none());
        let keys: Vec<_> = missing.map(|known| known.key).collect();
        let mut fresh = match &course.other_features {
            Some(heard) => cache.put(&keys, &listen(heard, cache.attention())?)?,
            None => Vec::new(),
        }
        .into_iter();
        let records = known
            .iter()
            .filter_map(|known| known.record.clone().or_else(|| fresh.next()));
        let mut records: Vec<_> = records.collect();
        self.say(cache, known, &mut records)?;
        records.iter_mut().for_each(|record| cache.trim(record));
        let rows = records
            .into_iter()
            .zip(&course.batch.clean)
            .zip(&course.batch.frames);
        let placed: Vec<_> = rows
            .map(|((record, clean), &frames)| Placed {
                record: record.played(clean.speed, self.outputs),
                leading: clean.leading,
                frames,
            })
            .collect();
        Ok(Some(record::join(&placed, self.outputs, self.device)))
    }

    /// Says about hidden vectors that were kept what was not said before, and keeps it.
    fn say(
        &self,
        cache: &Cache,
        known: &[Known],
        records: &mut [Record],
    ) -> Result<(), TrainError> {
        let utterances = known.iter().zip(records);
        let (keys, mut unsaid): (Vec<_>, Vec<_>) = utterances
            .filter(|(_, record)| cache.is_unsaid(record))
            .map(|(known, record)| (known.key, record))
            .unzip();
        if unsaid.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = unsaid.iter().map(|record| &**record).collect();
        let (hidden, lengths) = record::hidden(&records, self.device);
        let said = TeacherOutput {
            log_probs: self.teacher.say(&hidden, &lengths),
            attention: None,
            hidden: None,
            lengths,
        };
        for (record, said) in unsaid.iter_mut().zip(cache.put(&keys, &said)?) {
            record.complete(said);
        }
        Ok(())
    }
}

/// That no utterance of the data becomes longer than `who` hears, in frames of 10 ms. Who is kept
/// hears the speech alone, and at its own speed where that is stretched.
pub(super) fn check_length(
    recipe: &Recipe,
    who: &'static str,
    max_frames: Option<i64>,
) -> Result<(), TrainError> {
    let Some(most) = max_frames else {
        return Ok(());
    };
    let most = most as f64 / 100.0;
    let (samples, augmentation) = (
        audio::samples_in(recipe.data.batching.longest),
        &recipe.data.augmentation,
    );
    let heard = match recipe.keeps_clean() {
        KeptSpeech::None => augmentation.bounds(samples)[1],
        KeptSpeech::AsPlayed => {
            let alone = Augmentation {
                speed: augmentation.speed.clone(),
                ..Augmentation::none()
            };
            alone.bounds(samples)[1]
        }
        KeptSpeech::AtOwnSpeed => samples,
    };
    let found = heard as f64 / SAMPLE_RATE;
    if found <= most {
        return Ok(());
    }
    Err(TrainError::TooLong { who, most, found })
}
