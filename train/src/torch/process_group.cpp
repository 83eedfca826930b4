// PyTorch's own process groups: c10d's TCP store, its Gloo backend for tensors in memory and its NCCL backend for those on GPUs,
// which libtorch has and tch does not expose. Every function returns null, or what went wrong as text to be given to `sori_torch_free`.

#include <cstdint>
#include <cstring>
#include <dlfcn.h>

// libtorch brings c10d's headers, not those of Gloo that they include: Debian's libgloo-dev does.
#if __has_include(<gloo/transport/device.h>)
#define USE_DISTRIBUTED
#define USE_C10D_GLOO
#include <sstream>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

#include "guarded.hpp"

#ifdef USE_C10D_GLOO

struct sori_torch_group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  // Null where it was not opened.
  c10::intrusive_ptr<c10d::Backend> nccl;

  c10d::Backend &carrier(const at::Tensor &tensor) const {
    if (!tensor.is_cuda())
      return *gloo;
    TORCH_CHECK(nccl, "a tensor on a GPU, and NCCL was not opened");
    return *nccl;
  }
};

// Keeps its tensor, and the threads that work on it, alive by itself.
struct sori_torch_work {
  c10::intrusive_ptr<c10d::Work> work;
};

extern "C" {

char *sori_torch_group_join(const char *host, uint16_t port, bool serves, const char *prefix,
                            const char *interfaces, const char *address, int rank, int world,
                            double timeout_seconds, sori_torch_group **group) {
  return guarded([&] {
    std::chrono::milliseconds timeout(static_cast<int64_t>(timeout_seconds * 1e3));
    c10d::TCPStoreOptions places;
    places.port = port;
    places.isServer = serves;
    places.timeout = timeout;
    places.waitWorkers = false;
    auto store = c10::make_intrusive<c10d::PrefixStore>(
        prefix, c10::make_intrusive<c10d::TCPStore>(host, places));
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    std::stringstream names(interfaces);
    for (std::string name; std::getline(names, name, ',');)
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
    if (options->devices.empty())
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, world, options);
    *group = new sori_torch_group{store, gloo, {}};
  });
}

char *sori_torch_group_open_nccl(sori_torch_group *group, const char *library,
                                 double timeout_seconds) {
  return guarded([&] {
    // It stays open: code of it runs until the process ends.
    void *opened = dlopen(library, RTLD_NOW);
    TORCH_CHECK(opened, dlerror());
    auto make = reinterpret_cast<char *(*)(c10d::Store *, int, int, int64_t, c10d::Backend **)>(
        dlsym(opened, "sori_nccl_backend"));
    TORCH_CHECK(make, dlerror());
    c10d::Backend *backend = nullptr;
    char *wrong = make(group->store.get(), group->gloo->getRank(), group->gloo->getSize(),
                       static_cast<int64_t>(timeout_seconds * 1e3), &backend);
    if (wrong) {
      std::string text(wrong);
      free(wrong);
      TORCH_CHECK(false, text);
    }
    group->nccl = c10::intrusive_ptr<c10d::Backend>::reclaim(backend);
  });
}

char *sori_torch_group_begin_sum(sori_torch_group *group, at::Tensor *tensor,
                                 sori_torch_work **work) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    *work = new sori_torch_work{group->carrier(*tensor).allreduce(tensors)};
  });
}

char *sori_torch_work_wait(sori_torch_work *work) {
  return guarded([&] { work->work->wait(); });
}

void sori_torch_work_drop(sori_torch_work *work) { delete work; }

char *sori_torch_group_broadcast(sori_torch_group *group, at::Tensor *tensor) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{*tensor};
    group->carrier(*tensor).broadcast(tensors)->wait();
  });
}

void sori_torch_group_leave(sori_torch_group *group, bool broken) {
  // A peer that has gone already makes the parting fail, which is no concern of ours.
  free(guarded([&] {
    // A sum on the GPU would wait for it for ever.
    if (group->nccl)
      broken ? group->nccl->abort() : group->nccl->shutdown();
  }));
  free(guarded([&] { delete group; }));
}

}

#else

struct sori_torch_group;
struct sori_torch_work;

extern "C" {

char *sori_torch_group_join(const char *, uint16_t, bool, const char *, const char *, const char *,
                            int, int, double, sori_torch_group **) {
  return strdup("built without the headers of Gloo: install libgloo-dev, run `cargo clean -p sori-train`, and build again");
}
char *sori_torch_group_open_nccl(sori_torch_group *, const char *, double) {
  return strdup("no process group");
}
char *sori_torch_group_begin_sum(sori_torch_group *, void *, sori_torch_work **) {
  return strdup("no process group");
}
char *sori_torch_work_wait(sori_torch_work *) { return strdup("no process group"); }
void sori_torch_work_drop(sori_torch_work *) {}
char *sori_torch_group_broadcast(sori_torch_group *, void *) { return strdup("no process group"); }
void sori_torch_group_leave(sori_torch_group *, bool) {}

}

#endif
