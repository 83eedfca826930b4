//! Where models are computed.

use clap::Args;
use sori_train::torch;
use tch::Device;

/// `--device`.
#[derive(Args)]
pub(crate) struct DeviceArgument {
    /// Where to compute: `cpu`, `cuda`, `cuda:1`; without, CUDA where there is any.
    #[arg(long, value_name = "DEVICE", value_parser = parse)]
    device: Option<Device>,
}

fn parse(text: &str) -> Result<Device, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(Device::Cpu),
        None if text == "cuda" => Ok(Device::Cuda(0)),
        Some(("cuda", index)) => index
            .parse()
            .map(Device::Cuda)
            .map_err(|error| error.to_string()),
        _ => Err("expected cpu, cuda or cuda:N".into()),
    }
}

impl DeviceArgument {
    /// The option as it was given, to be given again.
    pub(crate) fn given(&self) -> Option<[String; 2]> {
        let device = match self.device? {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".into(),
        };
        Some(["--device".into(), device])
    }

    /// The device that was asked for, or the best there is.
    pub(crate) fn open(&self) -> anyhow::Result<Device> {
        let opened = torch::open_cuda();
        let found = tch::Cuda::device_count() as usize;
        match self.device {
            Some(Device::Cuda(index)) if index >= found => {
                let why = opened
                    .err()
                    .map_or(String::new(), |error| format!(" ({error})"));
                anyhow::bail!("--device cuda:{index}: this machine has {found} CUDA devices{why}")
            }
            Some(device) => Ok(device),
            None if found > 0 => Ok(Device::Cuda(0)),
            None => Ok(Device::Cpu),
        }
    }
}
