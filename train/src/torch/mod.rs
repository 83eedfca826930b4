//! What training needs and tch does not offer: bf16 autocast on the CPU, the fused AdamW step,
//! operations over many tensors at once, hooks on gradients, process groups, and tensors in files that appear whole. The only
//! unsafe code of the crate is here, and where a cache maps its file.

mod file;
mod gradient;
mod process_group;

use std::ffi::{CStr, c_char, c_int};

use tch::{Device, Kind, TchError, Tensor};
use torch_sys::C_tensor;

pub use file::write_safetensors;
pub use gradient::{GradientHook, set_gradient};
pub use process_group::{Meeting, ProcessGroup, Sum};

#[allow(unreachable_pub)]
mod ffi {
    use super::{C_tensor, c_char, c_int};

    unsafe extern "C" {
        pub fn sori_torch_free(message: *mut c_char);
        pub fn sori_torch_open_cuda() -> *mut c_char;
        pub fn sori_torch_end(status: c_int) -> !;
        pub fn sori_torch_autocast_enter(cuda: bool) -> *mut c_char;
        pub fn sori_torch_autocast_leave(cuda: bool) -> *mut c_char;
        pub fn sori_torch_clear_gradients(
            tensors: *const *mut C_tensor,
            count: usize,
        ) -> *mut c_char;
        pub fn sori_torch_clip_gradients(
            gradients: *const *mut C_tensor,
            count: usize,
            limit: f64,
            norm: *mut f64,
        ) -> *mut c_char;
        pub fn sori_torch_adamw(
            parameters: *const *mut C_tensor,
            gradients: *const *mut C_tensor,
            means: *const *mut C_tensor,
            squares: *const *mut C_tensor,
            count: usize,
            step: *mut C_tensor,
            rate: f64,
            beta1: f64,
            beta2: f64,
            weight_decay: f64,
            epsilon: f64,
        ) -> *mut c_char;
        pub fn sori_torch_lerp(
            targets: *const *mut C_tensor,
            sources: *const *mut C_tensor,
            count: usize,
            weight: f64,
        ) -> *mut c_char;
    }
}

/// Turns the message of a function above into an error.
fn check(message: *mut c_char) -> Result<(), TchError> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so it is a C string that nobody else owns; it is copied, then freed once.
    let text = unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        ffi::sori_torch_free(message);
        text
    };
    Err(TchError::Torch(text))
}

/// The tensors' addresses. They are valid while `tensors` is borrowed.
fn pointers(tensors: &[Tensor]) -> Vec<*mut C_tensor> {
    tensors
        .iter()
        .map(|tensor| tensor.as_ptr().cast_mut())
        .collect()
}

fn assert_same_count(of: &[Tensor], others: &[&[Tensor]]) {
    assert!(
        others.iter().all(|other| other.len() == of.len()),
        "lists of tensors of different lengths"
    );
}

/// Makes CUDA devices available, if this machine has libtorch's CUDA half. Call it before anything
/// asks for a CUDA device.
///
/// # Errors
/// The loader's reason, if there is no such library.
pub fn open_cuda() -> Result<(), TchError> {
    // SAFETY: takes nothing.
    check(unsafe { ffi::sori_torch_open_cuda() })
}

/// Ends the program at once. [`std::process::exit`] would first take down libtorch's registries, while other threads
/// compute with them.
pub fn end(status: u8) -> ! {
    // SAFETY: takes no pointers, and ends every thread before anything that they hold is gone.
    unsafe { ffi::sori_torch_end(status.into()) }
}

/// While it lives, matrix products and convolutions of this thread run in bf16 and what needs the
/// range or precision of f32 does not: torch's autocast.
#[derive(Debug)]
pub struct Autocast {
    cuda: bool,
    /// Autocast is a state of the thread, so the guard may not move to another.
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Autocast {
    /// Begins autocast on a device.
    ///
    /// # Errors
    /// If libtorch refuses.
    pub fn begin(device: Device) -> Result<Self, TchError> {
        let cuda = device.is_cuda();
        // SAFETY: takes no pointers.
        check(unsafe { ffi::sori_torch_autocast_enter(cuda) })?;
        Ok(Self {
            cuda,
            _of_this_thread: std::marker::PhantomData,
        })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: takes no pointers.
        let left = check(unsafe { ffi::sori_torch_autocast_leave(self.cuda) });
        debug_assert!(left.is_ok(), "{left:?}");
    }
}

/// Whether a device computes in bfloat16. libtorch emulates it on processors that do not.
pub fn has_bf16(device: Device) -> bool {
    if device != Device::Cpu {
        return true;
    }
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// Makes the gradients undefined, as those of fresh parameters are: unlike gradients of zero they
/// tell which parameters the next backward pass does not reach.
///
/// # Errors
/// If libtorch refuses.
pub fn clear_gradients(parameters: &[Tensor]) -> Result<(), TchError> {
    let list = pointers(parameters);
    // SAFETY: `list` holds as many addresses of live tensors as is said.
    check(unsafe { ffi::sori_torch_clear_gradients(list.as_ptr(), list.len()) })
}

/// Scales gradients so that their norm, over all of them together, is at most `limit`; returns what
/// it was. A norm that is not finite changes nothing.
///
/// # Errors
/// If libtorch refuses: tensors on several devices, say.
pub fn clip_gradients(gradients: &[Tensor], limit: f64) -> Result<f64, TchError> {
    if gradients.is_empty() {
        return Ok(0.0);
    }
    let list = pointers(gradients);
    let mut norm = 0.0;
    // SAFETY: `list` holds as many addresses of live tensors as is said, `norm` outlives the call.
    check(unsafe {
        ffi::sori_torch_clip_gradients(list.as_ptr(), list.len(), limit, &raw mut norm)
    })?;
    Ok(norm)
}

/// The numbers of an AdamW step.
#[derive(Debug, Clone, Copy)]
pub struct AdamW {
    /// Learning rate.
    pub rate: f64,
    /// Decay of the running mean of gradients and of that of their squares.
    pub betas: [f64; 2],
    /// Decoupled weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// Added to the root of the running squares.
    pub epsilon: f64,
}

/// One step of AdamW (Loshchilov & Hutter 2017, arXiv 1711.05101, algorithm 2) for all parameters at
/// once. `step` is the number of this step, from 1.
///
/// # Errors
/// If libtorch refuses: tensors of different shapes, say.
///
/// # Panics
/// If the lists differ in length.
pub fn adamw(
    parameters: &[Tensor],
    gradients: &[Tensor],
    means: &[Tensor],
    squares: &[Tensor],
    step: u64,
    numbers: AdamW,
) -> Result<(), TchError> {
    assert_same_count(parameters, &[gradients, means, squares]);
    let Some(first) = parameters.first() else {
        return Ok(());
    };
    let step = Tensor::full([], step as f64, (Kind::Float, first.device()));
    let lists = [parameters, gradients, means, squares].map(pointers);
    // SAFETY: four lists of one length, each of addresses of live tensors; so is `step`.
    check(unsafe {
        ffi::sori_torch_adamw(
            lists[0].as_ptr(),
            lists[1].as_ptr(),
            lists[2].as_ptr(),
            lists[3].as_ptr(),
            parameters.len(),
            step.as_ptr().cast_mut(),
            numbers.rate,
            numbers.betas[0],
            numbers.betas[1],
            numbers.weight_decay,
            numbers.epsilon,
        )
    })
}

/// Moves each target towards its source: `target += weight (source - target)`.
///
/// # Errors
/// If libtorch refuses: tensors of different shapes, say.
///
/// # Panics
/// If the lists differ in length.
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: f64) -> Result<(), TchError> {
    assert_same_count(targets, &[sources]);
    if targets.is_empty() {
        return Ok(());
    }
    let lists = [targets, sources].map(pointers);
    // SAFETY: two lists of one length, each of addresses of live tensors.
    check(unsafe {
        ffi::sori_torch_lerp(lists[0].as_ptr(), lists[1].as_ptr(), targets.len(), weight)
    })
}
