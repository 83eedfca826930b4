//! Attention maps of teacher and student.

use colorous::Gradient;
use plotters::chart::{ChartBuilder, LabelAreaPosition};
use plotters::element::Text;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use tch::{Device, Kind, Tensor, no_grad};

use super::axis::Axis;
use super::canvas::{Area, DrawingFault, GREY, INK, Picture, PictureError, rgb, text};
use crate::config::FRAME_MS;
use crate::evaluate::EvaluateError;
use crate::evaluate::decode::check_features;
use crate::front_end::FrontEnd;
use crate::loss::{Frames, HeadMatching, sam};
use crate::model::{Conformer, Context, Pass, Teacher};

/// The last layers' attention maps of teacher and student for one utterance, averaged over heads.
#[derive(Debug)]
pub struct AttentionMaps {
    /// (T, T), queries by keys; restricted to what the student may see and scaled to sum to one again.
    teacher: Tensor,
    /// (T, T).
    student: Tensor,
    /// The attention-map loss between them.
    loss: f64,
}

impl AttentionMaps {
    /// Lets both hear an utterance of 16 kHz samples in [-1, 1]; attention of the student sees
    /// `context`.
    ///
    /// # Errors
    /// If the student hears other features than ours, or the teacher gives no attention map or counts
    /// frames in another way.
    pub fn of(
        student: &Conformer,
        teacher: &Teacher,
        samples: &[f32],
        context: Context,
        device: Device,
    ) -> Result<Self, EvaluateError> {
        check_features(student)?;
        let hear = |front_end: &FrontEnd| {
            let (features, lengths) = front_end.batch(&[samples.to_vec()]);
            (features.to_device(device), lengths)
        };
        let (features, lengths) = hear(teacher.front_end());
        let most = teacher.max_frames().unwrap_or(i64::MAX);
        if lengths.iter().any(|length| *length > most) {
            return Err(EvaluateError::Setting {
                field: "frames of the utterance",
                expected: format!("at most {most}, which the teacher hears"),
                found: lengths[0].to_string(),
            });
        }
        let of_teacher = teacher.listen(&features, &lengths, true)?;
        let teacher = Frames {
            values: &of_teacher.attention.ok_or(EvaluateError::NoAttention)?,
            lengths: &of_teacher.lengths,
        };
        let (features, lengths) = hear(&FrontEnd::Sori);
        let pass = Pass {
            context,
            attention: true,
            ..Pass::default()
        };
        let of_student = no_grad(|| student.forward(&features, &lengths, pass));
        let student = Frames {
            values: &of_student.attention.ok_or(EvaluateError::NoAttention)?,
            lengths: &of_student.lengths,
        };
        let loss = sam(teacher, student, context, HeadMatching::Mean)?.double_value(&[0]);
        let frames = teacher.lengths[0].min(student.lengths[0]);
        let mean = |maps: &Tensor| {
            let map = maps.get(0).narrow(1, 0, frames).narrow(2, 0, frames);
            map.mean_dim(0, false, Kind::Float)
        };
        let hidden = context.visible(frames, device).logical_not();
        let seen = mean(teacher.values).masked_fill(&hidden, 0.0);
        let mass = seen.sum_dim_intlist(1, true, Kind::Float).clamp_min(1e-6);
        Ok(Self {
            teacher: (seen / mass).to_device(Device::Cpu),
            student: mean(student.values).to_device(Device::Cpu),
            loss,
        })
    }

    /// Draws the teacher's map, the student's, and what the student has more than the teacher.
    ///
    /// # Errors
    /// If the utterance has no frames.
    pub fn picture(&self, title: &str) -> Result<Picture, PictureError> {
        let frames = self.teacher.size()[0];
        if frames == 0 {
            return Err(PictureError::NoFigures);
        }
        let maps = [
            &self.teacher,
            &self.student,
            &(&self.student - &self.teacher),
        ]
        .map(Map::of);
        let [teacher, student, difference] = maps;
        let most = teacher.brightest().max(student.brightest());
        let apart = difference.brightest();
        let seconds = frames as f64 * f64::from(FRAME_MS) / 1000.0;
        let weights = Scale {
            gradient: colorous::VIRIDIS,
            range: [0.0, most],
            bends: true,
        };
        let differences = Scale {
            gradient: colorous::RED_BLUE,
            range: [apart, -apart],
            bends: false,
        };
        Picture::draw(WIDTH, HEIGHT, |area| {
            area.draw(&Text::new(
                title.to_owned(),
                (MARGIN, MARGIN),
                text(26, INK),
            ))?;
            let note = format!(
                "mean over heads, last layer; attention-map loss {:.4}",
                self.loss
            );
            area.draw(&Text::new(note, (MARGIN, MARGIN + 38), text(20, GREY)))?;
            let (_, below) = area.split_vertically(HEADER);
            let (_, below) = below.split_horizontally(MARGIN);
            let (left, right) = below.split_horizontally(SIDE + LABELS + GAP);
            let (middle, right) = right.split_horizontally(SIDE + LABELS + GAP + BAR);
            let (middle, bar) = middle.split_horizontally(SIDE + LABELS + GAP);
            map(&left, "teacher", &teacher, &weights, seconds)?;
            map(&middle, "student", &student, &weights, seconds)?;
            weights.draw(&bar)?;
            let (right, bar) = right.split_horizontally(SIDE + LABELS + GAP);
            map(
                &right,
                "student - teacher",
                &difference,
                &differences,
                seconds,
            )?;
            differences.draw(&bar)
        })
    }
}

/// The side of a map, in pixels.
const SIDE: i32 = 480;
/// Beside and below a map.
const LABELS: i32 = 84;
const TIME: i32 = 64;
const GAP: i32 = 20;
/// A colour bar with its labels.
const BAR: i32 = 130;
const MARGIN: i32 = 24;
const HEADER: i32 = 104;
const CAPTION: i32 = 44;
const WIDTH: u32 = (MARGIN + 3 * (SIDE + LABELS + GAP) + 2 * BAR) as u32;
const HEIGHT: u32 = (HEADER + CAPTION + SIDE + TIME + MARGIN) as u32;

/// A map with at most as many cells as there are pixels.
struct Map {
    side: usize,
    values: Vec<f32>,
}

impl Map {
    fn of(map: &Tensor) -> Self {
        let side = map.size()[0].min(SIDE.into());
        let map = map.unsqueeze(0).adaptive_avg_pool2d([side, side]);
        let count = (side * side) as usize;
        let mut values = vec![0.0; count];
        map.contiguous().copy_data(&mut values, count);
        Self {
            side: side as usize,
            values,
        }
    }

    /// A value that few are above, whatever their sign: a few peaks would leave the rest dark.
    fn brightest(&self) -> f64 {
        let mut sizes: Vec<_> = self.values.iter().map(|value| value.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let place = (sizes.len() as f64 * 0.998) as usize;
        f64::from(sizes[place.min(sizes.len() - 1)]).max(1e-4)
    }
}

/// Colours of values.
struct Scale {
    gradient: Gradient,
    /// The values at the gradient's start and end.
    range: [f64; 2],
    /// Small values are spread over more of the colours: by their square root.
    bends: bool,
}

impl Scale {
    fn colour(&self, value: f64) -> plotters::style::RGBColor {
        let [from, to] = self.range;
        let share = ((value - from) / (to - from)).clamp(0.0, 1.0);
        let share = if self.bends { share.sqrt() } else { share };
        rgb(self.gradient.eval_continuous(share))
    }

    /// A bar of the colours beside a map.
    fn draw(&self, area: &Area<'_>) -> Result<(), DrawingFault> {
        let [from, to] = [
            self.range[0].min(self.range[1]),
            self.range[0].max(self.range[1]),
        ];
        let axis = Axis::exact(from, to);
        let mut chart = ChartBuilder::on(area)
            .margin_top(CAPTION)
            .margin_bottom(TIME + MARGIN)
            .right_y_label_area_size(BAR - 30)
            .build_cartesian_2d(0.0..1.0, axis)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_x_axis()
            .set_tick_mark_size(LabelAreaPosition::Right, 6)
            .axis_style(GREY)
            .label_style(text(18, INK))
            .draw()?;
        let (across, down) = chart.plotting_area().get_pixel_range();
        paint(area, across, down, |_, y| self.colour(to + (from - to) * y))
    }
}

fn map(
    area: &Area<'_>,
    title: &str,
    map: &Map,
    scale: &Scale,
    seconds: f64,
) -> Result<(), DrawingFault> {
    let (x, y) = (Axis::exact(0.0, seconds), Axis::exact(seconds, 0.0));
    let mut chart = ChartBuilder::on(area)
        .margin_right(GAP)
        .margin_top(CAPTION)
        .margin_bottom(MARGIN)
        .x_label_area_size(TIME)
        .y_label_area_size(LABELS)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(GREY)
        .label_style(text(18, INK))
        .x_desc("attended to (s)")
        .y_desc("attending (s)")
        .draw()?;
    let centre = text(24, INK).pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new(
        title.to_owned(),
        (LABELS + SIDE / 2, CAPTION / 2),
        centre,
    ))?;
    let (across, down) = chart.plotting_area().get_pixel_range();
    let cell = |share: f64| ((share * map.side as f64) as usize).min(map.side - 1);
    paint(area, across, down, |x, y| {
        scale.colour(map.values[cell(y) * map.side + cell(x)].into())
    })
}

/// Colours the pixels of a rectangle of the picture by their place in it, from 0 to 1.
fn paint(
    area: &Area<'_>,
    across: std::ops::Range<i32>,
    down: std::ops::Range<i32>,
    colour: impl Fn(f64, f64) -> plotters::style::RGBColor,
) -> Result<(), DrawingFault> {
    let (left, top) = area.get_base_pixel();
    let share = |at: i32, of: &std::ops::Range<i32>| {
        (f64::from(at - of.start) + 0.5) / f64::from(of.end - of.start)
    };
    for y in down.clone() {
        for x in across.clone() {
            area.draw_pixel(
                (x - left, y - top),
                &colour(share(x, &across), share(y, &down)),
            )?;
        }
    }
    Ok(())
}
