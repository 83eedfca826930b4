//! `SentencePiece`'s `tokenizer.model`: the pieces of a unigram model and how likely each is.
//!
//! The file is a message of protocol buffers, [`sentencepiece_model.proto`]; what is not needed of it is passed over.
//!
//! [`sentencepiece_model.proto`]: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    /// Logarithm of its probability.
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    #[prost(int32, optional, tag = "3")]
    model: Option<i32>,
}

/// `TrainerSpec.ModelType`, from 1.
const MODELS: [&str; 4] = ["unigram", "bpe", "word", "char"];
/// `SentencePiece.Type` of a piece that stands for letters that no piece has.
const UNKNOWN: i32 = 2;

/// Most bytes of all pieces together, about those of a model of 128,000: what looks them up takes some hundred bytes for each.
const LONGEST: usize = 1 << 20;

/// A model's pieces.
pub(super) struct Pieces {
    /// In the order of their ids, with the logarithms of their probabilities.
    pub(super) pieces: Vec<(String, f64)>,
    /// The one for letters that no other has.
    pub(super) unknown: Option<usize>,
}

/// Reads a file's content. What is wrong with it is said as text.
pub(super) fn read(bytes: &[u8]) -> Result<Pieces, String> {
    let model = Model::decode(bytes).map_err(|error| format!("no SentencePiece model: {error}"))?;
    let kind = model.trainer.and_then(|trainer| trainer.model).unwrap_or(1);
    if kind != 1 {
        let name = MODELS.get((kind - 1).max(0) as usize);
        let found = name.map_or_else(|| format!("kind {kind}"), |name| (*name).to_owned());
        return Err(format!("expected a unigram model, found {found}"));
    }
    let kinds = model.pieces.iter().map(|piece| piece.kind);
    let unknown = kinds.into_iter().position(|kind| kind == Some(UNKNOWN));
    let pieces = model.pieces.into_iter().enumerate().map(|(id, piece)| {
        let score = piece.score.unwrap_or(0.0);
        match piece.piece {
            Some(text) if !text.is_empty() && score.is_finite() => Ok((text, f64::from(score))),
            _ => Err(format!("piece {id} has no text, or no number")),
        }
    });
    let pieces: Vec<_> = pieces.collect::<Result<_, _>>()?;
    let length: usize = pieces.iter().map(|(text, _)| text.len()).sum();
    if length > LONGEST {
        return Err(format!(
            "expected at most {LONGEST} bytes of pieces, found {length}"
        ));
    }
    if pieces.is_empty() {
        return Err("no SentencePiece model: it has no pieces".to_owned());
    }
    Ok(Pieces { pieces, unknown })
}
