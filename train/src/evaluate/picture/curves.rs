//! Learning curves.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::element::{PathElement, Rectangle, Text};
use plotters::series::LineSeries;
use plotters::style::{Color, RGBColor, ShapeStyle};
use serde_json::{Map, Value};

use super::axis::Axis;
use super::canvas::{Area, DrawingFault, GREY, GRID, INK, Picture, PictureError, pale, rgb, text};

/// The figures of a run, from its `metrics.jsonl`.
#[derive(Debug, Clone)]
pub struct Run {
    name: String,
    figures: BTreeMap<String, Vec<(u64, f64)>>,
    /// The first step of each stage, and its name.
    stages: Vec<(u64, String)>,
}

impl Run {
    /// Reads the figures in a run's folder. A line that is no JSON is passed over: it may still be
    /// being written.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(folder: &Path) -> Result<Self, PictureError> {
        let path = folder.join("metrics.jsonl");
        let io = |reason| PictureError::Io {
            path: path.clone(),
            reason,
        };
        let name = folder.canonicalize().map_err(io)?;
        let mut run = Self {
            name: name
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            figures: BTreeMap::new(),
            stages: Vec::new(),
        };
        let mut last = 0;
        for line in BufReader::new(File::open(&path).map_err(io)?).lines() {
            let Ok(line) = serde_json::from_str::<Map<String, Value>>(&line.map_err(io)?) else {
                continue;
            };
            let Some(step) = line.get("step").and_then(Value::as_u64) else {
                continue;
            };
            if let Some(stage) = line.get("stage").and_then(Value::as_str)
                && run.stages.last().is_none_or(|(_, last)| last != stage)
            {
                run.stages.push((last, stage.to_owned()));
            }
            last = step;
            let figures = line.iter().filter(|(name, _)| *name != "step");
            for (name, value) in figures {
                if let Some(value) = value.as_f64() {
                    run.figures
                        .entry(name.clone())
                        .or_default()
                        .push((step, value));
                }
            }
        }
        Ok(run)
    }

    /// A figure as it was measured in training.
    fn training(&self, name: &str) -> Vec<(u64, f64)> {
        self.figures
            .get(&format!("train/{name}"))
            .cloned()
            .unwrap_or_default()
    }

    /// A figure on held-out speech, averaged over chunk sizes.
    fn held_out(&self, name: &str) -> Vec<(u64, f64)> {
        let prefix = format!("held_out/{name}/");
        let mut by_step = BTreeMap::<u64, (f64, f64)>::new();
        for (name, points) in &self.figures {
            for (step, value) in points.iter().filter(|_| name.starts_with(&prefix)) {
                let (sum, count) = by_step.entry(*step).or_default();
                *sum += value;
                *count += 1.0;
            }
        }
        by_step
            .into_iter()
            .map(|(step, (sum, count))| (step, sum / count))
            .collect()
    }
}

/// What is drawn: names of figures, titles and units.
const PANELS: [(&str, &str, f64); 8] = [
    ("ctc", "CTC loss", 1.0),
    ("guided", "guided CTC loss", 1.0),
    ("sam", "attention-map loss", 1.0),
    ("softmax", "softmax loss", 1.0),
    ("consistency", "consistency loss", 1.0),
    ("feature", "feature loss", 1.0),
    ("wer", "word error rate (%)", 0.01),
    ("learning_rate", "learning rate", 1.0),
];

const PANEL: (u32, u32) = (840, 460);
const MARGIN: i32 = 24;
const LINE: i32 = 36;

/// A line in a panel.
struct Curve {
    run: usize,
    held_out: bool,
    points: Vec<(u64, f64)>,
}

/// Draws the losses, the word error rate and the learning rate of runs over steps: a panel for each,
/// a colour for each run.
///
/// # Errors
/// If there is nothing to draw.
pub fn curves(runs: &[Run]) -> Result<Picture, PictureError> {
    let panels: Vec<_> = PANELS
        .iter()
        .map(|(name, title, unit)| (*title, of_all(runs, name, *unit)))
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    if panels.is_empty() {
        return Err(PictureError::NoFigures);
    }
    let all = || panels.iter().flat_map(|(_, curves)| curves);
    let steps = all().flat_map(|curve| &curve.points).map(|(step, _)| *step);
    let last = steps.max().unwrap_or(0).max(1);
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(columns);
    let width = PANEL.0 * columns as u32;
    // Entries of the legend are laid out by a cautious guess of their width.
    let entry = runs
        .iter()
        .map(|run| run.name.chars().count())
        .max()
        .unwrap_or(0) as i32
        * 14
        + 60;
    let in_line = ((width as i32 - 2 * MARGIN) / entry).max(1);
    let legend = MARGIN + LINE * (2 + (runs.len() as i32 - 1) / in_line);
    let height = legend as u32 + PANEL.1 * rows as u32;
    Picture::draw(width, height, |area| {
        let (top, panel_area) = area.split_vertically(legend);
        for (index, run) in runs.iter().enumerate() {
            let index = index as i32;
            let at = (
                MARGIN + index % in_line * entry,
                MARGIN + index / in_line * LINE,
            );
            let swatch = [(at.0, at.1 + 10), (at.0 + 30, at.1 + 16)];
            top.draw(&Rectangle::new(swatch, colour(index as usize).filled()))?;
            top.draw(&Text::new(
                run.name.clone(),
                (at.0 + 42, at.1),
                text(24, INK),
            ))?;
        }
        let note = match (
            all().any(|curve| curve.held_out),
            all().any(|curve| !curve.held_out),
        ) {
            (true, true) => "thin: training; thick: held-out speech, mean over chunk sizes",
            (true, false) => "held-out speech, mean over chunk sizes",
            _ => "training",
        };
        top.draw(&Text::new(note, (MARGIN, legend - LINE), text(20, GREY)))?;
        let cells = panel_area.split_evenly((rows, columns));
        for ((title, curves), cell) in panels.iter().zip(&cells) {
            let stages: &[_] = match runs {
                [run] => &run.stages,
                _ => &[],
            };
            panel(cell, title, curves, stages, last)?;
        }
        Ok(())
    })
}

fn of_all(runs: &[Run], name: &str, unit: f64) -> Vec<Curve> {
    let mut curves = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for (held_out, points) in [(false, run.training(name)), (true, run.held_out(name))] {
            if !points.is_empty() {
                curves.push(Curve {
                    run: index,
                    held_out,
                    points: points
                        .into_iter()
                        .map(|(step, value)| (step, value / unit))
                        .collect(),
                });
            }
        }
    }
    curves
}

fn panel(
    area: &Area<'_>,
    title: &str,
    curves: &[Curve],
    stages: &[(u64, String)],
    last: u64,
) -> Result<(), DrawingFault> {
    let values = curves
        .iter()
        .flat_map(|curve| &curve.points)
        .map(|(_, value)| *value);
    let (x, y) = (Axis::exact(0.0, last as f64), Axis::around(values));
    let mut chart = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_right(2 * MARGIN)
        .caption(title, text(28, INK))
        .x_label_area_size(60)
        .y_label_area_size(84)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .axis_style(GREY)
        .bold_line_style(GRID)
        .label_style(text(20, INK))
        .x_desc("step")
        .draw()?;
    let (across, down) = chart.plotting_area().get_pixel_range();
    for (step, stage) in stages.iter().filter(|_| stages.len() > 1) {
        let at = across.start
            + (f64::from(across.end - across.start) * *step as f64 / last as f64) as i32;
        let area = area.strip_coord_spec();
        let local = |(x, y): (i32, i32)| {
            let (left, top) = area.get_base_pixel();
            (x - left, y - top)
        };
        if *step > 0 {
            let line = [(at, down.start), (at, down.end)].map(local);
            area.draw(&PathElement::new(line, GREY.stroke_width(1)))?;
        }
        area.draw(&Text::new(
            stage.clone(),
            local((at + 8, down.start + 4)),
            text(18, GREY),
        ))?;
    }
    for curve in curves {
        let colour = colour(curve.run);
        let alone = !curves
            .iter()
            .any(|other| other.run == curve.run && other.held_out);
        let style: ShapeStyle = match (curve.held_out, alone) {
            (true, _) => colour.stroke_width(3),
            (false, true) => colour.stroke_width(2),
            (false, false) => pale(colour).stroke_width(2),
        };
        let places = curve
            .points
            .iter()
            .map(|(step, value)| (*step as f64, *value));
        chart.draw_series(LineSeries::new(places, style))?;
    }
    Ok(())
}

fn colour(run: usize) -> RGBColor {
    rgb(colorous::TABLEAU10[run % colorous::TABLEAU10.len()])
}
