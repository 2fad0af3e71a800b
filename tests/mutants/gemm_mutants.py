"""Mistakes in the products of the CPU."""

KERNELS = "test_kernels"
PROMISE = "gemm: every element*"
BLOCKS = "gemm: several blocks*"
VECTORS = "kernels/cpu/gemm_vectors.h"
GEMM = "kernels/cpu/gemm.cpp"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
GEMM_MISTAKES = [
    ("gemm: c beyond the edge is written", KERNELS, PROMISE, VECTORS,
     "if (product.rows == kRows && product.columns == kColumns)", "if (product.rows == kRows)"),
    ("gemm: a part overwrites the one before", KERNELS, PROMISE, GEMM,
     "parts_.first + part > 0 ? Store::add : store_", "part > 0 ? Store::add : store_"),
    ("gemm: the right matrix is packed once for all of its parts", KERNELS, PROMISE, GEMM,
     "compute_block(row == 0);", "compute_block(row == 0 && part == 0);"),
    ("gemm: the right matrix is not packed for other columns", KERNELS, BLOCKS, GEMM,
     "compute_block(row == 0);", "compute_block(row == 0 && column == 0);"),
    ("gemm: a shorter block of rows has tiles of its own", KERNELS, "gemm: the bits*", GEMM,
     "          compute_block(row == 0);", "          choose_tiles(rows_.count);\n          "
     "compute_block(row == 0);"),
    ("gemm: lines of a turned panel change places", KERNELS, PROMISE, VECTORS,
     "return upper ? kLanes + lane - half : lane;", "return upper ? kLanes + lane : lane;"),
    ("gemm: the last numbers of a dot product are left out", KERNELS, PROMISE, VECTORS,
     "if (count == 0) return;", "if (count >= 0) return;"),
    ("gemm: parts are not of equal length", KERNELS, PROMISE, GEMM,
     "depth_(equal_parts(k, kDepth, 1))", "depth_(kDepth)"),
    ("gemm: tiles of the left matrix overlap where one is packed late", KERNELS, PROMISE, GEMM,
     "if (pack_late) pack_left_tile(row, part);", "if (pack_late) pack_left_tile(0, part);"),
]
