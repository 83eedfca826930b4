//! From files and `--set` options to a recipe.

use std::path::Path;

use toml::{Table, Value};

use super::error::RecipeError;
use super::recipe::Recipe;

/// Most recipes that extend each other.
const MOST_FILES: usize = 16;

/// Reads and checks a recipe. Each of `overrides` is `a.b=value` with a value in TOML, or a plain
/// word for a string; a stage is named or counted from 0: `stage.sam.steps=10`.
///
/// A recipe without a name is called as its file.
///
/// # Errors
/// If a file cannot be read, a key is unknown or missing, or a value is out of bounds.
pub fn read(path: &Path, overrides: &[String]) -> Result<Recipe, RecipeError> {
    let mut table = read_table(path, 1)?;
    for text in overrides {
        set(&mut table, text).map_err(|reason| RecipeError::Override {
            text: text.clone(),
            reason,
        })?;
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    table
        .entry("name")
        .or_insert_with(|| Value::String(stem.into_owned()));
    let recipe: Recipe =
        serde_path_to_error::deserialize(table).map_err(|error| RecipeError::Key {
            path: path.into(),
            key: match error.path().to_string().as_str() {
                "." => String::new(),
                key => format!("{key}: "),
            },
            reason: error.inner().message().to_owned(),
        })?;
    recipe.validate()?;
    Ok(recipe)
}

fn read_table(path: &Path, files: usize) -> Result<Table, RecipeError> {
    if files > MOST_FILES {
        return Err(RecipeError::Circle {
            path: path.into(),
            limit: MOST_FILES,
        });
    }
    let text = std::fs::read_to_string(path).map_err(|reason| RecipeError::Io {
        path: path.into(),
        reason,
    })?;
    let mut table: Table = text.parse().map_err(|reason| RecipeError::Toml {
        path: path.into(),
        reason,
    })?;
    match table.remove("extends") {
        None => Ok(table),
        Some(Value::String(other)) => {
            let mut base = read_table(&path.with_file_name(other), files + 1)?;
            merge(&mut base, table);
            Ok(base)
        }
        Some(other) => Err(RecipeError::Key {
            path: path.into(),
            key: "extends: ".into(),
            reason: format!("expected the path of a recipe, found {other}"),
        }),
    }
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn set(table: &mut Table, text: &str) -> Result<(), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("expected a key, \"=\" and a value")?;
    let value = match format!("value = {value}").parse::<Table>() {
        Ok(mut parsed) if parsed.len() == 1 => parsed.remove("value").unwrap_or(value.into()),
        _ => value.into(),
    };
    let keys: Vec<_> = key.trim().split('.').collect();
    put(table, &keys, value)
}

/// Puts `value` into `table` or into what lies below it.
fn put(table: &mut Table, keys: &[&str], value: Value) -> Result<(), String> {
    let (key, rest) = keys.split_first().ok_or("the key is empty")?;
    if key.is_empty() {
        return Err("a part of the key is empty".into());
    }
    if rest.is_empty() {
        table.insert((*key).into(), value);
        return Ok(());
    }
    let below = table
        .entry(*key)
        .or_insert_with(|| Value::Table(Table::new()));
    match below {
        Value::Table(below) => put(below, rest, value),
        Value::Array(list) => put_into_list(list, key, rest, value),
        _ => Err(format!("{key} is a value, there is nothing below it")),
    }
}

fn put_into_list(list: &mut [Value], key: &str, keys: &[&str], value: Value) -> Result<(), String> {
    let (wanted, rest) = keys.split_first().ok_or("the key is empty")?;
    let count = list.len();
    let named = |element: &Value| element.get("name").and_then(Value::as_str) == Some(wanted);
    let element = match wanted.parse::<usize>() {
        Ok(index) => list.get_mut(index),
        Err(_) => list.iter_mut().find(|element| named(element)),
    };
    match element {
        None => Err(format!(
            "none of the {count} elements of {key} is {wanted:?}"
        )),
        Some(Value::Table(element)) if !rest.is_empty() => put(element, rest, value),
        Some(element) if rest.is_empty() => {
            *element = value;
            Ok(())
        }
        Some(_) => Err(format!(
            "{key}.{wanted} is a value, there is nothing below it"
        )),
    }
}
