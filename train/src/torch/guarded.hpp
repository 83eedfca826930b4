// No exception may leave for Rust: what went wrong becomes text, to be given to `sori_torch_free`.
#pragma once

#include <cstring>
#include <exception>

template <typename F> char *guarded(F body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("unknown exception in libtorch");
  }
}
