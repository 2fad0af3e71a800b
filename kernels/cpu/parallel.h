// The one thread pool. Work is cut into pieces that do not depend on the number of threads, each
// piece is computed by one thread, and so are its bits. Two files implement it, parallel_openmp.cpp
// and parallel_threads.cpp; CMake chooses.
#pragma once

#include <cstdint>

namespace normlab {

// Threads that a caller who does not care gets: one for each core, or OMP_NUM_THREADS.
int default_threads();

// A function with what it has captured.
struct PieceBody {
  void (*call)(const void* captured, int64_t piece, int thread);
  const void* captured;
  void operator()(int64_t piece, int thread) const { call(captured, piece, thread); }
};

// body(piece, thread) for piece = 0 … pieces − 1, in any order, thread < threads; returns when all
// have run. Bodies must not throw.
void run_pieces(int threads, int64_t pieces, PieceBody body);

template <typename Body>
void parallel_for(int threads, int64_t pieces, const Body& body) {
  run_pieces(threads, pieces,
             {[](const void* captured, int64_t piece, int thread) {
                (*static_cast<const Body*>(captured))(piece, thread);
              },
              &body});
}

// body(first, last, thread) over ranges of at most `grain` elements.
template <typename Body>
void parallel_ranges(int threads, int64_t elements, int64_t grain, const Body& body) {
  parallel_for(threads, (elements + grain - 1) / grain, [&](int64_t piece, int thread) {
    const int64_t first = piece * grain;
    body(first, first + grain < elements ? first + grain : elements, thread);
  });
}

}  // namespace normlab
