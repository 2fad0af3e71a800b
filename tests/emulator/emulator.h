// A CUDA device in software: runs the threads of a block as fibers of one thread of the host, and
// stops at what a GPU would only sometimes get wrong. kernels/cuda/*.cu compile against it
// unchanged, through the shadow headers in include/.
//
// It reports, with kernel, block and thread:
//   - a barrier or warp operation that not all threads reach, or that they reach at different
//   lines;
//   - shared memory that is read before it was written;
//   - a launch beyond what the architecture has;
// and it lets tests see what depends on the order of threads, by running them in several. Accesses
// out of bounds are AddressSanitizer's to find; two accesses that no barrier orders are
// ThreadSanitizer's, for which every CUDA thread is a fiber of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

namespace normlab::emulator {

struct Extent {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
  unsigned count() const { return x * y * z; }
};

// In which order threads that may run do run. A correct kernel gives the same bits in all.
enum class Order {
  forward,
  backward,
  shuffled,
  run_ahead,  // whoever is woken goes on at once, as far as it gets: the others lag behind
};

struct Settings {
  Order order = Order::forward;
  uint64_t seed = 0;      // of Order::shuffled
  int architecture = 80;  // compute capability ·10: 80, 86, 90
};

// What a kernel did wrong: "kernel k, block (0,0,0), thread 5: …".
class Failure : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

void configure(const Settings& settings);
const Settings& settings();

// Runs `thread_body` once for each thread of each block; blocks run one after another. Throws
// Failure; the device is as good as new afterwards.
void run(const std::string& kernel, Extent grid, Extent block, int64_t shared_bytes,
         const std::function<void()>& thread_body);

// --- Of the thread that is running
Extent thread_index();
Extent block_index();
Extent block_extent();
Extent grid_extent();
[[noreturn]] void fail(const std::string& what);

// __syncthreads.
void block_barrier(std::source_location place);

// An operation of a whole warp: each thread brings an argument; the last to arrive hands all to
// `combine`, in the order of lanes. `name` and place must be the same for all.
constexpr int kLanes = 32;
struct WarpArguments {
  void* of_lane[kLanes];
};
void warp_operation(const char* name, std::source_location place, void* argument,
                    void (*combine)(const WarpArguments&));

// --- Dynamic shared memory of the block
std::byte* shared_base();
int64_t shared_bytes();
// Throws where a byte was never written.
void check_written(const std::byte* first, int64_t bytes, std::source_location place);
void mark_written(const std::byte* first, int64_t bytes);

}  // namespace normlab::emulator
