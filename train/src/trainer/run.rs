//! One run of a recipe, from its folder's first file to the trained model.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rand::RngExt;
use tch::{Device, no_grad};

use super::checkpoint::{self, State};
use super::classroom::{Classroom, step_numbers};
use super::error::TrainError;
use super::exchange::Exchange;
use super::feed::{Course, Feed};
use super::held_out::HeldOut;
use super::metrics::{Figures, Metrics, shares};
use super::optimiser::Optimiser;
use super::progress::Progress;
use super::schedule::Schedule;
use super::sums::Sums;
use super::window::{Step, Window};
use super::{Options, Outcome, folder, trained};
use crate::config::{Recipe, Stage};
use crate::data::{Corpus, Loader, Position, Shard};
use crate::evaluate::{Collapse, collapse};
use crate::loss::Frames;

/// What a run works with, found to go together.
pub(super) struct Parts {
    classroom: Classroom,
    corpus: Corpus,
    held_out: Option<HeldOut>,
}

impl Parts {
    /// With a student that begins with the weights in `init`, if there are any.
    pub(super) fn open(
        recipe: &Recipe,
        init: Option<&Path>,
        device: Device,
    ) -> Result<Self, TrainError> {
        recipe.validate()?;
        let classroom = Classroom::open(recipe, init, device)?;
        Ok(Self {
            corpus: Corpus::read(&recipe.data.train, recipe.data.strictness())?,
            held_out: HeldOut::read(recipe, classroom.longest)?,
            classroom,
        })
    }

    /// Begins to read the training data at some place.
    pub(super) fn load(
        &self,
        recipe: &Recipe,
        shard: Shard,
        from: Position,
    ) -> Result<Loader, TrainError> {
        Ok(Loader::start(
            &self.corpus,
            self.classroom.tokenizer.clone(),
            &recipe.loader(),
            recipe.data.strictness(),
            shard,
            from,
        )?)
    }
}

pub(super) struct Run<'a> {
    recipe: &'a Recipe,
    options: Options<'a>,
    classroom: Classroom,
    optimiser: Optimiser,
    exchange: Exchange,
    feed: Feed,
    held_out: Option<HeldOut>,
    state: State,
    /// Steps skipped since the last that was not.
    skipped_in_row: u32,
    /// Whether a process of the job was asked to stop.
    stopping: bool,
    /// Written by the process that leads.
    metrics: Option<Metrics>,
    progress: Progress,
    /// Whether the student was found collapsed when it was last looked at.
    collapsed: bool,
}

impl<'a> Run<'a> {
    /// Checks that recipe, data and teacher go together, then begins the run or goes on with it.
    pub(super) fn open(recipe: &'a Recipe, options: Options<'a>) -> Result<Self, TrainError> {
        // A run that goes on has weights of its own, and what it began with may be gone.
        // Only the process that leads need have the folder.
        let peers = options.peers;
        let goes_on = options.resume && !checkpoint::list(options.run)?.is_empty();
        let goes_on = peers.take_first_bytes(vec![u8::from(goes_on)])? == [1];
        let init = recipe.model.init().filter(|_| !goes_on);
        let parts = Parts::open(recipe, init, options.device)?;
        let student = &parts.classroom.student;

        let mut state = State::start(recipe.to_toml());
        let mut optimiser = Optimiser::new(student.parameters(), &recipe.optimiser);
        if peers.leads()
            && let Some(newest) = folder::begin(recipe, options)?
        {
            newest.restore(&student.state())?;
            newest.restore(&optimiser.state())?;
            state = State {
                recipe: state.recipe,
                ..newest.state
            };
        }
        for named in [student.state(), optimiser.state()] {
            let tensors: Vec<_> = named.into_iter().map(|(_, tensor)| tensor).collect();
            peers.take_first(&tensors)?;
        }
        state = state.of_the_first(peers)?;
        optimiser.set_updates(state.updates);
        let loader = parts.load(recipe, peers.shard(), state.position)?;
        let total = recipe.stages.iter().map(|stage| stage.steps).sum();
        let progress = Progress::new(total, state.step, peers.leads());
        let left_out = loader.left_out();
        if left_out.total() > 0 {
            progress.warn(&format!("left out of the training data: {left_out}"));
        }
        Ok(Self {
            recipe,
            options,
            feed: Feed::start(
                loader,
                parts.classroom.other_ear(),
                recipe.data.spec_augment.clone(),
            ),
            classroom: parts.classroom,
            exchange: Exchange::new(peers.group(), &optimiser.parameters())?,
            optimiser,
            held_out: parts.held_out,
            metrics: match peers.leads() {
                true => Some(Metrics::open(options.run, state.step)?),
                false => None,
            },
            stopping: false,
            state,
            skipped_in_row: 0,
            progress,
            collapsed: false,
        })
    }

    /// Trains to the end, or until it is stopped.
    pub(super) fn go(mut self) -> Result<Outcome, TrainError> {
        let recipe = self.recipe;
        while let Some(stage) = recipe.stages.get(self.state.stage) {
            if !self.run_stage(stage)? {
                let checkpoint = self.save()?;
                self.progress.finish();
                return Ok(Outcome::Stopped(checkpoint));
            }
            self.state.stage += 1;
            self.state.stage_step = 0;
            self.state.updates = 0;
            self.optimiser = Optimiser::new(self.classroom.student.parameters(), &recipe.optimiser);
            self.exchange.forget();
            // First of all: much speech may be held out, and a run be cut off while it is heard.
            self.save()?;
            self.measure(stage)?;
        }
        let trained = match self.options.peers.leads() {
            true => trained::write(self.options.run, recipe, &self.classroom, &self.state)?,
            false => trained::path(self.options.run),
        };
        self.progress.finish();
        Ok(Outcome::Finished(trained))
    }

    /// Returns `false` if it was stopped before the stage's end.
    fn run_stage(&mut self, stage: &Stage) -> Result<bool, TrainError> {
        let recipe = self.recipe;
        let schedule = Schedule::new(&recipe.optimiser, stage);
        let mut window = Window::start(self.feed.waiting());
        while self.state.stage_step < stage.steps {
            // Several processes stop after the same step, which they agree on in that step.
            let alone = self.options.peers.shard() == Shard::WHOLE;
            if self.stopping || alone && self.options.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let rate = schedule.rate(self.state.stage_step);
            let (step, course) = self.step(stage, rate)?;
            self.state.step += 1;
            self.state.stage_step += 1;
            self.state.updates = self.optimiser.updates();
            self.state.seconds += step.seconds;
            self.state.position = course.batch.next;
            let waiting = self.feed.waiting().share();
            let loss = step.losses.first().map_or(f64::NAN, |(_, loss)| *loss);
            self.progress.step(&stage.name, loss, step.seconds, waiting);
            if self.skipped_in_row == 0 {
                window.add(&step);
            }

            let last = self.state.stage_step == stage.steps;
            let now = self.state.step;
            let due = |every: u64| last || now.is_multiple_of(every);
            if due(recipe.metrics.every_steps) {
                let mut figures = window.figures(self.feed.waiting());
                figures.extend(self.state_figures(&course, rate));
                if self.metrics.is_some() {
                    figures.extend(self.diagnose(stage, &course)?);
                }
                self.tell(stage, &figures)?;
                window = Window::start(self.feed.waiting());
            }
            // At the stage's end both are the caller's, who saves it as the beginning of the next.
            if !last && due(recipe.checkpoints.every_steps) {
                self.save()?;
            }
            if !last && due(recipe.evaluation.every_steps) {
                self.measure(stage)?;
            }
        }
        Ok(true)
    }

    /// Hears what is held out, if anything is.
    fn measure(&mut self, stage: &Stage) -> Result<(), TrainError> {
        let Some(held_out) = &self.held_out else {
            return Ok(());
        };
        let figures = held_out.measure(&self.classroom, stage, self.options.peers)?;
        self.tell(stage, &figures)
    }

    /// Adds up the gradients of as many batches as make a step, over all processes, and moves the
    /// parameters. Losses are means over utterances, so that it does not matter which batch or process an
    /// utterance is in. Returns the last batch, too.
    fn step(&mut self, stage: &Stage, rate: f64) -> Result<(Step, Course), TrainError> {
        let peers = self.options.peers;
        let mut rng = step_numbers(self.recipe.seed, self.state.step);
        // What is dropped out differs between processes.
        tch::manual_seed(rng.random::<i64>().wrapping_add(peers.shard().rank as i64));
        self.optimiser.clear_gradients()?;
        let mut sums = Sums::default();
        let mut last = None;
        for left in (0..self.recipe.optimiser.accumulate_batches).rev() {
            let course = self.next_course()?;
            let contexts = &self.classroom.contexts;
            let context = contexts[rng.random_range(0..contexts.len())];
            let objective = self.classroom.train(stage, &course, context)?;
            let utterances = course.batch.tokens.len() as f64;
            if left == 0 {
                self.exchange.expect();
            }
            (&objective.total * utterances).f_backward()?;
            sums.add(&objective, utterances, course.batch.seconds());
            last = Some(course);
        }
        let Some(course) = last else {
            unreachable!("a step accumulates at least one batch, which is checked")
        };
        sums.stops = f64::from(u8::from(self.options.stop.load(Ordering::Relaxed)));
        sums.exchange(|numbers| self.exchange.finish(numbers))?;
        self.stopping = sums.stops > 0.0;
        for mut gradient in self.optimiser.gradients() {
            let _ = no_grad(|| gradient.g_mul_scalar_(1.0 / sums.utterances));
        }
        let (losses, seconds) = (sums.means(), sums.seconds);
        let gradient_norm = self.optimiser.clip()?;
        if losses[0].1.is_finite() && gradient_norm.is_finite() {
            self.optimiser.step(rate, peers)?;
            self.classroom
                .student
                .update_average(self.optimiser.updates())?;
            self.skipped_in_row = 0;
        } else {
            self.skip(losses[0].1, gradient_norm, &course)?;
        }
        let step = Step {
            losses,
            gradient_norm,
            seconds,
        };
        Ok((step, course))
    }

    /// Leaves a step out, unless too many were.
    fn skip(&mut self, loss: f64, norm: f64, course: &Course) -> Result<(), TrainError> {
        self.skipped_in_row += 1;
        self.state.skipped += 1;
        let step = self.state.step;
        self.progress.warn(&format!(
            "step {step} is skipped: loss {loss}, gradient norm {norm}, in a batch with {}",
            course.batch.ids.first().map_or("", String::as_str)
        ));
        let count = self.skipped_in_row;
        if count < self.recipe.optimiser.skip_limit {
            return Ok(());
        }
        Err(TrainError::Diverged { step, count })
    }

    fn next_course(&mut self) -> Result<Course, TrainError> {
        match self.feed.next() {
            Some(course) => Ok(course?),
            None => unreachable!("the loader has no last epoch"),
        }
    }

    fn state_figures(&self, course: &Course, rate: f64) -> Figures {
        let figures = [
            ("train/learning_rate", rate),
            ("train/skipped_steps", self.state.skipped as f64),
            ("data/broken_utterances", course.broken.utterances as f64),
            ("data/epoch", self.state.position.epoch as f64),
            ("data/audio_hours", self.state.seconds / 3600.0),
        ];
        figures.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Looks for collapse, and compares spikes with the teacher's.
    fn diagnose(&mut self, stage: &Stage, course: &Course) -> Result<Figures, TrainError> {
        let student = self.classroom.ask(course, self.classroom.contexts[0])?;
        let mut figures = Vec::new();
        let hidden = Frames {
            values: &student.hidden,
            lengths: &student.lengths,
        };
        if let Some(found) = collapse(hidden) {
            figures.push(("diagnostics/hidden_deviation".to_owned(), found.deviation));
            figures.push(("diagnostics/hidden_cosine".to_owned(), found.cosine));
            self.warn_of(found, stage);
        }
        let agreement = self.classroom.agreement(course, &student)?;
        figures.extend(shares("diagnostics", agreement.unwrap_or_default()));
        Ok(figures)
    }

    /// Warns once of each collapse; a student at its beginning has not learnt to differ yet.
    fn warn_of(&mut self, found: Collapse, stage: &Stage) {
        let optimiser = &self.recipe.optimiser;
        let warm_up = stage.warm_up_steps.unwrap_or(optimiser.warm_up_steps);
        let begun = self.state.stage > 0 || self.state.stage_step > warm_up;
        let collapsed = begun && found.is_alarming();
        if collapsed && !self.collapsed {
            self.progress.warn(&format!(
                "step {}, stage {:?}: the student's hidden vectors collapse: deviation {:.3} \
                 (healthy above {}), mean cosine {:.3} (healthy below {})",
                self.state.step,
                stage.name,
                found.deviation,
                Collapse::LEAST_DEVIATION,
                found.cosine,
                Collapse::MOST_COSINE
            ));
        }
        self.collapsed = collapsed;
    }

    /// Writes figures, where this process does.
    fn tell(&mut self, stage: &Stage, figures: &Figures) -> Result<(), TrainError> {
        match &mut self.metrics {
            Some(metrics) => metrics.write(self.state.step, &stage.name, figures),
            None => Ok(()),
        }
    }

    /// The checkpoint of this state; the process that leads writes it.
    fn save(&self) -> Result<PathBuf, TrainError> {
        if !self.options.peers.leads() {
            return Ok(checkpoint::file(self.options.run, &self.state));
        }
        let mut tensors = self.classroom.student.state();
        tensors.extend(self.optimiser.state());
        let (run, keep) = (self.options.run, self.recipe.checkpoints.keep);
        let path = checkpoint::file(run, &self.state);
        let header = trained::header(&path, self.recipe, &self.classroom, &self.state)?;
        checkpoint::save(run, &self.state, tensors, header, keep)
    }
}
