// As if CMake had found a feature that only Xeon Phi processors had.
#pragma once
#define NATIVE_FEATURES X("avx5124fmaps")
