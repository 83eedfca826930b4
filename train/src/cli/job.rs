//! Several processes that train one model: started here, or by torch's launchers.

use std::net::TcpListener;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sori_train::trainer::Peers;
use tch::Device;

use super::interrupt;

/// How long the other processes may take to end by themselves once one has failed.
const GRACE: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How many processes train.
#[derive(Args)]
pub(super) struct JobArguments {
    /// Start so many processes on this machine, each with its share of the data and, with CUDA, a
    /// device of its own. On several machines torchrun and its like start one each:
    /// `RANK`, `LOCAL_RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT` are understood.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Give up when the other processes do not answer for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    peer_timeout: u64,
}

impl JobArguments {
    /// How many processes this one is to start; `None` if it is one of a job, or trains alone.
    pub(super) fn to_start(&self) -> Option<u16> {
        let of_a_job = std::env::var_os("WORLD_SIZE").is_some();
        self.workers.filter(|&workers| workers > 1 && !of_a_job)
    }

    /// Meets the others, who compute on devices like this one.
    pub(super) fn meet(&self, device: Device) -> anyhow::Result<Peers> {
        let timeout = Duration::from_secs(self.peer_timeout);
        Ok(Peers::of_environment(timeout, device)?)
    }
}

/// The CUDA device of this process among those of its machine.
pub(super) fn own_device(device: Device) -> anyhow::Result<Device> {
    let local = std::env::var("LOCAL_RANK").ok();
    let rank = local.and_then(|rank| rank.parse().ok());
    let devices = tch::Cuda::device_count() as usize;
    device_of(device, rank, devices)
}

fn device_of(device: Device, rank: Option<usize>, devices: usize) -> anyhow::Result<Device> {
    match (device, rank) {
        (Device::Cuda(0), Some(rank)) if rank >= devices => anyhow::bail!(
            "process {} of this machine has no CUDA device of its own: there are {devices}; start as many processes \
             with --workers, or train with --device cpu",
            rank + 1
        ),
        (Device::Cuda(0), Some(rank)) => Ok(Device::Cuda(rank)),
        (Device::Cuda(index), Some(rank)) if rank > 0 => anyhow::bail!(
            "--device cuda:{index} with several processes: leave the number out, each takes a device of its own"
        ),
        (device, _) => Ok(device),
    }
}

/// Runs this very command in several processes, and ends as the first does that fails.
pub(super) fn start(workers: u16) -> anyhow::Result<ExitCode> {
    interrupt::listen_for_others()?;
    let port = free_port().context("cannot find a free port")?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / usize::from(workers)).max(1).to_string();
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut children = Vec::new();
    for rank in 0..workers {
        let mut command = Command::new(&program);
        command
            .args(std::env::args_os().skip(1))
            .env("WORLD_SIZE", workers.to_string())
            .env("RANK", rank.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env("LOCAL_WORLD_SIZE", workers.to_string())
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string());
        if std::env::var_os("OMP_NUM_THREADS").is_none() {
            command.env("OMP_NUM_THREADS", &threads);
        }
        let child = command.spawn();
        children.push(child.with_context(|| format!("cannot start {}", program.display()))?);
    }
    wait(children)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Waits for all, and passes signals to end on to them; once one fails the others have a while to notice.
fn wait(mut children: Vec<Child>) -> anyhow::Result<ExitCode> {
    let mut failed: Option<(usize, ExitStatus, Instant)> = None;
    loop {
        if interrupt::take() {
            for child in &mut children {
                // The number of one that has ended may be another's by now.
                if child.try_wait()?.is_none() {
                    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM)?;
                }
            }
        }
        let mut running = false;
        for (rank, child) in children.iter_mut().enumerate() {
            match child.try_wait()? {
                None => running = true,
                Some(status) if !status.success() && failed.is_none() => {
                    failed = Some((rank, status, Instant::now()));
                }
                Some(_) => {}
            }
        }
        let Some((rank, status, since)) = failed else {
            if !running {
                return Ok(ExitCode::SUCCESS);
            }
            thread::sleep(LOOK_EVERY);
            continue;
        };
        // Of an interrupted job one process still saves, which takes as long as it takes.
        let interrupted = status.code() == Some(interrupt::STATUS.into());
        if !running {
            if !interrupted {
                eprintln!("sori-train: process {rank} of the job failed first: {status}");
            }
            return Ok(match interrupted {
                true => ExitCode::from(interrupt::STATUS),
                false => ExitCode::FAILURE,
            });
        }
        if since.elapsed() > GRACE && !interrupted {
            for child in &mut children {
                // One that has ended is no failure.
                let _ = child.kill();
            }
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_process_takes_a_device_of_its_own_or_says_what_lacks() {
        let of = |device, rank| device_of(device, rank, 2);
        assert_eq!(of(Device::Cuda(0), None).unwrap(), Device::Cuda(0));
        assert_eq!(of(Device::Cuda(0), Some(1)).unwrap(), Device::Cuda(1));
        assert_eq!(of(Device::Cuda(1), None).unwrap(), Device::Cuda(1));
        assert_eq!(of(Device::Cpu, Some(5)).unwrap(), Device::Cpu);
        let told = of(Device::Cuda(0), Some(2)).unwrap_err().to_string();
        assert!(
            told.contains("process 3") && told.contains("there are 2"),
            "{told}"
        );
        let told = of(Device::Cuda(1), Some(1)).unwrap_err().to_string();
        assert!(told.contains("--device cuda:1"), "{told}");
    }
}
