//! A compiled language model.

use sori::lm::LanguageModel;

pub fn run(data: &[u8]) {
    let Ok(model) = LanguageModel::from_bytes(data.to_vec(), "model.lm") else {
        return;
    };
    for sentence in [
        "",
        "one two",
        "the cat sat on the mat",
        "cat cat cat",
        "소리",
    ] {
        let score = model.sentence(sentence).log10;
        assert!(score.is_finite(), "{sentence}: {score}");
    }
}
