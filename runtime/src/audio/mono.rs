/// The mean over the channels of one frame; what is not a number becomes silence.
///
/// Float formats can carry NaN and infinity, and one of them would poison every sum after it.
/// A frame has at least one channel.
pub(super) fn mean(frame: impl ExactSizeIterator<Item = f32>) -> f32 {
    let channels = frame.len() as f32;
    let mean = frame.sum::<f32>() / channels;
    if mean.is_finite() { mean } else { 0.0 }
}
