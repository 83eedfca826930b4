//! Gradients as they come, while backward goes on.

use std::ffi::{c_char, c_void};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use super::check;

unsafe extern "C" {
    fn sori_torch_set_gradient(tensor: *mut C_tensor, gradient: *mut C_tensor) -> *mut c_char;
    fn sori_torch_on_gradient(
        leaf: *mut C_tensor,
        tell: extern "C" fn(*mut c_void),
        drop: extern "C" fn(*mut c_void),
        data: *mut c_void,
    ) -> *mut c_char;
    fn sori_torch_on_gradient_end(leaf: *mut C_tensor) -> *mut c_char;
}

/// Makes a tensor the gradient of a parameter of its shape. They share memory from then on.
///
/// # Errors
/// If libtorch refuses: a tensor of another shape, say.
pub fn set_gradient(parameter: &Tensor, gradient: &Tensor) -> Result<(), TchError> {
    // SAFETY: both tensors live through the call.
    check(unsafe {
        sori_torch_set_gradient(parameter.as_ptr().cast_mut(), gradient.as_ptr().cast_mut())
    })
}

type Tell = Box<dyn Fn() + Send>;

/// Calls a function in each backward pass as soon as a parameter's gradient is whole, as long as it lives.
#[derive(Debug)]
pub struct GradientHook {
    parameter: Tensor,
}

impl GradientHook {
    /// Puts a hook on a parameter. The thread of the backward pass calls `tell`, which must not panic: no
    /// panic can pass through libtorch, so it would end the process.
    ///
    /// # Errors
    /// If the tensor is no parameter, or has a hook already.
    pub fn new(parameter: &Tensor, tell: impl Fn() + Send + 'static) -> Result<Self, TchError> {
        let parameter = parameter.shallow_clone();
        let data: *mut Tell = Box::into_raw(Box::new(Box::new(tell)));
        // SAFETY: the tensor lives through the call; `data` is what the two functions take, and is theirs from
        // now on, whatever comes of it.
        check(unsafe {
            sori_torch_on_gradient(parameter.as_ptr().cast_mut(), call, discard, data.cast())
        })?;
        Ok(Self { parameter })
    }
}

impl Drop for GradientHook {
    fn drop(&mut self) {
        // SAFETY: the tensor lives through the call.
        let ended = check(unsafe { sori_torch_on_gradient_end(self.parameter.as_mut_ptr()) });
        debug_assert!(ended.is_ok(), "{ended:?}");
    }
}

extern "C" fn call(data: *mut c_void) {
    // SAFETY: `data` is a `Tell` that lives as long as the hook, which calls one at a time.
    let tell = unsafe { &*data.cast::<Tell>() };
    tell();
}

extern "C" fn discard(data: *mut c_void) {
    // SAFETY: `data` is a boxed `Tell`, which the hook gives back once.
    drop(unsafe { Box::from_raw(data.cast::<Tell>()) });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_hook_tells_of_a_whole_gradient_until_it_is_dropped() {
        let parameter = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let told = Arc::new(AtomicUsize::new(0));
        let (count, seen) = (told.clone(), parameter.shallow_clone());
        let hook = GradientHook::new(&parameter, move || {
            assert_eq!(seen.grad(), Tensor::from_slice(&[5_f32, 5.0]));
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        // It is used twice, and told of once.
        (&parameter * 2.0 + &parameter * 3.0)
            .sum(Kind::Float)
            .backward();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        let error = GradientHook::new(&parameter, || ())
            .unwrap_err()
            .to_string();
        assert!(error.contains("one hook only"), "{error}");
        drop(hook);
        parameter.sum(Kind::Float).backward();
        assert_eq!(told.load(Ordering::Relaxed), 1);
        // What the hook held is free.
        assert_eq!(Arc::strong_count(&told), 1);
        assert!(GradientHook::new(&(&parameter * 2.0), || ()).is_err());
    }
}
