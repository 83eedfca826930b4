//! A run's folder: begun once, gone on with only by the recipe that began it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use toml::Table;

use super::checkpoint::{self, Checkpoint};
use super::error::TrainError;
use super::provenance::Provenance;
use super::trained::TRAINED;
use super::{Options, Standing};
use crate::config::{Recipe, TeacherRecipe};
use crate::model::TeacherSource;

const RESOLVED: &str = "recipe.resolved.toml";
/// The teacher's [`contents`].
const TEACHER: &str = "teacher.contents";

/// Tables of a recipe that do not decide what is learnt: they may change between parts of a run.
const FREE: [&str; 3] = ["checkpoints", "evaluation", "metrics"];

/// Makes the run's folder and writes the recipe into it; or, to go on, finds the newest checkpoint.
pub(super) fn begin(
    recipe: &Recipe,
    options: Options<'_>,
) -> Result<Option<Checkpoint>, TrainError> {
    let resolved = options.run.join(RESOLVED);
    let all = checkpoint::list(options.run)?;
    let newest = match all.last() {
        Some(_) if options.resume => {
            let (path, newest) = newest_whole(&all)?;
            check_recipe(path, &newest.state.recipe, &recipe.to_toml())?;
            check_teacher(recipe, options.run)?;
            Some(newest)
        }
        None if options.resume || !resolved.exists() => None,
        _ => {
            return Err(TrainError::Exists {
                path: options.run.into(),
            });
        }
    };
    let write = |path: PathBuf, text: String| {
        fs::write(&path, text).map_err(|reason| TrainError::Io { path, reason })
    };
    fs::create_dir_all(options.run).map_err(|reason| TrainError::Io {
        path: options.run.into(),
        reason,
    })?;
    write(resolved, recipe.to_toml())?;
    if newest.is_none()
        && let Some(contents) = learns_from(recipe).and_then(contents)
    {
        write(options.run.join(TEACHER), contents)?;
    }
    Ok(newest)
}

/// The teacher, if any of the losses needs it.
#[must_use]
pub fn learns_from(recipe: &Recipe) -> Option<&TeacherRecipe> {
    let needed = recipe.stages.iter().any(|stage| stage.loss.need_teacher());
    recipe.teacher.as_ref().filter(|_| needed)
}

/// Tells a teacher from another under the same name: the CRC-32C and the length of its files. `None` if
/// they cannot be read.
#[must_use]
pub fn contents(teacher: &TeacherRecipe) -> Option<String> {
    let source: TeacherSource = teacher.source.parse().ok()?;
    let (mut sum, mut length) = (0, 0);
    for path in source.files() {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).ok()?);
        loop {
            let bytes = match file.fill_buf() {
                Ok([]) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes.ok()?,
            };
            sum = crc32c::crc32c_append(sum, bytes);
            let count = bytes.len();
            length += count;
            file.consume(count);
        }
    }
    Some(format!("{sum:08x}-{length}"))
}

/// Runs from before this was kept say nothing of it, and a teacher that is gone does not matter to a finished one.
fn check_teacher(recipe: &Recipe, run: &Path) -> Result<(), TrainError> {
    let Some(teacher) = learns_from(recipe) else {
        return Ok(());
    };
    match (fs::read_to_string(run.join(TEACHER)), contents(teacher)) {
        (Ok(then), Some(now)) if then != now => Err(TrainError::OtherTeacher {
            path: run.into(),
            teacher: teacher.source.clone(),
        }),
        _ => Ok(()),
    }
}

/// How far the run in a folder is, and that it is a run of this recipe.
pub(super) fn standing(recipe: &Recipe, run: &Path) -> Result<Standing, TrainError> {
    let trained = run.join(TRAINED);
    if trained.exists() {
        let provenance = Provenance::read(&trained).map_err(|reason| TrainError::Io {
            path: trained.clone(),
            reason,
        })?;
        let provenance = provenance.ok_or_else(|| TrainError::Checkpoint {
            path: trained.clone(),
            reason: "it does not tell its recipe".into(),
        })?;
        check_recipe(&trained, &provenance.recipe_toml, &recipe.to_toml())?;
        check_teacher(recipe, run)?;
        return Ok(Standing::Finished(trained));
    }
    let all = checkpoint::list(run)?;
    if all.is_empty() {
        return Ok(Standing::Unbegun);
    }
    let (path, newest) = newest_whole(&all)?;
    check_recipe(path, &newest.state.recipe, &recipe.to_toml())?;
    check_teacher(recipe, run)?;
    Ok(Standing::Begun)
}

/// The newest checkpoint of these, at least one, that is not damaged; if all are, why the newest is.
fn newest_whole(all: &[PathBuf]) -> Result<(&Path, Checkpoint), TrainError> {
    let mut damaged = None;
    for path in all.iter().rev() {
        match Checkpoint::read(path) {
            Ok(checkpoint) => {
                if let Some(error) = damaged {
                    tracing::warn!("{error}; going on with {}", path.display());
                }
                return Ok((path, checkpoint));
            }
            Err(error @ TrainError::Checkpoint { .. }) => {
                damaged.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(damaged.unwrap_or_else(|| TrainError::Checkpoint {
        path: PathBuf::new(),
        reason: "there is none".into(),
    }))
}

fn check_recipe(checkpoint: &Path, old: &str, new: &str) -> Result<(), TrainError> {
    let table = |text: &str| text.parse::<Table>().unwrap_or_default();
    // What recipes did not have yet when the run was begun is as it is without it.
    let old = toml::from_str::<Recipe>(old).map_or_else(|_| old.into(), |old| old.to_toml());
    let (mut old, mut new) = (table(&old), table(new));
    for table in [&mut old, &mut new] {
        for free in FREE {
            table.remove(free);
        }
        // Threads, which another machine has others of.
        if let Some(data) = table.get_mut("data").and_then(toml::Value::as_table_mut) {
            data.remove("workers");
        }
    }
    match differing(&old, &new, "") {
        None => Ok(()),
        Some(key) => Err(TrainError::OtherRecipe {
            path: checkpoint.into(),
            key,
        }),
    }
}

/// The first key, dotted, in which two tables differ.
fn differing(a: &Table, b: &Table, above: &str) -> Option<String> {
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    keys.into_iter().find_map(|key| {
        let dotted = format!("{above}{key}");
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) if a == b => None,
            (Some(toml::Value::Table(a)), Some(toml::Value::Table(b))) => {
                differing(a, b, &format!("{dotted}."))
            }
            _ => Some(dotted),
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_run_from_before_a_key_was_known_goes_on() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/base/none.toml");
        let now = crate::config::read(&path, &[]).unwrap().to_toml();
        let mut then = now.parse::<Table>().unwrap();
        let data = then["data"].as_table_mut().unwrap();
        assert!(data.remove("timbre").is_some());
        check_recipe(&path, &then.to_string(), &now).unwrap();
        then.insert("seed".into(), 99.into());
        match check_recipe(&path, &then.to_string(), &now) {
            Err(TrainError::OtherRecipe { key, .. }) => assert_eq!(key, "seed"),
            other => panic!("{other:?}"),
        }
    }
}
