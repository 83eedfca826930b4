//! Errors in words and characters.

use std::fs;

use serde_json::Value;
use sori_train::evaluate::{ErrorCounts, character_errors, word_errors};

use crate::support::golden;

#[test]
fn counts_agree_with_jiwer() {
    let text = fs::read_to_string(golden("wer", "pairs.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let expected = |of: &Value| serde_json::from_value::<ErrorCounts>(of.clone()).unwrap();
    let pairs = golden["pairs"].as_array().unwrap();
    let mut pooled = [ErrorCounts::default(); 2];
    for pair in pairs {
        let [said, heard] = ["reference", "hypothesis"].map(|key| pair[key].as_str().unwrap());
        let words = word_errors(said, heard);
        let characters = character_errors(said, heard);
        assert_eq!(
            words,
            expected(&pair["words"]),
            "{said:?} heard as {heard:?}"
        );
        assert_eq!(
            characters,
            expected(&pair["characters"]),
            "{said:?} heard as {heard:?}"
        );
        pooled[0] += words;
        pooled[1] += characters;
    }
    assert!(pairs.len() > 200);
    let of = &golden["pooled"];
    assert_eq!(
        pooled,
        [expected(&of["words"]), expected(&of["characters"])]
    );
    for (counts, rate) in pooled.iter().zip(["wer", "cer"]) {
        let difference = counts.rate().unwrap() - of[rate].as_f64().unwrap();
        assert!(difference.abs() < 1e-12, "{rate}");
    }
    assert_eq!(word_errors("", "a").rate(), None);
}
