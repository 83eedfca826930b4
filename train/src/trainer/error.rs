//! Why training stops.

use std::path::PathBuf;

use crate::config::RecipeError;
use crate::data::DataError;
use crate::evaluate::EvaluateError;
use crate::loss::LossError;
use crate::model::{CheckpointError, ConfigError, TeacherError};

/// Why training cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe cannot be used.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The model's numbers, with the tokenizer's vocabulary, describe no model.
    #[error(transparent)]
    Model(#[from] ConfigError),
    /// The weights to begin with cannot be used.
    #[error(transparent)]
    Init(#[from] CheckpointError),
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The teacher cannot be opened or fails.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// A stage's loss needs what the teacher does not give. Take another teacher or another loss.
    #[error("the teacher has no {lacks}, which loss \"{loss}\" of stage {stage:?} needs")]
    Lacks {
        /// The stage.
        stage: String,
        /// The loss.
        loss: &'static str,
        /// What the teacher does not give.
        lacks: &'static str,
    },
    /// Teacher and student count different tokens. Train the student with the teacher's tokens.
    #[error(
        "the teacher has {teacher} outputs, the tokenizer gives {student} (its pieces and the \
         blank), and loss \"{loss}\" of stage {stage:?} compares them: train with the teacher's tokens"
    )]
    Outputs {
        /// The stage.
        stage: String,
        /// The loss.
        loss: &'static str,
        /// The teacher's outputs.
        teacher: i64,
        /// The tokenizer's pieces and the blank.
        student: i64,
    },
    /// Teacher and student mean different tokens by the same number. Train the student with the
    /// teacher's tokens.
    #[error(
        "token {id} is {teacher:?} to the teacher and {student:?} to the tokenizer: train with the \
         teacher's tokens"
    )]
    Tokens {
        /// The first token that differs.
        id: usize,
        /// What the teacher means by it.
        teacher: String,
        /// What the tokenizer means by it.
        student: String,
    },
    /// Utterances may become longer than the teacher, or the encoder under a head, can hear. Lower `data.batching.longest`.
    #[error(
        "{who} hears at most {most:.1} s, but utterances become up to {found:.1} s long: \
         lower data.batching.longest or choose other speeds"
    )]
    TooLong {
        /// Who hears.
        who: &'static str,
        /// The longest that it hears, in seconds.
        most: f64,
        /// The longest utterance after augmentation, in seconds.
        found: f64,
    },
    /// The recipe does not say where the teacher's words are kept. Give `teacher.source` and
    /// `teacher.cache`.
    #[error(
        "the recipe has no teacher whose words are kept: give teacher.source and teacher.cache"
    )]
    NothingKept,
    /// Teacher and student cannot be compared.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The student's words cannot be compared with the transcripts.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The run's folder already holds a run. Resume it, or write to another folder.
    #[error("{path} already holds a run: resume it with --resume, or choose another folder")]
    Exists {
        /// The run's folder.
        path: PathBuf,
    },
    /// The run was begun with another recipe. Restore it, or start a new run.
    #[error(
        "{path} was begun with another recipe: \"{key}\" differs; only [checkpoints], [evaluation] \
         and [metrics] may change between parts of a run"
    )]
    OtherRecipe {
        /// The checkpoint.
        path: PathBuf,
        /// The first key that differs.
        key: String,
    },
    /// The run was begun with a teacher of the same name and other contents, one that was trained anew
    /// say. Restore it, or start a new run.
    #[error(
        "{path} was begun with another teacher: \"{teacher}\" has other contents now; restore it, or start a new run"
    )]
    OtherTeacher {
        /// The run's folder.
        path: PathBuf,
        /// The teacher, as the recipe names it.
        teacher: String,
    },
    /// A file of the run cannot be written or read. Check the permissions and the free space.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// A checkpoint is damaged or of another version. Remove it to resume from the one before.
    #[error("{path}: {reason}; remove it to resume from the checkpoint before it")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Losses or gradients were not finite many times in a row: training has diverged. Start again
    /// with a lower learning rate or a longer warm-up.
    #[error(
        "step {step}: no finite loss or gradient in {count} steps in a row; start again with a lower \
         optimiser.peak_learning_rate or a longer optimiser.warm_up_steps"
    )]
    Diverged {
        /// The last step.
        step: u64,
        /// Steps in a row.
        count: u32,
    },
    /// The environment describes no job of several processes. Start it by torchrun or another of
    /// torch's launchers, or by `--workers`; or unset `WORLD_SIZE` to train alone.
    #[error("{name}: expected {expected}, found {found}; unset WORLD_SIZE to train alone")]
    Job {
        /// The variable.
        name: &'static str,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Another process of the job ended, or does not answer. Its own messages tell why; then start all
    /// of them again with `--resume`.
    #[error(
        "another process of the job is gone or does not answer ({0}); see its messages, then start \
         all again with --resume: the last checkpoint is good"
    )]
    Peers(tch::TchError),
    /// libtorch failed: out of memory, as a rule.
    #[error("libtorch: {0}")]
    Torch(tch::TchError),
}

impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        Self::Torch(error)
    }
}
