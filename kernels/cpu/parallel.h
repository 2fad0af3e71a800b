// The one thread pool: OpenMP. Work is cut into pieces that do not depend on the number of threads,
// each piece is computed by one thread, and so are its bits.
#pragma once

#include <omp.h>

#include <cstdint>

namespace normlab {

// body(piece, thread) for piece = 0 … pieces − 1, in any order. Bodies must not throw.
template <typename Body>
void parallel_for(int threads, int64_t pieces, const Body& body) {
  if (pieces <= 0) return;
#pragma omp parallel num_threads(threads)
  {
    // Products inside a piece must not open teams of their own.
    omp_set_num_threads(1);
    const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
    for (int64_t piece = 0; piece < pieces; ++piece) body(piece, thread);
  }
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
