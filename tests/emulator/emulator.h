// A CUDA device in software: runs the threads of a block as fibers of one thread of the host, and
// stops at what a GPU would only sometimes get wrong. kernels/cuda/*.cu compile against it
// unchanged, through the shadow headers in include/.
//
// It reports, with kernel, block, thread and line:
//   - a barrier or warp operation that not all threads reach, or that they reach at different
//   lines;
//   - shared or scratch memory that is read before it was written, or used beyond its size;
//   - an asynchronous copy whose target is used before it landed, or that nobody waits for;
//   - a launch beyond what the architecture has;
// and it lets tests see what depends on the order of threads, by running them in several. Accesses
// out of bounds are AddressSanitizer's to find; two accesses that no barrier orders are
// ThreadSanitizer's, for which every CUDA thread is a fiber of its own: in the same block, and in
// blocks that are neighbours in the grid.
//
// One thread of the host at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

namespace normlab::emulator {

// CUDA's dim3.
struct Extent {
  constexpr Extent(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr uint64_t count() const { return uint64_t{x} * y * z; }
  unsigned x;
  unsigned y;
  unsigned z;
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

// --- Of the thread that is running. A thread's never change, so the compiler may keep them
[[gnu::const]] const Extent& thread_index();
[[gnu::const]] const Extent& block_index();
[[gnu::const]] const Extent& block_extent();
[[gnu::const]] const Extent& grid_extent();
[[gnu::const]] int lane_index();
[[noreturn]] void fail(const std::string& what);
// An array of `size` elements that is used from element `first` to first + count.
[[noreturn]] void fail_index(int64_t first, int64_t count, int64_t size, const char* memory,
                             std::source_location place);

// --- Barriers
// __syncthreads.
void block_barrier(std::source_location place);
// Barrier 1 to 15, of `threads` threads that come in whole warps.
void named_barrier(int id, int threads, std::source_location place);

// --- Operations of a whole warp: all 32 lanes take part, at the same place
constexpr int kLanes = 32;
struct WarpArguments {
  void* of_lane[kLanes];
};
// Each lane brings an argument; the last to arrive hands all to `combine`, in the order of lanes.
void warp_operation(const char* name, std::source_location place, void* argument,
                    void (*combine)(const WarpArguments&));
[[noreturn]] void fail_lane(const char* name, int lane, std::source_location place);
uint32_t ballot(const char* name, bool predicate, std::source_location place);

// A row of an 8×8 matrix of bf16.
struct MatrixRow {
  uint16_t elements[8];
};
void load_matrices(uint32_t (&fragment)[4], const MatrixRow& row, std::source_location place);
void load_matrices_transposed(uint32_t (&fragment)[4], const MatrixRow& row,
                              std::source_location place);
void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                  std::source_location place);

// --- Dynamic shared memory of the block
// The `bytes` from `offset` on, for an array.
std::byte* take_shared(int64_t offset, int64_t bytes, std::source_location place);
// Throws where a byte was never written, or an asynchronous copy to it has not landed.
void check_written(const void* first, int64_t bytes, std::source_location place);
// Throws where an asynchronous copy has not landed.
void mark_written(const void* first, int64_t bytes, std::source_location place);
// A row that is given to ldmatrix: aligned, and written.
void check_matrix_row(const void* first, std::source_location place);

// --- Asynchronous copies of 16 bytes to shared memory. Who moves the bytes is the kernel's thread
struct Copy {
  void* target;
  const void* source;
  int source_bytes;  // 16, or 0: zeros
};
// From now on until it lands, nobody may use the target.
void begin_copy(void* target, const void* source, int source_bytes, std::source_location place);
// Closes the running thread's group.
void commit_copies();
// The oldest copy that has to land so that at most `pending` groups are left, for the running
// thread to do now; null: there is none. Valid until the next call.
const Copy* land_copy(int pending);

// --- Scratch memory: which of its elements were written. Copies share what they know
class WrittenElements {
 public:
  explicit WrittenElements(int64_t elements);
  WrittenElements(const WrittenElements& other);
  WrittenElements& operator=(const WrittenElements& other) = delete;
  ~WrittenElements();
  void mark(int64_t element) const;
  // Throws where it was never marked.
  void check(int64_t element, std::source_location place) const;

 private:
  struct Record;
  Record* record_;
};

}  // namespace normlab::emulator
