// The innermost loops of a product for vectors of kVectorBytes bytes, of which kPanelRows × 2 hold
// a part of c. Included once by each file that is compiled for one kind of processor; nothing of it
// may be shared between them, templates of the standard library included.
#pragma once

#include "kernels/cpu/gemm_kernel.h"

namespace normlab {
namespace {

template <typename Scalar>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef int32_t Places __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef int64_t Places __attribute__((vector_size(kVectorBytes)));
};

constexpr int kPanelVectors = 2;
// Elements that are fetched before they are packed.
constexpr int64_t kAhead = 64;
constexpr int64_t kCacheLine = 64;

// A product that is rounded before it is added to anything: compilers fuse the two, or do not, as
// it suits the code around them.
template <typename Number>
Number rounded_product(Number x) {
#if defined(__x86_64__)
  asm("" : "+v"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

template <int... numbers>
struct Numbers {};
template <int count, int... numbers>
struct Counted : Counted<count - 1, count - 1, numbers...> {};
template <int... numbers>
struct Counted<0, numbers...> {
  using Type = Numbers<numbers...>;
};

template <typename Scalar>
struct Vectors {
  using Vector = typename VectorOf<Scalar>::Type;
  using Unaligned = typename VectorOf<Scalar>::Unaligned;
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(Scalar));
  static constexpr int kRows = kPanelRows;
  static constexpr int kColumns = kPanelVectors * kLanes;

  static Vector load(const Scalar* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static void save(Scalar* to, Vector vector) { *reinterpret_cast<Unaligned*>(to) = vector; }

  // Of two vectors, one after the other: what lane `lane` of the first (second) becomes where
  // blocks of `half` lanes change places.
  static constexpr int source(int lane, int half, bool second) {
    const bool upper = (lane & half) != 0;
    if (second) return upper ? kLanes + lane : lane + half;
    return upper ? kLanes + lane - half : lane;
  }
  template <int half, int... lanes>
  static void exchange(Vector& first, Vector& second, Numbers<lanes...>) {
    const Vector one = first, other = second;
#if defined(__clang__)
    first = __builtin_shufflevector(one, other, source(lanes, half, false)...);
    second = __builtin_shufflevector(one, other, source(lanes, half, true)...);
#else
    using Places = typename VectorOf<Scalar>::Places;
    first = __builtin_shuffle(one, other, Places{source(lanes, half, false)...});
    second = __builtin_shuffle(one, other, Places{source(lanes, half, true)...});
#endif
  }
  // kLanes vectors, as a matrix.
  template <int half = kLanes / 2>
  static void transpose(Vector* rows) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if ((i & half) == 0) {
        exchange<half>(rows[i], rows[i + half], typename Counted<kLanes>::Type{});
      }
    }
    if constexpr (half > 1) transpose<half / 2>(rows);
  }

  // What is left of a panel from number `first` on, one by one.
  template <int width>
  static void pack_rest(Scalar* panel, const Lines<Scalar>& lines, int64_t first) {
    for (int64_t p = first; p < lines.depth; ++p) {
      for (int64_t i = 0; i < width; ++i) {
        const bool there = i < lines.count;
        panel[p * width + i] = there ? lines.data[i * lines.line + p * lines.along] : Scalar(0);
      }
    }
  }

  // kLanes numbers from `p` on, of `count` lines from `first` on, to their places in a panel of
  // `width`; writes whole vectors, so that what stands behind those lines must be written later.
  template <int width, int count>
  static void turn(Scalar* panel, const Lines<Scalar>& lines, int first, int64_t p) {
    Vector rows[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) {
      if (i >= count) {
        rows[i] = Vector{};
        continue;
      }
      const Scalar* const place = lines.data + (first + i) * lines.line + p;
      rows[i] = load(place);
      __builtin_prefetch(place + width * lines.line);  // the next panel's
    }
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) save(panel + (p + i) * width + first, rows[i]);
  }

  static void pack_left(Scalar* panel, const Lines<Scalar>& lines) {
    int64_t done = 0;
    if constexpr (kRows <= kLanes) {
      if (lines.count >= kRows && lines.along == 1) {
        for (; done + kLanes <= lines.depth; done += kLanes) {
          turn<kRows, kRows>(panel, lines, 0, done);
        }
      } else if (lines.count >= kLanes && lines.line == 1) {
        for (; done < lines.depth; ++done) {
          const Scalar* const place = lines.data + done * lines.along;
          save(panel + done * kRows, load(place));
          __builtin_prefetch(place + kAhead);
        }
      }
    }
    pack_rest<kRows>(panel, lines, done);
  }

  static void pack_right(Scalar* panel, const Lines<Scalar>& lines) {
    int64_t done = 0;
    if (lines.count == kColumns && lines.along == 1) {
      for (; done + kLanes <= lines.depth; done += kLanes) {
#pragma GCC unroll 4
        for (int i = 0; i < kPanelVectors; ++i) {
          turn<kColumns, kLanes>(panel, lines, i * kLanes, done);
        }
      }
    } else if (lines.count == kColumns) {
      for (; done < lines.depth; ++done) {
        const Scalar* const place = lines.data + done * lines.along;
#pragma GCC unroll 4
        for (int i = 0; i < kPanelVectors; ++i) {
          save(panel + done * kColumns + i * kLanes, load(place + i * kLanes));
          __builtin_prefetch(place + kAhead + i * kLanes);
        }
      }
    }
    pack_rest<kColumns>(panel, lines, done);
  }

  static void multiply(const PanelProduct<Scalar>& product) {
    constexpr int64_t kInLine = kCacheLine / static_cast<int64_t>(sizeof(Scalar));
    for (int64_t i = 0; i < product.soon_count; i += kInLine) __builtin_prefetch(product.soon + i);
    // A row of the part of c lies in two lines as a rule.
    for (int64_t i = 0; i < product.rows; ++i) {
      __builtin_prefetch(product.c + i * product.stride, 1);
      __builtin_prefetch(product.c + i * product.stride + kColumns - 1, 1);
    }
    Vector sums[kRows][kPanelVectors] = {};
    const Scalar* left = product.left;
    const Scalar* right = product.right;
#pragma GCC unroll 4
    for (int64_t p = 0; p < product.depth; ++p, left += kRows, right += kColumns) {
      Vector columns[kPanelVectors];
#pragma GCC unroll 4
      for (int j = 0; j < kPanelVectors; ++j) columns[j] = load(right + j * kLanes);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
        for (int j = 0; j < kPanelVectors; ++j) sums[i][j] += columns[j] * left[i];
      }
    }
    if (product.rows == kRows && product.columns == kColumns) {
      store(sums, product, product.c, product.stride);
    } else {
      store_edge(sums, product);
    }
  }

  static void store(const Vector (&sums)[kRows][kPanelVectors], const PanelProduct<Scalar>& product,
                    Scalar* c, int64_t stride) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kPanelVectors; ++j) {
        Scalar* const place = c + i * stride + j * kLanes;
        const Vector result = rounded_product(sums[i][j] * product.alpha);
        save(place, product.store == Store::add ? load(place) + result : result);
      }
    }
  }

  // By way of a whole panel of c, so that the arithmetic is that of store().
  static void store_edge(const Vector (&sums)[kRows][kPanelVectors],
                         const PanelProduct<Scalar>& product) {
    Scalar whole[kRows * kColumns] = {};
    for (int64_t i = 0; i < product.rows; ++i) {
      for (int64_t j = 0; j < product.columns; ++j) {
        if (product.store == Store::add)
          whole[i * kColumns + j] = product.c[i * product.stride + j];
      }
    }
    store(sums, product, whole, kColumns);
    for (int64_t i = 0; i < product.rows; ++i) {
      for (int64_t j = 0; j < product.columns; ++j) {
        product.c[i * product.stride + j] = whole[i * kColumns + j];
      }
    }
  }

  // A line of 64 bytes of partial sums for each product, whatever the vectors.
  static constexpr int kLineVectors = static_cast<int>(kCacheLine) / kVectorBytes;
  static constexpr int kLineLanes = kLineVectors * kLanes;

  template <int products>
  static void dots_at_once(Scalar* c, Store store, Scalar alpha, const Scalar* a, const Scalar* b,
                           int64_t stride, int64_t depth) {
    Vector sums[products][kLineVectors] = {};
    const int64_t whole = depth / kLineLanes * kLineLanes;
    for (int64_t i = 0; i < whole; i += kLineLanes) {
#pragma GCC unroll 4
      for (int v = 0; v < kLineVectors; ++v) {
        const Vector numbers = load(a + i + v * kLanes);
#pragma GCC unroll 4
        for (int j = 0; j < products; ++j) {
          sums[j][v] += numbers * load(b + j * stride + i + v * kLanes);
        }
      }
    }
    for (int j = 0; j < products; ++j) {
      add_rest(sums[j], a + whole, b + j * stride + whole, depth - whole);
      const Scalar result = rounded_product(total(sums[j]) * alpha);
      c[j] = store == Store::add ? c[j] + result : result;
    }
  }

  static void add_rest(Vector (&sums)[kLineVectors], const Scalar* a, const Scalar* b,
                       int64_t count) {
    if (count == 0) return;
    Scalar lanes[kLineLanes];
    for (int v = 0; v < kLineVectors; ++v) save(lanes + v * kLanes, sums[v]);
    for (int64_t i = 0; i < count; ++i) lanes[i] += a[i] * b[i];
    for (int v = 0; v < kLineVectors; ++v) sums[v] = load(lanes + v * kLanes);
  }

  // The upper half of the lanes is added to the lower one until one is left.
  static Scalar total(const Vector (&sums)[kLineVectors]) {
    Vector vectors[kLineVectors];
    for (int v = 0; v < kLineVectors; ++v) vectors[v] = sums[v];
#pragma GCC unroll 4
    for (int half = kLineVectors / 2; half > 0; half /= 2) {
#pragma GCC unroll 4
      for (int v = 0; v < half; ++v) vectors[v] += vectors[v + half];
    }
    Scalar lanes[kLanes];
    save(lanes, vectors[0]);
#pragma GCC unroll 4
    for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
      for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
  }

  static void dots(Scalar* c, Store store, Scalar alpha, const Scalar* a, const Scalar* b,
                   int64_t stride, int64_t count, int64_t depth) {
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
      dots_at_once<4>(c + j, store, alpha, a, b + j * stride, stride, depth);
    }
    for (; j < count; ++j) dots_at_once<1>(c + j, store, alpha, a, b + j * stride, stride, depth);
  }

  static constexpr GemmKernel<Scalar> kernel() {
    return {kRows, kColumns, pack_left, pack_right, multiply, dots};
  }
};

}  // namespace
}  // namespace normlab
