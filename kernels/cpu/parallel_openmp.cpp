#include <omp.h>

#include "kernels/cpu/parallel.h"

namespace normlab {

int default_threads() { return omp_get_max_threads(); }

void run_pieces(int threads, int64_t pieces, PieceBody body) {
  if (pieces <= 0) return;
  if (pieces == 1) {
    // Waking a team takes longer than a token's worth of most verbs.
    const int outside = omp_get_max_threads();
    omp_set_num_threads(1);
    body(0, 0);
    omp_set_num_threads(outside);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    // Products inside a piece must not open teams of their own.
    omp_set_num_threads(1);
    const int thread = omp_get_thread_num();
#pragma omp for schedule(dynamic, 1)
    for (int64_t piece = 0; piece < pieces; ++piece) body(piece, thread);
  }
}

}  // namespace normlab
