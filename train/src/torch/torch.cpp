// Operators of libtorch that tch does not expose. Every function returns null, or what went wrong as
// text to be given to `sori_torch_free`: no exception may leave for Rust.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "guarded.hpp"

namespace {

std::vector<at::Tensor> gather(at::Tensor *const *tensors, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t i = 0; i < count; ++i)
    list.push_back(*tensors[i]);
  return list;
}

// Tells a function of Rust's, which `data` is the state of.
struct Teller : torch::autograd::PostAccumulateGradHook {
  void (*tell)(void *);
  void (*drop)(void *);
  void *data;

  Teller(void (*tell)(void *), void (*drop)(void *), void *data)
      : tell(tell), drop(drop), data(data) {}
  ~Teller() override { drop(data); }
  void operator()(const at::Tensor &) override { tell(data); }
};

at::DeviceType device_type(bool cuda) { return cuda ? at::kCUDA : at::kCPU; }

} // namespace

extern "C" {

void sori_torch_free(char *message) { free(message); }

// Read by jemalloc, where the program is linked with it: memory that a batch frees is kept for the
// next one. Given back, every batch would pay for fresh pages: a sixth of the CPU time of a step.
extern const char *malloc_conf;
const char *malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1";

// The wheel's CUDA half registers itself when it is opened.
char *sori_torch_open_cuda() {
  return guarded([&] {
    if (!dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL))
      throw std::runtime_error(dlerror());
  });
}

void sori_torch_end(int status) { std::_Exit(status); }

char *sori_torch_autocast_enter(bool cuda) {
  return guarded([&] {
    at::autocast::set_autocast_dtype(device_type(cuda), at::kBFloat16);
    at::autocast::set_autocast_enabled(device_type(cuda), true);
    at::autocast::increment_nesting();
  });
}

char *sori_torch_autocast_leave(bool cuda) {
  return guarded([&] {
    at::autocast::set_autocast_enabled(device_type(cuda), false);
    // The cache holds bf16 copies of weights, which the next step changes.
    if (at::autocast::decrement_nesting() == 0)
      at::autocast::clear_cache();
  });
}

char *sori_torch_clear_gradients(at::Tensor *const *tensors, size_t count) {
  return guarded([&] {
    for (size_t i = 0; i < count; ++i)
      tensors[i]->mutable_grad().reset();
  });
}

char *sori_torch_set_gradient(at::Tensor *tensor, at::Tensor *gradient) {
  return guarded([&] { tensor->mutable_grad() = *gradient; });
}

// `data` is dropped with the hook, also where it cannot be set.
char *sori_torch_on_gradient(at::Tensor *leaf, void (*tell)(void *), void (*drop)(void *),
                             void *data) {
  return guarded([&] {
    auto teller = std::make_unique<Teller>(tell, drop, data);
    TORCH_CHECK(leaf->is_leaf() && leaf->requires_grad(), "not a leaf with a gradient");
    TORCH_CHECK(!torch::autograd::impl::post_acc_grad_hooks(*leaf), "a leaf has one hook only");
    torch::autograd::impl::set_post_acc_grad_hooks(*leaf, std::move(teller));
  });
}

char *sori_torch_on_gradient_end(at::Tensor *leaf) {
  return guarded([&] { torch::autograd::impl::set_post_acc_grad_hooks(*leaf, nullptr); });
}

char *sori_torch_clip_gradients(at::Tensor *const *gradients, size_t count, double limit,
                                double *norm) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto list = gather(gradients, count);
    auto total = at::stack(at::_foreach_norm(list)).norm();
    *norm = total.item<double>();
    if (std::isfinite(*norm) && *norm > limit)
      at::_foreach_mul_(list, at::Scalar(limit / *norm));
  });
}

char *sori_torch_adamw(at::Tensor *const *parameters, at::Tensor *const *gradients,
                       at::Tensor *const *means, at::Tensor *const *squares, size_t count,
                       at::Tensor *step, double rate, double beta1, double beta2,
                       double weight_decay, double epsilon) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> steps(count, *step);
    at::_fused_adamw_(gather(parameters, count), gather(gradients, count), gather(means, count),
                      gather(squares, count), {}, steps, rate, beta1, beta2, weight_decay, epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  });
}

char *sori_torch_lerp(at::Tensor *const *targets, at::Tensor *const *sources, size_t count,
                      double weight) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    at::_foreach_lerp_(gather(targets, count), gather(sources, count), at::Scalar(weight));
  });
}

}
