//! Speech with transcripts, heard by a package.

use sori::{Event, Segment, Stream};
use sori_train::data::manifest::Entry;
use sori_train::data::{DataError, audio};

/// Hears utterances one by one; `each` is told what was said in one, and what was heard.
///
/// # Errors
/// If audio cannot be read, or the engine fails.
pub(crate) fn hear<E: From<DataError> + From<sori::Error>>(
    stream: &mut Stream,
    entries: &[Entry],
    mut each: impl FnMut(&str, Vec<Segment>),
) -> Result<(), E> {
    for entry in entries {
        let samples = audio::read(entry)?;
        let mut heard = Vec::new();
        let mut note = |event| {
            if let Event::Final(segment) = event {
                heard.push(segment);
            }
        };
        stream.accept(16_000, &samples)?.for_each(&mut note);
        stream.finish()?.for_each(&mut note);
        each(&entry.text, heard);
    }
    Ok(())
}
