//! Several processes as one: PyTorch's own process groups, with its Gloo backend.

use std::ffi::{CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

use tch::{Kind, TchError, Tensor};
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
    fn sori_torch_group_begin_sum(
        group: *mut Handle,
        tensor: *mut C_tensor,
        work: *mut *mut WorkHandle,
    ) -> *mut c_char;
    fn sori_torch_work_wait(work: *mut WorkHandle) -> *mut c_char;
    fn sori_torch_work_drop(work: *mut WorkHandle);
    fn sori_torch_group_broadcast(group: *mut Handle, tensor: *mut C_tensor) -> *mut c_char;
    fn sori_torch_group_leave(group: *mut Handle);
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

/// The processes of a job that have met.
#[derive(Debug)]
pub struct ProcessGroup(NonNull<Handle>);

// SAFETY: the handle owns reference-counted objects of libtorch that are bound to no thread.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Meets the other processes.
    ///
    /// # Errors
    /// If they do not all come in time, or this crate was built without Gloo's headers.
    pub fn join(meeting: &Meeting) -> Result<Self, TchError> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| TchError::Torch(format!("{text:?} holds a zero byte")))
        };
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
        NonNull::new(handle)
            .map(Self)
            .ok_or_else(|| TchError::Torch("no process group".into()))
    }

    /// The sum of all processes' tensors, which are dense, in memory, and of one shape.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn sum(&self, tensor: Tensor) -> Result<Tensor, TchError> {
        self.begin_sum(tensor)?.wait()
    }

    /// Begins to add up a dense tensor in memory, while this thread goes on. All processes begin their
    /// sums, and whatever else they do together, in the same order.
    ///
    /// # Errors
    /// If a process is gone.
    pub fn begin_sum(&self, mut tensor: Tensor) -> Result<Sum, TchError> {
        let mut work = std::ptr::null_mut();
        // SAFETY: the handle lives as long as `self`, the tensor and `work` through the call.
        check(unsafe {
            sori_torch_group_begin_sum(self.0.as_ptr(), tensor.as_mut_ptr(), &raw mut work)
        })?;
        NonNull::new(work)
            .map(|work| Sum { work, tensor })
            .ok_or_else(|| TchError::Torch("no sum was begun".into()))
    }

    /// Makes a dense tensor in memory that of the first process.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn take_first(&self, tensor: &mut Tensor) -> Result<(), TchError> {
        // SAFETY: the handle lives as long as `self`, the tensor through the call.
        check(unsafe { sori_torch_group_broadcast(self.0.as_ptr(), tensor.as_mut_ptr()) })
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
        unsafe { sori_torch_group_leave(self.0.as_ptr()) }
    }
}

/// A sum that is being made.
#[derive(Debug)]
pub struct Sum {
    work: NonNull<WorkHandle>,
    /// Written to by threads of the group until the work is done, so nobody gets it before.
    tensor: Tensor,
}

// SAFETY: the handle owns a reference-counted object of libtorch that is bound to no thread.
unsafe impl Send for Sum {}

impl Sum {
    /// Waits for the sum.
    ///
    /// # Errors
    /// If a process is gone, or does not come in time.
    pub fn wait(self) -> Result<Tensor, TchError> {
        // SAFETY: the handle lives as long as `self`.
        check(unsafe { sori_torch_work_wait(self.work.as_ptr()) })?;
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
