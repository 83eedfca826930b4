//! Teacher and student in front of one batch.

use std::path::Path;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tch::{Device, Tensor, no_grad};

use super::error::TrainError;
use super::feed::{Course, Ear};
use super::listener::{Listener, check_length};
use super::network::Architecture;
use super::objective::{Comparison, Objective};
use super::precision;
use super::student::{Student, Weighted};
use crate::config::{Precision, Recipe, Stage};
use crate::data::{SpecAugment, Tokenizer};
use crate::evaluate::{SpikeAgreement, spike_agreement};
use crate::front_end::FrontEnd;
use crate::loss::Frames;
use crate::model::{Context, Output, Pass, TeacherOutput};

/// Who takes part in training, and how they listen.
pub(super) struct Classroom {
    pub(super) student: Student,
    /// The teacher; or the encoder under a head, if what it says is kept.
    teacher: Option<Listener>,
    /// Whether it is the encoder.
    is_encoder: bool,
    /// What of its words is hidden from the head.
    masks: SpecAugment,
    /// What the student hears, if it is anything else than our log-mel frames.
    own_front_end: Option<FrontEnd>,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// What the student's attention may see, each in its turn.
    pub(super) contexts: Vec<Context>,
    precision: Precision,
    /// Most seconds that student and teacher can hear at once.
    pub(super) longest: f64,
    pub(super) device: Device,
}

impl Classroom {
    /// Opens the teacher, checks that it gives what the stages need, and makes a student, a fresh one without `init`.
    pub(super) fn open(
        recipe: &Recipe,
        init: Option<&Path>,
        device: Device,
    ) -> Result<Self, TrainError> {
        let precision = precision::suited(recipe.precision, device);
        let tokenizer = Arc::new(Tokenizer::load(&recipe.data.tokenizer)?);
        let network = recipe.model.network(tokenizer.pieces().len())?;
        let architecture = Architecture::open(network, device)?;
        let teacher = match &recipe.listener() {
            Some(teacher) => {
                let mut listener = Listener::open(teacher, device)?;
                listener.keep(teacher, precision, recipe)?;
                Some(listener)
            }
            None => None,
        };
        if let Some(teacher) = &teacher {
            for stage in &recipe.stages {
                teacher.check(stage, &tokenizer, architecture.heads())?;
            }
        }
        let ears = [
            ("the encoder", architecture.max_frames()),
            (
                "the teacher",
                teacher.as_ref().and_then(Listener::max_frames),
            ),
        ];
        for (who, most) in ears {
            check_length(recipe, who, most)?;
        }
        let most = ears.iter().filter_map(|(_, most)| *most).min();
        let compares = recipe.stages.iter().any(|stage| stage.loss.feature > 0.0);
        let width = teacher.as_ref().and_then(|teacher| teacher.width);
        let width = width.filter(|_| compares);
        tch::manual_seed(step_numbers(recipe.seed, u64::MAX).random());
        Ok(Self {
            student: Student::new(&architecture, init, width, recipe.ema_decay, device)?,
            own_front_end: match recipe.model.cache() {
                Some(_) => None,
                None => architecture.front_end().cloned(),
            },
            teacher,
            is_encoder: recipe.model.cache().is_some(),
            masks: recipe.data.spec_augment.clone(),
            tokenizer,
            contexts: recipe.contexts.contexts(),
            precision,
            longest: most.map_or(f64::INFINITY, |frames| frames as f64 / 100.0),
            device,
        })
    }

    /// Who hears anything else than our log-mel frames, if anybody does: a head with its encoder, or
    /// a teacher.
    pub(super) fn other_ear(&self) -> Option<Ear> {
        match (&self.own_front_end, &self.teacher) {
            (Some(own), _) => Some(Ear::student(own.clone())),
            (None, Some(teacher)) => {
                let cache = teacher.cache().cloned();
                Some(Ear::teacher(teacher.front_end().clone(), cache))
            }
            (None, None) => None,
        }
    }

    /// The losses of a stage over a batch, for the student in training: with dropout and gradient.
    pub(super) fn train(
        &self,
        stage: &Stage,
        course: &Course,
        context: Context,
    ) -> Result<Objective, TrainError> {
        let (objective, _) = self.compare(stage, course, context, &self.student.raw, true)?;
        Ok(objective)
    }

    /// The losses of a stage over a batch for what the student has become, and what it says.
    pub(super) fn examine(
        &self,
        stage: &Stage,
        course: &Course,
        context: Context,
    ) -> Result<(Objective, Output), TrainError> {
        no_grad(|| self.compare(stage, course, context, self.student.best(), false))
    }

    fn compare(
        &self,
        stage: &Stage,
        course: &Course,
        context: Context,
        weights: &Weighted,
        train: bool,
    ) -> Result<(Objective, Output), TrainError> {
        let attention = stage.loss.sam > 0.0;
        let autocast = precision::begin(self.precision, self.device)?;
        let teacher = match &self.teacher {
            Some(teacher) if self.is_encoder || stage.loss.need_teacher() => {
                teacher.hear(course, attention)?
            }
            _ => None,
        };
        let pass = Pass {
            context,
            train,
            attention,
        };
        let student = self.listen(weights, course, teacher.as_ref(), pass);
        let other_view = match &course.batch.other_view {
            Some(features) if stage.loss.consistency > 0.0 => {
                let features = features.to_device(self.device);
                Some(weights.model.listen(&features, &course.batch.frames, pass))
            }
            _ => None,
        };
        drop(autocast);
        let compared = Comparison {
            student: &student,
            other_view: other_view.as_ref(),
            transcripts: &course.batch.tokens,
            blank: self.tokenizer.blank(),
            context,
            teacher: teacher.as_ref(),
            projection: self.student.projection.as_ref(),
        };
        let objective = Objective::of(stage, &compared)?;
        Ok((objective, student))
    }

    /// What the student in training says without dropout.
    pub(super) fn ask(&self, course: &Course, context: Context) -> Result<Output, TrainError> {
        let pass = Pass {
            context,
            ..Pass::default()
        };
        let _autocast = precision::begin(self.precision, self.device)?;
        let said = match &self.teacher {
            Some(encoder) if self.is_encoder => encoder.hear(course, false)?,
            _ => None,
        };
        Ok(no_grad(|| {
            self.listen(&self.student.raw, course, said.as_ref(), pass)
        }))
    }

    /// Compares spikes with those of a teacher that has the student's tokens; `None` without one.
    pub(super) fn agreement(
        &self,
        course: &Course,
        student: &Output,
    ) -> Result<Option<SpikeAgreement>, TrainError> {
        let Some(teacher) = &self.teacher else {
            return Ok(None);
        };
        if !teacher.has_posteriors_over(self.tokenizer.pieces()) {
            return Ok(None);
        }
        let _autocast = precision::begin(self.precision, self.device)?;
        let Some(heard) = teacher.hear(course, false)? else {
            return Ok(None);
        };
        Ok(heard.log_probs.map(|posteriors| {
            let teacher = Frames {
                values: &posteriors,
                lengths: &heard.lengths,
            };
            let student = Frames {
                values: &student.log_probs,
                lengths: &student.lengths,
            };
            spike_agreement(teacher, student, self.tokenizer.blank())
        }))
    }

    fn listen(
        &self,
        weights: &Weighted,
        course: &Course,
        said: Option<&TeacherOutput>,
        pass: Pass,
    ) -> Output {
        if let Some(said) = said.filter(|_| self.is_encoder) {
            let said = self.masked(said, course, pass.train);
            if let Some(output) = weights.model.hear(&said, pass) {
                return output;
            }
        }
        let own = (&course.batch.features, &course.batch.frames);
        let (features, frames) = match (&self.own_front_end, &course.other_features) {
            (Some(_), Some((features, frames))) => (features, frames),
            _ => own,
        };
        let features = features.to_device(self.device);
        weights.model.listen(&features, frames, pass)
    }

    /// What the encoder said, in training with some of it hidden.
    fn masked(&self, said: &TeacherOutput, course: &Course, train: bool) -> TeacherOutput {
        let hide = |hidden: &Tensor| {
            let (size, masks) = (hidden.size(), train.then_some(&self.masks));
            let Some(masks) = masks.filter(|masks| !masks.is_none()) else {
                return hidden.shallow_clone();
            };
            let (width, row) = (size[2] as usize, (size[1] * size[2]) as usize);
            let mut values = vec![0.0_f32; hidden.numel()];
            hidden.copy_data(&mut values, hidden.numel());
            let rows = values.chunks_mut(row.max(1)).zip(&said.lengths);
            for ((values, &frames), &hearing) in rows.zip(&course.batch.hearings) {
                masks.apply(&mut values[..frames as usize * width], width, hearing);
            }
            Tensor::from_slice(&values)
                .view(&size[..])
                .to_device(self.device)
        };
        TeacherOutput {
            hidden: said.hidden.as_ref().map(hide),
            log_probs: None,
            attention: None,
            lengths: said.lengths.clone(),
        }
    }
}

/// The random numbers of a step, which depend on nothing but the seed and the step.
pub(super) fn step_numbers(seed: u64, step: u64) -> StdRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&step.to_le_bytes());
    StdRng::from_seed(bytes)
}
