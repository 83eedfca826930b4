//! A language model as ARPA text: what is read is what the compiled form says.

use sori::lm::LanguageModel;

pub fn run(data: &[u8]) {
    let Ok(model) = LanguageModel::from_arpa(data, "model.arpa") else {
        return;
    };
    let again = LanguageModel::from_bytes(model.bytes().to_vec(), "model.lm");
    let again = again.expect("what was written is read");
    for sentence in ["", "one two", "the cat sat on the mat", "소리"] {
        let score = model.sentence(sentence).log10;
        assert!(score.is_finite(), "{sentence}: {score}");
        assert_eq!(score, again.sentence(sentence).log10);
    }
}
