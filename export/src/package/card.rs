//! The model card.

use std::fmt::Write;

use serde_json::Value;
use sori::model::Config;

use super::Exported;

/// The text of the package's README.md.
pub(crate) fn write(config: &Config, exported: &Exported) -> String {
    let mut card = String::new();
    // Writing to a string does not fail.
    let _ = sections(&mut card, config, exported);
    card
}

fn sections(card: &mut String, config: &Config, exported: &Exported) -> std::fmt::Result {
    let Config {
        name,
        description,
        language,
        license,
        streaming,
        features,
        tokens,
        ..
    } = config;
    writeln!(card, "# {name}\n")?;
    if !description.is_empty() {
        writeln!(card, "{description}\n")?;
    }
    writeln!(
        card,
        "A streaming speech recogniser for [Sori](https://github.com/sori-speech/sori): audio in, words with times out,\n\
         on the device.\n"
    )?;

    let or_unknown = |text: &str| {
        if text.is_empty() {
            "not stated".to_owned()
        } else {
            text.to_owned()
        }
    };
    writeln!(card, "| | |\n|---|---|")?;
    writeln!(card, "| language | {} |", or_unknown(language))?;
    writeln!(card, "| licence of the weights | {} |", or_unknown(license))?;
    writeln!(card, "| parameters | {} |", exported.parameters)?;
    writeln!(card, "| chunk | {} ms |", streaming.chunk_ms)?;
    writeln!(card, "| left context | {} ms |", streaming.left_context_ms)?;
    writeln!(
        card,
        "| features | {}: {} bins every {} ms, {} Hz |",
        features.kind, features.mel_bins, features.frame_shift_ms, features.sample_rate
    )?;
    writeln!(card, "| tokens | {}, the last is the blank |", tokens.count)?;
    for graph in &exported.graphs {
        writeln!(
            card,
            "| `{}` | {} bytes, {} nodes |",
            graph.file, graph.bytes, graph.nodes
        )?;
    }

    writeln!(
        card,
        "\n## How to run it\n\n\
         ```sh\n\
         sori transcribe --model {name} talk.wav\n\
         sori listen --model {name}\n\
         ```\n\n\
         The graphs keep the contract of sherpa-onnx's online NeMo CTC models, so that other clients load them as well:\n\n\
         ```python\n\
         sherpa_onnx.OnlineRecognizer.from_nemo_ctc(model=\"{name}/{}\", tokens=\"{name}/{}\")\n\
         ```",
        exported
            .graphs
            .first()
            .map_or("model.onnx", |graph| &graph.file),
        tokens.file
    )?;

    writeln!(card, "\n## Where it comes from\n")?;
    for (key, value) in &config.training {
        let value = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // A whole recipe stands in config.json.
        if !value.contains('\n') {
            writeln!(card, "- {key}: {value}")?;
        }
    }

    writeln!(card, "\n## Word error rates\n")?;
    if config.measured.is_empty() {
        writeln!(card, "None were measured when the package was made.")?;
    } else {
        writeln!(card, "| set | WER % | chunk | graph |\n|---|---|---|---|")?;
        for measured in &config.measured {
            let chunk = measured
                .chunk_ms
                .map_or("full context".to_owned(), |ms| format!("{ms} ms"));
            let graph = measured.precision.as_deref().unwrap_or("");
            writeln!(
                card,
                "| {} | {:.2} | {chunk} | {graph} |",
                measured.set, measured.wer
            )?;
        }
    }

    writeln!(
        card,
        "\n## Verified\n\n\
         When the package was made, every graph was run chunk by chunk against the trained model. Differences are of\n\
         log-probabilities, those below -1 relative to their size; moved is the mean share of probability on other tokens.\n\n\
         | graph | engine | heard | chunks | largest difference | moved | same best token |\n|---|---|---|---|---|---|---|"
    )?;
    for comparison in &exported.comparisons {
        writeln!(
            card,
            "| {} | {} | {} | {} | {:.1e} | {:.1e} | {:.2} % |",
            comparison.graph,
            comparison.engine,
            comparison.signal,
            comparison.chunks,
            comparison.largest_difference,
            comparison.moved,
            100.0 * comparison.same_best
        )?;
    }
    Ok(())
}
