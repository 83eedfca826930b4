//! The model in plain Rust, over a whole utterance at once: what the engines must agree with.

use super::{
    BLANK, BLANK_LOGIT, CONTRAST_ABSENT, CONTRAST_PRESENT, HISTORY, MEL_BINS, PAST_FRAMES,
    SUBSAMPLING, TOKENS, TONE_LOGIT, ToneModel, lag_weight, mel_bin,
};

impl ToneModel {
    /// Log-probabilities of a whole utterance, `(frames / 4 rounded up, 9)` row by row, from its
    /// log-mels, `(frames, 80)` row by row. Running the graph chunk by chunk gives the same.
    ///
    /// # Panics
    ///
    /// If `features` is not a whole number of frames.
    #[must_use]
    pub fn log_probs(&self, features: &[f32]) -> Vec<f32> {
        let (frames, rest) = features.as_chunks::<MEL_BINS>();
        assert!(
            rest.is_empty(),
            "features: expected rows of {MEL_BINS}, {} left over",
            rest.len()
        );
        let presence: Vec<[f64; BLANK]> = frames.iter().map(presence).collect();
        let outputs = frames.len().div_ceil(SUBSAMPLING);
        let scores: Vec<[f64; BLANK]> = (0..outputs)
            .map(|output| self.score(&presence, output))
            .collect();
        (0..outputs)
            .flat_map(|output| log_softmax(average(&scores, output)))
            .collect()
    }

    /// The weighted mean of the presences around `output`; outside the utterance there are none.
    fn score(&self, presence: &[[f64; BLANK]], output: usize) -> [f64; BLANK] {
        let mut score = [0.0; BLANK];
        for (index, &weight) in self.frame_weights().iter().enumerate() {
            let frame = (output * SUBSAMPLING + index).checked_sub(PAST_FRAMES);
            if let Some(frame) = frame.and_then(|frame| presence.get(frame)) {
                for (sum, value) in score.iter_mut().zip(frame) {
                    *sum += f64::from(weight) * value;
                }
            }
        }
        score
    }
}

/// How present each tone is in one frame of log-mels: 0 to 1.
fn presence(log_mel: &[f32; MEL_BINS]) -> [f64; BLANK] {
    let level = |bin: usize| f64::from(log_mel[bin]);
    let levels: [f64; BLANK] =
        std::array::from_fn(|token| (level(mel_bin(token)) + level(mel_bin(token) + 1)) / 2.0);
    let sum: f64 = levels.iter().sum();
    levels.map(|own| {
        let contrast = own - (sum - own) / (BLANK - 1) as f64;
        let (absent, present) = (f64::from(CONTRAST_ABSENT), f64::from(CONTRAST_PRESENT));
        ((contrast - absent) / (present - absent)).clamp(0.0, 1.0)
    })
}

/// The weighted average of the scores at `output` and the [`HISTORY`] before it that exist.
fn average(scores: &[[f64; BLANK]], output: usize) -> [f64; BLANK] {
    let mut average = [0.0; BLANK];
    let mut total = 0.0;
    for lag in 0..=HISTORY.min(output) {
        let weight = f64::from(lag_weight(lag));
        total += weight;
        for (sum, score) in average.iter_mut().zip(&scores[output - lag]) {
            *sum += weight * score;
        }
    }
    average.map(|sum| sum / total)
}

fn log_softmax(average: [f64; BLANK]) -> [f32; TOKENS.len()] {
    let logits: [f64; TOKENS.len()] = std::array::from_fn(|token| match average.get(token) {
        Some(score) => f64::from(TONE_LOGIT) * score,
        None => f64::from(BLANK_LOGIT),
    });
    let normaliser = logits.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    logits.map(|logit| (logit - normaliser) as f32)
}
