//! The transformer encoder: two convolutions, sinusoidal positions, pre-norm layers.

use tch::nn::{self, Module};
use tch::{Kind, Tensor};

use crate::model::attention::HIDDEN;
use crate::model::fresh::{linear, unbiased};
use crate::model::mask::real_frames;

/// Width of a head in every Whisper model.
const HEAD: i64 = 64;

/// What the shapes of the tensors say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) bands: i64,
    pub(super) width: i64,
    pub(super) inner: i64,
    layers: i64,
    positions: i64,
}

impl Geometry {
    /// Reads the geometry from the shapes of a file's tensors. All large ones are checked, so that
    /// the encoder is no larger than the file.
    pub(super) fn of(shape: impl Fn(&str) -> Option<Vec<i64>>) -> Result<Self, String> {
        let odd = |name: &str, expected: &str| {
            let found = shape(name).map_or("none".into(), |shape| format!("{shape:?}"));
            format!("expected {name} of shape {expected}, found {found}")
        };
        let (width, bands) = match shape("conv1.weight").as_deref() {
            Some([width, bands, 3]) if *width > 0 && width % HEAD == 0 => (*width, *bands),
            _ => {
                return Err(odd(
                    "conv1.weight",
                    &format!("[a multiple of {HEAD}, bands, 3]"),
                ));
            }
        };
        let rows = |name: &str| match shape(name).as_deref() {
            Some([rows, columns]) if *columns == width => Ok(*rows),
            _ => Err(odd(name, &format!("[any, {width}]"))),
        };
        let positions = rows("embed_positions.weight")?;
        let inner = rows("layers.0.fc1.weight")?;
        let mut layers = 0;
        while shape(&format!("layers.{layers}.fc1.weight")).is_some() {
            for (name, expected) in [
                ("fc1", inner),
                ("self_attn.q_proj", width),
                ("self_attn.out_proj", width),
            ] {
                let name = format!("layers.{layers}.{name}.weight");
                if rows(&name)? != expected {
                    return Err(odd(&name, &format!("[{expected}, {width}]")));
                }
            }
            layers += 1;
        }
        Ok(Self {
            bands,
            width,
            inner,
            layers,
            positions,
        })
    }
}

/// What the encoder says about a batch, at 50 frames a second. Padding is zero in all of it.
#[derive(Debug)]
pub(super) struct Heard {
    /// The output of every layer, (B, T, width).
    pub(super) layers: Vec<Tensor>,
    /// The normalised output of the last, (B, T, width).
    pub(super) hidden: Tensor,
    /// The map of the layer that was asked for, if one was, (B, heads, T, T).
    pub(super) map: Option<Tensor>,
    /// Real frames of each utterance.
    pub(super) lengths: Vec<i64>,
}

#[derive(Debug)]
pub(super) struct Encoder {
    conv1: nn::Conv1D,
    conv2: nn::Conv1D,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: nn::LayerNorm,
}

impl Encoder {
    pub(super) fn new(path: &nn::Path<'_>, geometry: &Geometry) -> Self {
        let &Geometry {
            bands,
            width,
            inner,
            layers,
            positions,
        } = geometry;
        let convolution = |name: &str, inputs, stride| {
            let config = nn::ConvConfig {
                padding: 1,
                stride,
                ..Default::default()
            };
            nn::conv1d(path / name, inputs, width, 3, config)
        };
        Self {
            conv1: convolution("conv1", bands, 1),
            conv2: convolution("conv2", width, 2),
            positions: (path / "embed_positions").zeros_no_train("weight", &[positions, width]),
            layers: (0..layers)
                .map(|i| Layer::new(&(path / "layers" / i), width, inner))
                .collect(),
            norm: nn::layer_norm(path / "layer_norm", vec![width], Default::default()),
        }
    }

    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    pub(super) fn max_frames(&self) -> i64 {
        2 * self.positions.size()[0]
    }

    /// Hears (B, T, bands) with so many real frames each. `wanted` is the layer whose map is given;
    /// `tuned` stand in for as many of the last layers.
    pub(super) fn forward(
        &self,
        features: &Tensor,
        lengths: &[i64],
        wanted: Option<usize>,
        tuned: &[Layer],
    ) -> Heard {
        let size = features.size();
        let device = features.device();
        let real = real_frames(lengths, size[1], device).unsqueeze(1);
        let silent = |x: &Tensor| x.masked_fill(&real.logical_not(), 0.0);
        let x = self
            .conv1
            .forward(&silent(&features.transpose(1, 2)))
            .gelu("none");
        let x = self.conv2.forward(&silent(&x)).gelu("none").transpose(1, 2);

        let lengths: Vec<_> = lengths.iter().map(|&length| (length + 1) / 2).collect();
        let frames = x.size()[1];
        let real = real_frames(&lengths, frames, device);
        let padding = real.logical_not().unsqueeze(-1);
        let silent = |x: &Tensor| x.masked_fill(&padding, 0.0);
        let mut x = x + self.positions.narrow(0, 0, frames);
        let mut map = None;
        let mut outputs = Vec::with_capacity(self.layers.len());
        let own = &self.layers[..self.layers.len() - tuned.len()];
        for (i, each) in own.iter().chain(tuned).enumerate() {
            if wanted == Some(i) {
                map = Some(each.map(&x, &real));
            }
            x = each.forward(&x, &real);
            outputs.push(silent(&x));
        }
        Heard {
            layers: outputs,
            hidden: silent(&self.norm.forward(&x)),
            map,
            lengths,
        }
    }
}

#[derive(Debug)]
pub(super) struct Layer {
    norm_attention: nn::LayerNorm,
    query: nn::Linear,
    key: nn::Linear,
    value: nn::Linear,
    out: nn::Linear,
    norm_feed_forward: nn::LayerNorm,
    linear1: nn::Linear,
    linear2: nn::Linear,
}

impl Layer {
    pub(super) fn new(path: &nn::Path<'_>, width: i64, inner: i64) -> Self {
        let attention = path / "self_attn";
        let norm = |name: &str| nn::layer_norm(path / name, vec![width], Default::default());
        Self {
            norm_attention: norm("self_attn_layer_norm"),
            query: linear(&attention / "q_proj", width, width),
            key: unbiased(&attention / "k_proj", width, width),
            value: linear(&attention / "v_proj", width, width),
            out: linear(&attention / "out_proj", width, width),
            norm_feed_forward: norm("final_layer_norm"),
            linear1: linear(path / "fc1", width, inner),
            linear2: linear(path / "fc2", inner, width),
        }
    }

    /// (B, T, width) with real frames (B, T) to the same shape. Of a real frame, padding changes
    /// nothing.
    fn forward(&self, x: &Tensor, real: &Tensor) -> Tensor {
        let normed = self.norm_attention.forward(x);
        let split = |projection: &nn::Linear| split(projection, &normed);
        // The map itself is wanted of one layer at most: torch's fused kernel never makes it.
        let mixed = Tensor::scaled_dot_product_attention(
            &split(&self.query),
            &split(&self.key),
            &split(&self.value),
            Some(&real.unsqueeze(1).unsqueeze(1)),
            0.0,
            false,
            None,
            false,
        );
        let x = x + self.out.forward(&mixed.transpose(1, 2).flatten(2, 3));
        let inner = self
            .linear1
            .forward(&self.norm_feed_forward.forward(&x))
            .gelu("none");
        x + self.linear2.forward(&inner)
    }

    /// The attention map that [`forward`](Self::forward) uses, (B, heads, T, T). Rows and columns of
    /// padding are zero.
    fn map(&self, x: &Tensor, real: &Tensor) -> Tensor {
        let normed = self.norm_attention.forward(x);
        let (queries, keys) = (split(&self.query, &normed), split(&self.key, &normed));
        let hidden = real
            .unsqueeze(1)
            .logical_and(&real.unsqueeze(2))
            .logical_not()
            .unsqueeze(1);
        let scores = queries.matmul(&keys.transpose(2, 3)) / (HEAD as f64).sqrt();
        scores
            .masked_fill(&hidden, HIDDEN)
            .softmax(-1, Kind::Float)
            .masked_fill(&hidden, 0.0)
    }
}

/// (B, T, width) through a projection to (B, heads, T, width of a head).
fn split(projection: &nn::Linear, x: &Tensor) -> Tensor {
    projection
        .forward(x)
        .unflatten(2, [-1, HEAD])
        .transpose(1, 2)
}
