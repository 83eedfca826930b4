//! Which archives a pattern means.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;

/// Most archives of one source.
const MOST: usize = 1 << 17;

/// The archives of a source.
#[derive(Debug)]
pub(in crate::data) struct Tars {
    paths: Vec<PathBuf>,
    /// Indices by the number in the name.
    numbers: HashMap<u32, u32>,
}

impl Tars {
    /// Finds the archives that a pattern such as `audio_{0..31}.tar` means.
    pub(in crate::data) fn find(pattern: &str) -> Result<Self, DataError> {
        let failed = |reason: String| DataError::Tars {
            pattern: pattern.into(),
            reason,
        };
        // NeMo's way to write braces where a shell or Hydra would take them for its own.
        let braces = pattern.replace("_OP_", "{").replace("_CL_", "}");
        let mut paths = Vec::new();
        let mut numbers = HashMap::new();
        for (index, path) in (0..).zip(expand(&braces).map_err(failed)?) {
            let path = PathBuf::from(path);
            let name = path.display();
            let number = number(&path).ok_or_else(|| {
                failed(format!("{name}: expected a number before \".tar\" in it"))
            })?;
            if numbers.insert(number, index).is_some() {
                return Err(failed(format!("two archives have the number {number}")));
            }
            if !path.is_file() {
                return Err(failed(format!("{name} is not there, or no file")));
            }
            paths.push(path);
        }
        Ok(Self { paths, numbers })
    }

    pub(in crate::data) fn len(&self) -> usize {
        self.paths.len()
    }

    /// The index of the archive with this number.
    pub(in crate::data) fn index(&self, number: u32) -> Option<u32> {
        self.numbers.get(&number).copied()
    }

    pub(in crate::data) fn path(&self, index: u32) -> &Path {
        &self.paths[index as usize]
    }
}

/// The last number in a file's name.
fn number(path: &Path) -> Option<u32> {
    let name = path.file_stem()?.to_str()?;
    let before = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    name[before.len()..].parse().ok()
}

/// All texts that a text with braces means: `{0..31}`, `{000..127}`, `{a,b}`.
fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((head, rest)) = pattern.split_once('{') else {
        return match pattern.contains('}') {
            true => Err("a brace is closed that was not opened".into()),
            false => Ok(vec![pattern.into()]),
        };
    };
    let (inside, tail) = rest
        .split_once('}')
        .ok_or("a brace is opened and not closed")?;
    let choices = match inside.split_once("..") {
        Some((from, to)) => range(from, to)?,
        None => inside.split(',').map(String::from).collect(),
    };
    let tails = expand(tail)?;
    if choices.len() * tails.len() > MOST {
        return Err(format!("more than {MOST} archives"));
    }
    let join = |choice: &String| -> Vec<_> {
        let joined = tails.iter().map(|tail| format!("{head}{choice}{tail}"));
        joined.collect()
    };
    Ok(choices.iter().flat_map(join).collect())
}

fn range(from: &str, to: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| text.parse::<u32>().ok();
    let (Some(first), Some(last)) = (number(from), number(to)) else {
        return Err(format!("{{{from}..{to}}}: expected two numbers"));
    };
    if last < first || (last - first) as usize >= MOST {
        let bounds = format!("expected a first and a last number, at most {MOST} in all");
        return Err(format!("{{{from}..{to}}}: {bounds}"));
    }
    let padded = from.starts_with('0') && from.len() > 1;
    let width = if padded { from.len() } else { 0 };
    Ok((first..=last)
        .map(|number| format!("{number:0width$}"))
        .collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn braces_mean_numbers_and_words() {
        let expanded = |pattern: &str| expand(pattern).unwrap().join(" ");
        assert_eq!(expanded("a.tar"), "a.tar");
        assert_eq!(expanded("a_{0..2}.tar"), "a_0.tar a_1.tar a_2.tar");
        assert_eq!(expanded("a_{08..10}.tar"), "a_08.tar a_09.tar a_10.tar");
        assert_eq!(expanded("{x,y}/{1..2}"), "x/1 x/2 y/1 y/2");
        for (wrong, told) in [
            ("a_{0..2", "not closed"),
            ("a_0..2}", "not opened"),
            ("{2..0}", "a first and a last number"),
            ("{0..9999999}", "at most 131072"),
            ("{0..65535}{0..65535}", "more than 131072"),
            ("{a..b}", "expected two numbers"),
        ] {
            let error = expand(wrong).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_number_ends_the_name() {
        assert_eq!(number(Path::new("/8k/audio_31.tar")), Some(31));
        assert_eq!(number(Path::new("shard-000007.tar")), Some(7));
        assert_eq!(number(Path::new("7/audio.tar")), None);
        assert_eq!(number(Path::new("99999999999.tar")), None);
    }
}
