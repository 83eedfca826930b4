//! What pictures are drawn on and written to.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::style::{Color, FontStyle, RGBColor, TextStyle, WHITE, register_font};

/// A part of a picture that can be drawn on.
pub(super) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// What drawing fails with.
pub(super) type DrawingFault =
    DrawingAreaErrorKind<<BitMapBackend<'static> as DrawingBackend>::ErrorType>;

const FONT: &str = "sans-serif";

/// The colours of text, axes and grids.
pub(super) const INK: RGBColor = RGBColor(40, 44, 52);
pub(super) const GREY: RGBColor = RGBColor(110, 116, 128);
pub(super) const GRID: RGBColor = RGBColor(228, 230, 235);

/// A finished picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Red, green and blue, row by row.
    pixels: Vec<u8>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A file cannot be read or written. Check the path, the permissions and the free space.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The PNG cannot be written.
    #[error("{path}: {reason}")]
    Png {
        /// The file.
        path: PathBuf,
        /// The encoder's reason.
        reason: png::EncodingError,
    },
    /// None of the runs has figures that could be drawn. Let them train until the first are written,
    /// `metrics.every_steps` of the recipe.
    #[error("there are no figures to draw yet")]
    NoFigures,
    /// The drawing library failed.
    #[error("the picture cannot be drawn: {reason}")]
    Drawing {
        /// Its reason.
        reason: String,
    },
}

impl Picture {
    /// Draws on white.
    pub(super) fn draw(
        width: u32,
        height: u32,
        paint: impl FnOnce(&Area<'_>) -> Result<(), DrawingFault>,
    ) -> Result<Self, PictureError> {
        let failed = |reason: String| PictureError::Drawing { reason };
        register_font(FONT, FontStyle::Normal, notosans::REGULAR_TTF)
            .map_err(|_| failed("the font is broken".into()))?;
        let mut pixels = vec![0; 3 * width as usize * height as usize];
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        area.fill(&WHITE)
            .and_then(|()| paint(&area))
            .map_err(|reason| failed(reason.to_string()))?;
        drop(area);
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Writes the picture as PNG.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), PictureError> {
        let file = File::create(path).map_err(|reason| PictureError::Io {
            path: path.into(),
            reason,
        })?;
        let png = |reason| PictureError::Png {
            path: path.into(),
            reason,
        };
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().map_err(png)?;
        writer.write_image_data(&self.pixels).map_err(png)?;
        writer.finish().map_err(png)
    }
}

/// Text of so many pixels.
pub(super) fn text(size: u32, colour: RGBColor) -> TextStyle<'static> {
    TextStyle {
        color: colour.to_backend_color(),
        ..TextStyle::from((FONT, size))
    }
}

/// One of `colorous`'s colours.
pub(super) fn rgb(colour: colorous::Color) -> RGBColor {
    RGBColor(colour.r, colour.g, colour.b)
}

/// A colour that lets so much of what is below through.
pub(super) fn pale(colour: RGBColor) -> plotters::style::RGBAColor {
    colour.mix(0.45)
}
