// For ThreadSanitizer, which does not see how GCC's OpenMP library orders its threads.
#include <atomic>
#include <thread>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace normlab {

int default_threads() { return 2; }

void run_pieces(int threads, int64_t pieces, PieceBody body) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    for (int64_t piece = next++; piece < pieces; piece = next++) body(piece, thread);
  };
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads && thread < pieces; ++thread) {
    others.emplace_back(work, thread);
  }
  work(0);
}

}  // namespace normlab
