// XXH3 of bytes that come part by part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace normlab {

class Checksum {
 public:
  Checksum();
  ~Checksum();

  void add(std::span<const std::byte> bytes);
  uint64_t value() const;  // of all that was added, whatever the parts were

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace normlab
