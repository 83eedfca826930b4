//! The gradients of all processes, added up while backward goes on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Device, Tensor, no_grad};

use super::bucket::{buckets, pack, unpack};
use super::error::TrainError;
use crate::torch::{GradientHook, ProcessGroup, Sum, set_gradient};

/// Numbers that are sent at once: 4 MB. Large enough that a message's way does not count, small enough that a
/// model of 5M has several, all but the last of which travel during backward.
const BUCKET: i64 = 1 << 20;

/// Adds up the gradients of the processes of a job.
///
/// What they do together they must do in the same order. So they share a plan of buckets of parameters, and
/// each begins the sum of the next bucket once all gradients of it have come. Which parameters get a gradient is
/// found out: in each step the processes tell each other which have come. Those that no bucket has follow after
/// backward, and are in the plan from then on; those that came in other processes only count as zero here.
pub(super) struct Exchange {
    job: Option<Arc<Mutex<Job>>>,
    /// Tell the job.
    _hooks: Vec<GradientHook>,
}

impl Exchange {
    /// For the parameters of a model, in the same order in all processes. Without a group nothing is to be done.
    pub(super) fn new(
        group: Option<Arc<Mutex<ProcessGroup>>>,
        parameters: &[Tensor],
    ) -> Result<Self, TrainError> {
        Self::with_buckets(group, parameters, BUCKET)
    }

    fn with_buckets(
        group: Option<Arc<Mutex<ProcessGroup>>>,
        parameters: &[Tensor],
        most: i64,
    ) -> Result<Self, TrainError> {
        let job = group.map(|group| Job {
            group,
            parameters: parameters.iter().map(Tensor::shallow_clone).collect(),
            most,
            plan: Vec::new(),
            expecting: false,
            come: Vec::new(),
            begun: 0,
            sums: Vec::new(),
            failed: None,
        });
        let job = job.map(|job| Arc::new(Mutex::new(job)));
        let mut hooks = Vec::new();
        if let Some(job) = &job {
            for (index, parameter) in parameters.iter().enumerate() {
                let job = job.clone();
                hooks.push(GradientHook::new(parameter, move || {
                    lock(&job).has_come(index);
                })?);
            }
        }
        Ok(Self { job, _hooks: hooks })
    }

    /// Says that the next backward pass is the last of this step.
    pub(super) fn expect(&self) {
        if let Some(job) = &self.job {
            lock(job).expect();
        }
    }

    /// Makes all gradients, and `numbers`, the sums of those of all processes.
    pub(super) fn finish(&self, numbers: &mut [f64]) -> Result<(), TrainError> {
        match &self.job {
            Some(job) => lock(job).finish(numbers),
            None => Ok(()),
        }
    }

    /// Forgets the plan, as another loss reaches other parameters.
    pub(super) fn forget(&self) {
        if let Some(job) = &self.job {
            lock(job).plan.clear();
        }
    }
}

struct Job {
    group: Arc<Mutex<ProcessGroup>>,
    parameters: Vec<Tensor>,
    /// How many numbers a bucket holds.
    most: i64,
    /// Buckets of parameters, by index: the same in all processes.
    plan: Vec<Vec<usize>>,
    /// Whether gradients that come are whole.
    expecting: bool,
    /// Parameters whose gradients have come, in that order.
    come: Vec<usize>,
    /// How many buckets of the plan were begun in this step.
    begun: usize,
    /// Of the last buckets that were begun.
    sums: Vec<Sum>,
    /// What went wrong during backward.
    failed: Option<TrainError>,
}

impl Job {
    fn expect(&mut self) {
        self.expecting = true;
        self.come.clear();
        self.begun = 0;
        self.sums.clear();
        self.failed = None;
    }

    /// Called by the thread of the backward pass.
    fn has_come(&mut self, index: usize) {
        if !self.expecting || self.failed.is_some() {
            return;
        }
        self.come.push(index);
        while let Some(next) = self.plan.get(self.begun)
            && next.iter().all(|index| self.come.contains(index))
        {
            if let Err(error) = self.begin() {
                self.failed = Some(error);
                return;
            }
        }
    }

    /// Begins the sum of the plan's next bucket.
    fn begin(&mut self) -> Result<(), TrainError> {
        let gradients = self.plan[self.begun].iter().map(|&index| {
            let parameter = &self.parameters[index];
            let gradient = parameter.grad();
            match gradient.defined() {
                true => Ok(gradient),
                false => parameter.f_zeros_like(),
            }
        });
        let gradients = gradients.collect::<Result<Vec<_>, _>>()?;
        let group = lock(&self.group);
        let device = gradients.first().map_or(Device::Cpu, Tensor::device);
        let sum = group.begin_sum(pack(&gradients, group.carries(device))?);
        self.sums.push(sum.map_err(TrainError::Peers)?);
        self.begun += 1;
        Ok(())
    }

    /// Begins what is left of the plan.
    fn begin_all(&mut self) -> Result<(), TrainError> {
        while self.begun < self.plan.len() {
            self.begin()?;
        }
        Ok(())
    }

    fn finish(&mut self, numbers: &mut [f64]) -> Result<(), TrainError> {
        self.expecting = false;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        no_grad(|| {
            self.begin_all()?;
            let reached = self.add_up(numbers)?;
            self.settle(&reached)?;
            let late = self.late(&reached)?;
            let late = buckets(&late, self.most, |&index| {
                self.parameters[index].numel() as i64
            });
            self.plan.extend(late.into_iter().map(<[usize]>::to_vec));
            self.begin_all()?;
            self.settle(&reached)
        })
    }

    /// Adds up the numbers. Returns which parameters have a gradient in any process.
    fn add_up(&self, numbers: &mut [f64]) -> Result<Vec<bool>, TrainError> {
        let parameters = self.parameters.iter();
        let reached = parameters.map(|parameter| f64::from(u8::from(parameter.grad().defined())));
        let all: Vec<_> = numbers.iter().copied().chain(reached).collect();
        let sums = lock(&self.group).sum(Tensor::from_slice(&all));
        let sums = Vec::<f64>::try_from(sums.map_err(TrainError::Peers)?)?;
        let (sums, reached) = sums.split_at(numbers.len());
        numbers.copy_from_slice(sums);
        Ok(reached.iter().map(|&processes| processes > 0.0).collect())
    }

    /// Waits for the sums and makes gradients of them.
    fn settle(&mut self, reached: &[bool]) -> Result<(), TrainError> {
        let first = self.begun - self.sums.len();
        for (bucket, sum) in self.plan[first..].iter().zip(self.sums.drain(..)) {
            let sum = sum.wait().map_err(TrainError::Peers)?;
            let parameters = bucket
                .iter()
                .map(|&index| self.parameters[index].shallow_clone());
            let parameters: Vec<_> = parameters.collect();
            let gradients = unpack(&sum, &parameters)?;
            for ((index, parameter), gradient) in bucket.iter().zip(&parameters).zip(gradients) {
                // One that no process reached stays without a gradient: the optimiser leaves it alone.
                if reached[*index] {
                    set_gradient(parameter, &gradient)?;
                }
            }
        }
        Ok(())
    }

    /// Parameters with a gradient that the plan lacks, in the order in which they came in the first process.
    fn late(&self, reached: &[bool]) -> Result<Vec<usize>, TrainError> {
        let mut late: Vec<_> = (0..reached.len()).filter(|&index| reached[index]).collect();
        late.retain(|index| !self.plan.iter().any(|bucket| bucket.contains(index)));
        if late.is_empty() {
            return Ok(late);
        }
        let places = (0..reached.len()).map(|index| {
            let place = self.come.iter().position(|&other| other == index);
            place.unwrap_or(reached.len()) as i64
        });
        let mut places = Tensor::from_slice(&places.collect::<Vec<_>>());
        let taken = lock(&self.group).take_first(&mut places);
        taken.map_err(TrainError::Peers)?;
        let places = Vec::<i64>::try_from(places)?;
        late.sort_by_key(|&index| places[index]);
        Ok(late)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::Kind;

    use super::super::peers::{Peers, meet};
    use super::*;

    /// Which of five parameters each of two processes reaches: in a first pass and in the last one.
    const STEPS: [[[&[usize]; 2]; 2]; 6] = [
        [[&[], &[0, 1, 2]], [&[], &[0, 1, 2]]],
        [[&[], &[0, 1, 2]], [&[], &[2, 1, 0]]],
        // One that the other does not reach, and a new one.
        [[&[], &[0, 3]], [&[], &[1, 2]]],
        [[&[], &[3]], [&[], &[]]],
        // All were planned by now; one is reached in the first pass only, one in both.
        [[&[0, 1], &[1, 2]], [&[3], &[0, 1, 2, 3]]],
        [[&[], &[]], [&[], &[]]],
    ];

    #[test]
    fn processes_that_reach_different_parameters_agree() {
        // Small buckets: two parameters fit. And one for all.
        for most in [8, 1000] {
            meet(2, move |peers| walk(&peers, most));
        }
    }

    fn walk(peers: &Peers, most: i64) {
        let rank = peers.shard().rank;
        let parameters: Vec<_> = (0..5)
            .map(|_| Tensor::ones([2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true))
            .collect();
        let exchange = Exchange::with_buckets(peers.group(), &parameters, most).unwrap();
        let value = |step: usize, rank: usize, pass: usize, index: usize| {
            (1 + index + 10 * pass + 100 * rank + 1000 * step) as f64
        };
        for (step, reached) in STEPS.iter().enumerate() {
            crate::torch::clear_gradients(&parameters).unwrap();
            for (pass, indices) in reached[rank].iter().enumerate() {
                if pass == 1 {
                    exchange.expect();
                }
                let terms = indices.iter().map(|&index| {
                    (&parameters[index] * value(step, rank, pass, index)).sum(Kind::Float)
                });
                if let Some(loss) = terms.reduce(|a, b| a + b) {
                    loss.backward();
                }
            }
            let mut numbers = [rank as f64, step as f64];
            exchange.finish(&mut numbers).unwrap();
            assert_eq!(numbers, [1.0, 2.0 * step as f64]);
            for (index, parameter) in parameters.iter().enumerate() {
                let mut sum = None;
                for (rank, passes) in reached.iter().enumerate() {
                    for (pass, indices) in passes.iter().enumerate() {
                        if indices.contains(&index) {
                            *sum.get_or_insert(0.0) += value(step, rank, pass, index);
                        }
                    }
                }
                let gradient = parameter.grad();
                let found = gradient.defined().then(|| gradient.double_value(&[1, 1]));
                assert_eq!(found, sum, "step {step}, parameter {index}");
            }
        }
        exchange.forget();
    }
}
