// A product in blocks: how it is cut, packed and divided among threads (Goto and van de Geijn 2008,
// "Anatomy of High-Performance Matrix Multiplication").
#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <memory>
#include <new>

#include "kernels/cpu/gemm_kernel.h"
#include "kernels/cpu/parallel.h"

namespace normlab {
namespace {

// Numbers along k that are packed as one: a panel of the right matrix, of 32 columns at most, stays
// in the first cache while all panels of a tile of the left one pass by.
constexpr int64_t kDepth = 256;
// Packed at a time, of each matrix: lines, and parts along k (8 MB in single precision).
constexpr int64_t kLines = 2048;
constexpr int64_t kParts = 4;

int64_t parts_of(int64_t whole, int64_t most) { return (whole + most - 1) / most; }
int64_t round_up(int64_t number, int64_t unit) { return parts_of(number, unit) * unit; }
// Parts of equal length, a multiple of `unit` and (but for that) at most `most`.
int64_t equal_parts(int64_t whole, int64_t most, int64_t unit) {
  return round_up(parts_of(whole, parts_of(whole, most)), unit);
}

// Grows, and keeps what it has for the next product of this thread.
template <typename Scalar>
class Workspace {
 public:
  Scalar* reserve(int64_t elements) {
    if (elements > elements_) {
      memory_.reset();
      elements_ = 0;
      memory_.reset(static_cast<Scalar*>(operator new(
          static_cast<size_t>(elements) * sizeof(Scalar), kAlignment)));
      elements_ = elements;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Release {
    void operator()(Scalar* memory) const { operator delete(memory, kAlignment); }
  };
  std::unique_ptr<Scalar[], Release> memory_;
  int64_t elements_ = 0;
};

// Without a team where there is to be none: attention multiplies within its own pieces.
template <typename Body>
void each_piece(int threads, int64_t pieces, const Body& body) {
  if (threads > 1) {
    parallel_for(threads, pieces, [&](int64_t piece, int) { body(piece); });
  } else {
    for (int64_t piece = 0; piece < pieces; ++piece) body(piece);
  }
}

// Tiles of c, one thread's at a time; smaller ones where there are few for the threads.
struct Tile {
  int64_t rows;
  int64_t columns;
};

Tile tile_of(int threads, int64_t m, int64_t n) {
  Tile tile{192, 256};
  for (const Tile smaller : {Tile{96, 128}, Tile{48, 64}}) {
    const int64_t tiles = parts_of(m, tile.rows) * parts_of(n, tile.columns);
    if (threads > 1 && tiles < 4 * threads) tile = smaller;
  }
  return tile;
}

// A range of one of the product's three dimensions.
struct Range {
  int64_t first;
  int64_t count;
};

template <typename Scalar>
class Product {
 public:
  Product(const GemmKernel<Scalar>& kernel, int threads, int64_t m, int64_t n, int64_t k,
          Scalar alpha, Matrix<const Scalar> a, Matrix<const Scalar> b, Store store,
          Matrix<Scalar> c)
      : kernel_(kernel),
        threads_(threads),
        m_(m),
        n_(n),
        k_(k),
        alpha_(alpha),
        store_(store),
        c_(c),
        depth_(equal_parts(k, kDepth, 1)) {
    const bool a_turned = a.transpose == Transpose::yes;
    const bool b_turned = b.transpose == Transpose::yes;
    left_ = {a.data, a_turned ? 1 : a.stride, a_turned ? a.stride : 1, m, k};
    right_ = {b.data, b_turned ? b.stride : 1, b_turned ? 1 : b.stride, n, k};
  }

  void compute() {
    const int64_t rows = equal_parts(m_, kLines, kernel_.rows);
    const int64_t columns = equal_parts(n_, kLines, kernel_.columns);
    const int64_t parts = parts_of(k_, depth_);
    for (int64_t column = 0; column < n_; column += columns) {
      columns_ = {column, std::min(columns, n_ - column)};
      for (int64_t part = 0; part < parts; part += kParts) {
        parts_ = {part, std::min(kParts, parts - part)};
        // What is packed of the right matrix is used by all blocks of rows, the last and shorter
        // one too.
        choose_tiles(rows);
        for (int64_t row = 0; row < m_; row += rows) {
          rows_ = {row, std::min(rows, m_ - row)};
          compute_block(row == 0);
        }
      }
    }
  }

 private:
  // For blocks of at most so many rows.
  void choose_tiles(int64_t rows) {
    const Tile most = tile_of(threads_, rows, columns_.count);
    tile_ = {equal_parts(rows, most.rows, kernel_.rows),
             equal_parts(columns_.count, most.columns, kernel_.columns)};
    left_tile_ = tile_.rows * depth_ + kOverrun / static_cast<int64_t>(sizeof(Scalar));
    right_tile_ = tile_.columns * depth_;
    static thread_local Workspace<Scalar> left, right;
    packed_left_ = left.reserve(left_tile_ * parts_of(rows, tile_.rows) * parts_.count);
    packed_right_ =
        right.reserve(right_tile_ * parts_of(columns_.count, tile_.columns) * parts_.count);
  }

  void compute_block(bool pack_right) {
    const int64_t tile_rows = parts_of(rows_.count, tile_.rows);
    const int64_t tile_columns = parts_of(columns_.count, tile_.columns);
    // A tile of the left matrix that is used once is packed by who uses it.
    const bool pack_late = tile_columns == 1;
    const int64_t left_packs = pack_late ? 0 : tile_rows;
    const int64_t packs = left_packs + (pack_right ? tile_columns : 0);
    each_piece(threads_, packs * parts_.count, [&](int64_t piece) {
      const int64_t tile = piece / parts_.count;
      const int64_t part = piece % parts_.count;
      if (tile < left_packs) {
        pack_left_tile(tile, part);
      } else {
        pack_right_tile(tile - left_packs, part);
      }
    });
    each_piece(threads_, tile_rows * tile_columns, [&](int64_t piece) {
      // Neighbouring pieces share a tile of the right matrix.
      const int64_t row = piece % tile_rows;
      for (int64_t part = 0; part < parts_.count; ++part) {
        if (pack_late) pack_left_tile(row, part);
        multiply_tile(row, piece / tile_rows, part);
      }
    });
  }

  int64_t depth_of(int64_t part) const {
    return std::min(depth_, k_ - (parts_.first + part) * depth_);
  }
  Scalar* left_tile(int64_t tile, int64_t part) const {
    return packed_left_ + (tile * parts_.count + part) * left_tile_;
  }
  Scalar* right_tile(int64_t tile, int64_t part) const {
    return packed_right_ + (tile * parts_.count + part) * right_tile_;
  }
  // `count` lines from `first` on, of a part.
  Lines<Scalar> lines_of(const Lines<Scalar>& all, int64_t first, int64_t count,
                         int64_t part) const {
    const int64_t along = (parts_.first + part) * depth_;
    return {all.data + first * all.line + along * all.along, all.line, all.along, count,
            depth_of(part)};
  }

  void pack_left_tile(int64_t tile, int64_t part) const {
    const int64_t first = tile * tile_.rows;
    const int64_t last = std::min(first + tile_.rows, rows_.count);
    for (int64_t row = first; row < last; row += kernel_.rows) {
      // All lines of the tile that are left: those beyond the panel may be read.
      kernel_.pack_left(left_tile(tile, part) + (row - first) * depth_,
                        lines_of(left_, rows_.first + row, last - row, part));
    }
  }
  void pack_right_tile(int64_t tile, int64_t part) const {
    const int64_t first = tile * tile_.columns;
    const int64_t last = std::min(first + tile_.columns, columns_.count);
    for (int64_t column = first; column < last; column += kernel_.columns) {
      const int64_t count = std::min(kernel_.columns, last - column);
      kernel_.pack_right(right_tile(tile, part) + (column - first) * depth_,
                         lines_of(right_, columns_.first + column, count, part));
    }
  }

  void multiply_tile(int64_t tile_row, int64_t tile_column, int64_t part) const {
    const int64_t first_row = tile_row * tile_.rows;
    const int64_t first_column = tile_column * tile_.columns;
    const int64_t rows = std::min(tile_.rows, rows_.count - first_row);
    const int64_t columns = std::min(tile_.columns, columns_.count - first_column);
    const int64_t panels = parts_of(rows, kernel_.rows);
    Scalar* const c =
        c_.data + (rows_.first + first_row) * c_.stride + columns_.first + first_column;
    PanelProduct<Scalar> product{};
    product.depth = depth_of(part);
    product.alpha = alpha_;
    product.store = parts_.first + part > 0 ? Store::add : store_;
    product.stride = c_.stride;
    // While a panel of the right matrix is used, the next one comes.
    product.soon_count = parts_of(kernel_.columns * product.depth, panels);
    for (int64_t column = 0; column < columns; column += kernel_.columns) {
      product.right = right_tile(tile_column, part) + column * depth_;
      product.columns = std::min(kernel_.columns, columns - column);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t row = panel * kernel_.rows;
        product.left = left_tile(tile_row, part) + row * depth_;
        product.rows = std::min(kernel_.rows, rows - row);
        product.c = c + row * c_.stride + column;
        product.soon = product.right + kernel_.columns * depth_ + panel * product.soon_count;
        kernel_.multiply(product);
      }
    }
  }

  const GemmKernel<Scalar>& kernel_;
  int threads_;
  int64_t m_, n_, k_;
  Scalar alpha_;
  Store store_;
  Matrix<Scalar> c_;
  int64_t depth_;  // of a part, but for the last
  Lines<Scalar> left_, right_;
  // Of the blocks that are being computed:
  Range rows_{}, columns_{}, parts_{};
  Tile tile_{};
  int64_t left_tile_ = 0, right_tile_ = 0;  // elements of a packed tile
  Scalar* packed_left_ = nullptr;
  Scalar* packed_right_ = nullptr;
};

// Dot products of a few rows with many.
template <typename Scalar>
void few_rows(const GemmKernel<Scalar>& kernel, int threads, int64_t m, int64_t n, int64_t k,
              Scalar alpha, Matrix<const Scalar> a, Matrix<const Scalar> b, Store store,
              Matrix<Scalar> c) {
  constexpr int64_t kRange = 64;
  each_piece(threads, parts_of(n, kRange), [&](int64_t piece) {
    // Four rows of b at a time stay near while those of a pass by.
    const int64_t last = std::min((piece + 1) * kRange, n);
    for (int64_t column = piece * kRange; column < last; column += 4) {
      for (int64_t row = 0; row < m; ++row) {
        kernel.dots(c.data + row * c.stride + column, store, alpha, a.data + row * a.stride,
                    b.data + column * b.stride, b.stride, std::min<int64_t>(4, last - column), k);
      }
    }
  });
}

template <typename Scalar>
const GemmKernel<Scalar>& fastest_kernel();
template <>
const GemmKernel<float>& fastest_kernel() {
  return gemm_kernels().front().single_precision;
}
template <>
const GemmKernel<double>& fastest_kernel() {
  return gemm_kernels().front().double_precision;
}

}  // namespace

template <typename Scalar>
void gemm_by(const GemmKernel<Scalar>& kernel, int threads, int64_t m, int64_t n, int64_t k,
             Scalar alpha, Matrix<const Scalar> a, Matrix<const Scalar> b, Store store,
             Matrix<Scalar> c) {
  if (k == 0 && store == Store::replace) {
    for (int64_t row = 0; row < m; ++row) std::fill_n(c.data + row * c.stride, n, Scalar(0));
  }
  if (m == 0 || n == 0 || k == 0) return;
  const bool contiguous = a.transpose == Transpose::no && b.transpose == Transpose::yes;
  if (m <= kFewRows && contiguous) {
    few_rows(kernel, threads, m, n, k, alpha, a, b, store, c);
  } else {
    Product<Scalar>(kernel, threads, m, n, k, alpha, a, b, store, c).compute();
  }
}

template <typename Scalar>
void gemm(int threads, int64_t m, int64_t n, int64_t k, Scalar alpha, Matrix<const Scalar> a,
          Matrix<const Scalar> b, Store store, Matrix<Scalar> c) {
  gemm_by(fastest_kernel<Scalar>(), threads, m, n, k, alpha, a, b, store, c);
}

template void gemm(int, int64_t, int64_t, int64_t, float, Matrix<const float>, Matrix<const float>,
                   Store, Matrix<float>);
template void gemm(int, int64_t, int64_t, int64_t, double, Matrix<const double>,
                   Matrix<const double>, Store, Matrix<double>);
template void gemm_by(const GemmKernel<float>&, int, int64_t, int64_t, int64_t, float,
                      Matrix<const float>, Matrix<const float>, Store, Matrix<float>);
template void gemm_by(const GemmKernel<double>&, int, int64_t, int64_t, int64_t, double,
                      Matrix<const double>, Matrix<const double>, Store, Matrix<double>);

}  // namespace normlab
