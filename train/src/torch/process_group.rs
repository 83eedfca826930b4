//! Several processes as one: PyTorch's own process groups, with its Gloo backend and, between GPUs, its NCCL backend.

use std::ffi::{CString, c_char, c_int};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

use super::check;

/// Never looked into.
#[repr(C)]
struct Handle {
    _opaque: [u8; 0],
}

/// Never looked into.
#[repr(C)]
struct WorkHandle {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn sori_torch_group_join(
        host: *const c_char,
        port: u16,
        serves: bool,
        prefix: *const c_char,
        interfaces: *const c_char,
        address: *const c_char,
        rank: c_int,
        world: c_int,
        timeout_seconds: f64,
        group: *mut *mut Handle,
    ) -> *mut c_char;
    fn sori_torch_group_open_nccl(
        group: *mut Handle,
        library: *const c_char,
        timeout_seconds: f64,
    ) -> *mut c_char;
    fn sori_torch_group_begin_sum(
        group: *mut Handle,
        tensor: *mut C_tensor,
        work: *mut *mut WorkHandle,
    ) -> *mut c_char;
    fn sori_torch_work_wait(work: *mut WorkHandle) -> *mut c_char;
    fn sori_torch_work_drop(work: *mut WorkHandle);
    fn sori_torch_group_broadcast(group: *mut Handle, tensor: *mut C_tensor) -> *mut c_char;
    fn sori_torch_group_leave(group: *mut Handle, broken: bool);
}

/// Where the processes of a job meet, and which of them this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The host of the store where they find each other.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether this process is the store, or only asks it.
    pub serves: bool,
    /// Keeps the keys of one start of the job from those of another in the same store.
    pub prefix: String,
    /// Network interfaces to be reached on, parted by commas; none to take `address`.
    pub interfaces: String,
    /// The address of this host that the others reach it at.
    pub address: String,
    /// This process, from 0.
    pub rank: usize,
    /// How many there are.
    pub world: usize,
    /// How long to wait for the others, when joining and in each call.
    pub timeout: Duration,
}

fn text(text: &str) -> Result<CString, TchError> {
    CString::new(text).map_err(|_| TchError::Torch(format!("{text:?} holds a zero byte")))
}

/// The processes of a job that have met.
#[derive(Debug)]
pub struct ProcessGroup {
    handle: NonNull<Handle>,
    timeout: Duration,
    /// Tensors go from GPU to GPU.
    nccl: bool,
    /// A call has failed, or a sum.
    broken: Arc<AtomicBool>,
}

// SAFETY: the handle owns reference-counted objects of libtorch that are bound to no thread.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Meets the other processes.
    ///
    /// # Errors
    /// If they do not all come in time, or this crate was built without Gloo's headers.
    pub fn join(meeting: &Meeting) -> Result<Self, TchError> {
        let (host, prefix) = (text(&meeting.host)?, text(&meeting.prefix)?);
        let (interfaces, address) = (text(&meeting.interfaces)?, text(&meeting.address)?);
        let mut handle = std::ptr::null_mut();
        // SAFETY: the strings end in zero bytes and outlive the call, as `handle` does.
        check(unsafe {
            sori_torch_group_join(
                host.as_ptr(),
                meeting.port,
                meeting.serves,
                prefix.as_ptr(),
                interfaces.as_ptr(),
                address.as_ptr(),
                meeting.rank as c_int,
                meeting.world as c_int,
                meeting.timeout.as_secs_f64(),
                &raw mut handle,
            )
        })?;
        let handle = NonNull::new(handle);
        Ok(Self {
            handle: handle.ok_or_else(|| TchError::Torch("no process group".into()))?,
            timeout: meeting.timeout,
            nccl: false,
            broken: Arc::default(),
        })
    }

    /// Has tensors on CUDA devices go from one to the other, by the library that `scripts/nccl` builds. All processes call it, or
    /// none. [`open_cuda`](super::open_cuda) comes first.
    ///
    /// # Errors
    /// The loader's reason, or libtorch's: there is no such library, or no GPU.
    pub fn open_nccl(&mut self, library: &Path) -> Result<(), TchError> {
        let library = text(&library.to_string_lossy())?;
        // SAFETY: the handle lives as long as `self`, the string through the call, and its end is a zero byte. What the
        // library does when it is loaded is libtorch's.
        self.told(check(unsafe {
            sori_torch_group_open_nccl(
                self.handle.as_ptr(),
                library.as_ptr(),
                self.timeout.as_secs_f64(),
            )
        }))?;
        self.nccl = true;
        Ok(())
    }

    /// Where tensors have to be that these calls get, given where they are.
    #[must_use]
    pub fn carries(&self, device: Device) -> Device {
        match device {
            Device::Cuda(_) if self.nccl => device,
            _ => Device::Cpu,
        }
    }

    fn told<T>(&self, result: Result<T, TchError>) -> Result<T, TchError> {
        self.broken.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }

    /// The sum of all processes' tensors, which are dense, [where they can be carried](Self::carries), and of one shape.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn sum(&self, tensor: Tensor) -> Result<Tensor, TchError> {
        self.begin_sum(tensor)?.wait()
    }

    /// Begins to add up a dense tensor, while this thread goes on. All processes begin their
    /// sums, and whatever else they do together, in the same order.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn begin_sum(&self, mut tensor: Tensor) -> Result<Sum, TchError> {
        let mut work = std::ptr::null_mut();
        // SAFETY: the handle lives as long as `self`, the tensor and `work` through the call.
        self.told(check(unsafe {
            sori_torch_group_begin_sum(self.handle.as_ptr(), tensor.as_mut_ptr(), &raw mut work)
        }))?;
        NonNull::new(work)
            .map(|work| Sum {
                work,
                tensor,
                broken: Arc::clone(&self.broken),
            })
            .ok_or_else(|| TchError::Torch("no sum was begun".into()))
    }

    /// Makes a dense tensor that of the first process.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn take_first(&self, tensor: &mut Tensor) -> Result<(), TchError> {
        // SAFETY: the handle lives as long as `self`, the tensor through the call.
        self.told(check(unsafe {
            sori_torch_group_broadcast(self.handle.as_ptr(), tensor.as_mut_ptr())
        }))
    }

    /// The first process's bytes; those of the others are not looked at.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn take_first_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, TchError> {
        let mut length = Tensor::from(bytes.len() as i64).reshape([1]);
        self.take_first(&mut length)?;
        let length = length.int64_value(&[0]);
        let mut all = Tensor::zeros([length.max(0)], (Kind::Uint8, tch::Device::Cpu));
        if bytes.len() as i64 == length {
            all = Tensor::from_slice(bytes);
        }
        self.take_first(&mut all)?;
        Vec::try_from(all)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle, and it is given back once.
        unsafe { sori_torch_group_leave(self.handle.as_ptr(), self.broken.load(Ordering::Relaxed)) }
    }
}

/// A sum that is being made.
#[derive(Debug)]
pub struct Sum {
    work: NonNull<WorkHandle>,
    /// Written to by threads of the group until the work is done, so nobody gets it before.
    tensor: Tensor,
    /// Of the group.
    broken: Arc<AtomicBool>,
}

// SAFETY: the handle owns a reference-counted object of libtorch that is bound to no thread.
unsafe impl Send for Sum {}

impl Sum {
    /// Waits for the sum: in memory until it is there, on a GPU until what this thread computes there comes after it.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn wait(self) -> Result<Tensor, TchError> {
        // SAFETY: the handle lives as long as `self`.
        let result = check(unsafe { sori_torch_work_wait(self.work.as_ptr()) });
        self.broken.fetch_or(result.is_err(), Ordering::Relaxed);
        result?;
        Ok(self.tensor.shallow_clone())
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        // SAFETY: nobody else has the handle, and it is given back once. Work that goes on keeps its own
        // references.
        unsafe { sori_torch_work_drop(self.work.as_ptr()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn alone() -> ProcessGroup {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let meeting = Meeting {
            host: "127.0.0.1".into(),
            port,
            serves: true,
            prefix: String::new(),
            interfaces: String::new(),
            address: "127.0.0.1".into(),
            rank: 0,
            world: 1,
            timeout: Duration::from_secs(20),
        };
        ProcessGroup::join(&meeting).unwrap()
    }

    #[test]
    fn a_library_for_gpus_that_is_not_there_is_named_and_the_group_goes_on() {
        let mut group = alone();
        let error = group.open_nccl(Path::new("/nowhere/libsori_nccl.so"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("/nowhere/libsori_nccl.so"), "{error}");
        assert_eq!(group.carries(Device::Cuda(0)), Device::Cpu);
        let sum = group.sum(Tensor::from_slice(&[1.5])).unwrap();
        assert_eq!(Vec::<f64>::try_from(sum).unwrap(), [1.5]);
    }

    #[test]
    fn gpus_add_up_by_nccl() {
        let Some(library) = std::env::var_os("SORI_NCCL") else {
            sori_tests::not_for_this_machine(
                "SORI_NCCL does not name the library that scripts/nccl builds",
            );
            return;
        };
        super::super::open_cuda().unwrap();
        let mut group = alone();
        let opened = group.open_nccl(Path::new(&library));
        if tch::Cuda::device_count() == 0 {
            let error = opened.unwrap_err().to_string();
            assert!(error.contains("no GPUs found"), "{error}");
            return;
        }
        opened.unwrap();
        assert_eq!(group.carries(Device::Cuda(0)), Device::Cuda(0));
        let tensor = Tensor::from_slice(&[1.5]).to_device(Device::Cuda(0));
        let sum = group.sum(tensor).unwrap();
        assert_eq!(Vec::<f64>::try_from(sum).unwrap(), [1.5]);
    }
}
