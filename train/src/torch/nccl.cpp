// c10d's NCCL backend, a library of its own: it needs libtorch's CUDA half, which the program does not. scripts/nccl
// builds it, `sori_torch_group_open_nccl` opens it.

#include <cstdint>

#define USE_DISTRIBUTED
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "guarded.hpp"

// The caller owns the backend. The processes meet in the store that they have met in before.
extern "C" char *sori_nccl_backend(c10d::Store *store, int rank, int world,
                                   int64_t timeout_milliseconds, c10d::Backend **backend) {
  return guarded([&] {
    auto place = c10::make_intrusive<c10d::PrefixStore>(
        "nccl", c10::intrusive_ptr<c10d::Store>::reclaim_copy(store));
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_milliseconds);
    *backend =
        c10::make_intrusive<c10d::ProcessGroupNCCL>(place, rank, world, options).release();
  });
}
