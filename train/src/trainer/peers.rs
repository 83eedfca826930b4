//! The processes that train one model together.

use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tch::{Device, TchError, Tensor, no_grad};

use super::bucket::{buckets, pack, unpack};
use super::error::TrainError;
use crate::data::Shard;
use crate::torch::{Meeting, ProcessGroup};

/// Numbers that are sent at once: 32 MB.
const BUCKET: i64 = 8 << 20;

/// The processes of a job: each hears its own batches, and all take the same steps.
///
/// Every process computes gradients of its batches; added up they become those of all
/// batches, and the same everywhere.
#[derive(Debug)]
pub struct Peers {
    shard: Shard,
    group: Option<Arc<Mutex<ProcessGroup>>>,
}

impl Peers {
    /// A process that trains alone.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            shard: Shard::WHOLE,
            group: None,
        }
    }

    /// Meets the others of the job that the environment describes, as torch's launchers do: `RANK`,
    /// `WORLD_SIZE`, `MASTER_ADDR`, `MASTER_PORT`; `GLOO_SOCKET_IFNAME` names the network interface where it
    /// cannot be told by the way to the master. Alone without `WORLD_SIZE`. On CUDA devices gradients go from one to the other
    /// by NCCL where each process finds the library that `scripts/nccl` builds: beside the program, or at `SORI_NCCL`.
    ///
    /// # Errors
    /// [`TrainError::Job`] if a variable is missing or odd, [`TrainError::Peers`] if the others do not
    /// come in time, or NCCL does not work.
    pub fn of_environment(timeout: Duration, device: Device) -> Result<Self, TrainError> {
        let Some(meeting) = meeting(timeout, |name| std::env::var(name).ok())? else {
            return Ok(Self::none());
        };
        Self::join(&meeting, device)
    }

    /// Meets the others of a job.
    fn join(meeting: &Meeting, device: Device) -> Result<Self, TrainError> {
        let mut group = ProcessGroup::join(meeting).map_err(TrainError::Peers)?;
        if device.is_cuda() {
            open_nccl(&mut group, meeting).map_err(TrainError::Peers)?;
        }
        Ok(Self {
            shard: Shard {
                rank: meeting.rank,
                world: meeting.world,
            },
            group: Some(Arc::new(Mutex::new(group))),
        })
    }

    /// Which part of the data is this process's.
    pub(super) fn shard(&self) -> Shard {
        self.shard
    }

    /// Whether this process writes files and tells how things go.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.shard.rank == 0
    }

    /// The processes that have met; `None` for one that trains alone.
    pub(super) fn group(&self) -> Option<Arc<Mutex<ProcessGroup>>> {
        self.group.clone()
    }

    /// Makes tensors those of the first process.
    pub(super) fn take_first(&self, tensors: &[Tensor]) -> Result<(), TrainError> {
        let first = |group: &ProcessGroup, mut packed| {
            group.take_first(&mut packed)?;
            Ok(packed)
        };
        self.together(tensors, first, |tensor, taken| {
            tensor.shallow_clone().f_copy_(&taken)?;
            Ok(())
        })
    }

    /// The sums of all processes' tensors, which have the same shapes in each.
    pub(super) fn sum(&self, tensors: Vec<Tensor>) -> Result<Vec<Tensor>, TrainError> {
        if self.group.is_none() {
            return Ok(tensors);
        }
        let mut sums = Vec::with_capacity(tensors.len());
        self.together(&tensors, ProcessGroup::sum, |_, sum| {
            sums.push(sum);
            Ok(())
        })?;
        Ok(sums)
    }

    /// What the processes make of tensors together, a message at a time, is taken for each; nothing in one that trains alone.
    fn together(
        &self,
        tensors: &[Tensor],
        make: impl Fn(&ProcessGroup, Tensor) -> Result<Tensor, TchError>,
        mut take: impl FnMut(&Tensor, Tensor) -> Result<(), TchError>,
    ) -> Result<(), TrainError> {
        let Some(group) = self.locked() else {
            return Ok(());
        };
        no_grad(|| {
            for bucket in buckets(tensors, BUCKET, |tensor| tensor.numel() as i64) {
                let place = bucket.first().map_or(Device::Cpu, Tensor::device);
                let own = pack(bucket, group.carries(place))?;
                let made = make(&group, own).map_err(TrainError::Peers)?;
                for (tensor, made) in bucket.iter().zip(unpack(&made, bucket)?) {
                    take(tensor, made)?;
                }
            }
            Ok(())
        })
    }

    /// The first process's bytes.
    pub(super) fn take_first_bytes(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TrainError> {
        match self.locked() {
            Some(group) => group.take_first_bytes(&bytes).map_err(TrainError::Peers),
            None => Ok(bytes),
        }
    }

    fn locked(&self) -> Option<MutexGuard<'_, ProcessGroup>> {
        let group = self.group.as_ref()?;
        Some(group.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Opens NCCL if every process of the job can.
fn open_nccl(group: &mut ProcessGroup, meeting: &Meeting) -> Result<(), TchError> {
    let library = std::env::var_os("SORI_NCCL")
        .map(PathBuf::from)
        .or_else(|| {
            let program = std::env::current_exe().ok()?;
            Some(program.with_file_name("libsori_nccl.so"))
        });
    let library = library.filter(|library| library.is_file());
    let able = group.sum(Tensor::from(i64::from(library.is_some())).reshape([1]))?;
    let able = able.int64_value(&[0]) as usize;
    match library {
        Some(library) if able == meeting.world => group.open_nccl(&library),
        _ => {
            if meeting.rank == 0 {
                tracing::info!(
                    "gradients pass through memory: {able} of {} processes have libsori_nccl.so, which scripts/nccl builds, beside the program or at SORI_NCCL",
                    meeting.world
                );
            }
            Ok(())
        }
    }
}

/// What the environment says of a job; `None` without one.
fn meeting(
    timeout: Duration,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Meeting>, TrainError> {
    let text = |name: &'static str| {
        variable(name).ok_or_else(|| TrainError::Job {
            name,
            expected: "to be set, as torchrun does, where WORLD_SIZE is",
            found: "nothing".into(),
        })
    };
    let number = |name: &'static str, expected: &'static str, most: usize| {
        let found = text(name)?;
        let number = found.parse().ok().filter(|&number: &usize| number <= most);
        number.ok_or(TrainError::Job {
            name,
            expected,
            found,
        })
    };
    if variable("WORLD_SIZE").is_none() {
        return Ok(None);
    }
    let world = number("WORLD_SIZE", "from 1 to 65536", 1 << 16)?.max(1);
    if world == 1 {
        return Ok(None);
    }
    let rank = number("RANK", "below WORLD_SIZE", world - 1)?;
    let port = number("MASTER_PORT", "a port", usize::from(u16::MAX))? as u16;
    let host = text("MASTER_ADDR")?;
    // torchrun's agent has a store at that place already, and starts a job again under a new number.
    let by_agent = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
    let attempt = variable("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into());
    Ok(Some(Meeting {
        address: own_address(&host, port).ok_or_else(|| TrainError::Job {
            name: "MASTER_ADDR",
            expected: "a host that can be found",
            found: host.clone(),
        })?,
        host,
        port,
        serves: rank == 0 && !by_agent,
        prefix: format!("sori/{attempt}"),
        interfaces: variable("GLOO_SOCKET_IFNAME").unwrap_or_default(),
        rank,
        world,
        timeout,
    }))
}

/// The address of this machine on the way to a host.
fn own_address(host: &str, port: u16) -> Option<String> {
    let to: SocketAddr = (host, port).to_socket_addrs().ok()?.next()?;
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    // Nothing is sent: the system only looks the way up.
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

/// What each of so many processes of a job does, as threads that meet on this machine.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) fn meet<T: Send + 'static>(
    world: usize,
    each: impl Fn(Peers) -> T + Clone + Send + 'static,
) -> Vec<T> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let threads = (0..world).map(|rank| {
        let each = each.clone();
        let meeting = Meeting {
            host: "127.0.0.1".into(),
            port,
            serves: rank == 0,
            prefix: "test".into(),
            interfaces: String::new(),
            address: "127.0.0.1".into(),
            rank,
            world,
            timeout: Duration::from_secs(30),
        };
        std::thread::spawn(move || each(Peers::join(&meeting, Device::Cpu).unwrap()))
    });
    let threads: Vec<_> = threads.collect();
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Meeting>, TrainError> {
        meeting(Duration::from_secs(1), |name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_job_is_described_as_torchs_launchers_do() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("WORLD_SIZE", "1")]).unwrap(), None);
        let job = [
            ("WORLD_SIZE", "2"),
            ("RANK", "0"),
            ("MASTER_ADDR", "127.0.0.1"),
            ("MASTER_PORT", "29500"),
        ];
        let first = read(&job).unwrap().unwrap();
        assert_eq!((first.rank, first.world, first.port), (0, 2, 29500));
        assert_eq!(first.address, "127.0.0.1");
        assert!(first.serves);
        let by_agent = [&job[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert!(!read(&by_agent).unwrap().unwrap().serves);

        for (name, value, told) in [
            ("RANK", "2", "RANK: expected below WORLD_SIZE, found 2"),
            (
                "MASTER_PORT",
                "-1",
                "MASTER_PORT: expected a port, found -1",
            ),
            (
                "WORLD_SIZE",
                "two",
                "WORLD_SIZE: expected from 1 to 65536, found two",
            ),
        ] {
            let wrong = job.map(|(key, good)| (key, if key == name { value } else { good }));
            let error = read(&wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        let error = read(&job[..3]).unwrap_err().to_string();
        assert!(error.contains("MASTER_PORT: expected to be set"), "{error}");
    }
}
