//! Why teacher and student cannot be compared.

/// Why teacher and student, or log-probabilities and transcripts, do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The two models count frames differently. Their frame rates must agree (40 ms), and both must
    /// hear the same audio; rounding may differ by one frame.
    #[error(
        "utterance {utterance} of the batch: the teacher gives {teacher} frames, the student \
         {student}; they may differ by one"
    )]
    Frames {
        /// Index in the batch.
        utterance: usize,
        /// The teacher's frames.
        teacher: i64,
        /// The student's frames.
        student: i64,
    },
    /// The two models have different outputs. Train the student with the teacher's tokens.
    #[error(
        "the teacher has {teacher} outputs, the student {student}: they must share one vocabulary"
    )]
    Outputs {
        /// The teacher's outputs, blank included.
        teacher: i64,
        /// The student's outputs, blank included.
        student: i64,
    },
    /// The teacher's heads cannot be split into as many groups as the student has heads. Compare
    /// head averages (`mean`), or change the student's heads.
    #[error("{teacher} teacher heads cannot be averaged in {student} equal groups")]
    Heads {
        /// The teacher's heads.
        teacher: i64,
        /// The student's heads.
        student: i64,
    },
    /// A tensor has another shape than the loss is defined on: the caller mixed up its arguments.
    #[error("{what}: expected {expected}, found {found:?}")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// The shape in words.
        expected: String,
        /// Its shape.
        found: Vec<i64>,
    },
}

impl LossError {
    pub(super) fn shape(what: &'static str, expected: impl Into<String>, found: &[i64]) -> Self {
        Self::Shape {
            what,
            expected: expected.into(),
            found: found.into(),
        }
    }
}
