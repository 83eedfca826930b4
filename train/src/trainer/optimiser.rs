//! AdamW and Muon with state that can be saved.

use tch::{TchError, Tensor, no_grad};

use super::error::TrainError;
use super::muon;
use super::peers::Peers;
use super::student::Named;
use crate::config::{self, Method};
use crate::model::whisper;
use crate::torch::{self, AdamW};

/// A parameter and what is remembered of its gradients; Muon has no use for their squares.
struct Slot {
    name: String,
    parameter: Tensor,
    mean: Tensor,
    square: Tensor,
}

/// Moves parameters along their gradients. Those that the loss does not reach, whose gradient is
/// undefined, stay as they are to the last bit: weight decay does not touch them either.
pub(super) struct Optimiser {
    slots: Vec<Slot>,
    method: Method,
    numbers: AdamW,
    encoder_share: f64,
    clip_norm: f64,
    /// Steps taken so far.
    updates: u64,
}

impl Optimiser {
    /// A fresh optimiser of named parameters.
    pub(super) fn new(parameters: Named, config: &config::Optimiser) -> Self {
        let slots = parameters.into_iter().map(|(name, parameter)| Slot {
            name,
            mean: parameter.zeros_like(),
            square: parameter.zeros_like(),
            parameter,
        });
        Self {
            slots: no_grad(|| slots.collect()),
            method: config.method,
            numbers: AdamW {
                rate: 0.0,
                betas: config.betas,
                weight_decay: config.weight_decay,
                epsilon: config.epsilon,
            },
            encoder_share: config.encoder_share,
            clip_norm: config.clip_norm,
            updates: 0,
        }
    }

    pub(super) fn updates(&self) -> u64 {
        self.updates
    }

    pub(super) fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }

    /// Tensors of the state: `mean/NAME` and `square/NAME` for every parameter.
    pub(super) fn state(&self) -> Named {
        let state = self.slots.iter().flat_map(|slot| {
            let named = |kind: &str, tensor: &Tensor| {
                (format!("{kind}/{}", slot.name), tensor.shallow_clone())
            };
            [named("mean", &slot.mean), named("square", &slot.square)]
        });
        state.collect()
    }

    /// What it moves, always in the same order.
    pub(super) fn parameters(&self) -> Vec<Tensor> {
        let slots = self.slots.iter();
        slots.map(|slot| slot.parameter.shallow_clone()).collect()
    }

    /// Makes all gradients undefined.
    pub(super) fn clear_gradients(&self) -> Result<(), TchError> {
        torch::clear_gradients(&self.parameters())
    }

    /// The gradients there are, always in the same order.
    pub(super) fn gradients(&self) -> Vec<Tensor> {
        let gradients = self.slots.iter().map(|slot| slot.parameter.grad());
        gradients.filter(Tensor::defined).collect()
    }

    /// Scales the gradients down to the norm that is allowed; returns what it was before.
    pub(super) fn clip(&self) -> Result<f64, TchError> {
        torch::clip_gradients(&self.gradients(), self.clip_norm)
    }

    /// Takes a step, together with the other processes of the job.
    pub(super) fn step(&mut self, rate: f64, peers: &Peers) -> Result<(), TrainError> {
        self.updates += 1;
        for (decayed, of_encoder) in [(true, false), (false, false), (true, true), (false, true)] {
            let numbers = AdamW {
                rate: rate * if of_encoder { self.encoder_share } else { 1.0 },
                weight_decay: if decayed {
                    self.numbers.weight_decay
                } else {
                    0.0
                },
                ..self.numbers
            };
            let mut lists = <[Vec<Tensor>; 4]>::default();
            for slot in &self.slots {
                let gradient = slot.parameter.grad();
                let group = (slot.is_decayed(), slot.is_of_encoder());
                let turned = self.method == Method::Muon && slot.is_matrix_of_a_layer();
                if gradient.defined() && group == (decayed, of_encoder) && !turned {
                    lists[0].push(slot.parameter.shallow_clone());
                    lists[1].push(gradient);
                    lists[2].push(slot.mean.shallow_clone());
                    lists[3].push(slot.square.shallow_clone());
                }
            }
            let [parameters, gradients, means, squares] = &lists;
            torch::adamw(parameters, gradients, means, squares, self.updates, numbers)?;
        }
        match self.method {
            Method::Adamw => Ok(()),
            Method::Muon => no_grad(|| self.turn(rate, peers)),
        }
    }

    /// Muon's step of the layers' matrices.
    fn turn(&self, rate: f64, peers: &Peers) -> Result<(), TrainError> {
        let matrices = self.slots.iter().filter_map(|slot| {
            let gradient = slot.parameter.grad();
            (slot.is_matrix_of_a_layer() && gradient.defined()).then(|| muon::Matrix {
                parameter: slot.parameter.shallow_clone(),
                mean: slot.mean.shallow_clone(),
                gradient,
            })
        });
        muon::step(
            &matrices.collect::<Vec<_>>(),
            rate,
            self.numbers.weight_decay,
            peers,
        )
    }
}

impl Slot {
    /// Whether Muon may move it: what a layer multiplies its frames with. The convolutions over one frame
    /// have a third dimension of one.
    fn is_matrix_of_a_layer(&self) -> bool {
        let size = self.parameter.size();
        let is_matrix = size.len() == 2 || size.len() == 3 && size[2] == 1;
        is_matrix && self.name.contains(".layers.") && !self.name.contains("bias")
    }

    /// Weight decay is for matrices and kernels, not for biases and norms. The position biases of
    /// attention have two dimensions.
    fn is_decayed(&self) -> bool {
        self.parameter.dim() >= 2 && !self.name.contains("bias")
    }

    /// Layers of an encoder that are trained along with a head begin from good weights.
    fn is_of_encoder(&self) -> bool {
        self.name.starts_with(whisper::TUNED)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::nn::{self, OptimizerConfig};
    use tch::{Device, Kind};

    use super::*;

    fn parameters(store: &nn::VarStore) -> Named {
        let root = store.root();
        for (name, shape) in [("weight", &[3, 4][..]), ("idle", &[2, 2]), ("bias", &[3])] {
            let count: i64 = shape.iter().product();
            let values = (Tensor::arange(count, (Kind::Float, Device::Cpu)) * 0.7 + 0.3).sin();
            let _ = root.var_copy(name, &values.reshape(shape));
        }
        let mut variables: Vec<_> = store.variables().into_iter().collect();
        variables.sort_by(|(a, _), (b, _)| a.cmp(b));
        variables
    }

    fn loss(store: &nn::VarStore, step: i64) -> Tensor {
        let variables = store.variables();
        let x = (Tensor::arange(8, (Kind::Float, Device::Cpu)) + step)
            .cos()
            .reshape([2, 4]);
        let y = x.linear(&variables["weight"], Some(&variables["bias"]));
        (&y * &y).sum(Kind::Float)
    }

    /// Torch's own AdamW is the reference; it decays all parameters of an optimiser alike.
    #[test]
    fn takes_the_steps_of_torch_and_decays_matrices_only() {
        let config = config::Optimiser {
            weight_decay: 0.3,
            betas: [0.8, 0.95],
            clip_norm: 1e9,
            ..config::Optimiser::default()
        };
        let ours = nn::VarStore::new(Device::Cpu);
        let mut optimiser = Optimiser::new(parameters(&ours), &config);
        let reference = |weight_decay: f64| {
            let store = nn::VarStore::new(Device::Cpu);
            parameters(&store);
            let adamw = nn::AdamW {
                beta1: 0.8,
                beta2: 0.95,
                wd: weight_decay,
                eps: 1e-8,
                amsgrad: false,
            };
            let built = adamw.build(&store, 0.05).unwrap();
            (store, built)
        };
        let (mut decayed, mut plain) = (reference(0.3), reference(0.0));
        let idle = ours.variables()["idle"].copy();
        for step in 0..5 {
            optimiser.clear_gradients().unwrap();
            // The parameters of the references differ, so each gets the gradient of ours.
            loss(&ours, step).backward();
            for (store, reference) in [&mut decayed, &mut plain] {
                reference.zero_grad();
                for name in ["weight", "bias"] {
                    let gradient = ours.variables()[name].grad();
                    (&store.variables()[name] * gradient)
                        .sum(Kind::Float)
                        .backward();
                }
                reference.step();
            }
            optimiser.step(0.05, &Peers::none()).unwrap();
        }
        for (name, reference) in [("weight", &decayed.0), ("bias", &plain.0)] {
            let difference = &ours.variables()[name] - &reference.variables()[name];
            let difference = f64::try_from(difference.abs().max()).unwrap();
            assert!(difference < 1e-6, "{name}: {difference}");
        }
        assert_eq!(ours.variables()["idle"], idle);
    }

    #[test]
    fn muon_turns_the_layers_matrices_and_leaves_the_rest_to_adamw() {
        let config = |method| config::Optimiser {
            method,
            weight_decay: 0.1,
            ..config::Optimiser::default()
        };
        tch::manual_seed(5);
        let tall = Tensor::randn([24, 8], (Kind::Float, Device::Cpu));
        let kernel = Tensor::randn([8, 8, 3], (Kind::Float, Device::Cpu));
        // The same matrix upright, lying, and as a convolution over one frame.
        let shapes = [
            ("encoder.layers.0.upright", tall.copy()),
            ("encoder.layers.0.lying", tall.tr()),
            ("encoder.layers.0.pointwise", tall.unsqueeze(-1)),
            ("encoder.layers.0.kernel", kernel),
            ("decoder", tall.copy()),
        ];
        let moved = |method| {
            let named: Named = shapes
                .iter()
                .map(|(name, values)| ((*name).to_owned(), values.copy().set_requires_grad(true)))
                .collect();
            let by_name = |name: &str| {
                let found = named.iter().find(|(other, _)| other == name);
                found.unwrap().1.shallow_clone()
            };
            let parameters = named
                .iter()
                .map(|(name, parameter)| (name.clone(), parameter.shallow_clone()))
                .collect();
            let mut optimiser = Optimiser::new(parameters, &config(method));
            for step in 0..2 {
                optimiser.clear_gradients().unwrap();
                for (_, parameter) in &named {
                    (parameter * (parameter + step))
                        .sin()
                        .sum(Kind::Float)
                        .backward();
                }
                optimiser.step(0.01, &Peers::none()).unwrap();
            }
            no_grad(|| {
                shapes
                    .each_ref()
                    .map(|(name, before)| by_name(name) - before)
            })
        };
        let [upright, lying, pointwise, kernel, decoder] = moved(Method::Muon);
        let by_adamw = moved(Method::Adamw);
        let apart = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
        assert!(apart(&upright, &lying.tr()) < 1e-4);
        assert!(apart(&upright, &pointwise.squeeze_dim(-1)) < 1e-4);
        assert_eq!(kernel, by_adamw[3]);
        assert_eq!(decoder, by_adamw[4]);

        // One step: what it goes beside the decay has singular values of about 0.2 times the root of 24.
        let mut optimiser = Optimiser::new(
            vec![("a.layers.w".into(), tall.copy().set_requires_grad(true))],
            &config(Method::Muon),
        );
        let parameter = optimiser.slots[0].parameter.shallow_clone();
        (&parameter * &parameter).sin().sum(Kind::Float).backward();
        let gradient = parameter.grad();
        optimiser.step(0.01, &Peers::none()).unwrap();
        let step =
            no_grad(|| (&tall * (1.0 - 0.01 * 0.1) - &parameter) / (0.01 * 0.2 * 24_f64.sqrt()));
        let values = Vec::<f32>::try_from(step.svd(true, false).1).unwrap();
        assert!(
            values.iter().all(|value| (0.6..1.3).contains(value)),
            "{values:?}"
        );
        // And it goes downhill as no other step of these singular values would: U V^T, from the gradient's own.
        let (u, _, v) = gradient.svd(true, true);
        let downhill = f64::try_from((&step * &gradient).sum(Kind::Float)).unwrap();
        let most = f64::try_from((u.matmul(&v.tr()) * &gradient).sum(Kind::Float)).unwrap();
        assert!(
            (0.7..1.3).contains(&(downhill / most)),
            "{downhill} of {most}"
        );
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = config::Optimiser {
            clip_norm: 0.5,
            ..config::Optimiser::default()
        };
        let optimiser = Optimiser::new(parameters(&store), &config);
        loss(&store, 0).backward();
        let before = store.variables()["weight"].grad().copy();
        let norm = optimiser.clip().unwrap();
        let after = store.variables()["weight"].grad();
        assert!(norm > 0.5);
        let difference = f64::try_from((after - before * (0.5 / norm)).abs().max()).unwrap();
        assert!(difference < 1e-6, "{difference}");
    }
}
