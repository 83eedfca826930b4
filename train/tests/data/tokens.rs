use std::collections::HashMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sori_train::data::text::LETTERS;
use sori_train::data::{DataError, Tokenizer, TokenizerKind};

use crate::sound::tokenizer;

const KINDS: [TokenizerKind; 2] = [TokenizerKind::Unigram, TokenizerKind::Bpe];

#[test]
fn tokens_txt_is_the_model_packages() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = tokenizer(kind, 128);
        tokenizer.save(&folder.path().join("new/folder")).unwrap();
        let text = fs::read_to_string(folder.path().join("new/folder/tokens.txt")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 129);
        assert_eq!(lines[128], "<blk> 128");
        assert_eq!(tokenizer.blank(), 128);
        for (id, (line, piece)) in lines.iter().zip(tokenizer.pieces()).enumerate() {
            assert_eq!(*line, format!("{piece} {id}"));
            let letters = piece.strip_prefix('▁').unwrap_or(piece);
            assert!(letters.chars().all(|c| LETTERS.contains(c)), "{piece}");
        }
        let whole_words = |pieces: &[String]| pieces.iter().filter(|p| p.starts_with('▁')).count();
        assert!(whole_words(tokenizer.pieces()) > 20);
    }
}

#[test]
fn the_same_text_gives_the_same_files() {
    for kind in KINDS {
        let files = || {
            let folder = tempfile::tempdir().unwrap();
            tokenizer(kind, 200).save(folder.path()).unwrap();
            ["tokens.txt", "tokenizer.json"].map(|name| fs::read(folder.path().join(name)).unwrap())
        };
        assert!(files() == files(), "{kind:?}");
    }
}

#[test]
fn where_there_is_a_tokens_txt_the_tokenizer_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    // What cannot be replaced by a file, as on a disk that is full.
    fs::create_dir_all(folder.path().join("tokenizer.json/full")).unwrap();
    tokenizer(TokenizerKind::Unigram, 128)
        .save(folder.path())
        .unwrap_err();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_saved_tokenizer_is_the_same() {
    for kind in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let made = tokenizer(kind, 128);
        made.save(folder.path()).unwrap();
        let loaded = Tokenizer::load(folder.path()).unwrap();
        assert_eq!(loaded.pieces(), made.pieces());
        assert_eq!(loaded.can_sample(), kind == TokenizerKind::Unigram);
        for text in ["", "stain", "a zebra's quiz box", "grull tromed"] {
            assert_eq!(loaded.encode(text).unwrap(), made.encode(text).unwrap());
        }
    }
}

#[test]
fn pieces_learn_frequent_words() {
    for kind in KINDS {
        let tokenizer = tokenizer(kind, 256);
        // The most frequent word of the text is one token; letters never seen are one each.
        assert_eq!(tokenizer.encode("ban").unwrap().len(), 1, "{kind:?}");
        assert_eq!(tokenizer.encode("zjq").unwrap().len(), 4, "{kind:?}");
    }
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let train = |pieces| Tokenizer::train(["one two"], TokenizerKind::Unigram, pieces).unwrap_err();
    assert!(matches!(
        train(10),
        DataError::Config {
            field: "pieces",
            ..
        }
    ));
    for kind in KINDS {
        let error = Tokenizer::train(["one two"], kind, 256).unwrap_err();
        assert!(
            matches!(error, DataError::TooFewPieces { expected: 256, .. }),
            "{error}"
        );
    }
}

#[test]
fn letters_without_a_piece_are_refused() {
    for kind in KINDS {
        let error = tokenizer(kind, 128).encode("ban café").unwrap_err();
        assert!(matches!(error, DataError::Unspellable { .. }), "{error}");
    }
}

#[test]
fn files_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let load = || Tokenizer::load(folder.path()).unwrap_err().to_string();
    assert!(load().contains("tokenizer.json"));
    tokenizer(TokenizerKind::Unigram, 128)
        .save(folder.path())
        .unwrap();
    let tokens = folder.path().join("tokens.txt");
    let text = fs::read_to_string(&tokens).unwrap();

    fs::write(&tokens, text.replacen("<blk> 128", "<blk> 129", 1)).unwrap();
    assert!(load().contains("tokens.txt:129: "), "{}", load());
    fs::write(
        &tokens,
        text.replace(" 0\n", " x\n")
            .replace(" 1\n", " 0\n")
            .replace(" x\n", " 1\n"),
    )
    .unwrap();
    assert!(load().contains("piece 0 is"), "{}", load());
    fs::write(&tokens, "a 0\n<blk> 1\n").unwrap();
    assert!(
        load().contains("128 pieces, but tokens.txt beside it lists 1"),
        "{}",
        load()
    );
    fs::write(folder.path().join("tokenizer.json"), "{\"model\": 3}").unwrap();
    assert!(load().contains("no tokenizer: "), "{}", load());
}

#[test]
fn samples_have_the_probabilities_of_their_pieces() {
    let tokenizer = tokenizer(TokenizerKind::Unigram, 128);
    let mut rng = StdRng::seed_from_u64(5);
    let mut draw = |alpha: f64| {
        let mut counts = HashMap::<Vec<i64>, usize>::new();
        for _ in 0..4000 {
            let tokens = tokenizer.sample("steen", alpha, &mut rng).unwrap();
            assert_eq!(tokenizer.decode(&tokens), "steen");
            *counts.entry(tokens).or_default() += 1;
        }
        counts
    };
    // All splits are as likely as each other with alpha 0: count them.
    let word = "▁steen";
    let is_piece = |piece: &str| tokenizer.pieces().iter().any(|p| p == piece);
    let bounds: Vec<usize> = word
        .char_indices()
        .map(|(at, _)| at)
        .chain([word.len()])
        .collect();
    let mut splits = vec![1_usize; bounds.len()];
    for end in 1..bounds.len() {
        splits[end] = (0..end)
            .filter(|&start| is_piece(&word[bounds[start]..bounds[end]]))
            .map(|start| splits[start])
            .sum();
    }
    let splits = splits[bounds.len() - 1];
    assert!(splits > 4);
    let uniform = draw(0.0);
    assert_eq!(uniform.len(), splits);
    let expected = 4000.0 / splits as f64;
    for (split, &count) in &uniform {
        let deviation = (count as f64 - expected).abs() / expected.sqrt();
        assert!(deviation < 5.0, "{split:?}: {count}, expected {expected}");
    }
    // The best split alone with a large alpha, and more often than the others in between.
    let best = tokenizer.encode("steen").unwrap();
    assert_eq!(draw(50.0).keys().collect::<Vec<_>>(), [&best]);
    let some = draw(0.3);
    assert!(some.len() > 1);
    assert_eq!(
        some.iter().max_by_key(|(_, count)| **count).unwrap().0,
        &best
    );
}

#[test]
fn only_unigrams_are_sampled() {
    let mut rng = StdRng::seed_from_u64(5);
    assert!(
        tokenizer(TokenizerKind::Bpe, 128)
            .sample("ban", 0.1, &mut rng)
            .is_err()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn every_normalised_text_has_a_spelling(words in proptest::collection::vec("[a-z']{1,12}", 0..8)) {
        thread_local! {
            static TOKENIZERS: [Tokenizer; 2] = KINDS.map(|kind| tokenizer(kind, 128));
        }
        let text = words.join(" ");
        TOKENIZERS.with(|tokenizers| {
            for tokenizer in tokenizers {
                let tokens = tokenizer.encode(&text).unwrap();
                prop_assert!(tokens.iter().all(|token| (0..tokenizer.blank()).contains(token)));
                prop_assert_eq!(&tokenizer.decode(&tokens), &text);
            }
            Ok(())
        })?;
    }
}

/// Texts, and what `SentencePiece` splits them into.
#[derive(serde::Deserialize)]
struct Golden {
    texts: Vec<String>,
    ids: Vec<Vec<i64>>,
}

#[test]
fn a_sentencepiece_model_splits_as_sentencepiece_does() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/nemo");
    let read = |name: &str| fs::read(format!("{golden}/{name}")).unwrap();
    let path = Path::new("tokenizer.model");
    let open = |bytes: &[u8]| Tokenizer::from_sentencepiece(bytes, path);
    let bytes = read("tokenizer.model");
    let made = open(&bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    made.save(folder.path()).unwrap();
    let loaded = Tokenizer::load(folder.path()).unwrap();

    let golden: Golden = serde_json::from_slice(&read("pieces.json")).unwrap();
    assert_eq!((golden.texts.len(), golden.ids.len()), (150, 150));
    for tokenizer in [&made, &loaded] {
        assert_eq!(tokenizer.pieces().len(), 128);
        assert_eq!(tokenizer.pieces()[0], "<unk>");
        assert!(tokenizer.can_sample());
        for (text, ids) in golden.texts.iter().zip(&golden.ids) {
            assert_eq!(&tokenizer.encode(text).unwrap(), ids, "{text}");
            assert_eq!(&tokenizer.decode(ids), text);
        }
        // As many letters as the unknown piece's name has.
        for text in ["7", "the 漢字", "漢字漢字漢"] {
            let error = tokenizer.encode(text).unwrap_err();
            assert!(matches!(error, DataError::Unspellable { .. }), "{error}");
        }
    }

    let refused = |bytes: &[u8]| open(bytes).unwrap_err().to_string();
    assert_eq!(
        refused(b""),
        "tokenizer.model: no SentencePiece model: it has no pieces"
    );
    let error = refused(&bytes[..bytes.len() / 2]);
    assert!(
        error.starts_with("tokenizer.model: no SentencePiece model: "),
        "{error}"
    );
    // Said again, `model_type` is another.
    let pairs = [&bytes[..], &[0x12, 2, 0x18, 2]].concat();
    assert_eq!(
        refused(&pairs),
        "tokenizer.model: expected a unigram model, found bpe"
    );
}
